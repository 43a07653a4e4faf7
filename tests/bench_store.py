"""Bench of STORE with the write engine: ACT modelled before it, the memory behind it."""

from __future__ import annotations

import itertools
import os
import random
from collections import deque

import cocotb
import numpy as np
from weft.hdl.isa import Opcode
from weft.hdl.ports import ACT_READ_LATENCY
from weft.hdl.registers import Error
from weft.hdl.write_engine import write_burst_beats
from weft.host.timing.bursts import split
from weft.host.timing.writes import StoreClock
from weft.tb.bench import STALLS, random_bytes
from weft.tb.memory_model import Channel, Response

from tests.bench_dma import (
    BASES,
    BUS,
    CONFIG,
    SEGMENT_BYTES,
    Driver,
    Memory,
    Move,
    begin,
    contents,
    in_flight,
    random_move,
    segments_word,
)

COUNT = int(os.environ.get("COUNT", "30"))
ACT = random_bytes(99, CONFIG.act_bytes)
#: Bytes that ACT must not be asked for read as this.
JUNK = 0xA5


def programs(seed: int, count: int, pace: int) -> list[Move]:
    """Random STOREs; their semaphores come up to `pace` cycles apart."""
    rng = random.Random(seed)
    out, go = [], 2
    for _ in range(count):
        go += rng.randrange(pace + 1)
        out.append(random_move(rng, go))
    # Enough bursts to fill the buffer behind those that wait for their responses.
    many = {"rows": 100, "length": BUS - 1, "offset": 0, "dram_pitch": 2 * BUS, "segment": 2}
    out[count // 2] = Move(out[count // 2].go, {**out[count // 2].fields, **many})
    return out


def apply(moves: list[Move], data: list[bytearray]) -> None:
    """What the moves do to the segments."""
    for move in moves:
        f = move.fields
        for row in range(f["rows"]):
            at = f["offset"] + row * f["dram_pitch"]
            for i in range(f["length"]):
                local = (f["local"] + row * f["local_pitch"] + i) % CONFIG.act_bytes
                data[f["segment"]][at + i] = ACT[local]


def bursts(moves: list[Move]) -> list[tuple[int, int]]:
    return [burst for move in moves for burst in split(move.rows, BUS, write_burst_beats(CONFIG))]


class Bench:
    """Runs moves cycle by cycle, with a model of ACT that answers ACT_READ_LATENCY later.

    Attributes
    ----------
    reads
        Cycles of the ACT reads.
    faults, errors
        (cycle, code, pc) of STORE's and the engine's reports.
    strobes
        Strobes of every W handshake.
    risen
        AWVALID in every cycle.
    waiting
        WVALID without WREADY in every cycle.
    """

    def __init__(self, dut, cycles, memory, moves):
        self.dut, self.cycles, self.memory = dut, cycles, memory
        self.driver = Driver(dut, cycles, Opcode.STORE, moves)
        self._pipe = deque([0] * (ACT_READ_LATENCY - 1), maxlen=ACT_READ_LATENCY)
        self._arriving = 0
        self.reads: list[int] = []
        self.faults: list[tuple[int, int, int]] = []
        self.errors: list[tuple[int, int, int]] = []
        self.beats: list[int] = []
        self.idle: list[int] = []
        self.strobes: list[int] = []
        self.risen: list[int] = []
        self.waiting: list[int] = []
        self.kill: set[int] = set()
        self.hold = False

    async def run(self, until=None, limit: int = 20_000) -> None:
        """Step until `until()`, or until all is done; AssertionError after `limit`."""
        want = until or (lambda: self.driver.finished)
        while not want():
            assert self.cycles.now < limit, f"only {len(self.driver.done)} STOREs completed"
            await self.step()

    async def step(self) -> None:
        dut, now = self.dut, self.cycles.now
        self.driver.drive()
        dut.kill.value = int(now in self.kill)
        dut.hold.value = int(self.hold)
        dut.act__data.value = self._arriving
        await self.cycles.settle()
        self.driver.sample()
        self._pipe.append(self._read(now))
        self._arriving = self._pipe.popleft()
        for name, log in (("fault", self.faults), ("error", self.errors)):
            if int(getattr(dut, f"{name}__valid").value):
                code = int(getattr(dut, f"{name}__code").value)
                log.append((now, code, int(getattr(dut, f"{name}__pc").value)))
        if int(dut.beats.value):
            self.beats.append(now)
        if int(dut.idle.value):
            self.idle.append(now)
        self.risen.append(int(dut.m_axi__awvalid.value))
        wvalid, wready = int(dut.m_axi__wvalid.value), int(dut.m_axi__wready.value)
        self.waiting.append(int(wvalid and not wready))
        if wvalid and wready:
            self.strobes.append(int(dut.m_axi__wstrb.value))
        await self.cycles.edge()

    def _read(self, now: int) -> int:
        """The answer to this cycle's read; junk without one, and in lanes not asked for."""
        dut = self.dut
        lanes = bytearray([JUNK] * BUS)
        if int(dut.act__en.value):
            self.reads.append(now)
            base, mask = int(dut.act__base.value), int(dut.act__mask.value)
            for i in range(BUS):
                if mask >> i & 1:
                    lanes[i] = ACT[(base + i) % CONFIG.act_bytes]
        return int.from_bytes(lanes, "little")


async def reset(dut):
    """Clock and reset, with everything quiet."""
    base, size = segments_word()
    return await begin(
        dut,
        segments__base=base,
        segments__size=size,
        unit__instr__valid=0,
        unit__instr__payload=0,
        unit__go=0,
        act__data=0,
        hold=0,
        kill=0,
    )


async def setup(dut, moves, *, mapped=True, **options):
    cycles = await reset(dut)
    memory = Memory(dut, cycles, **options)
    data = contents(7)
    if mapped:
        memory.map(*zip(BASES, data, strict=True))
    return Bench(dut, cycles, memory, moves), data


def check_buffered(bench: Bench, moves: list[Move]) -> None:
    """AWVALID rises only when all beats of the burst have been read and came back."""
    total = 0
    for (cycle, addr), (want, beats) in zip(
        bench.memory.on(Channel.AW), bursts(moves), strict=True
    ):
        assert addr == want
        total += beats
        assert bench.reads[total - 1] + ACT_READ_LATENCY < cycle


@cocotb.test()
@cocotb.parametrize(
    (
        ("latency", "pace", "interval"),
        [*itertools.product((1, 30, 250), (0, 80), (1,)), (1, 0, 2), (30, 80, 2), (30, 0, 5)],
    )
)
async def exact_times(dut, latency, pace, interval):
    """Every ACT read, AW, W and B handshake and completion in its cycle."""
    moves = programs(latency + pace, COUNT, pace)
    bench, data = await setup(dut, moves, latency=latency, beat_interval=interval)
    want = contents(7)
    apply(moves, want)
    await bench.run(limit=20_000 * interval)
    clock = StoreClock(CONFIG, latency, interval)
    times = [clock.store(m.go, m.rows) for m in moves]
    driver, memory = bench.driver, bench.memory
    assert driver.started == [start for start, _ in times]
    reads = np.diff(clock.read(np.arange(-1, bench.cycles.now)))
    assert bench.reads == np.flatnonzero(reads).tolist()
    assert memory.on(Channel.AW) == [
        (c, a) for c, (a, _) in zip(clock.addresses, bursts(moves), strict=True)
    ]
    assert [c for c, _ in memory.on(Channel.W)] == [
        first + i * interval
        for first, (_, beats) in zip(clock.beats, bursts(moves), strict=True)
        for i in range(beats)
    ]
    assert [c for c, _ in memory.on(Channel.B)] == clock.responses
    assert driver.done == [
        (done, m.fields["post"]) for (_, done), m in zip(times, moves, strict=True)
    ]
    assert driver.busy == in_flight(driver.started, [t for t, _ in driver.done])
    reading = set(bench.reads)
    assert driver.stall == [t for t in driver.busy if t not in reading]
    assert bench.beats == [c + 1 for c, _ in memory.on(Channel.W)]
    assert data == want
    assert not bench.faults
    assert not bench.errors


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def any_stalls(dut, stalls):
    """Same memory whatever the bus does."""
    moves = programs(21, COUNT // 2, 20)
    bench, data = await setup(dut, moves, latency=9, stalls=stalls, seed=3)
    want = contents(7)
    apply(moves, want)
    await bench.run()
    assert data == want
    check_buffered(bench, moves)
    assert [post for _, post in bench.driver.done] == [m.fields["post"] for m in moves]
    assert len(bench.memory.on(Channel.B)) == len(bursts(moves))


@cocotb.test()
async def window(dut):
    """A row that leaves its segment by a byte is not written; the one before it is."""
    fields = {"length": 2 * BUS, "dram_pitch": 2 * BUS, "segment": 2, "local": 5, "local_pitch": 99}
    legal = Move(2, {**fields, "offset": SEGMENT_BYTES - 4 * BUS, "rows": 2})
    moves = [legal, Move(2, {**legal.fields, "rows": 3}), legal]
    bench, data = await setup(dut, moves, latency=2)
    want = contents(7)
    apply([legal], want)
    await bench.run(lambda: bench.cycles.now == 150)
    assert data == want
    assert {(code, pc) for _, code, pc in bench.faults} == {(Error.WINDOW, 1)}
    since, now = bench.faults[0][0], bench.faults[-1][0]
    assert len(bench.faults) == now - since + 1, "the fault did not stay"
    assert len(bench.driver.done) == 1
    assert len(bench.memory.on(Channel.AW)) == 2 * len(bursts([legal]))


@cocotb.test()
@cocotb.parametrize(
    number=[0, 1, 4, 9], response=[Response.SLVERR, Response.DECERR, Response.EXOKAY]
)
async def error_response(dut, number, response):
    """One failing response is reported once, with the instruction's pc; EXOKAY is none."""
    fields = {"length": 4 * BUS, "rows": 5, "dram_pitch": 4 * BUS, "segment": 1}
    moves = [Move(2, {**fields, "local": 64 * i}) for i in range(2)]
    bench, _ = await setup(dut, moves, latency=4, write_fault=number, write_response=response)
    await bench.run()
    await bench.step()
    when = bench.memory.on(Channel.B)[number][0] + 1
    failing = response != Response.EXOKAY
    assert bench.errors == [(when, Error.WRITE_BUS, number // 5)] * failing


@cocotb.test()
async def unmapped(dut):
    """Every burst to nowhere is reported."""
    move = Move(2, {"length": 40 * BUS, "rows": 1, "segment": 1, "offset": 0, "dram_pitch": 0})
    bench, _ = await setup(dut, [move], mapped=False, latency=2)
    await bench.run()
    assert [e[1:] for e in bench.errors] == [(Error.WRITE_BUS, 0)] * len(bursts([move]))


@cocotb.test()
@cocotb.parametrize(stalls=["none", "both"], at=range(8, 72, 5))
async def kill(dut, stalls, at):
    """Killed anywhere: open bursts end with strobes off, no AW rises, and it works again after."""
    fields = {
        "length": 24 * BUS,
        "rows": 2,
        "dram_pitch": 32 * BUS,
        "segment": 0,
        "local": 17,
        "local_pitch": 0,
    }
    move = Move(2, {**fields, "offset": 0})
    bench, data = await setup(dut, [move], latency=12, stalls=stalls, seed=at)
    bench.kill = {at}
    await bench.run(lambda: bench.cycles.now == at + 1)
    sent = len(bench.strobes)
    bench.hold = True
    bench.driver._words.clear()
    await bench.run(lambda: bench.idle[-1:] > [at + 1], limit=1000)
    # AWVALID of cycle `at` is the last that may have risen.
    issued = sum(t <= at for t, _ in bench.memory.on(Channel.AW))
    issued += bench.risen[at] and at not in (t for t, _ in bench.memory.on(Channel.AW))
    lengths = [n for _, n in bursts([move])][:issued]
    assert len(bench.memory.on(Channel.AW)) == len(bench.memory.on(Channel.B)) == issued
    assert len(bench.strobes) == sum(lengths)
    assert not any(bench.strobes[sent + bench.waiting[at] :])
    assert all(bench.strobes[:sent])
    # What reached memory is what was sent with strobes, and nothing else.
    want = contents(7)
    written = sum(1 for s in bench.strobes if s)
    for row in (0, 1):
        beats = max(0, min(24, written - 24 * row))
        part = {**fields, "offset": row * 32 * BUS, "rows": 1, "length": beats * BUS}
        if beats:
            apply([Move(0, part)], want)
    assert data == want
    # And again, from the start.
    bench.hold = False
    again = Move(0, {**move.fields, "local": 1001, "local_pitch": 77})
    apply([again], want)
    bench.driver = Driver(dut, bench.cycles, Opcode.STORE, [again])
    await bench.run()
    assert data == want
