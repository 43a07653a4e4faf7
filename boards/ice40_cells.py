"""The main memory of an iCE40 UltraPlus: its single-port RAMs."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

#: Of one SB_SPRAM256KA.
_WIDTH, _ADDR_BITS = 16, 14


class Spram(wiring.Component):
    """SB_SPRAM256KA side by side; as :class:`~weft.hdl.ram.Ram`, but it is not to be read and
    written in the same cycle, and starts with anything.

    Parameters
    ----------
    width
        Bits of a word, a multiple of 16; a bit of `w_en` writes 8.
    """

    depth = 1 << _ADDR_BITS
    latency = 1

    def __init__(self, *, width: int):
        if width < 1 or width % _WIDTH:
            raise ValueError(f"width must be a multiple of {_WIDTH}, not {width!r}")
        self._width = width
        super().__init__(
            {
                "w_en": In(width // 8),
                "w_addr": In(_ADDR_BITS),
                "w_data": In(width),
                "r_en": In(1),
                "r_addr": In(_ADDR_BITS),
                "r_data": Out(width),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        for k in range(self._width // _WIDTH):
            m.submodules[f"cell_{k}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_CHIPSELECT=self.w_en.any() | self.r_en,
                i_WREN=self.w_en.any(),
                i_MASKWREN=Cat(self.w_en[2 * k + n // 2] for n in range(4)),
                i_ADDRESS=Mux(self.w_en.any(), self.w_addr, self.r_addr),
                i_DATAIN=self.w_data.word_select(k, _WIDTH),
                i_STANDBY=Const(0),
                i_SLEEP=Const(0),
                i_POWEROFF=Const(1),  # active low
                o_DATAOUT=self.r_data.word_select(k, _WIDTH),
            )
        return m
