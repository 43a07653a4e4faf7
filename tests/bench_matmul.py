"""Bench of the GEMM core: every read, start, completion and sum, by cycle number."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict, deque

import cocotb
import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import Instruction, Opcode
from weft.hdl.weight_unit import DECIDE_STAGES, LAUNCH_STAGES
from weft.host.timing.matmul import MatmulTimes, MatmulTiming, accumulate_cycle, done_cycle
from weft.tb.bench import Cycles, clock_and_reset

CONFIG = Config(**json.loads(os.environ["CONFIG"]))
SEED = int(os.environ.get("SEED", "0"))
COUNT = int(os.environ.get("COUNT", "8"))
ACT_LATENCY, WGT_LATENCY, ACC_LATENCY = 5, 2, 3
PC = 0x123456

#: Which of the four permissions come late at random: queues of WEIGHT and MATMUL, semaphores of
#: both.
STALLS = {
    "none": (),
    "queues": ("weight_valid", "valid"),
    "weights": ("weight_go",),
    "activations": ("go",),
    "all": ("weight_valid", "weight_go", "valid", "go"),
}


def random_matmul(rng: random.Random, before: Instruction | None) -> Instruction:
    """Any legal MATMUL that does not run for too long; sizes crowd around the array's edges."""
    rows = CONFIG.rows
    ky, kx = rng.choice(((1, 1), (1, 1), (3, 3), (1, 5), (2, 1), (4, 2)))
    target = rng.choice((1, 2, rows - 1, rows, rows + 1, 2 * rows, 3 * rows - 1, 5 * rows + 2))
    if rng.random() < 0.05:
        ky, kx, target = 15, 15, 225
    kc = max(1, target // (ky * kx))
    oy = rng.choice((1, 1, 2, 3, 5))
    ox = max(1, rng.choice((1, 2, 3, rows - 1, rows, rows + 1, 2 * rows)) // oy)
    if rng.random() < 0.1 and kc * ky * kx <= 3 * rows:
        oy, ox = 1, CONFIG.acc_depth + rng.randrange(4)
    tiles = -(-ky * kx * kc // rows)
    blocks = rng.choice((1, 1, 2, 3)) if tiles * oy * ox < 300 else 1
    tame = rng.random() < 0.6
    pixel_pitch = rng.choice((kc, kc + 1, CONFIG.act_lanes)) if tame else rng.randrange(1 << 16)
    row_pitch = rng.randrange(64) * CONFIG.act_lanes if tame else rng.randrange(1 << 20)
    near = rng.random() < 0.8
    acc = rng.randrange(CONFIG.acc_depth)
    accumulate = rng.random() < 0.4
    if before is not None and rng.random() < 0.5:
        # Around the entry that the instruction before uses last.
        end = before.acc + before.blocks * before.oy * before.ox - 1
        acc, accumulate = (end + rng.randrange(-4, 3)) % CONFIG.acc_depth, True
    return Instruction(
        Opcode.MATMUL,
        {
            "wait": rng.randrange(64),
            "post": rng.randrange(64),
            "weight_wait": rng.randrange(4),
            "weight_post": rng.randrange(4),
            "accumulate": int(accumulate),
            "act": rng.randrange(1 << 20),
            "wgt": rng.randrange(1 << 16),
            "acc": acc + CONFIG.acc_depth * rng.randrange(3),  # taken modulo the depth
            "blocks": blocks,
            "kc": kc,
            "ky": ky,
            "kx": kx,
            "dy": rng.choice((1, 1, 2, 15)),
            "dx": rng.choice((1, 1, 3, 15)),
            "row_pitch": row_pitch,
            "pixel_pitch": pixel_pitch,
            "sy": rng.choice((1, 2, 15)),
            "sx": rng.choice((1, 2, 15)),
            "oy": oy,
            "ox": ox,
            "iy0": rng.randrange(-3, 3) if near else rng.randrange(-1024, 1024),
            "ix0": rng.randrange(-3, 3) if near else rng.randrange(-1024, 1024),
            "height": rng.choice((1, 3, 8, 2047)),
            "width": rng.choice((1, 3, 8, 2047)),
            "fill": rng.randrange(-128, 128),
        },
    )


def short_matmul(rng: random.Random, before: Instruction | None) -> Instruction:
    """One tile, or a few, of few vectors: instructions that chase each other."""
    fields = dict(random_matmul(rng, before).fields)
    fields.update(
        ky=1, kx=1, kc=rng.randrange(1, 2 * CONFIG.rows), blocks=rng.choice((1, 1, 2)), oy=1,
        ox=rng.randrange(1, 4),
    )  # fmt: skip
    return Instruction(Opcode.MATMUL, fields)


def gather(i: Instruction, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Addresses [M, rows], which lanes are inside the input, and which have k < K, of tile t."""
    lane, lanes = np.arange(CONFIG.rows), CONFIG.act_lanes
    k = t * CONFIG.rows + lane
    valid = k < i.ky * i.kx * i.kc

    def koff(k: np.ndarray) -> np.ndarray:
        return (
            k // (i.kx * i.kc) * i.dy * i.row_pitch
            + k // i.kc % i.kx * i.dx * i.pixel_pitch
            + (k % i.kc)
        )

    ky, kx = k // (i.kx * i.kc), k // i.kc % i.kx
    y, x = (a.reshape(-1, 1) for a in np.mgrid[: i.oy, : i.ox])
    first = koff(k[:1])
    p = i.act + y * i.sy * i.row_pitch + x * i.sx * i.pixel_pitch + first
    addr = (p + lane + lanes * ((koff(k) - first - lane) // lanes)) % CONFIG.act_bytes
    row, col = i.iy0 + y * i.sy + ky * i.dy, i.ix0 + x * i.sx + kx * i.dx
    inside = (row >= 0) & (row < i.height) & (col >= 0) & (col < i.width) & valid
    return addr, inside, valid


class Expected:
    """What must happen in each cycle, worked out in program order."""

    def __init__(self, program: list[Instruction], late: dict[str, list[int]], seed: int):
        rng = np.random.default_rng(seed)
        self.act = rng.integers(-128, 128, CONFIG.act_bytes, np.int8)
        self.wgt = rng.integers(-128, 128, (CONFIG.wgt_rows, CONFIG.wgt_row_bytes), np.int8)
        self.times: list[MatmulTimes] = []
        self.act_reads: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}
        self.wgt_reads: dict[int, int] = {}
        self.sums: dict[int, tuple[int, bool, np.ndarray]] = {}  # by launch: entry, adds, sums
        timing = MatmulTiming(CONFIG)
        for n, i in enumerate(program):
            times = timing.step(i, **{name: cycles[n] for name, cycles in late.items()})
            self.times.append(times)
            self._add(i, times)
        self.end = self.times[-1].done

    def _add(self, i: Instruction, times: MatmulTimes) -> None:
        rows = CONFIG.rows
        tiles = -(-i.ky * i.kx * i.kc // rows)
        for j, (decision, launch) in enumerate(zip(times.decisions, times.launches, strict=True)):
            block, t = divmod(j, tiles)
            at = (i.wgt + j * rows + np.arange(rows)) % CONFIG.wgt_rows
            for p, row in enumerate(reversed(at)):
                self.wgt_reads[int(decision) + DECIDE_STAGES + p] = int(row)
            addr, inside, valid = gather(i, t)
            vectors = np.where(valid, np.where(inside, self.act[addr], i.fill), 0)
            sums = vectors.astype(np.int64) @ self.wgt[at, : CONFIG.cols].astype(np.int64)
            for m in range(i.oy * i.ox):
                cycle = int(launch) + m
                self.act_reads[cycle + LAUNCH_STAGES] = addr[m], inside[m], i.fill
                entry = (i.acc + block * i.oy * i.ox + m) % CONFIG.acc_depth
                self.sums[cycle] = entry, bool(t or i.accumulate), sums[m]


def cycles_of(spans) -> list[int]:
    """The cycles in intervals (after, up to), ascending."""
    return [
        cycle
        for since, until in spans
        for a, b in zip(since.tolist(), until.tolist(), strict=True)
        for cycle in range(a + 1, b + 1)
    ]


class Monitor:
    """Plays queues, semaphores and memories, and compares each cycle with what is expected."""

    def __init__(self, dut, cycles: Cycles, program, late, expected: Expected, acc: np.ndarray):
        self.dut, self.cycles, self.late, self.expected = dut, cycles, late, expected
        self.words = [int.from_bytes(i.encode(), "little") for i in program]
        self.program = program
        self.heads = {"weight": 0, "matmul": 0}
        self.seen = defaultdict(list)
        self.acc = acc
        self.retiring = deque(sorted(expected.sums))
        self.act_data: dict[int, int] = {}
        self.wgt_data: dict[int, int] = {}
        self.acc_reads: dict[int, tuple[bool, list[int]]] = {}
        self.conflicts = 0

    async def run(self, rng: random.Random, acc_rate: float, stop: int | None) -> None:
        """Go through all cycles (to `stop`); read accumulators at random at `acc_rate`."""
        end = self.expected.end
        for now in range(end + ACC_LATENCY + 2):
            if now == stop:
                return
            self._drive(now)
            self._read_acc(now, rng, acc_rate)
            await self.cycles.settle()
            self._check(now)
            await self.cycles.edge()
        times = self.expected.times
        assert self.seen["weight.start"] == [t.weight_start for t in times]
        assert self.seen["matmul.start"] == [t.start for t in times]
        assert self.seen["weight.done"] == [
            (t.weight_done, i.weight_post) for t, i in zip(times, self.program, strict=True)
        ]
        assert self.seen["matmul.done"] == [
            (t.done, i.post) for t, i in zip(times, self.program, strict=True)
        ]
        assert sorted(self.seen["weight.stall"]) == cycles_of(
            t.weight_waits(CONFIG.rows) for t in times
        )
        assert sorted(self.seen["matmul.stall"]) == cycles_of(t.waits() for t in times)
        assert len(self.seen["weight.stall"]) == sum(t.weight_stalls for t in times)
        assert len(self.seen["matmul.stall"]) == sum(t.stalls for t in times)

    def _drive(self, now: int) -> None:
        dut = self.dut
        for unit, prefix in (("weight", "weight_"), ("matmul", "")):
            at = self.heads[unit]
            valid = at < len(self.words) and now >= self.late[f"{prefix}valid"][at]
            go = valid and now >= self.late[f"{prefix}go"][at]
            getattr(dut, f"{unit}__instr__valid").value = int(valid)
            getattr(dut, f"{unit}__go").value = int(go)
            word = self.words[at] if valid else random.getrandbits(256)
            payload = getattr(dut, f"{unit}__instr__payload")
            fields = len(payload) - 24
            payload.value = (word & ((1 << fields) - 1)) | PC << fields
        # Between answers the memories hold garbage.
        dut.act__data.value = self.act_data.pop(now, random.getrandbits(8 * CONFIG.rows))
        dut.wgt__data.value = self.wgt_data.pop(now, random.getrandbits(8 * CONFIG.wgt_row_bytes))

    def _read_acc(self, now: int, rng: random.Random, rate: float) -> None:
        """Request an entry, and foresee its data or the conflict."""
        sums = self.expected.sums
        while self.retiring and done_cycle(CONFIG, self.retiring[0]) < now:
            entry, adds, value = sums[self.retiring.popleft()]
            with np.errstate(over="ignore"):
                total = value.astype(np.int32)
                self.acc[entry] = self.acc[entry] + total if adds else total
        end = now >= self.expected.end
        en = end or rng.random() < rate
        addr = rng.randrange(CONFIG.acc_depth)
        if end:
            addr = sums[max(sums)][0]
        lanes = CONFIG.vector_lanes
        group = rng.randrange(CONFIG.cols // lanes)
        self.dut.acc__en.value = int(en)
        self.dut.acc__addr.value = addr
        self.dut.acc__group.value = group
        if en:
            conflict = any(
                sums[launch][0] // CONFIG.acc_half == addr // CONFIG.acc_half
                for launch in self._in_flight(now)
            )
            self.conflicts += conflict
            data = self.acc[addr, group * lanes : (group + 1) * lanes].tolist()
            self.acc_reads[now] = conflict, data

    def _in_flight(self, now: int) -> list[int]:
        out = []
        for launch in self.retiring:
            if accumulate_cycle(CONFIG, launch) > now:
                break
            out.append(launch)
        return out

    def _check(self, now: int) -> None:
        dut, expected = self.dut, self.expected
        for unit in ("weight", "matmul"):
            if int(getattr(dut, f"{unit}__instr__ready").value):
                self.seen[f"{unit}.start"].append(now)
                self.heads[unit] += 1
            post = int(getattr(dut, f"{unit}__post").value)
            if int(getattr(dut, f"{unit}__done").value):
                self.seen[f"{unit}.done"].append((now, post))
            else:
                assert post == 0, f"cycle {now}: {unit} posts {post:#x} without being done"
            if int(getattr(dut, f"{unit}__stall").value):
                self.seen[f"{unit}.stall"].append(now)
            done = self.seen[f"{unit}.done"][-1:]
            started = self.seen[f"{unit}.start"][-1:] == [now]
            others = len(self.seen[f"{unit}.start"]) - started - len(self.seen[f"{unit}.done"])
            busy = others > 0 or bool(done and done[0][0] == now)
            assert int(getattr(dut, f"{unit}__busy").value) == busy, f"cycle {now}: {unit}.busy"

        en = int(dut.wgt__en.value)
        assert en == (now in expected.wgt_reads), f"cycle {now}: WGT read {en}"
        if en:
            row = int(dut.wgt__addr.value)
            assert row == expected.wgt_reads[now], f"cycle {now}: WGT row {row}"
            self.wgt_data[now + WGT_LATENCY] = _word(expected.wgt[row])
        en = int(dut.act__en.value)
        assert en == (now in expected.act_reads), f"cycle {now}: ACT read {en}"
        assert int(dut.vectors.value) == en
        if en:
            self._answer_act(now)
        self._check_acc(now)

    def _answer_act(self, now: int) -> None:
        dut = self.dut
        addr, inside, fill = self.expected.act_reads[now]
        lane = np.arange(CONFIG.rows)
        bits = (CONFIG.act_words - 1).bit_length()
        jumps = int(dut.act__jump.value)
        jump = np.array([jumps >> bits * i & ((1 << bits) - 1) for i in range(CONFIG.rows)])
        mask = int(dut.act__mask.value) >> lane & 1 == 1
        got = (int(dut.act__base.value) + lane + CONFIG.act_lanes * jump) % CONFIG.act_bytes
        assert (mask == inside).all(), f"cycle {now}: mask {mask} instead of {inside}"
        assert (got == addr)[inside].all(), f"cycle {now}: addresses {got} instead of {addr}"
        value = int(dut.act__fill.value)
        assert value & 0xFF == fill & 0xFF, f"cycle {now}: fill {value}"
        data = np.where(mask, self.expected.act[got], fill).astype(np.int8)
        self.act_data[now + ACT_LATENCY] = _word(data)

    def _check_acc(self, now: int) -> None:
        conflict = int(self.dut.acc_conflict.value)
        want, _ = self.acc_reads.get(now - 1, (False, []))
        assert conflict == want, f"cycle {now}: acc_conflict {conflict}"
        lost, data = self.acc_reads.pop(now - ACC_LATENCY, (True, []))
        if not lost:
            got = np.frombuffer(
                int(self.dut.acc__data.value).to_bytes(4 * CONFIG.vector_lanes, "little"), "<i4"
            )
            assert got.tolist() == data, f"cycle {now}: accumulators {got} instead of {data}"


def _word(values: np.ndarray) -> int:
    return int.from_bytes(values.astype(np.int8).tobytes(), "little")


async def read_acc(dut, cycles: Cycles) -> np.ndarray:
    """All accumulators, int32 [acc_depth, cols]; the core must be idle."""
    lanes = CONFIG.vector_lanes
    out = np.zeros((CONFIG.acc_depth, CONFIG.cols), np.int32)
    places = [(e, g) for e in range(CONFIG.acc_depth) for g in range(CONFIG.cols // lanes)]
    for n in range(len(places) + ACC_LATENCY):
        dut.acc__en.value = int(n < len(places))
        if n < len(places):
            dut.acc__addr.value, dut.acc__group.value = places[n]
        await cycles.settle()
        if n >= ACC_LATENCY:
            entry, group = places[n - ACC_LATENCY]
            word = int(dut.acc__data.value).to_bytes(4 * lanes, "little")
            out[entry, group * lanes : (group + 1) * lanes] = np.frombuffer(word, "<i4")
        await cycles.edge()
    return out


async def play(
    dut, program, stalls: str, seed: int, acc_rate: float = 0.3, stop: int | None = None
) -> Monitor:
    """Run `program` from reset to its end (or to cycle `stop`), everything checked."""
    rng = random.Random(f"{seed} {stalls}")
    late: dict[str, list[int]] = {}
    for name in ("weight_valid", "weight_go", "valid", "go"):
        cycle, late[name] = 0, []
        for i in program:
            if name in STALLS[stalls]:
                usual = i.oy * i.ox + CONFIG.rows
                cycle += rng.choice((0, 0, rng.randrange(2 * usual), rng.randrange(8 * usual)))
            late[name].append(cycle)
    expected = Expected(program, late, seed)
    cycles = await clock_and_reset(
        dut, weight__instr__valid=0, weight__go=0, matmul__instr__valid=0, matmul__go=0, acc__en=0
    )
    acc = await read_acc(dut, cycles)
    dut.rst.value = 1
    await cycles.edge(1)
    dut.rst.value = 0
    cycles.restart()
    monitor = Monitor(dut, cycles, program, late, expected, acc)
    await monitor.run(rng, acc_rate, stop)
    if stop is None:
        assert (await read_acc(dut, cycles) == monitor.acc).all()
    return monitor


def programs(make, seed: int, count: int = COUNT) -> list[Instruction]:
    rng = random.Random(f"{seed} {make.__name__}")
    out: list[Instruction] = []
    while len(out) < count:
        out.append(make(rng, out[-1] if out else None))
    return out


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def random_programs(dut, stalls):
    await play(dut, programs(random_matmul, SEED), stalls, SEED)


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def short_programs(dut, stalls):
    monitor = await play(dut, programs(short_matmul, SEED, 3 * COUNT), stalls, SEED)
    assert monitor.conflicts


@cocotb.test()
async def reset_at_any_time(dut):
    """A reset in the middle of anything leaves nothing behind but accumulators."""
    rng = random.Random(SEED)
    for seed in range(6):
        program = programs(short_matmul, seed, 8)
        await play(dut, program, "none", seed, stop=rng.randrange(1, 120))
    await play(dut, programs(short_matmul, SEED, 8), "none", SEED)


@cocotb.test()
async def no_bubbles(dut):
    """Multi-tile instructions one after the other: a tile every max(M, rows) cycles, exactly."""
    rng = random.Random(SEED)
    rows = CONFIG.rows
    program, gaps = [], []
    for m in (1, 2, rows - 1, rows, rows + 1, rows + 5):
        for _ in range(3):
            tiles = rng.randrange(2, 5)
            fields = dict(random_matmul(rng, None).fields)
            fields.update(
                ky=1, kx=1, kc=tiles * rows - rng.randrange(rows), blocks=1, oy=1, ox=m, acc=0,
                accumulate=0,
            )  # fmt: skip
            program.append(Instruction(Opcode.MATMUL, fields))
            gaps += [max(m, rows)] * tiles
    monitor = await play(dut, program, "none", SEED, acc_rate=0.0)
    launches = np.concatenate([t.launches for t in monitor.expected.times])
    assert np.diff(launches).tolist() == gaps[:-1]
