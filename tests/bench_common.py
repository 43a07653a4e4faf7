"""Resetting a component as often as a bench wants, with one clock."""

from typing import Any

from cocotb.task import current_task
from weft.tb.bench import Cycles, clock_and_reset

_clocked: dict[Any, Cycles] = {}


async def restart(dut: Any, cycles: int = 2, **inputs: int) -> Cycles:
    """Reset `dut` with `inputs` driven; starts the clock in a test's first call.

    Returns right after the rising edge at which cycle 0 begins, with ``rst`` low.
    """
    test = current_task()
    if test not in _clocked:
        _clocked[test] = await clock_and_reset(dut, cycles, **inputs)
        return _clocked[test]
    count = _clocked[test]
    dut.rst.value = 1
    for name, value in inputs.items():
        getattr(dut, name).value = value
    await count.edge(cycles)
    dut.rst.value = 0
    count.restart()
    return count
