"""Bench of LOAD with the read engine: FETCH beside it, the memory behind it."""

from __future__ import annotations

import itertools
import os
import random

import cocotb
import numpy as np
from weft.hdl.isa import Memory as Local
from weft.hdl.isa import Opcode
from weft.hdl.ports import BurstRequest
from weft.hdl.registers import Error
from weft.host.timing.bursts import split
from weft.host.timing.reads import ADDRESS, READ_TO_WRITE, ReadClock
from weft.tb.bench import STALLS, pack
from weft.tb.memory_model import Channel

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

COUNT = int(os.environ.get("COUNT", "40"))
PORTS = {Local.ACT: "act", Local.WGT: "wgt", Local.PAR: "par", Local.TBL: "tbl"}
SIZES = {Local.WGT: CONFIG.wgt_bytes, Local.PAR: CONFIG.par_bytes, Local.TBL: CONFIG.tbl_bytes}
#: A write on chip: memory, address, {lane: byte}.
Write = tuple[int, int, dict[int, int]]


def programs(seed: int, count: int, pace: int) -> list[Move]:
    """Random LOADs to all memories; their semaphores come up to `pace` cycles apart."""
    rng = random.Random(seed)
    out, go = [], 2
    for _ in range(count):
        go += rng.randrange(pace + 1)
        move = random_move(rng, go)
        memory = rng.choice(list(Local))
        fields = {**move.fields, "memory": memory}
        if memory != Local.ACT:
            for name in ("local", "local_pitch", "length"):
                fields[name] = -(-fields[name] // BUS) * BUS % (1 << 20)
        out.append(Move(go, fields))
    return out


def expected_writes(moves: list[Move], data: list[bytearray]) -> list[Write]:
    """Every write on chip, in order."""
    out = []
    for move in moves:
        f = move.fields
        for row in range(f["rows"]):
            at = f["offset"] + row * f["dram_pitch"]
            source = data[f["segment"]][at : at + f["length"]]
            for beat in range(0, f["length"], BUS):
                local = (f["local"] + row * f["local_pitch"] + beat) % (1 << 20)
                lanes = dict(enumerate(source[beat : beat + BUS]))
                if f["memory"] in SIZES:
                    local = local % SIZES[f["memory"]] // BUS
                out.append((f["memory"], local, lanes))
    return out


class Bench:
    """Runs moves beside FETCH bursts, cycle by cycle.

    Attributes
    ----------
    writes
        (cycle, write) of every write on chip.
    fetched
        (cycle, data, last) of every beat that FETCH got.
    accepted
        Cycles in which FETCH's requests were taken.
    faults, errors
        (cycle, code, pc) of LOAD's and the engine's reports.
    """

    def __init__(self, dut, cycles, memory, moves, fetches=()):
        self.dut, self.cycles, self.memory = dut, cycles, memory
        self.driver = Driver(dut, cycles, Opcode.LOAD, moves)
        self._fetches = list(fetches)
        self.accepted: list[int] = []
        self.writes: list[tuple[int, Write]] = []
        self.fetched: list[tuple[int, int, int]] = []
        self.faults: list[tuple[int, int, int]] = []
        self.errors: list[tuple[int, int, int]] = []
        self.beats: list[int] = []
        self.idle: list[int] = []
        self.kill: set[int] = set()

    async def run(self, until=None, limit: int = 20_000) -> None:
        """Step until `until()`, or until everything is done; AssertionError after `limit`."""
        want = until or (lambda: self.driver.finished and self._all_fetched())
        while not want():
            assert self.cycles.now < limit, f"only {len(self.driver.done)} LOADs completed"
            await self.step()

    def _all_fetched(self) -> bool:
        return len(self.fetched) == sum(beats for _, _, beats in self._fetches)

    async def step(self) -> None:
        dut, now = self.dut, self.cycles.now
        self.driver.drive()
        dut.kill.value = int(now in self.kill)
        k = len(self.accepted)
        offer = k < len(self._fetches) and self._fetches[k][0] <= now
        dut.fetch__valid.value = int(offer)
        if offer:
            _, addr, beats = self._fetches[k]
            request = {"addr": addr, "len": beats - 1, "pc": 1000 + k}
            dut.fetch__payload.value = pack(BurstRequest(CONFIG), request)
        await self.cycles.settle()
        self.driver.sample()
        if offer and int(dut.fetch__ready.value):
            self.accepted.append(now)
        self._sample_writes(now)
        if int(dut.fetch_data__valid.value):
            beat = (now, int(dut.fetch_data__data.value), int(dut.fetch_data__last.value))
            self.fetched.append(beat)
        for name, log in (("fault", self.faults), ("error", self.errors)):
            if int(getattr(dut, f"{name}__valid").value):
                code = int(getattr(dut, f"{name}__code").value)
                log.append((now, code, int(getattr(dut, f"{name}__pc").value)))
        if int(dut.beats.value):
            self.beats.append(now)
        if int(dut.idle.value):
            self.idle.append(now)
        await self.cycles.edge()

    def _sample_writes(self, now: int) -> None:
        dut = self.dut
        for memory, name in PORTS.items():
            if not int(getattr(dut, f"{name}__en").value):
                continue
            act = memory == Local.ACT
            mask = int(getattr(dut, f"{name}__mask" if act else f"{name}__strobe").value)
            addr = int(getattr(dut, f"{name}__base" if act else f"{name}__addr").value)
            data = int(getattr(dut, f"{name}__data").value).to_bytes(BUS, "little")
            lanes = {i: data[i] for i in range(BUS) if mask >> i & 1}
            self.writes.append((now, (memory, addr, lanes)))


async def reset(dut, sizes=None):
    """Clock and reset, with everything quiet."""
    base, size = segments_word()
    return await begin(
        dut,
        segments__base=base,
        segments__size=size if sizes is None else sizes,
        unit__instr__valid=0,
        unit__instr__payload=0,
        unit__go=0,
        fetch__valid=0,
        fetch__payload=0,
        kill=0,
    )


async def setup(dut, moves, fetches=(), *, sizes=None, **options):
    cycles = await reset(dut, sizes)
    memory = Memory(dut, cycles, **options)
    data = contents(7)
    memory.map(*zip(BASES, data, strict=True))
    return Bench(dut, cycles, memory, moves, fetches), data


def random_fetches(seed: int, count: int, pace: int) -> list[tuple[int, int, int]]:
    """(cycle, address, beats) of FETCH bursts: 128 bytes each, sometimes less."""
    rng = random.Random(seed)
    out, now = [], 0
    for _ in range(count):
        now += rng.randrange(pace)
        size = rng.choice([128, 128, 96, 32])
        addr = BASES[0] + rng.randrange(SEGMENT_BYTES // 128) * 128
        out.append((now, addr, -(-size // BUS)))
    return out


def check_limits(bench: Bench, lengths: list[int], fetch_starts: set[int]) -> None:
    """The bus never carries more than `read_beats` of requests when a LOAD burst goes out.

    `lengths` and `fetch_starts` are by index of the AR handshake.
    """
    events = [(t, 1, i) for i, (t, _) in enumerate(bench.memory.on(Channel.AR))]
    events += [(t, 0, 0) for t, _ in bench.memory.on(Channel.R)]
    outstanding = 0
    for _, is_address, i in sorted(events):
        if not is_address:
            outstanding -= 1
            continue
        outstanding += lengths[i]
        if i not in fetch_starts:
            assert outstanding <= CONFIG.read_beats, f"burst {i}: {outstanding} beats outstanding"


def load_bursts(moves: list[Move]) -> list[tuple[int, int]]:
    return [burst for move in moves for burst in split(move.rows, BUS, CONFIG.burst_beats)]


def play(clock: ReadClock, moves: list[Move], fetches: list[tuple[int, int, int]]) -> list[int]:
    """Let the moves and FETCH bursts pass; the cycles in which the latter are accepted."""
    accepted: list[int] = []
    while True:
        while (n := len(clock.starts)) < len(moves):
            # A move is at the queue's head one cycle after the start of the one before.
            go = max(moves[n].go, clock.starts[-1] + 1 if n else 0)
            if clock.start(go, moves[n].rows) is None:
                break
        k = len(accepted)
        offered = None
        if k < len(fetches):
            offered = max(fetches[k][0], accepted[-1] + 1 if k else 0)
        if not clock.serve(offered):
            if offered is None:
                return accepted
            accepted.append(clock.fetch(offered, fetches[k][2])[0])


@cocotb.test()
@cocotb.parametrize(
    (
        ("latency", "pace", "interval"),
        [*itertools.product((1, 7, 50, 200), (0, 60), (1,)), (1, 60, 3), (50, 0, 2), (50, 60, 5)],
    )
)
async def exact_times(dut, latency, pace, interval):
    """Every AR handshake, write and completion in its cycle; FETCH bursts in between."""
    moves = programs(latency + pace, COUNT, pace)
    fetches = random_fetches(latency, COUNT, 90) if pace else []
    bench, data = await setup(dut, moves, fetches, latency=latency, beat_interval=interval)
    await bench.run(limit=20_000 * interval)
    clock = ReadClock(CONFIG, latency, interval)
    accepted = play(clock, moves, fetches)
    assert len(clock.dones) == len(moves)
    driver = bench.driver
    assert driver.started == clock.starts
    assert bench.accepted == accepted
    want = [
        (cycle + ADDRESS, addr)
        for cycle, (addr, _) in zip(clock.accepts, load_bursts(moves), strict=True)
    ]
    want += [(cycle + ADDRESS, f[1]) for cycle, f in zip(accepted, fetches, strict=True)]
    assert bench.memory.on(Channel.AR) == sorted(want)
    arrivals: dict[bool, list[int]] = {False: [], True: []}
    beats = np.diff(clock.before).tolist()
    for k, (first, count) in enumerate(zip(clock.firsts, beats, strict=True)):
        cycles = range(first, first + count * interval, interval)
        arrivals[k in clock.fetches] += [cycle + READ_TO_WRITE for cycle in cycles]
    assert [t for t, _ in bench.writes] == arrivals[False]
    assert [w for _, w in bench.writes] == expected_writes(moves, data)
    assert driver.done == [
        (cycle, m.fields["post"]) for cycle, m in zip(clock.dones, moves, strict=True)
    ]
    assert driver.busy == in_flight(driver.started, [t for t, _ in driver.done])
    written = {t for t, _ in bench.writes}
    assert driver.stall == [t for t in driver.busy if t not in written]
    assert np.diff(clock.written(np.arange(-1, bench.cycles.now))).tolist() == [
        t in written for t in range(bench.cycles.now)
    ]
    check_fetched(bench, fetches, data)
    assert [t for t, _, _ in bench.fetched] == arrivals[True]
    assert bench.beats == [t + 1 for t, _ in bench.memory.on(Channel.R)]
    assert not bench.faults
    assert not bench.errors


def check_fetched(bench: Bench, fetches, data) -> None:
    want = []
    for _, addr, beats in fetches:
        for i in range(beats):
            at = addr - BASES[0] + i * BUS
            want.append((int.from_bytes(data[0][at : at + BUS], "little"), int(i == beats - 1)))
    assert [beat[1:] for beat in bench.fetched] == want


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def any_stalls(dut, stalls):
    """Same data whatever the bus does, and never more outstanding than allowed."""
    moves = programs(11, COUNT // 2, 20)
    fetches = random_fetches(3, COUNT // 2, 60)
    bench, data = await setup(dut, moves, fetches, latency=9, stalls=stalls, seed=5)
    await bench.run()
    assert [w for _, w in bench.writes] == expected_writes(moves, data)
    assert [post for _, post in bench.driver.done] == [m.fields["post"] for m in moves]
    assert bench.driver.busy == in_flight(bench.driver.started, [t for t, _ in bench.driver.done])
    check_fetched(bench, fetches, data)
    # The register that drives AR holds FETCH's burst from the cycle after its acceptance.
    seen = bench.memory.on(Channel.AR)
    theirs = {next(i for i, (t, _) in enumerate(seen) if t > c) for c in bench.accepted}
    bursts, asked = load_bursts(moves), [(a, n) for _, a, n in fetches]
    merged = [asked.pop(0) if i in theirs else bursts.pop(0) for i in range(len(seen))]
    assert [addr for _, addr in seen] == [addr for addr, _ in merged]
    assert not bursts
    assert not asked
    lengths = [n for _, n in merged]
    check_limits(bench, lengths, theirs)


LEGAL = {"length": 3 * BUS, "rows": 2, "dram_pitch": 4 * BUS, "segment": 1, "local": 64}
#: The last byte of the segment, and not one more.
EDGE = {**LEGAL, "offset": SEGMENT_BYTES - 7 * BUS}
FAR = (1 << 24) - BUS
#: Fields, and how many rows are legal.
OUTSIDE = (
    ({**EDGE, "length": 3 * BUS + 1}, 1),
    ({**EDGE, "offset": EDGE["offset"] + BUS}, 1),
    ({**LEGAL, "offset": SEGMENT_BYTES}, 0),
    ({**LEGAL, "offset": (1 << 32) - BUS}, 0),
    ({**LEGAL, "offset": (1 << 32) - BUS, "rows": 4095, "dram_pitch": FAR}, 0),
    ({**LEGAL, "offset": 0, "rows": 4000, "dram_pitch": FAR}, 1),
    ({**LEGAL, "offset": 0, "length": (1 << 20) - 1, "rows": 1}, 0),
)


@cocotb.test()
@cocotb.parametrize(case=range(len(OUTSIDE)))
async def window(dut, case):
    """A row that leaves its segment, by a byte or by wrapping around, is refused; none before."""
    fields, rows = OUTSIDE[case]
    first = Move(2, EDGE)
    moves = [first, Move(3, fields), first]
    bench, data = await setup(dut, moves, latency=3)
    await bench.run(lambda: bench.cycles.now == 100)
    good = [first, Move(3, {**fields, "rows": rows})] if rows else [first]
    filled = [Move(0, {"memory": 0, "local_pitch": 0, **m.fields}) for m in good]
    assert [w for _, w in bench.writes] == expected_writes(filled, data)
    assert {(code, pc) for _, code, pc in bench.faults} == {(Error.WINDOW, 1)}
    since, now = bench.faults[0][0], bench.faults[-1][0]
    assert len(bench.faults) == now - since + 1, "the fault did not stay"
    assert len(bench.driver.done) == 1
    assert len(bench.memory.on(Channel.AR)) == len(load_bursts(good))


@cocotb.test()
async def window_whole(dut):
    """A segment of 2^32 − 1 bytes takes a row up to its last byte, and the longest pitch."""
    last = {"length": BUS - 1, "offset": (1 << 32) - BUS, "segment": 0, "rows": 1}
    far = {"length": BUS, "offset": 0, "segment": 0, "rows": 200, "dram_pitch": FAR}
    sizes = (1 << 32) - 1
    bench, _ = await setup(dut, [Move(2, last), Move(2, far)], latency=1, sizes=sizes)
    dut.segments__base.value = 0
    bench.memory.map()
    await bench.run()
    assert not bench.faults
    want = [last["offset"], *(i * FAR for i in range(200))]
    assert [a for _, a in bench.memory.on(Channel.AR)] == want
    # Nothing is mapped.
    pcs = [0] + [1] * 200
    assert [(code, pc) for _, code, pc in bench.errors] == [(Error.READ_BUS, pc) for pc in pcs]


TOP = 1 << CONFIG.addr_bits
#: Fields in the segment that ends with the address space, and the bytes below that end of the
#: bursts that are issued.
BEYOND = (
    ({"offset": -2 * BUS, "length": 2 * BUS, "rows": 2, "dram_pitch": 0}, (2 * BUS, 2 * BUS)),
    ({"offset": -2 * BUS, "length": 2 * BUS, "rows": 2, "dram_pitch": 4096}, (2 * BUS,)),
    ({"offset": -2 * BUS, "length": 2 * BUS + 1, "rows": 1}, (2 * BUS,)),
    ({"offset": 0, "length": 1, "rows": 1}, ()),
    ({"offset": 64 * BUS, "length": 1, "rows": 1}, ()),
)


@cocotb.test()
@cocotb.parametrize(case=range(len(BEYOND)))
async def address_space(dut, case):
    """A segment may be larger than what lies above its base; addresses do not wrap around."""
    fields, issued = BEYOND[case]
    offset = TOP - BASES[3] + fields["offset"]
    move = Move(2, {**fields, "offset": offset, "segment": 3})
    bench, _ = await setup(dut, [move], latency=1, sizes=((1 << 32) - 1) << 96)
    await bench.run(lambda: bench.cycles.now == 60)
    assert [a for _, a in bench.memory.on(Channel.AR)] == [TOP - below for below in issued]
    legal = case == 0
    assert {(code, pc) for _, code, pc in bench.faults} == (set() if legal else {(Error.WINDOW, 0)})
    assert len(bench.driver.done) == legal
