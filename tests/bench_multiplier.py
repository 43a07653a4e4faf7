"""Bench of the multiplier: every pair of operands."""

from __future__ import annotations

import random

import cocotb
from weft.tb.bench import clock_and_reset


@cocotb.test()
async def every_product(dut):
    rng = random.Random(2)
    cycles = await clock_and_reset(dut, load=0)
    used, before, due = None, None, [None, None]
    for b in range(-128, 128):
        for a in range(-128, 128):
            first = a == -128
            other = b if first else rng.randrange(-128, 128)
            dut.a.value, dut.b.value, dut.load.value = a, other, int(first)
            used = b if first else used
            await cycles.settle()
            expected = due.pop(0)
            if expected is not None:
                assert dut.product.value.to_signed() == expected
            if before is not None:
                assert dut.a_q.value.to_signed() == before
            due.append(a * used)
            before = a
            await cycles.edge()
