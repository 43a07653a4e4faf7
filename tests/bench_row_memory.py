"""Bench of a row memory: random beats and rows, at most one of each in a cycle."""

from __future__ import annotations

import os
import random

import cocotb
from weft.hdl.ports import ROW_READ_LATENCY
from weft.tb.bench import clock_and_reset

ROWS = int(os.environ.get("ROWS", "64"))
ROW_BYTES = int(os.environ.get("ROW_BYTES", "16"))
BUS_BYTES = int(os.environ.get("BUS_BYTES", "8"))
PARITY = bool(int(os.environ.get("PARITY", "0")))


@cocotb.test()
async def random_traffic(dut):
    rng = random.Random(1)
    cycles = await clock_and_reset(dut, write__en=0, read__en=0)
    size = ROWS * ROW_BYTES
    memory = bytearray(size)
    answers: dict[int, bytes] = {}
    for now in range(1200):
        dut.write__en.value = writing = int(rng.random() < 0.7)
        dut.read__en.value = reading = int(rng.random() < 0.8)
        beat, row = rng.randrange(size // BUS_BYTES), rng.randrange(ROWS)
        if rng.random() < 0.3:
            row = beat * BUS_BYTES // ROW_BYTES
        # A row that is being written in this cycle is undefined.
        wide = max(ROW_BYTES, BUS_BYTES)
        if writing and row * ROW_BYTES // wide == beat * BUS_BYTES // wide:
            dut.read__en.value = reading = 0
        data, strobe = rng.randbytes(BUS_BYTES), rng.choice((-1, rng.getrandbits(BUS_BYTES)))
        dut.write__addr.value = beat
        dut.write__data.value = int.from_bytes(data, "little")
        dut.write__strobe.value = strobe & ((1 << BUS_BYTES) - 1)
        dut.read__addr.value = row
        if reading:
            answers[now + ROW_READ_LATENCY] = bytes(memory[row * ROW_BYTES : (row + 1) * ROW_BYTES])
        await cycles.settle()
        assert not int(dut.wrong.value)
        if now in answers:
            got = int(dut.read__data.value).to_bytes(ROW_BYTES, "little")
            assert got == answers[now], f"cycle {now}: {got.hex()} instead of {answers[now].hex()}"
        for k in range(BUS_BYTES):
            if writing and strobe >> k & 1:
                memory[beat * BUS_BYTES + k] = data[k]
        await cycles.edge()
    assert len(answers) > 600


@cocotb.test(skip=not PARITY)
async def wrong_parity(dut):
    """A flipped bit is reported in the cycle after its row came, and with no other row."""
    rng = random.Random(2)
    cycles = await clock_and_reset(dut, write__en=0, read__en=0)
    wide = max(ROW_BYTES, BUS_BYTES)
    for _ in range(60):
        bit = rng.randrange(9 * ROWS * ROW_BYTES)
        row = bit // (9 * ROW_BYTES)
        cell = dut.ram.cells[bit // (9 * wide)]
        cell.value = int(cell.value) ^ 1 << bit % (9 * wide)
        for other in {row, row ^ 1, 0}:
            await cycles.edge()
            dut.read__en.value = 1
            dut.read__addr.value = other
            await cycles.edge()
            dut.read__en.value = 0
            seen = []
            for _ in range(ROW_READ_LATENCY + 2):
                await cycles.settle()
                seen.append(int(dut.wrong.value))
                await cycles.edge()
            assert seen == [0] * ROW_READ_LATENCY + [int(other == row), 0], (row, other)
        cell.value = 0
        await cycles.edge()
