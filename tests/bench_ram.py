"""Bench of the memory primitive: 16-bit words in two parts."""

from __future__ import annotations

import os
import random

import cocotb
from weft.tb.bench import clock_and_reset

LATENCY = int(os.environ.get("LATENCY", "1"))
DEPTH = int(os.environ.get("DEPTH", "20"))


@cocotb.test()
async def random_traffic(dut):
    rng = random.Random(3)
    cycles = await clock_and_reset(dut, w_en=0, r_en=0)
    memory = [0] * DEPTH
    arrives: dict[int, int] = {}
    shown = None
    for now in range(600):
        w_addr, r_addr, data = rng.randrange(DEPTH), rng.randrange(DEPTH), rng.getrandbits(16)
        parts = rng.choice((0, 1, 2, 3))
        reading = rng.randrange(2) and not (parts and r_addr == w_addr)
        dut.w_en.value, dut.w_addr.value, dut.w_data.value = parts, w_addr, data
        dut.r_en.value, dut.r_addr.value = int(reading), r_addr
        if reading:
            arrives[now + LATENCY] = memory[r_addr]
        await cycles.settle()
        shown = arrives.get(now, shown)
        if shown is not None:
            assert int(dut.r_data.value) == shown, f"cycle {now}"
        keep = (0 if parts & 1 else 0x00FF) | (0 if parts & 2 else 0xFF00)
        memory[w_addr] = memory[w_addr] & keep | data & ~keep
        await cycles.edge()
    assert len(arrives) > 150
