"""Bench of VECTOR: random DRAIN and POOL instructions among emulated ACC, ACT and PAR.

Meanwhile LOAD fills the tables that the instruction does not use.
"""

from __future__ import annotations

import json
import os
import random

import cocotb
import numpy as np
from weft.hdl.config import TABLE_BYTES, Config
from weft.hdl.isa import Instruction, Opcode, Reduce
from weft.hdl.numerics import Parameter, requantize
from weft.hdl.ports import ACC_READ_LATENCY, ACT_READ_LATENCY, JUMP_LEAD, ROW_READ_LATENCY
from weft.host.timing import vector as timing
from weft.tb.bench import clock_and_reset

CONFIG = Config(**json.loads(os.environ.get("CONFIG", "{}")))
COUNT = int(os.environ.get("COUNT", "60"))
SEED = int(os.environ.get("SEED", "1"))


def draw(rng: random.Random) -> Instruction:
    """A random instruction; strides and addresses roam all of their fields."""
    pool = rng.random() < 0.5
    lanes = CONFIG.vector_lanes
    reduce = rng.choice(list(Reduce))
    small = rng.random() < 0.5
    window = (1, 1) if reduce == Reduce.NONE else (rng.randrange(1, 4), rng.randrange(1, 4))
    fields = {
        "post": rng.randrange(64),
        "par": rng.randrange(4096),
        "reduce": reduce,
        "ry": window[0],
        "rx": window[1],
        "oy": rng.randrange(1, 3 if small else 6),
        "ox": rng.randrange(1, 3 if small else 6),
        "sy": rng.randrange(1, 16),
        "sx": rng.randrange(1, 16),
        "channels": rng.choice((1, 2, lanes, lanes + 1, CONFIG.cols, rng.randrange(1, 4 * lanes))),
        "dst": rng.randrange(1 << 20),
        "dst_row": rng.randrange(1 << 20),
        "dst_pixel": rng.randrange(1 << 16),
        "table": rng.choice((0, CONFIG.tables, rng.randrange(CONFIG.tables + 1))),
    }
    if pool:
        height, width = rng.randrange(1, 24), rng.randrange(1, 24)
        fields |= {
            "src": rng.randrange(1 << 20),
            "src_row": rng.randrange(1 << 20),
            "src_pixel": rng.randrange(1 << 16),
            "height": height,
            "width": width,
            "iy0": rng.randrange(-3, height),
            "ix0": rng.randrange(-3, width),
            "fill": rng.randrange(-128, 128),
        }
        return Instruction(Opcode.POOL, fields)
    fields |= {
        "src": rng.randrange(1 << 12),
        "src_row": rng.randrange(1 << 12),
        "src_block": rng.randrange(1 << 12),
        "residual": rng.randrange(2),
        "res": rng.randrange(1 << 20),
        "res_row": rng.randrange(1 << 20),
        "res_pixel": rng.randrange(1 << 16),
        "dst_jump": rng.choice((0, rng.randrange(9), rng.randrange(1 << 16))),
    }
    return Instruction(Opcode.DRAIN, fields)


