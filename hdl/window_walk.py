"""Nested loops and the addresses that walk along with them, without multipliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Signal
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
    left_k : Out(widths[k])
        What is left of `count_k`, the current iteration included.
    last : Out(loops)
        Bit k: loop k is in its last iteration. From the cycle after `start`; a register.
    advance : Out(loops)
        One-hot: the loop that `step` advances; loops inside it begin anew. None at the very end. A
        register.
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
        advance = Out(loops, init=1 << (loops - 1))
        super().__init__({**members, "last": Out(loops), "advance": advance})

    def elaborate(self, platform) -> Module:
        m = Module()
        loops = range(len(self._widths))
        next_last = [Signal(name=f"next_last_{k}") for k in loops]
        m.d.comb += Cat(next_last).eq(self.last)
        m.d.sync += self.last.eq(Cat(next_last))
        for k in loops:
            inner = Cat(next_last[k + 1 :]).all() if k + 1 < len(next_last) else 1
            m.d.sync += self.advance[k].eq(~next_last[k] & inner)
            count, left = getattr(self, f"count_{k}"), getattr(self, f"left_{k}")
            stride = self._strides[k]
            outside = self.advance[:k].any() if k else 0
            with m.If(self.start | (self.step & outside)):
                m.d.sync += left.eq(count)
                m.d.comb += next_last[k].eq(count <= stride)
            with m.Elif(self.step & self.advance[k]):
                m.d.sync += left.eq(left - stride)
                m.d.comb += next_last[k].eq(left <= 2 * stride)
        return m


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
        As in :class:`Loops`.
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

        origin = Signal.like(self.value)
        stride = Signal.like(self.value)
        source = self.init
        with m.If(self.start):
            m.d.comb += origin.eq(self.init)
        for k in range(innermost + 1):
            source = base.get(k, source)
            with m.Elif(self.advance[k]):
                m.d.comb += origin.eq(source)
                if k in self._moving:
                    m.d.comb += stride.eq(getattr(self, f"stride_{k}"))
        following = Signal.like(self.value)
        m.d.comb += following.eq(origin + stride)
        for k, register in base.items():
            with m.If(self.start | (self.step & self.advance[: k + 1].any())):
                m.d.sync += register.eq(following)
        return m
