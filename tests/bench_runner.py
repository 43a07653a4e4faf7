"""Bench of test_runner: a stream register under every stall pattern."""

from __future__ import annotations

import os

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data
from weft.tb.bench import STALLS, StreamSink, StreamSource, clock_and_reset

LAYOUT = data.StructLayout({"a": signed(4), "b": data.ArrayLayout(signed(3), 3), "c": 8})
ITEMS = [{"a": i % 16 - 8, "b": [i % 3, -1, -4], "c": i} for i in range(40)]


async def flow(dut, stalls: str) -> tuple[list[int], list[int]]:
    """Send ITEMS through; the cycles in which they entered and left."""
    idle, backpressure = STALLS[stalls]
    cycles = await clock_and_reset(dut)
    source = StreamSource(dut, "i_stream", cycles, LAYOUT, idle=idle)
    sink = StreamSink(dut, "o_stream", cycles, LAYOUT, backpressure=backpressure)
    sending = cocotb.start_soon(source.send(ITEMS))
    received = await sink.receive(len(ITEMS))
    assert [item for _, item in received] == ITEMS
    return await sending, [cycle for cycle, _ in received]


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def passes_everything_on(dut, stalls: str) -> None:
    entered, left = await flow(dut, stalls)
    assert all(b > a for a, b in zip(entered, left, strict=True))
    assert (left[-1] > len(ITEMS)) == (stalls != "none")


@cocotb.test()
async def takes_one_cycle(dut) -> None:
    """Starts after other tests, so the clock's phase and numbers must start anew."""
    entered, left = await flow(dut, "none")
    assert entered == list(range(len(ITEMS)))
    assert left == list(range(1, len(ITEMS) + 1))


@cocotb.test()
async def gets_its_environment(dut) -> None:
    assert os.environ["GREETING"] == "42"
