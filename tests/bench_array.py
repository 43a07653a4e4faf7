"""Bench of the systolic array: tiles as close together as they may be, or not, and every sum."""

from __future__ import annotations

import os
import random

import cocotb
import numpy as np
from weft.tb.bench import clock_and_reset

ROWS, COLS, PSUM_BITS = (int(os.environ[name]) for name in ("ROWS", "COLS", "PSUM_BITS"))
TILES = int(os.environ.get("TILES", "40"))


def word(values: np.ndarray, bits: int = 8) -> int:
    """Values as one number, the first in the lowest bits."""
    mask = (1 << bits) - 1
    return sum((int(v) & mask) << bits * i for i, v in enumerate(values))


class Schedule:
    """What to drive in each cycle, and the sums to see."""

    def __init__(self):
        self.act: dict[int, tuple[np.ndarray, int]] = {}
        self.load: dict[int, tuple[np.ndarray, int]] = {}
        self.sums: dict[tuple[int, int], int] = {}
        self.end = 0

    def tile(self, te: int, e: list[int], weights: np.ndarray, vectors: np.ndarray) -> None:
        """A tile whose beats begin in cycle `te` and whose vectors enter in cycles `e`."""
        for p in range(ROWS):
            self.load[te + p] = weights[ROWS - 1 - p], int(p == 0)
        sums = vectors.astype(int) @ weights.astype(int)
        for m, cycle in enumerate(e):
            self.act[cycle] = vectors[m], int(m == 0)
            for c in range(COLS):
                self.sums[cycle + ROWS + c + 2, c] = sums[m, c]
        self.end = max(self.end, e[-1] + ROWS + COLS + 2)


async def play(dut, schedule: Schedule, rng: random.Random) -> None:
    cycles = await clock_and_reset(dut, swap=0, load=0, load_first=0, act=0, weights=0)
    for now in range(schedule.end + 1):
        act, first = schedule.act.get(now, (None, 0))
        dut.act.value = rng.getrandbits(8 * ROWS) if act is None else word(act)
        dut.swap.value = first
        row, first = schedule.load.get(now, (None, rng.getrandbits(1)))
        dut.weights.value = rng.getrandbits(8 * COLS) if row is None else word(row)
        dut.load.value = int(row is not None)
        dut.load_first.value = first
        await cycles.settle()
        # Columns that no vector has reached yet may hold anything.
        psum = str(dut.psum.value)[::-1]
        for c in range(COLS):
            if (now, c) in schedule.sums:
                got = int(psum[PSUM_BITS * c : PSUM_BITS * (c + 1)][::-1], 2)
                got -= (got >> (PSUM_BITS - 1)) << PSUM_BITS
                want = schedule.sums[now, c]
                assert got == want, f"cycle {now}, column {c}: {got} instead of {want}"
        await cycles.edge()


def random_schedule(rng: random.Random, tight: bool) -> Schedule:
    draw = np.random.default_rng(rng.randrange(1 << 30))
    schedule = Schedule()
    te, entered = 1, 0
    for _ in range(TILES):
        m = rng.choice((1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS))
        weights = draw.integers(-128, 128, (ROWS, COLS))
        vectors = draw.integers(-128, 128, (m, ROWS))
        first = max(te + ROWS, entered + 1)
        e = []
        for _ in range(m):
            first += 0 if tight else rng.choice((0, 0, 1, 5))
            e.append(first)
            first += 1
        schedule.tile(te, e, weights, vectors)
        te = e[0] if tight else max(e[0], te + ROWS) + rng.choice((0, 0, 1, ROWS))
        entered = e[-1]
    return schedule


@cocotb.test()
@cocotb.parametrize(tight=[True, False])
async def random_tiles(dut, tight):
    """Tight: loading begins when the tile before enters, vectors right after the last beat."""
    rng = random.Random(f"{ROWS} {COLS} {tight}")
    await play(dut, random_schedule(rng, tight), rng)


@cocotb.test()
async def extremes(dut):
    """Sums of the largest magnitude fit their width."""
    schedule = Schedule()
    te = 0
    for w, a in ((-128, -128), (-128, 127), (127, 127), (127, -128)):
        e = te + ROWS
        schedule.tile(te, [e], np.full((ROWS, COLS), w), np.full((1, ROWS), a))
        te = e
    await play(dut, schedule, random.Random(0))
