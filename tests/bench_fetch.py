"""Bench of the front end: programs under a random read engine and random queues."""

import os
import random
from dataclasses import dataclass, field, replace

import cocotb
from weft.hdl.config import PRESETS
from weft.hdl.dispatch import QUEUED
from weft.hdl.isa import INSTRUCTION_BYTES, UNIT_OF, Instruction, Opcode, Unit
from weft.hdl.ports import BurstRequest
from weft.hdl.queue import entry_layout
from weft.hdl.registers import Error
from weft.host.timing import fetch as timing
from weft.tb.bench import unpack

from .bench_common import restart

CONFIG = replace(PRESETS["default"], bus_bits=int(os.environ["WEFT_BUS_BITS"]))
BUS = CONFIG.bus_bytes
BASE = 0x1234_5000
HORIZON = 4000
ENTRY = {unit: entry_layout(*QUEUED[unit]) for unit in Unit}


def takers(opcode: Opcode) -> list[Unit]:
    """The units whose queues take `opcode`."""
    return [unit for unit in Unit if opcode in QUEUED[unit]]


@dataclass
class Log:
    """What happened, by cycle."""

    requests: list[tuple[int, int, dict]] = field(default_factory=list)  # valid, accepted, payload
    beats: list[int] = field(default_factory=list)
    pushes: list[tuple[int, Unit, dict]] = field(default_factory=list)
    finish: list[tuple[int, int]] = field(default_factory=list)
    faults: list[tuple[int, dict]] = field(default_factory=list)
    dispatched: int = 0


@dataclass
class World:
    """Everything around the front end, decided beforehand for every cycle."""

    seed: int
    latency: int = 3
    stall: float = 0.0

    def __post_init__(self):
        rng = random.Random(self.seed)

        def pattern(share: float) -> list[int]:
            return [int(rng.random() >= share) for _ in range(HORIZON)]

        self.accepts = pattern(self.stall)
        self.delivers = pattern(self.stall)
        self.room = {unit: pattern(self.stall) for unit in Unit}
        self.empty = pattern(self.stall)


async def run(dut, code: bytes, world: World, *, zero: int = 1, extra: int = 12) -> Log:
    """START in cycle 0, so `start` in cycle 1; ends some cycles after finish or fault."""
    cycles = await restart(dut, start=0, data__valid=0, zero=zero, empty=0)
    dut.base.value = BASE
    dut.count.value = len(code) // INSTRUCTION_BYTES
    log = Log()
    beats: list[tuple[int, bytes]] = []
    asked = None
    tail = extra
    while tail:
        now = cycles.now
        assert now < HORIZON, "the program did not end"
        dut.start.value = int(now == 1)
        dut.request__ready.value = world.accepts[now]
        dut.empty.value = world.empty[now]
        for unit in Unit:
            getattr(dut, f"{unit.name.lower()}__ready").value = world.room[unit][now]
        deliver = bool(beats) and beats[0][0] <= now and world.delivers[now]
        dut.data__valid.value = int(deliver)
        if deliver:
            dut.data__data.value = int.from_bytes(beats.pop(0)[1], "little")
            log.beats.append(now)
        await cycles.settle()
        if int(dut.request__valid.value):
            asked = now if asked is None else asked
            payload = unpack(BurstRequest(CONFIG), int(dut.request__payload.value))
            if world.accepts[now]:
                log.requests.append((asked, now, payload))
                asked = None
                at = payload["addr"] - BASE
                data = code[at : at + (payload["len"] + 1) * BUS]
                data = data.ljust((payload["len"] + 1) * BUS, b"\xa5")
                beats += [
                    (now + world.latency + i, data[i * BUS : (i + 1) * BUS])
                    for i in range(payload["len"] + 1)
                ]
        for unit in Unit:
            name = unit.name.lower()
            if int(getattr(dut, f"{name}__valid").value):
                bits = int(getattr(dut, f"{name}__payload").value)
                assert world.room[unit][now], "dispatched into a full queue"
                log.pushes.append((now, unit, unpack(ENTRY[unit], bits)))
        log.dispatched += int(dut.dispatched.value)
        if int(dut.finish.value):
            log.finish.append((now, int(dut.tag.value)))
        if int(dut.fault__valid.value):
            log.faults.append(
                (now, {"code": int(dut.fault__code.value), "pc": int(dut.fault__pc.value)})
            )
        if log.finish or log.faults:
            tail -= 1
        await cycles.edge()
    return log


def program(seed: int, count: int) -> list[Instruction]:
    """Random legal instructions and an END."""
    rng = random.Random(seed)
    out = []
    for i in range(count - 1):
        opcode = rng.choice([*UNIT_OF])
        fields = {}
        if opcode in (Opcode.LOAD, Opcode.STORE):
            fields = {"length": BUS * rng.randint(1, 9), "rows": rng.randint(1, 99)}
        elif opcode == Opcode.MATMUL:
            fields = {"kc": rng.randint(1, 99), "fill": rng.randint(-128, 127)}
        else:
            fields = {"channels": rng.randint(1, 99), "dst": i}
        out.append(Instruction(opcode, {**fields, "post": rng.randint(0, 3)}))
    return [*out, Instruction(Opcode.END, {"tag": rng.randint(0, 65535)})]


def encode(instructions) -> bytes:
    return b"".join(instruction.encode() for instruction in instructions)


def first(pattern: list[int], start: int) -> int:
    """The first cycle from `start` in which `pattern` is 1."""
    return pattern.index(1, start)


