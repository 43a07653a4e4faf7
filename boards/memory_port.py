"""How a board's memory is asked: bursts of words, and two clients that share it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

#: Width of a burst's length: 4096 bytes of 16-bit words, AXI's longest.
COUNT_BITS = 11


class MemoryPort(wiring.Signature):
    """A memory of `width`-bit words, from the client's side.

    Members
    -------
    request
        A burst: address of its first word, words minus one, and whether it writes.
    w
        The words to write, in order, and a strobe for each byte. They may come late.
    r
        The words read, in order; the client takes each when it comes.
    """

    def __init__(self, *, width: int, addr_bits: int):
        if width not in (16, 32, 64):
            raise ValueError(f"width must be 16, 32 or 64, not {width!r}")
        self.width = width
        self.addr_bits = addr_bits
        request = data.StructLayout({"addr": addr_bits, "count": COUNT_BITS, "write": 1})
        word = data.StructLayout({"data": width, "strobe": width // 8})
        super().__init__(
            {
                "request": Out(stream.Signature(request)),
                "w": Out(stream.Signature(word)),
                "r": In(stream.Signature(width, always_ready=True)),
            }
        )

    @property
    def memory_bytes(self) -> int:
        """Size of the memory."""
        return self.width // 8 << self.addr_bits


class Arbiter(wiring.Component):
    """Lets two clients use one memory, burst by burst; if both wait, they take turns.

    Ports
    -----
    clients : In(MemoryPort) × 2
        Those who ask.
    memory : Out(MemoryPort)
        Whom they ask.
    """

    def __init__(self, *, width: int, addr_bits: int):
        port = MemoryPort(width=width, addr_bits=addr_bits)
        super().__init__({"clients": In(port).array(2), "memory": Out(port)})

    def elaborate(self, platform) -> Module:
        m = Module()
        memory = self.memory
        first, second = self.clients
        busy, owner = Signal(), Signal()
        left = Signal(COUNT_BITS)
        chosen = Signal()
        m.d.comb += chosen.eq(Mux(owner, ~first.request.valid, second.request.valid))
        moved = Signal()
        m.d.comb += moved.eq(memory.r.valid | (memory.w.valid & memory.w.ready))
        for index, client in enumerate(self.clients):
            mine = busy & (owner == index)
            with m.If(~busy & (chosen == index)):
                m.d.comb += [
                    memory.request.payload.eq(client.request.payload),
                    memory.request.valid.eq(client.request.valid),
                    client.request.ready.eq(memory.request.ready),
                ]
            m.d.comb += [
                client.r.payload.eq(memory.r.payload),
                client.r.valid.eq(memory.r.valid & mine),
                client.w.ready.eq(memory.w.ready & mine),
            ]
            with m.If(mine):
                m.d.comb += [
                    memory.w.payload.eq(client.w.payload),
                    memory.w.valid.eq(client.w.valid),
                ]
        with m.If(busy):
            m.d.sync += left.eq(left - moved)
            with m.If(moved & (left == 0)):
                m.d.sync += busy.eq(0)
        with m.Elif(memory.request.valid & memory.request.ready):
            m.d.sync += [
                busy.eq(1),
                owner.eq(chosen),
                left.eq(memory.request.payload.count),
            ]
        return m
