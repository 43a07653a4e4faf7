"""Nested loops and the addresses that walk along with them, without multipliers."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

if TYPE_CHECKING:
    from collections.abc import Sequence


class Loops(wiring.Component):
    """Nested loops, outermost first: says which loop the next step advances.

    Loop k runs over `count_k` in strides of `strides[k]`, that is ⌈count_k / strides[k]⌉ times.

    Parameters
    ----------
    widths
        Bits of each loop's count, outermost loop first.
    strides
        What one iteration of each loop takes from its count.

    Ports
    -----
    start : In(1)
        Begin in the next cycle, at the first iteration of every loop.
    step : In(1)
        Go to the next iteration in the next cycle.
    count_k : In(widths[k])
        Count of loop k, at least 1; stable from the cycle of `start` to the last `step`.
    once : In(loops)
        Bit k: loop k has one iteration, ``count_k ≤ strides[k]``; stable likewise.
    left_k : Out(widths[k])
        What is left of `count_k`, the current iteration included.
    last : Out(loops)
        Bit k: loop k is in its last iteration. From the cycle after `start`; a register.
    advance : Out(loops)
        One-hot: the loop that `step` advances; loops inside it begin anew. None at the very end,
        and none in the cycle of `start`. A register.
    """

    def __init__(self, *, widths: Sequence[int], strides: Sequence[int] | None = None):
        self._widths = tuple(widths)
        self._strides = (1,) * len(self._widths) if strides is None else tuple(strides)
        if not self._widths or len(self._strides) != len(self._widths):
            raise ValueError(f"strides must be one a loop, not {strides!r} for widths {widths!r}")
        members = {"start": In(1), "step": In(1)}
        for k, width in enumerate(self._widths):
            members |= {f"count_{k}": In(width), f"left_{k}": Out(width)}
        loops = len(self._widths)
        last = Out(loops, init=(1 << loops) - 1)
        super().__init__({**members, "once": In(loops), "last": last, "advance": Out(loops)})

    def elaborate(self, platform) -> Module:
        m = Module()
        after = []  # `last` after a step
        for k, stride in enumerate(self._strides):
            count, left = getattr(self, f"count_{k}"), getattr(self, f"left_{k}")
            near = Signal(name=f"near_{k}")  # one iteration is left after this one, at most
            anew = self.advance[:k].any() if k else Const(0)
            after.append(Mux(anew, self.once[k], Mux(self.advance[k], near, self.last[k])))
            with m.If(self.start | (self.step & anew)):
                m.d.sync += [left.eq(count), near.eq(count <= 2 * stride)]
            with m.Elif(self.step & self.advance[k]):
                m.d.sync += [left.eq(left - stride), near.eq(left <= 3 * stride)]

        # `step` comes late, so everything before it is chosen without it.
        with m.If(self.start):
            m.d.sync += [self.last.eq(self.once), self.advance.eq(_innermost(self.once))]
        with m.Elif(self.step):
            m.d.sync += [self.last.eq(Cat(after)), self.advance.eq(_innermost(Cat(after)))]
        return m


def _innermost(last) -> Cat:
    """One-hot: the innermost loop that is not in its last iteration."""
    *outer, innermost = range(len(last))
    return Cat(*(~last[k] & last[k + 1 :].all() for k in outer), ~last[innermost])


class Affine(wiring.Component):
    """A value that is affine in the iterations of :class:`Loops`: init + Σ iteration_k · stride_k.

    Parameters
    ----------
    width
        Bits of the value; it wraps.
    loops
        Number of loops.
    moving
        Loops with a stride; the others leave the value as it is at the start of their iteration.

    Ports
    -----
    start : In(1)
        Take `init` as the value from the next cycle on.
    step, advance : In
        As in :class:`Loops`; `advance` is 0 in the cycle of `start`.
    init : In(width)
        Value in the first iteration.
    stride_k : In(width)
        What an iteration of loop k adds, for each k in `moving`. Like `init`, it must be stable
        from the cycle of `start` to the last `step`; strides may come a cycle later.
    value : Out(width)
        The value in the current iteration; a register.
    """

    def __init__(self, *, width: int, loops: int, moving: Sequence[int]):
        self._moving = tuple(sorted(moving))
        if not self._moving or not all(0 <= k < loops for k in self._moving):
            raise ValueError(f"moving must name loops from 0 to {loops - 1}, not {moving!r}")
        super().__init__(
            {
                "start": In(1),
                "step": In(1),
                "advance": In(loops),
                "init": In(width),
                **{f"stride_{k}": In(width) for k in self._moving},
                "value": Out(width),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # base[k] is the value at the start of loop k's current iteration; loop k and the loops
        # around it load it. That of the innermost moving loop is the value itself.
        *outer, innermost = self._moving
        base = {k: Signal.like(self.value, name=f"base_{k}") for k in outer}
        base[innermost] = self.value

        # One of `start` and `advance` at most is up: that one's terms are the only ones.
        origins, strides = [Mux(self.start, self.init, 0)], []
        source = self.init
        for k in range(innermost + 1):
            source = base.get(k, source)
            origins.append(Mux(self.advance[k], source, 0))
            if k in self._moving:
                strides.append(Mux(self.advance[k], getattr(self, f"stride_{k}"), 0))
        origin = Signal.like(self.value)
        stride = Signal.like(self.value)
        m.d.comb += [origin.eq(reduce(or_, origins)), stride.eq(reduce(or_, strides))]
        following = Signal.like(self.value)
        m.d.comb += following.eq(origin + stride)
        for k, register in base.items():
            with m.If(self.start | (self.step & self.advance[: k + 1].any())):
                m.d.sync += register.eq(following)
        return m
