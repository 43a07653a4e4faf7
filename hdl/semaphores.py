"""The counting semaphores between the units."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import SEMAPHORE_BITS, SEMAPHORE_MAX, SEMAPHORES, Unit, post_bit, wait_bit


class Semaphores(wiring.Component):
    """One counter per ordered pair of communicating units and k; see ``isa.SEMAPHORES``.

    A post or a take of cycle t shows in `available` and `zero` from cycle t + 1. Both at once leave
    the counter as it is. A post that is not matched by a take and finds the counter at
    SEMAPHORE_MAX leaves it there and reports `overflow` in the same cycle.

    Ports, each list indexed by Unit
    --------------------------------
    take : list of In(8)
        Wait set of the instruction that the unit starts in this cycle, else 0.
    post : list of In(8)
        Post set of the instruction that the unit completes in this cycle, else 0.
    available : list of Out(8)
        Bits of the unit's wait set whose semaphores are not zero; bits without a peer are 0.
    overflow : list of Out(1)
        The unit posts beyond the maximum.
    zero : Out(1)
        In the cycle before, every semaphore was zero and none was posted. So it is late by a cycle
        where a take leaves them all zero, and never early.
    """

    def __init__(self):
        units = len(Unit)
        super().__init__(
            {
                "take": In(8).array(units),
                "post": In(8).array(units),
                "available": Out(8).array(units),
                "overflow": Out(1).array(units),
                "zero": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        nonzero, ups = [], []
        overflows: dict[Unit, list] = {unit: [] for unit in Unit}
        available: dict[Unit, dict[int, Signal]] = {unit: {} for unit in Unit}
        for producer, consumer, k in SEMAPHORES:
            name = f"{producer.name}_{consumer.name}_{k}".lower()
            wait_at = wait_bit(consumer, producer, k).bit_length() - 1
            post_at = post_bit(producer, consumer, k).bit_length() - 1
            count = Signal(SEMAPHORE_BITS, name=name)
            some = Signal(name=f"{name}_some")  # count is not 0
            up = self.post[producer][post_at]
            down = self.take[consumer][wait_at]
            with m.If(up & ~down & (count != SEMAPHORE_MAX)):
                m.d.sync += [count.eq(count + 1), some.eq(1)]
            with m.Elif(down & ~up):
                m.d.sync += [count.eq(count - 1), some.eq(count != 1)]
            nonzero.append(some)
            ups.append(up)
            overflows[producer].append(up & ~down & (count == SEMAPHORE_MAX))
            available[consumer][wait_at] = some
        for unit in Unit:
            for at, some in available[unit].items():
                m.d.comb += self.available[unit][at].eq(some)
            overflow = 0
            for term in overflows[unit]:
                overflow |= term
            m.d.comb += self.overflow[unit].eq(overflow)
        none = Signal(init=1)
        posted = Signal()
        m.d.sync += [none.eq(~Cat(nonzero).any()), posted.eq(Cat(ups).any())]
        m.d.comb += self.zero.eq(none & ~posted)
        return m