class Memories:
    """Contents of ACC, ACT and PAR, drawn at random."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        shape = (CONFIG.acc_depth, CONFIG.cols)
        bits = rng.integers(4, 32, shape)
        self.acc = rng.integers(-(2**31), 2**31, shape) >> (31 - bits)
        self.act = rng.integers(-128, 128, CONFIG.act_bytes).astype(np.int8)
        self.par = []
        for _ in range(CONFIG.par_entries):
            shift = int(rng.integers(0, CONFIG.multiplier_bits + 6))
            self.par.append(
                Parameter(
                    bias=int(rng.integers(-(2**12), 2**12)),
                    multiplier=int(rng.integers(0, 2 ** (CONFIG.multiplier_bits - 1))),
                    shift=shift,
                    residual_shift=int(rng.integers(0, shift + 1)),
                    residual_multiplier=int(rng.integers(-(2**17), 2**17)),
                    zero_point=int(rng.integers(-128, 128)),
                    residual_zero=int(rng.integers(-128, 128)),
                    low=int(rng.integers(-128, -60)),
                    high=int(rng.integers(60, 128)),
                )
            )


def address(i: Instruction, y, x, c):
    """Where the result of channel c at output (y, x) goes."""
    step = 1 if i.opcode == Opcode.POOL else 1 + CONFIG.act_lanes * i.dst_jump
    return (i.dst + y * i.dst_row + x * i.dst_pixel + c * step) % CONFIG.act_bytes


def golden(i: Instruction, memories: Memories, tables: np.ndarray) -> np.ndarray:
    """ACT after the instruction, by the words of docs/architecture.md; sources as they were."""
    out = memories.act.copy()
    size, depth = CONFIG.act_bytes, CONFIG.acc_depth
    for c in range(i.channels):
        windows = np.zeros((i.oy, i.ox, i.ry, i.rx), np.int64)
        for (y, x, j, k), _ in np.ndenumerate(windows):
            if i.opcode == Opcode.POOL:
                iy, ix = i.iy0 + y * i.sy + j, i.ix0 + x * i.sx + k
                at = i.src + (y * i.sy + j) * i.src_row + (x * i.sx + k) * i.src_pixel + c
                inside = 0 <= iy < i.height and 0 <= ix < i.width
                windows[y, x, j, k] = memories.act[at % size] if inside else i.fill
            else:
                block, column = divmod(c, CONFIG.cols)
                at = i.src + block * i.src_block + (y * i.sy + j) * i.src_row + x * i.sx + k
                windows[y, x, j, k] = memories.acc[at % depth, column]
        if i.reduce == Reduce.SUM:
            values = windows.sum(axis=(2, 3)).astype(np.int32)
        else:
            values = windows.max(axis=(2, 3)).astype(np.int32)
        y, x = np.mgrid[: i.oy, : i.ox]
        residual = None
        if i.opcode == Opcode.DRAIN and i.residual:
            residual = memories.act[(i.res + y * i.res_row + x * i.res_pixel + c) % size]
        parameter = memories.par[(i.par + c) % CONFIG.par_entries]
        results = requantize(values, parameter, residual)
        if i.table:
            results = tables[i.table - 1, 128 + results.astype(int)]
        for (y, x), value in np.ndenumerate(results):
            out[address(i, y, x, c)] = value
    return out


def overwrites(i: Instruction) -> bool:
    """Whether two results of the instruction have the same address, so that order matters."""
    y, x, c = np.mgrid[: i.oy, : i.ox, : i.channels]
    at = address(i, y, x, c)
    return len(np.unique(at)) < at.size


class Emulation:
    """Answers the unit's reads, each in its cycle and with noise around it, and takes its writes.

    Reads see ACT as it was before the instruction. `now` is the cycle; whoever waits for an edge
    increments it.
    """

    def __init__(self, dut, memories: Memories):
        self.now = 0
        self._dut, self._memories = dut, memories
        self._answers: dict[str, dict[int, int]] = {"acc": {}, "act": {}, "par": {}}
        self._addresses: dict[int, list[int]] = {}
        self._rng = random.Random(SEED)
        self.written = memories.act.copy()
        self.reads = {"acc": 0, "act": 0, "par": 0}
        self.writes = 0

    def answer(self) -> None:
        """Drive the read data of this cycle."""
        for name, answers in self._answers.items():
            port = getattr(self._dut, f"{name}__data")
            noise = self._rng.getrandbits(len(port))
            port.value = answers.pop(self.now, noise)

    def _get(self, name: str) -> int:
        return int(getattr(self._dut, name).value)

    def observe(self) -> None:
        """Take this cycle's requests."""
        now, lanes = self.now, CONFIG.vector_lanes
        memories = self._memories
        if self._get("acc__en"):
            self.reads["acc"] += 1
            entry = memories.acc[self._get("acc__addr")]
            at = self._get("acc__group") * lanes
            word = np.asarray(entry[at : at + lanes], "<i4").tobytes()
            self._answers["acc"][now + ACC_READ_LATENCY] = int.from_bytes(word, "little")
        if self._get("act__en"):
            self.reads["act"] += 1
            base, mask = self._get("act__base"), self._get("act__mask")
            fill = self._get("act__fill")
            data = [
                int(memories.act[(base + k) % CONFIG.act_bytes]) & 0xFF if mask >> k & 1 else fill
                for k in range(lanes)
            ]
            word = int.from_bytes(bytes(data), "little")
            self._answers["act"][now + ACT_READ_LATENCY] = word
        if self._get("par__en"):
            self.reads["par"] += 1
            word = memories.par[self._get("par__addr")].encode()
            self._answers["par"][now + ROW_READ_LATENCY] = int.from_bytes(word, "little")
        if self._get("out__en"):
            self.writes += 1
            base, mask, jump = (self._get(f"out__{name}") for name in ("base", "mask", "jump"))
            step = 1 + CONFIG.act_lanes * jump
            self._addresses[now + JUMP_LEAD] = [
                (base + k * step) % CONFIG.act_bytes if mask >> k & 1 else -1 for k in range(lanes)
            ]
        if now in self._addresses:
            data = self._get("out__data").to_bytes(lanes, "little")
            for at, byte in zip(self._addresses.pop(now), data, strict=True):
                if at >= 0:
                    self.written[at] = np.array(byte).astype(np.int8)


