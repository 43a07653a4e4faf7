"""One lane of requantization: INT32 accumulator and INT8 residual to INT8."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .numerics import PARAMETER_FIELDS

#: Cycles from an accumulator to its result.
REQUANTIZE_LATENCY = 10
#: Cycles for which the parameters must stay after that of `load`.
PARAMETER_HOLD = 9

PARAMETER_LAYOUT = data.StructLayout(
    {name: signed(bits) if sign else unsigned(bits) for name, bits, sign in PARAMETER_FIELDS}
)

#: Where multiplicand and multiplier are cut, so that each piece fits a signed 18-bit factor.
_CUT = 17


class Requantizer(wiring.Component):
    """Computes :func:`~.numerics.requantize`, one value a cycle, exactly in 64 bits.

    The parameters travel with the data: each stage takes its own from `parameter` one cycle after
    the stage before it, so new ones follow old ones without a bubble.

    Parameters
    ----------
    multiplier_bits
        Width of the multiplier, 8 to 32; upper bits of the parameter are ignored. Up to 18 bits
        take two 18×18 multipliers, more take four; the residual takes one.

    Ports
    -----
    load : In(1)
        Values given in later cycles use what `parameter` is now. `parameter` must stay for
        PARAMETER_HOLD further cycles.
    parameter : In(PARAMETER_LAYOUT)
        Parameters of the channel.
    acc : In(signed(32))
        Accumulator of the value given in this cycle.
    add, residual : In(1), In(signed(8))
        Residual of the value given in the cycle before, and whether to add it.
    result : Out(signed(8))
        Result of the value given REQUANTIZE_LATENCY cycles before.
    """

    def __init__(self, *, multiplier_bits: int):
        if not 8 <= multiplier_bits <= 32:
            raise ValueError(f"multiplier_bits must be 8 to 32, not {multiplier_bits!r}")
        self._multiplier_bits = multiplier_bits
        super().__init__(
            {
                "load": In(1),
                "parameter": In(PARAMETER_LAYOUT),
                "acc": In(signed(32)),
                "add": In(1),
                "residual": In(signed(8)),
                "result": Out(signed(8)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.parameter

        # In cycle t of this history, load[k] is the `load` of cycle t − k.
        history = Signal(PARAMETER_HOLD)
        load = Cat(self.load, history)
        m.d.sync += history.eq(load)

        def held(value, stage: int, name: str) -> Signal:
            """`value`, a function of the parameters, for use by the stage of that number."""
            register = Signal(Shape.cast(value.shape()), name=name, reset_less=True)
            with m.If(load[stage]):
                m.d.sync += register.eq(value)
            return register

        def stage(value, name: str) -> Signal:
            """`value` of this cycle in the next."""
            register = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        # Stages 0 to 3: (acc + bias) · M, in pieces.
        biased = stage((self.acc + held(p.bias, 0, "bias"))[:33].as_signed(), "biased")
        factor = held(p.multiplier[: self._multiplier_bits].as_signed(), 1, "multiplier")
        low, high = biased[:_CUT], biased[_CUT:].as_signed()
        if self._multiplier_bits <= _CUT + 1:
            outer = stage(stage(low * factor, "low"), "outer")
            middle = stage(stage(high * factor, "high"), "middle")
        else:
            factor_low, factor_high = factor[:_CUT], factor[_CUT:].as_signed()
            low_low = stage(low * factor_low, "low_low")
            low_high = stage(low * factor_high, "low_high")
            high_low = stage(high * factor_low, "high_low")
            high_high = stage(high * factor_high, "high_high")
            outer = stage(Cat(low_low, high_high).as_signed(), "outer")
            middle = stage(low_high + high_low, "middle")
        wide = Signal(signed(64))
        m.d.comb += wide.eq(outer)
        product = stage(Cat(wide[:_CUT], (wide[_CUT:] + middle)[: 64 - _CUT]), "product")

        # Stages 1 to 4 beside it: (r − z)·R << (s − t).
        centred = Mux(self.add, self.residual - held(p.residual_zero, 1, "residual_zero"), 0)
        centred = stage(centred, "centred")
        term = stage(centred * held(p.residual_multiplier, 2, "residual_multiplier"), "term")
        left = (p.shift - p.residual_shift)[:6]
        fine = stage(_shift_left(term, held(left[:3], 3, "left_fine"), 34), "term_fine")
        coarse = _shift_left(fine, held(left[3:], 4, "left_coarse"), 64, unit=8)
        coarse = stage(coarse, "term_coarse")

        # Stages 4 and 5: the sum with the rounding constant.
        half = (Const(1, 1) << held(p.shift, 4, "shift"))[1:]
        rounded = stage((product + half)[:64], "rounded")
        total = stage((rounded + coarse)[:64].as_signed(), "total")

        # Stages 6 and 7: >> s, of which 8 bits and whether the others equal the sign matter.
        eights = Cat(Const(0, 3), held(p.shift[3:], 6, "right_coarse"))
        near = stage(total >> eights, "near")
        units = held(p.shift[:3], 7, "right_fine")
        byte = stage((near[:15] >> units)[:8], "byte")
        negative = stage(near[63], "negative")
        zeros = stage(~near[15:63].any() & ~(near[8:15] >> units).any(), "zeros")
        ones = stage(near[15:63].all() & ~(~near[8:15] >> units).any(), "ones")

        # Stage 8: + zero point, far values saturated to 10 bits. Only without a shift can the
        # addition wrap around 64 bits; then the far value changes sides.
        moved = Signal(signed(10))
        m.d.comb += moved.eq(Cat(byte, negative).as_signed() + held(p.zero_point, 8, "zero_point"))
        fits = Mux(negative, ones, zeros)
        brim = Mux(negative, zeros, ones) & held(p.shift == 0, 8, "unshifted")
        below = negative ^ (brim & (moved[9] ^ moved[8]))
        value = stage(Mux(fits, moved, Mux(below, -512, 511)), "value")

        # Stage 9: clamp; the upper bound wins where the bounds are crossed.
        least, most = held(p.low, 9, "least"), held(p.high, 9, "most")
        over = (value > most) | held(p.low > p.high, 9, "crossed")
        m.d.sync += self.result.eq(Mux(over, most, Mux(value < least, least, value)))
        return m


def _shift_left(value, amount, width: int, *, unit: int = 1):
    """Value in `width` bits, sign-extended, then shifted left by `amount` units."""
    out = Cat(value, value[-1].replicate(width - len(value)))
    for k in range(len(amount)):
        by = unit << k
        out = Mux(amount[k], Cat(Const(0, by), out)[:width], out)
    return out
