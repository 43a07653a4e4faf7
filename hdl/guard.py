"""The last check before the bus: a burst lies in its window, whatever happened to its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .burst import PAGE_BYTES

if TYPE_CHECKING:
    from .config import Config


class Guard(wiring.Component):
    """Combinational: whether a burst lies in a window, rounded up to beats, and in one page.

    It knows nothing of how the address came about, so that an address that a flipped bit made
    wrong anywhere before is refused as well.

    Ports
    -----
    base : In(addr_bits)
        First address of the window, a multiple of 4096.
    size : In(32)
        Its bytes.
    addr, len : In
        First address of the burst, of which the bits below a beat do not count, and its beats
        minus one.
    ok : Out(1)
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "base": In(config.addr_bits),
                "size": In(32),
                "addr": In(config.addr_bits),
                "len": In(8),
                "ok": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shift = (self._config.bus_bytes - 1).bit_length()
        page = (PAGE_BYTES - 1).bit_length()
        last = Signal(max(page - shift, len(self.len)) + 1)
        in_page = last[: page - shift]
        short = Signal()  # the last beat's place in its page is below that of the window's end
        m.d.comb += [
            last.eq(self.addr[shift:page] + self.len),
            short.eq(Cat(Const(0, shift), in_page) < self.size[:page]),
        ]
        # addr < base + size is the sign of addr - base - size - short, counted in pages. Three
        # numbers are added in a carry chain after a full adder for each bit.
        width = max(self._config.addr_bits, len(self.size)) - page + 2
        addr, base, size = (
            Signal(width, name=f"{name}_pages") for name in ("addr", "base", "size")
        )
        a, b, c = addr, ~base, ~size
        total = Signal(width + 1)
        m.d.comb += [
            addr.eq(self.addr[page:]),
            base.eq(self.base[page:]),
            size.eq(self.size[page:]),
            total.eq(Cat(1, a ^ b ^ c) + Cat(~short, 1, ((a & b) | (a & c) | (b & c))[:-1])),
            self.ok.eq((self.addr[page:] >= self.base[page:]) & total[-1] & (last == in_page)),
        ]
        return m


class AddressRegister(wiring.Component):
    """The register behind an AXI address channel, through which a flipped bit does not show.

    It holds all its bits twice, once inverted, and the parity of the first copy. The outputs are
    that copy if its parity is right, else the other one: right as long as not more than one of the
    bits is wrong. They become the next contents, which heals the register. `valid`, on which more
    depends, does not wait for the parity: it is held a third time, mixed with another bit so that
    synthesis keeps it, and is what two of the three say.

    Ports
    -----
    load : In(1)
        Take a new burst; only while not `valid`, or in a cycle of `ready`.
    ok, addr, len : In
        Whether it becomes valid; address without the bits below a beat; beats minus one.
    ready : In(1)
        The bus takes the burst if there is one.
    valid, o_addr, o_len : Out
        To the bus.
    """

    def __init__(self, config: Config):
        self._shift = (config.bus_bytes - 1).bit_length()
        super().__init__(
            {
                "load": In(1),
                "ok": In(1),
                "addr": In(config.addr_bits - self._shift),
                "len": In(8),
                "ready": In(1),
                "valid": Out(1),
                "o_addr": Out(config.addr_bits),
                "o_len": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        new = Cat(self.ok, self.len, self.addr)
        word = Signal(len(new))
        inverted = Signal(len(new), init=-1)
        parity = Signal()
        mixed = Signal()  # the lowest bits of `word`, xored
        held = Signal(len(new))
        following = Signal(len(new))
        first, second, third = word[0], ~inverted[0], mixed ^ word[1]
        valid = (first & second) | (first & third) | (second & third)
        right = word.xor() == parity
        waits = valid & ~self.ready
        m.d.comb += [
            held.eq(Cat(valid, Mux(right, word, ~inverted)[1:])),
            Cat(self.valid, self.o_len, self.o_addr[self._shift :]).eq(held),
            following.eq(Mux(self.load, new, Cat(waits, held[1:]))),
        ]
        # Parities of both before the choice, for `load` comes late. When a flip of `word` is put
        # right the parity is of what it was, and wrong for a cycle; the other copy is right then.
        m.d.sync += [
            word.eq(following),
            inverted.eq(~following),
            parity.eq(Mux(self.load, new.xor(), word[1:].xor() ^ waits)),
            mixed.eq(following[0] ^ following[1]),
        ]
        return m
