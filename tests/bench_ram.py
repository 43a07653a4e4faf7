"""Bench of the memory primitive, of words in several parts.

With SINGLE_PORT a cycle reads or writes, what is read is gone after a write, and words that were
not written hold anything.
"""

from __future__ import annotations

import os
import random

import cocotb
from weft.tb.bench import clock_and_reset

LATENCY = int(os.environ.get("LATENCY", "1"))
DEPTH = int(os.environ.get("DEPTH", "20"))
WIDTH = int(os.environ.get("WIDTH", "16"))
PARTS = int(os.environ.get("PARTS", "2"))
PART = WIDTH // PARTS
SINGLE_PORT = bool(os.environ.get("SINGLE_PORT"))


@cocotb.test()
async def random_traffic(dut):
    rng = random.Random(3)
    cycles = await clock_and_reset(dut, w_en=0, r_en=0)
    memory = [0] * DEPTH
    known = set() if SINGLE_PORT else set(range(DEPTH))
    places = [0, DEPTH - 1, *(rng.randrange(DEPTH) for _ in range(18))]
    arrives: dict[int, int] = {}
    shown = None
    for now in range(600):
        w_addr, r_addr = (rng.choice(places) for _ in range(2))
        data, parts = rng.getrandbits(WIDTH), rng.getrandbits(PARTS)
        if SINGLE_PORT:
            parts = rng.choice([0, parts if w_addr in known else (1 << PARTS) - 1])
            reading = not parts and r_addr in known
        else:
            reading = rng.randrange(2) and not (parts and r_addr == w_addr)
        dut.w_en.value, dut.w_addr.value, dut.w_data.value = parts, w_addr, data
        dut.r_en.value, dut.r_addr.value = int(reading), r_addr
        if reading:
            arrives[now + LATENCY] = memory[r_addr]
        await cycles.settle()
        shown = arrives.get(now, shown)
        if shown is not None:
            assert int(dut.r_data.value) == shown, f"cycle {now}"
        new = sum(((1 << PART) - 1) << PART * k for k in range(PARTS) if parts >> k & 1)
        memory[w_addr] = memory[w_addr] & ~new | data & new
        if SINGLE_PORT and parts:
            known.add(w_addr)
            shown = None
        await cycles.edge()
    assert len(arrives) > 150
