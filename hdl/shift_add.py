"""Products without multipliers."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def times(value: Value, factor: Value) -> Value:
    """`value` times a narrow unsigned `factor`, as shifted additions rather than a DSP block."""
    parts = [Mux(factor[k], value << k, 0) for k in range(len(factor))]
    while len(parts) > 1:
        parts = [sum(parts[k : k + 2], start=0) for k in range(0, len(parts), 2)]
    return parts[0]