class Tables:
    """What TBL holds; LOAD's side of it."""

    def __init__(self, dut):
        self.contents = np.zeros((CONFIG.tables, TABLE_BYTES), np.int8)
        self._dut = dut
        self._rng = np.random.default_rng(SEED)

    def drive(self, used: int = 0, chance: float = 0.3) -> None:
        """Maybe write a random beat in this cycle, to a table other than number `used` (from 1)."""
        others = [k for k in range(CONFIG.tables) if k != used - 1]
        write = bool(others) and self._rng.random() < chance
        if CONFIG.tables:
            self._dut.tbl__en.value = int(write)
        if write:
            table = self._rng.choice(others)
            at = self._rng.integers(TABLE_BYTES // CONFIG.bus_bytes) * CONFIG.bus_bytes
            beat = self._rng.integers(-128, 128, CONFIG.bus_bytes).astype(np.int8)
            self.contents[table, at : at + beat.size] = beat
            self._dut.tbl__addr.value = int((table * TABLE_BYTES + at) // CONFIG.bus_bytes)
            self._dut.tbl__strobe.value = (1 << CONFIG.bus_bytes) - 1
            self._dut.tbl__data.value = int.from_bytes(beat.tobytes(), "little")


async def execute(
    dut, cycles, i: Instruction, number: int, tables: Tables, rng: random.Random
) -> None:
    """Offer one instruction, answer its reads until it is done, and check all it promised."""
    memories = Memories(number)
    emulation = Emulation(dut, memories)
    word = int.from_bytes(i.encode(), "little")
    payload = dut.unit__instr__payload
    go_at = rng.randrange(3)
    start = None
    dut.unit__instr__valid.value = 1
    payload.value = word
    while True:
        dut.unit__go.value = int(emulation.now >= go_at)
        emulation.answer()
        tables.drive(i.table)
        await cycles.settle()
        ready, done = int(dut.unit__instr__ready.value), int(dut.unit__done.value)
        now = emulation.now
        assert int(dut.unit__busy.value) == (start is not None)
        assert int(dut.unit__post.value) == (i.post if done else 0)
        assert int(dut.unit__stall.value) == 0
        assert ready == (start is None and now >= go_at)
        emulation.observe()
        await cycles.edge()
        emulation.now += 1
        if ready:
            start = now
            payload.value = rng.getrandbits(256)
            dut.unit__instr__valid.value = rng.randrange(2)
            go_at = now
        if done:
            break
        assert start is None or now - start < 20000, f"{i} hangs"
    assert start is not None
    expected = timing.duration(i, CONFIG)
    assert now - start == expected, f"{now - start} cycles instead of {expected}: {i}"
    groups = -(-i.channels // CONFIG.vector_lanes)
    outputs = groups * i.oy * i.ox
    elements = outputs * i.ry * i.rx
    pool = i.opcode == Opcode.POOL
    reads = {
        "acc": 0 if pool else elements,
        "act": elements if pool else outputs * i.residual,
        "par": i.channels,
    }
    assert emulation.reads == reads, f"{emulation.reads} instead of {reads}: {i}"
    assert emulation.writes == outputs
    if not overwrites(i):
        wrong = np.flatnonzero(emulation.written != golden(i, memories, tables.contents))
        assert not wrong.size, f"{wrong.size} bytes of ACT differ, first at {wrong[0]}: {i}"


@cocotb.test()
async def random_instructions(dut):
    rng = random.Random(SEED)
    cycles = await clock_and_reset(
        dut, unit__instr__valid=0, unit__instr__payload=0, unit__go=0,
        acc__data=0, act__data=0, par__data=0, **({"tbl__en": 0} if CONFIG.tables else {}),
    )  # fmt: skip
    tables = Tables(dut)
    for _ in range(3 * CONFIG.tbl_bytes // CONFIG.bus_bytes):
        tables.drive(chance=1)
        await cycles.edge()
    judged = 0
    for number in range(COUNT):
        instruction = draw(rng)
        await execute(dut, cycles, instruction, number, tables, rng)
        judged += not overwrites(instruction)
    assert judged > COUNT // 2
