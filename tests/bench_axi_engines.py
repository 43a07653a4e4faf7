"""Bench of the read engine alone: limits, error responses, kill in every cycle."""

from __future__ import annotations

import cocotb
from weft.hdl.fetch_unit import FETCH_BURST
from weft.hdl.isa import INSTRUCTION_BYTES
from weft.hdl.ports import BurstRequest
from weft.hdl.read_engine import READ_BURSTS
from weft.hdl.registers import Error
from weft.tb.bench import pack
from weft.tb.memory_model import Channel, Response

from tests.bench_dma import (
    BASES,
    BUS,
    CONFIG,
    SEGMENT_BYTES,
    Memory,
    begin,
    contents,
    segments_word,
)

SOURCES = ("fetch", "load")
#: A burst to ask for: address and beats. Its pc is PC of its source times its place in the list.
Request = tuple[int, int]
PC = {"fetch": FETCH_BURST, "load": 101}


class Bench:
    """Offers requests of both sources, each as soon as its predecessor was taken.

    Attributes
    ----------
    accepted
        Per source, (cycle, request).
    data
        Per source, (cycle, data, last, error) of every beat returned.
    errors
        (cycle, code, pc).
    refused
        Cycles.
    """

    def __init__(self, dut, cycles, memory):
        self.dut, self.cycles, self.memory = dut, cycles, memory
        self.waiting: dict[str, list[Request]] = {s: [] for s in SOURCES}
        self.accepted: dict[str, list[tuple[int, Request]]] = {s: [] for s in SOURCES}
        self.data: dict[str, list[tuple[int, int, int, int]]] = {s: [] for s in SOURCES}
        self.errors: list[tuple[int, int, int]] = []
        self.refused: list[int] = []
        self.segment_of = segment_of
        self.risen: list[int] = []
        self.idle: list[int] = []
        self.kill: set[int] = set()

    async def run(self, until, limit: int = 3000) -> None:
        while not until():
            assert self.cycles.now < limit, f"stuck: {self.accepted}"
            await self.step()

    async def step(self) -> None:
        dut, now = self.dut, self.cycles.now
        dut.kill.value = int(now in self.kill)
        for source in SOURCES:
            waiting = self.waiting[source]
            getattr(dut, f"{source}__valid").value = int(bool(waiting))
            if waiting:
                addr, beats = waiting[0]
                pc = len(self.accepted[source]) * PC[source]
                segment = self.segment_of(addr)
                request = {"addr": addr, "len": beats - 1, "segment": segment, "pc": pc}
                getattr(dut, f"{source}__payload").value = pack(BurstRequest(CONFIG), request)
        await self.cycles.settle()
        for source in SOURCES:
            if self.waiting[source] and int(getattr(dut, f"{source}__ready").value):
                self.accepted[source].append((now, self.waiting[source].pop(0)))
            if int(getattr(dut, f"{source}_data__valid").value):
                parts = (
                    int(getattr(dut, f"{source}_data__{p}").value)
                    for p in ("data", "last", "error")
                )
                self.data[source].append((now, *parts))
        if int(dut.error__valid.value):
            self.errors.append((now, int(dut.error__code.value), int(dut.error__pc.value)))
        if int(dut.refused.value):
            self.refused.append(now)
        self.risen.append(int(dut.axi__arvalid.value))
        self.idle.append(int(dut.idle.value))
        assert int(dut.axi__rready.value) == 1
        await self.cycles.edge()


async def setup(dut, **options) -> tuple[Bench, list[bytearray]]:
    zero = {f"{s}__{part}": 0 for s in SOURCES for part in ("valid", "payload")}
    base, size = segments_word()
    windows = {"segments__base": base, "segments__size": size}
    windows |= {"base": BASES[0], "size": SEGMENT_BYTES}
    cycles = await begin(dut, kill=0, **zero, **windows)
    memory = Memory(dut, cycles, prefix="axi__", **options)
    data = contents(3)
    memory.map(*zip(BASES, data, strict=True))
    return Bench(dut, cycles, memory), data


def segment_of(addr: int) -> int:
    """The segment that an address belongs to, if to any."""
    return max(i for i, base in enumerate(BASES) if base <= addr)


def answer(requests: list[Request], data: list[bytearray]) -> list[tuple[int, int]]:
    """(data, last) of every beat."""
    out = []
    for addr, beats in requests:
        segment = segment_of(addr)
        for i in range(beats):
            at = addr - BASES[segment] + i * BUS
            part = data[segment][at : at + BUS]
            out.append((int.from_bytes(part, "little"), int(i == beats - 1)))
    return out


