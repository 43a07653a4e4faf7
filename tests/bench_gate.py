"""Bench of the gate: every output, every cycle, against a Python model of a random unit."""

import os
import random

import cocotb
from weft.hdl.registers import Cause

from .bench_common import restart

OVERLAP = int(os.environ["WEFT_OVERLAP"])
INPUTS = ("valid", "wait", "pc", "next_pc", "ready", "done", "busy", "stall", "available")


def cause(valid: int, go: int, ready: int, busy: int, stall: int) -> Cause:
    """What a cycle counts as."""
    if ready:
        return Cause.BUSY
    if busy:
        return Cause.MEMORY if stall else Cause.BUSY
    return Cause.SEMAPHORE if valid and not go else Cause.EMPTY


@cocotb.test()
async def random_unit(dut):
    rng = random.Random(2)
    cycles = await restart(dut, **dict.fromkeys(INPUTS, 0))
    running: list[int] = []
    last = 0
    pc = 100
    seen = dict.fromkeys(Cause, 0)
    for _ in range(3000):
        wait = rng.getrandbits(8) & rng.getrandbits(8) & rng.getrandbits(8)
        available = rng.getrandbits(8) | rng.getrandbits(8)
        valid = int(rng.random() < 0.7)
        go = int(valid and not wait & ~available)
        ready = int(go and len(running) < OVERLAP and rng.random() < 0.5)
        busy = int(bool(running))
        done = int(busy and rng.random() < 0.3)
        stall = rng.getrandbits(1)
        next_pc = pc + rng.randrange(1, 9)
        values = (valid, wait, pc, next_pc, ready, done, busy, stall, available)
        for name, value in zip(INPUTS, values, strict=True):
            getattr(dut, name).value = value
        await cycles.settle()
        expected = cause(valid, go, ready, busy, stall)
        seen[expected] += 1
        assert int(dut.go.value) == go
        assert int(dut.take.value) == (wait if ready else 0)
        assert int(dut.cause.value) == 1 << expected
        assert int(dut.active.value) == (running[0] if running else last)
        oldest = running[0] if running else pc if valid else next_pc
        assert int(dut.oldest.value) == oldest
        if done:
            last = running.pop(0)
        if ready:
            running.append(pc)
            pc += 1
        await cycles.edge()
    assert min(seen.values()) > 20
