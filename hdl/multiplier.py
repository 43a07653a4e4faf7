"""The multiplier of a processing element, cut where a DSP block has its registers."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """A product with a register at each operand and one at the result.

    The three registers are those of a DSP block: operand A loads every cycle, operand B where
    enabled, the product every cycle. The operands of cycle t are multiplied into the `product` of
    cycle t + 2.

    A platform with a method `get_multiplier` gives its own body.

    Parameters
    ----------
    weight_bits
        Width of the weight.

    Ports
    -----
    a : In(signed(8))
        Activation.
    b : In(signed(weight_bits))
        Weight; replaces the one in use where `load` is set, along with the `a` of that cycle.
    load : In(1)
        Take `b`.
    a_q : Out(signed(8))
        `a` of the previous cycle.
    product : Out(signed(weight_bits + 8))
        Product of the registered operands, registered.
    """

    def __init__(self, *, weight_bits: int = 8):
        super().__init__(
            {
                "a": In(signed(8)),
                "b": In(signed(weight_bits)),
                "load": In(1),
                "a_q": Out(signed(8)),
                "product": Out(signed(weight_bits + 8)),
            }
        )

    def elaborate(self, platform) -> Module:
        if hasattr(platform, "get_multiplier"):
            return platform.get_multiplier(self)
        m = Module()
        a_q = Signal(signed(8), reset_less=True)
        b_q = Signal.like(self.b, reset_less=True)
        product = Signal.like(self.product, reset_less=True)
        m.d.sync += [a_q.eq(self.a), product.eq(a_q * b_q)]
        with m.If(self.load):
            m.d.sync += b_q.eq(self.b)
        m.d.comb += [self.a_q.eq(a_q), self.product.eq(product)]
        return m