FETCHES: list[Request] = [(BASES[0] + 128 * i, 4) for i in range(2)]
LOADS: list[Request] = [(BASES[1] + 512 * i, n) for i, n in enumerate((5, 1, 3))]
BEATS = sum(n for _, n in (*FETCHES, *LOADS))


@cocotb.test()
@cocotb.parametrize(number=range(BEATS), response=[Response.SLVERR, Response.DECERR])
async def error_response(dut, number, response):
    """One bad beat is reported once, in the cycle it is returned, with its instruction's pc."""
    bench, data = await setup(dut, latency=2, read_fault=number, read_response=response)
    bench.waiting = {"fetch": list(FETCHES), "load": list(LOADS)}
    await bench.run(lambda: bench.cycles.now > 10 and bench.idle[-1])
    owners = [
        ("fetch", PC["fetch"] * k + i * BUS // INSTRUCTION_BYTES)
        for k, (_, n) in enumerate(FETCHES)
        for i in range(n)
    ]
    owners += [("load", PC["load"] * k) for k, (_, n) in enumerate(LOADS) for _ in range(n)]
    source, pc = owners[number]
    when = bench.memory.on(Channel.R)[number][0] + 1
    assert bench.errors == [(when, Error.READ_BUS, pc)]
    flagged = [(s, beat[0]) for s in SOURCES for beat in bench.data[s] if beat[3]]
    assert flagged == [(source, when)]
    for name, requests in (("fetch", FETCHES), ("load", LOADS)):
        assert [beat[1:3] for beat in bench.data[name]] == answer(requests, data)


@cocotb.test()
async def exclusive_okay(dut):
    """EXOKAY is no error."""
    bench, _ = await setup(dut, latency=2, read_fault=3, read_response=Response.EXOKAY)
    bench.waiting["load"] = list(LOADS)
    await bench.run(lambda: bench.cycles.now > 10 and bench.idle[-1])
    assert not bench.errors


@cocotb.test()
async def credit(dut):
    """LOAD may fill `read_beats` to the last beat; FETCH is not counted out by it."""
    bench, _ = await setup(dut, latency=1, stop=Channel.R)
    most = CONFIG.burst_beats
    whole = CONFIG.read_beats // most - 1
    rest = [most - 3, 2]
    bench.waiting["load"] = [(BASES[0], most)] * whole + [(BASES[0], n) for n in (*rest, 2, 1)]
    await bench.run(lambda: bench.cycles.now == 30)
    assert [n for _, (_, n) in bench.accepted["load"]] == [most] * whole + rest
    assert len(bench.memory.on(Channel.AR)) == whole + 2
    bench.waiting["load"] = [(BASES[0], 1), (BASES[0], 1)]
    bench.waiting["fetch"] = [(BASES[0], 4)]
    await bench.run(lambda: bench.cycles.now == 40)
    assert len(bench.accepted["fetch"]) == 1
    assert len(bench.accepted["load"]) == whole + 2
    assert not bench.idle[-1]


@cocotb.test()
async def last_beat_of_credit(dut):
    """One beat fits where one is left."""
    bench, _ = await setup(dut, latency=1, stop=Channel.R)
    most = CONFIG.burst_beats
    whole = CONFIG.read_beats // most - 1
    bench.waiting["load"] = [(BASES[0], most)] * whole + [(BASES[0], most - 1), (BASES[0], 1)]
    await bench.run(lambda: bench.cycles.now == 20)
    assert not bench.waiting["load"]


@cocotb.test()
async def open_bursts(dut):
    """No more than READ_BURSTS bursts are open, whoever asks."""
    bench, _ = await setup(dut, latency=1, stop=Channel.R)
    bench.waiting = {
        "fetch": [(BASES[0], 1)] * 5,
        "load": [(BASES[0], 1)] * READ_BURSTS,
    }
    await bench.run(lambda: bench.cycles.now == 60)
    assert len(bench.accepted["fetch"]) == 5
    assert len(bench.accepted["load"]) == READ_BURSTS - 5
    assert len(bench.memory.on(Channel.AR)) == READ_BURSTS


@cocotb.test()
async def a_burst_a_cycle(dut):
    """Requests are taken in consecutive cycles, FETCH's first."""
    bench, _ = await setup(dut, latency=1)
    bench.waiting = {"fetch": list(FETCHES), "load": list(LOADS)}
    await bench.run(lambda: bench.cycles.now == 10)
    assert [c for s in SOURCES for c, _ in bench.accepted[s]] == list(range(5))
    assert [c for c, _ in bench.memory.on(Channel.AR)] == list(range(1, 6))


@cocotb.test()
@cocotb.parametrize(stalls=["none", "both"], at=range(1, 30, 2), hold=[1, 25])
async def kill(dut, stalls, at, hold):
    """Killed anywhere, by a pulse or for long: AR is kept, data swallowed, then it works again."""
    bench, data = await setup(
        dut, latency=3, stalls=stalls, seed=at, read_fault=9, read_response=Response.SLVERR
    )
    bench.kill = set(range(at, at + hold))
    bench.waiting = {"fetch": list(FETCHES), "load": LOADS * 3}
    await bench.run(lambda: bench.cycles.now == at + 1)
    taken = [request for s in SOURCES for c, request in bench.accepted[s]]
    assert all(c < at for s in SOURCES for c, _ in bench.accepted[s])
    # Requests stay offered while the bus drains, and are not taken.
    await bench.run(lambda: bench.cycles.now > at + 1 and bench.idle[-1])
    assert sum(len(bench.accepted[s]) for s in SOURCES) == len(taken)
    assert len(bench.memory.on(Channel.AR)) == len(taken)
    assert len(bench.memory.on(Channel.R)) == sum(n for _, n in taken)
    assert all(beat[0] <= at for s in SOURCES for beat in bench.data[s])
    assert all(e[0] <= at for e in bench.errors)
    for name, requests in (("fetch", FETCHES), ("load", LOADS * 3)):
        got = [beat[1:3] for beat in bench.data[name]]
        assert got == answer(requests, data)[: len(got)]
    # Both sources start anew.
    await bench.run(lambda: bench.cycles.now >= at + hold)
    bench.waiting = {"fetch": [], "load": []}
    await bench.run(lambda: bench.cycles.now > at + hold + 60 and bench.idle[-1])
    before = {s: len(bench.data[s]) for s in SOURCES}
    bench.waiting = {"fetch": list(FETCHES), "load": list(LOADS)}
    now = bench.cycles.now
    await bench.run(lambda: bench.cycles.now > now + 10 and bench.idle[-1])
    for name, requests in (("fetch", FETCHES), ("load", LOADS)):
        assert [beat[1:3] for beat in bench.data[name][before[name] :]] == answer(requests, data)


#: Bursts of LOAD in segment 1 by offset and beats: those that lie in it and in one page.
INSIDE = ((0, 1), (SEGMENT_BYTES - BUS, 1), (SEGMENT_BYTES - 8 * BUS, 8), (4096 - 2 * BUS, 2))
OUTSIDE = (
    *((-BUS, 1), (SEGMENT_BYTES, 1), (SEGMENT_BYTES - BUS, 2), (4096 - 2 * BUS, 3)),
    *((1 << 31, 1), (-4096, 4)),
)


@cocotb.test()
@cocotb.parametrize(source=SOURCES)
async def refusals(dut, source):
    """A burst that is not inside its window goes nowhere; all others do. None waits for it."""
    start = BASES[1] if source == "load" else BASES[0]
    for outside in OUTSIDE:
        bench, _ = await setup(dut, latency=2)
        bench.segment_of = lambda addr: 1
        inside = [(start + offset, beats) for offset, beats in INSIDE]
        wrong = ((start + outside[0]) % (1 << CONFIG.addr_bits), outside[1])
        bench.waiting[source] = [*inside, wrong, *inside]
        await bench.run(lambda bench=bench: bench.cycles.now > 20 and bench.idle[-1])
        taken = [cycle for cycle, _ in bench.accepted[source]]
        assert bench.refused == [taken[len(inside)] + 1]
        assert taken[len(inside) + 1] > bench.refused[0]
        assert [value for _, value in bench.memory.on(Channel.AR)] == 2 * [a for a, _ in inside]


@cocotb.test()
async def a_flipped_bit_does_not_reach_the_bus(dut):
    """Invert each bit behind the address channel in turn, with a burst that waits, and without."""
    bench, _ = await setup(dut, latency=1, stop=Channel.AR)
    address = dut.address
    parts = (address.word, address.inverted, address.parity, address.mixed)
    pins = (dut.axi__arvalid, dut.axi__araddr, dut.axi__arlen)
    for request in ([], [(BASES[1] + 512, 5)]):
        bench.waiting["load"] = request
        for _ in range(5):
            await bench.step()
        expected = [int(pin.value) for pin in pins]
        for part in parts:
            for bit in range(len(part)):
                right = int(part.value)
                part.value = right ^ 1 << bit
                await bench.cycles.settle()
                assert [int(pin.value) for pin in pins] == expected, f"{part._name}[{bit}]"
                assert int(part.value) != right
                await bench.cycles.edge()
                await bench.cycles.settle()
                assert int(part.value) == right, "it did not heal"
                await bench.cycles.edge()
    assert expected == [1, BASES[1] + 512, 4]
