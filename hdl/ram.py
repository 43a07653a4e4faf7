"""The memory primitive: one write port, one read port, one clock.

Every memory of the machine is built from :class:`Ram`, so that a technology needs a body for this
one component only: a platform with a method `get_ram` gives its own.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Ram(wiring.Component):
    """A synchronous memory with one write port and one read port; it starts as all zeros.

    A read requested in cycle t (`r_en`) is on `r_data` in cycle t + `latency` and stays there
    until the next one arrives. A write in cycle t is seen by reads requested in cycle t + 1 or
    later; a read and a write of the same word in the same cycle leave the read data undefined.

    Parameters
    ----------
    width
        Bits in a word.
    depth
        Words; at least 2.
    granularity
        Bits that one bit of `w_en` writes; divides `width`, which is the default.
    output_register
        Adds the register behind the read port that block RAMs have.

    Ports
    -----
    w_en, w_addr, w_data : In
        Part k of the word is written where bit k of `w_en` is set.
    r_en, r_addr : In
        Read request.
    r_data : Out(width)
        Word that was read.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        granularity: int | None = None,
        output_register: bool = False,
    ):
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width!r}")
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth!r}")
        granularity = width if granularity is None else granularity
        if granularity < 1 or width % granularity:
            raise ValueError(f"granularity must divide width = {width}, not {granularity!r}")
        self.width = width
        self.depth = depth
        self.granularity = granularity
        self.output_register = bool(output_register)
        addr_bits = (depth - 1).bit_length()
        super().__init__(
            {
                "w_en": In(width // granularity),
                "w_addr": In(addr_bits),
                "w_data": In(width),
                "r_en": In(1),
                "r_addr": In(addr_bits),
                "r_data": Out(width),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a read request to its data."""
        return 2 if self.output_register else 1

    def elaborate(self, platform) -> Module:
        if hasattr(platform, "get_ram"):
            return platform.get_ram(self)
        return self.portable()

    def portable(self) -> Module:
        """The body that any tool understands."""
        m = Module()
        m.submodules.cells = cells = Memory(shape=self.width, depth=self.depth, init=[])
        partial = self.granularity != self.width
        write = cells.write_port(granularity=self.granularity if partial else None)
        read = cells.read_port()
        m.d.comb += [
            write.en.eq(self.w_en),
            write.addr.eq(self.w_addr),
            write.data.eq(self.w_data),
            read.en.eq(self.r_en),
            read.addr.eq(self.r_addr),
        ]
        if self.output_register:
            behind = Signal(self.width, reset_less=True)
            m.d.sync += behind.eq(read.data)
            m.d.comb += self.r_data.eq(behind)
        else:
            m.d.comb += self.r_data.eq(read.data)
        return m
