"""Two columns of the systolic array on one multiplier."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .multiplier import Multiplier

#: Bits by which the second column's product lies above the first's in their sum. Both weights then
#: fit 18 signed bits whatever they are; one bit more would not hold −128 above a negative one.
SPACING = 9
#: Bits of the second product that lie below the first one's upper bits and tell the two apart.
OVERLAP = 6


class PackedWeights(data.StructLayout):
    """Two weights as the multiplier takes them: `both` is first + 2^SPACING · second."""

    def __init__(self):
        super().__init__({"both": signed(18), "second": OVERLAP})


def pack(first, second):
    """The value of :class:`PackedWeights` for two INT8 weights."""
    return Cat((first + (second << SPACING))[:18], second[:OVERLAP])


class PackedSums(data.StructLayout):
    """What becomes of the sums of two columns in which products are added unseparated.

    The first column's sum is low + 2^SPACING · carry, the second's high − carry, both modulo
    2^psum_bits; :func:`first_sum` and :func:`second_sum` say it in hardware.
    """

    def __init__(self, psum_bits: int):
        if not isinstance(psum_bits, int) or psum_bits < 16:
            raise ValueError(f"psum_bits must be an integer of at least 16, not {psum_bits!r}")
        super().__init__(
            {
                "low": psum_bits - 16 + SPACING,
                "carry": signed(psum_bits - SPACING),
                "high": signed(psum_bits),
            }
        )


def first_sum(sums):
    """The first column's sum, from a view of :class:`PackedSums`."""
    return (sums.low + (sums.carry << SPACING))[: len(sums.high)].as_signed()


def second_sum(sums):
    """The second column's sum, from a view of :class:`PackedSums`."""
    return (sums.high - sums.carry)[: len(sums.high)].as_signed()


class LowProduct(wiring.Component):
    """The lowest bits of a product, out of lookup tables: no multiplier is to be taken for them.

    A platform with a method `get_low_product` gives its own body.

    Ports
    -----
    x, y : In(OVERLAP)
        Factors.
    product : Out(OVERLAP)
        Their product modulo 2^OVERLAP, in the same cycle.
    """

    def __init__(self):
        super().__init__({"x": In(OVERLAP), "y": In(OVERLAP), "product": Out(OVERLAP)})

    def elaborate(self, platform) -> Module:
        if hasattr(platform, "get_low_product"):
            return platform.get_low_product(self)
        m = Module()
        parts = [Mux(self.y[k], self.x[: OVERLAP - k] << k, 0) for k in range(OVERLAP)]
        m.d.comb += self.product.eq(sum(parts[1:], start=parts[0]))
        return m


class PackedMultiplier(wiring.Component):
    """An activation times two INT8 weights in one multiplier, exact for all values.

    With weights v and w and the activation a the multiplier gives P = (v + 512·w)·a. Its lowest
    nine bits are those of v·a, and what lies above them is w·a + c with the carry c = ⌊v·a / 512⌋.
    That is one of −32 … 32, so six bits of w·a (a small product) and the sign of v·a tell it:

    - v·a = low + 512·carry
    - w·a = high − carry

    A column adds up lows, carries and highs, and subtracts once, below its last row. Operands and
    result have the registers of :class:`Multiplier`.

    Ports
    -----
    a : In(signed(8))
        Activation.
    b : In(PackedWeights())
        Weights; replace those in use where `load` is set, along with the `a` of that cycle.
    load : In(1)
        Take `b`.
    a_q : Out(signed(8))
        `a` of the previous cycle.
    low, carry, high : Out(9), Out(signed(7)), Out(signed(16))
        Of the operands of two cycles before.
    """

    def __init__(self):
        super().__init__(
            {
                "a": In(signed(8)),
                "b": In(PackedWeights()),
                "load": In(1),
                "a_q": Out(signed(8)),
                "low": Out(SPACING),
                "carry": Out(signed(OVERLAP + 1)),
                "high": Out(signed(16)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier(weight_bits=18)
        m.submodules.small = small = LowProduct()
        second = Signal(OVERLAP, reset_less=True)
        first_negative = Signal(reset_less=True)
        with m.If(self.load):
            m.d.sync += [
                second.eq(self.b.second),
                first_negative.eq(self.b.both[SPACING - 1]),
            ]
        a = multiplier.a_q
        known = Signal(OVERLAP, reset_less=True)
        negative = Signal(reset_less=True)
        m.d.comb += [small.x.eq(second), small.y.eq(a)]
        m.d.sync += [known.eq(small.product), negative.eq(first_negative ^ a[-1])]

        # Modulo 64: −32 and 32 are alike, and neither is the carry of a product of 0.
        modulo = Signal(OVERLAP)
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.b.both),
            multiplier.load.eq(self.load),
            modulo.eq(multiplier.product[SPACING:][:OVERLAP] - known),
            self.a_q.eq(a),
            self.low.eq(multiplier.product[:SPACING]),
            self.carry.eq(Cat(modulo, modulo[-1] & negative)),
            self.high.eq(multiplier.product[SPACING:]),
        ]
        return m


class PackedElement(wiring.Component):
    """Two processing elements of a row on one multiplier.

    It does for two columns at a time what :class:`~.pe.ProcessingElement` does for one, and hands
    activations on to the right after two cycles, so that the pairs beside each other are as far
    apart in time as their columns: an activation that arrives in cycle t is at the next pair in
    cycle t + 2, and in both sums of cycle t + 3.

    Parameters
    ----------
    psum_bits
        Width of a column's partial sums.

    Ports
    -----
    a, swap : In
        Activation, and the tag of a tile's first activation; from the left.
    a_out, swap_out : Out
        The same two cycles later, to the right.
    weights, load : In
        The shadow weights of the row above, and whether to take them; `load` comes from the left.
    weights_out, load_out : Out
        Shadow weights for the row below; `load` two cycles later, to the right.
    psums, psums_out : In, Out
        Partial sums from above, and to below.
    """

    def __init__(self, *, psum_bits: int):
        super().__init__(
            {
                "a": In(signed(8)),
                "swap": In(1),
                "weights": In(PackedWeights()),
                "load": In(1),
                "psums": In(PackedSums(psum_bits)),
                "a_out": Out(signed(8)),
                "swap_out": Out(1),
                "weights_out": Out(PackedWeights()),
                "load_out": Out(1),
                "psums_out": Out(PackedSums(psum_bits)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = PackedMultiplier()
        shadow = Signal(PackedWeights(), reset_less=True)
        a = Signal(signed(8), reset_less=True)
        swap = Signal(2)
        load = Signal(2)
        psums = Signal.like(self.psums_out, reset_less=True)
        m.d.sync += [
            a.eq(multiplier.a_q),
            swap.eq(Cat(self.swap, swap[0])),
            load.eq(Cat(self.load, load[0])),
            psums.low.eq(self.psums.low + multiplier.low),
            psums.carry.eq(self.psums.carry + multiplier.carry),
            psums.high.eq(self.psums.high + multiplier.high),
        ]
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weights)
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(shadow),
            multiplier.load.eq(self.swap),
            self.a_out.eq(a),
            self.swap_out.eq(swap[1]),
            self.weights_out.eq(shadow),
            self.load_out.eq(load[1]),
            self.psums_out.eq(psums),
        ]
        return m
