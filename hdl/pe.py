"""The processing element: a stationary weight, its successor, and one multiply-add a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .multiplier import Multiplier


class ProcessingElement(wiring.Component):
    """Adds activation times active weight to the partial sum that comes from above.

    An activation that arrives in cycle t is at the next column in cycle t + 1, and in the sum of
    cycle t + 3, added to the partial sum that arrives in cycle t + 2. Where `swap` comes with it,
    the shadow weight of cycle t becomes the active one, first for this activation. A weight that
    arrives with `load` in cycle t is the shadow weight from cycle t + 1 on, so a `load` in the very
    cycle of a `swap` does not disturb it.

    Parameters
    ----------
    psum_bits
        Width of the partial sums.

    Ports
    -----
    a, swap : In
        Activation, and the tag of a tile's first activation; from the left.
    a_out, swap_out : Out
        The same a cycle later, to the right.
    weight, load : In
        The shadow weight of the row above, and whether to take it; `load` comes from the left.
    weight_out, load_out : Out
        Shadow weight for the row below; `load` a cycle later, to the right.
    psum, psum_out : In, Out
        Partial sum from above, and to below.
    """

    def __init__(self, *, psum_bits: int):
        if not isinstance(psum_bits, int) or psum_bits < 16:
            raise ValueError(f"psum_bits must be an integer of at least 16, not {psum_bits!r}")
        super().__init__(
            {
                "a": In(signed(8)),
                "swap": In(1),
                "weight": In(signed(8)),
                "load": In(1),
                "psum": In(signed(psum_bits)),
                "a_out": Out(signed(8)),
                "swap_out": Out(1),
                "weight_out": Out(signed(8)),
                "load_out": Out(1),
                "psum_out": Out(signed(psum_bits)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier()
        shadow = Signal(signed(8), reset_less=True)
        swap = Signal()
        load = Signal()
        psum = Signal.like(self.psum_out, reset_less=True)
        m.d.sync += [
            swap.eq(self.swap),
            load.eq(self.load),
            psum.eq(self.psum + multiplier.product),
        ]
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weight)
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(shadow),
            multiplier.load.eq(self.swap),
            self.a_out.eq(multiplier.a_q),
            self.swap_out.eq(swap),
            self.weight_out.eq(shadow),
            self.load_out.eq(load),
            self.psum_out.eq(psum),
        ]
        return m
