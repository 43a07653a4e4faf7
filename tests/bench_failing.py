"""Bench whose second and third tests fail on purpose."""

from __future__ import annotations

import cocotb
from weft.tb.bench import StreamSink, clock_and_reset


@cocotb.test()
async def good(dut) -> None:
    await clock_and_reset(dut)


@cocotb.test()
async def expects_too_much(dut) -> None:
    cycles = await clock_and_reset(dut)
    await cycles.settle()
    assert int(dut.o_stream__valid.value) == 1, "this text is in the log"


@cocotb.test()
async def waits_in_vain(dut) -> None:
    cycles = await clock_and_reset(dut, i_stream__valid=0)
    await StreamSink(dut, "o_stream", cycles).receive(1, limit=20)