def predict(instructions: list[Instruction], world: World, log: Log):
    """Cycles of requests and of dispatches, from the cycles of acceptance and of beats."""
    front = timing.Frontend(len(instructions), BUS)
    at = 0
    arrivals = []
    for burst in front.bursts:
        for i in range(burst.first, burst.first + burst.size):
            arrivals.append(log.beats[at + burst.completing_beat(i, BUS)])
        at += burst.beats
    requests, dispatches = [], []
    k = 0
    for i, instruction in enumerate(instructions):
        while k < len(front.bursts) and (front.needs(k) is None or front.needs(k) < i):
            requests.append(front.request(k))
            front.accept(log.requests[k][1])
            k += 1
        front.arrive(arrivals[i])
        cycle = front.earliest()
        if instruction.opcode == Opcode.END:
            cycle = first(world.empty, cycle)
        else:
            patterns = zip(*(world.room[unit] for unit in takers(instruction.opcode)), strict=True)
            cycle = first([int(all(bits)) for bits in patterns], cycle)
        front.dispatch(cycle)
        dispatches.append(cycle)
    return requests, dispatches


def check(instructions: list[Instruction], world: World, log: Log):
    """Everything about a program that ran to its END."""
    requests, dispatches = predict(instructions, world, log)
    assert [valid for valid, _, _ in log.requests] == requests
    front = timing.Frontend(len(instructions), BUS)
    for burst, (_, _, payload) in zip(front.bursts, log.requests, strict=True):
        assert payload["addr"] == BASE + burst.offset
        assert (payload["len"], payload["pc"]) == (burst.beats - 1, burst.first)
        assert burst.offset // 4096 == (burst.offset + burst.beats * BUS - 1) // 4096
    expected = []
    for i, (instruction, cycle) in enumerate(zip(instructions, dispatches, strict=True)):
        for unit in takers(instruction.opcode):
            bits = int.from_bytes(instruction.encode(), "little") & ((1 << 232 + 24) - 1)
            word = unpack(ENTRY[unit]["word"].shape, bits)
            expected.append((cycle, unit, {"word": word, "pc": i}))
    assert log.pushes == expected
    assert log.finish == [(dispatches[-1], instructions[-1].tag)]
    assert log.dispatched == len(instructions)
    assert not log.faults


@cocotb.test()
async def programs_of_every_length(dut):
    for count in (1, 2, 3, 4, 5, 8, 17, 66):
        instructions = program(count, count)
        for latency in (1, 20):
            world = World(count, latency=latency)
            log = await run(dut, encode(instructions), world)
            check(instructions, world, log)
            assert log.requests[0][0] == timing.FIRST_REQUEST


@cocotb.test()
async def random_stalls(dut):
    for seed in range(6):
        instructions = program(seed, 40 + seed)
        world = World(seed, latency=seed + 1, stall=0.15 * (seed + 1))
        check(instructions, world, await run(dut, encode(instructions), world))


@cocotb.test()
async def one_instruction_a_cycle(dut):
    """With beats to match, dispatch is continuous within what is buffered."""
    instructions = [Instruction(Opcode.DRAIN, {"dst": i}) for i in range(15)]
    instructions.append(Instruction(Opcode.END))
    world = World(1, latency=2)
    world.room[Unit.VECTOR] = [int(cycle > 200) for cycle in range(HORIZON)]
    log = await run(dut, encode(instructions), world)
    assert [cycle for cycle, _, _ in log.pushes] == list(range(201, 216))
    assert log.finish[0][0] == 216


@cocotb.test()
async def no_end(dut):
    for count in (0, 1, 4, 6, 17):
        instructions = program(3, count + 1)[:-1]
        world = World(count, stall=0.3)
        log = await run(dut, encode(instructions), world)
        assert log.faults[0][1] == {"code": Error.PROGRAM_END, "pc": count}
        assert log.dispatched == count
        assert len(log.faults) == 1
        assert not log.finish
        assert len(log.requests) == -(-count // 4)


@cocotb.test()
async def illegal_instruction_stays(dut):
    """Nothing of it or after it is dispatched; the fault waits until the machine is empty."""
    for at in (0, 3, 9):
        instructions = program(5, 20)
        code = bytearray(encode(instructions))
        code[at * INSTRUCTION_BYTES] &= 0xF0
        world = World(at)
        world.empty = [int(cycle >= 150) for cycle in range(HORIZON)]
        log = await run(dut, bytes(code), world)
        assert log.faults[0] == (150, {"code": Error.OPCODE, "pc": at})
        assert {payload["pc"] for _, _, payload in log.pushes} == set(range(at))
        assert log.dispatched == at


@cocotb.test()
async def semaphores_left(dut):
    instructions = program(6, 3)
    world = World(6)
    log = await run(dut, encode(instructions), world, zero=0)
    assert log.faults[0][1] == {"code": Error.SEMAPHORE_LEFT, "pc": 2}
    assert not log.finish


@cocotb.test()
async def nothing_after_end(dut):
    """Instructions behind END are neither dispatched nor asked for once END waits."""
    instructions = [*program(8, 6), *program(9, 200)]
    world = World(8)
    world.empty = [int(cycle >= 300) for cycle in range(HORIZON)]
    world.accepts = [int(cycle % 25 == 0) for cycle in range(HORIZON)]
    log = await run(dut, encode(instructions), world, extra=60)
    assert log.finish == [(300, instructions[5].tag)]
    assert max(payload["pc"] for _, _, payload in log.pushes) == 4
    waits = log.pushes[-1][0] + 1
    assert [valid for valid, _, _ in log.requests if valid > waits] == []
    assert log.requests[-1][1] > waits, "no request was pending when END came"
