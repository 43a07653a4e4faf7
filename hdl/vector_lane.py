"""One channel of VECTOR: parameters, window reduction and requantization."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .requantizer import PARAMETER_LAYOUT, REQUANTIZE_LATENCY, Requantizer

#: Cycles from the last element of a window to its result.
LANE_LATENCY = 1 + REQUANTIZE_LATENCY


class VectorLane(wiring.Component):
    """Reduces windows of source values, one element a cycle, and requantizes them.

    Parameters
    ----------
    multiplier_bits
        See :class:`~.requantizer.Requantizer`.

    Ports
    -----
    fill, parameter : In
        Take `parameter` as the next group's; it waits there for `load`.
    take : In(1)
        An element is there in this cycle: `byte` sign-extended if `pool`, else `acc`.
    first : In(1)
        It is its window's first.
    maximum : In(1)
        Reduce by maximum instead of sum.
    load : In(1)
        It is the last one of the first window that uses the waiting parameters; they must stay
        until PARAMETER_HOLD cycles later.
    add : In(1)
        Add `byte` of the second cycle after the last element as residual.
    result : Out(signed(8))
        LANE_LATENCY cycles after a window's last element.
    """

    def __init__(self, *, multiplier_bits: int):
        self._multiplier_bits = multiplier_bits
        super().__init__(
            {
                "fill": In(1),
                "parameter": In(PARAMETER_LAYOUT),
                "take": In(1),
                "first": In(1),
                "maximum": In(1),
                "load": In(1),
                "pool": In(1),
                "add": In(1),
                "acc": In(signed(32)),
                "byte": In(signed(8)),
                "result": Out(signed(8)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.requantizer = requantizer = Requantizer(multiplier_bits=self._multiplier_bits)

        waiting = Signal(PARAMETER_LAYOUT, reset_less=True)
        with m.If(self.fill):
            m.d.sync += waiting.eq(self.parameter)

        value = Signal(signed(32))
        m.d.comb += value.eq(Mux(self.pool, self.byte, self.acc))
        reduced = Signal(signed(32), reset_less=True)
        # Both are compared before the choice; a maximum of bytes is one.
        larger = Mux(self.pool, self.byte > reduced[:8].as_signed(), self.acc > reduced)
        with m.If(self.take):
            with m.If(self.first):
                m.d.sync += reduced.eq(value)
            with m.Elif(~self.maximum):
                m.d.sync += reduced.eq(reduced + value)
            with m.Elif(larger):
                m.d.sync += reduced.eq(value)

        m.d.comb += [
            requantizer.load.eq(self.load),
            requantizer.parameter.eq(waiting),
            requantizer.acc.eq(reduced),
            requantizer.add.eq(self.add),
            requantizer.residual.eq(self.byte),
            self.result.eq(requantizer.result),
        ]
        return m
