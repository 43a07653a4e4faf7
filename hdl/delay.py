"""Delay lines: whole values, and lanes that are delayed by one cycle more each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Signal, Value

if TYPE_CHECKING:
    from amaranth.hdl import ValueLike


def delay(
    m: Module, value: ValueLike, cycles: int, *, name: str, reset_less: bool = False
) -> Value:
    """`value` as it was `cycles` cycles ago."""
    stage = Value.cast(value)
    for k in range(cycles):
        after = Signal(stage.shape(), name=f"{name}_{k + 1}", reset_less=reset_less)
        m.d.sync += after.eq(stage)
        stage = after
    return stage


def skew(m: Module, value: ValueLike, width: int, *, name: str, cycles: int = 1) -> list[Value]:
    """The lanes of `value`, `width` bits each, lane i as it was i · `cycles` cycles ago.

    Stage s holds the lanes from s on, so that the registers form the triangle that the skew needs.
    """
    stage = Value.cast(value)
    lanes = [stage[:width]]
    for k in range(len(stage) // width - 1):
        stage = stage[width:]
        for cycle in range(k * cycles + 1, (k + 1) * cycles + 1):
            after = Signal(len(stage), name=f"{name}_{cycle}", reset_less=True)
            m.d.sync += after.eq(stage)
            stage = after
        lanes.append(stage[:width])
    return lanes
