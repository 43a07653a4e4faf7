"""Single bit flips in the state of a running machine, and what becomes of them."""

from __future__ import annotations

import enum
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import INSTRUCTION_BYTES, Unit
from weft.hdl.registers import REGISTERS, Error
from weft.host import compiler, interpreter
from weft.host.device import DeviceError, Job, Result
from weft.host.golden import GoldenDevice
from weft.host.ir import Table, Tensor
from weft.tb import fast
from weft.tb.devices import machine_verilog
from weft.tb.memory_model import NEVER, Channel, Options
from weft.tb.session import COUNTERS, START, STATE, Session, await_rest, prepare

from . import networks
from .faults import Bench, story
from .programs import Generator

#: Cycles more than the unharmed run takes, after which the watchdog bites.
SLACK = 1000
#: Cycles for which the bus is watched after the end.
AFTERMATH = 200

#: What a flip can hit, by parts of the hierarchical names of registers and memories: the first
#: place that fits. Names end in the memory or register itself.
PLACES: dict[str, tuple[str, ...]] = {
    "ACT": (".core.act.bank_*.cells",),
    "WGT": (".core.wgt.ram.cells",),
    "ACC": (".core.gemm.accumulator.*.cells",),
    "PAR": (".core.par.ram.cells",),
    "tables": (".vector_unit.*.cells",),
    "fetch buffer": (".fetch.store",),
    "instruction queues": ("_queue.store", "_queue.head"),
    "DMA and job FIFOs": (".storage",),
    "control and registers": (".control_block.",),
    "front end": (".frontend.",),
    "gates, semaphores, queues": (
        *("_gate.", ".semaphores.", "_queue.", ".core.overflowing"),
        ".core.faults__",
        *(f".core.{unit.name.lower()}_active" for unit in Unit),
    ),
    "LOAD": (".load_unit.",),
    "WEIGHT and MATMUL": (".weight_unit.", ".matmul_unit."),
    "array": (".gemm.array.",),
    "VECTOR": (".vector_unit.",),
    "STORE": (".store_unit.",),
    "memory ports": (".core.act.", ".core.wgt.", ".core.par.", ".gemm.accumulator."),
    "read engine": (".read_engine.",),
    "write engine": (".write_engine.",),
    "other": ("",),
}


class Fate(enum.Enum):
    """What the host sees of a flip."""

    MASKED = "no effect"
    DETECTED = "machine error"
    WATCHDOG = "watchdog"
    HOST = "host error"
    SILENT = "silent corruption"
    HANG = "hang"


@dataclass(frozen=True)
class Flip:
    """A bit of the state, and the cycle that begins with it inverted."""

    element: fast.Element
    word: int
    bit: int
    cycle: int

    def __str__(self) -> str:
        return f"{self.element.name}[{self.word}] bit {self.bit} in cycle {self.cycle}"


@dataclass(frozen=True)
class Outcome:
    """What a flip led to; `escape` and `breach` say what was wrong on the bus, if anything."""

    fate: Fate
    error: Error
    escape: str
    breach: str


def place(name: str) -> str:
    """The entry of PLACES that an element belongs to."""

    def fits(pattern: str) -> bool:
        first, _, last = pattern.partition("*")
        return first in name and name.endswith(last)

    return next(place for place, parts in PLACES.items() if any(fits(part) for part in parts))


class Subject:
    """A program that runs on a machine of its own for every flip.

    Parameters
    ----------
    config
        The machine.
    job
        A program that ends, and reads nothing that it (or the power-up) did not write.
    options
        Of the memory.
    """

    def __init__(self, config: Config, job: Job, options: Options):
        self.config = config
        self.job = job
        self.options = options
        self._library = library(config)
        self._watchdog = self._limit = 1 << 20
        self.expected: Result = GoldenDevice(config).run(job)
        unharmed, result = self.execute(None)
        if result is None or unharmed.fate != Fate.MASKED or unharmed.breach or unharmed.escape:
            raise AssertionError(f"the program fails without a flip: {unharmed}")
        self.counters = result.counters
        self.cycles = result.counters["CYCLES"]
        self._watchdog = self.cycles + SLACK
        self._limit = self._watchdog * (len(job.code) // INSTRUCTION_BYTES + 3)

    def run(self, flip: Flip | None) -> Outcome:
        """What becomes of a flip."""
        return self.execute(flip)[0]

    def execute(self, flip: Flip | None, *, random_state: int = 0) -> tuple[Outcome, Result | None]:
        """What becomes of a flip, and what the host read if there was an end.

        With `random_state`, all registers are random before the reset.
        """
        session = prepare(self.config, self.job, watchdog=self._watchdog)
        machine = fast.FastMachine(self._library, self.options, random_state=random_state)
        try:
            machine.map(*session.regions)
            for i, (base, size) in enumerate(windows(session)):
                machine.window(base, size, writable=i > 0)
            for name, value in session.setup:
                machine.write(REGISTERS[name].address, value)
            if flip is not None:
                machine.flip(flip.cycle, flip.element, flip.word, flip.bit)
            fate, result = self._execute(machine, session)
            error = Error.NONE if result is None else result.error
            return Outcome(fate, error, machine.escape, machine.violation), result
        finally:
            machine.close()

    def _execute(self, machine: fast.FastMachine, session: Session) -> tuple[Fate, Result | None]:
        """Run as a host does."""
        try:
            machine.write(REGISTERS["CONTROL"].address, START, start=True)
            if not await_rest(machine, self._limit, strict=False):
                return Fate.HANG, None
            names = (*STATE, *COUNTERS)
            session.values = {name: machine.read(REGISTERS[name].address) for name in names}
            machine.idle(AFTERMATH)
            result = session.result(np.zeros((0, 2), np.int64))
        except DeviceError:
            return Fate.HOST, None
        if result.error == Error.WATCHDOG:
            return Fate.WATCHDOG, result
        if result.error != Error.NONE:
            return Fate.DETECTED, result
        same = (result.segments, result.tag) == (self.expected.segments, self.expected.tag)
        return (Fate.MASKED if same else Fate.SILENT), result


class Sampler:
    """Draws flips from the places of a machine, every bit of a place alike."""

    def __init__(self, config: Config):
        machine = fast.FastMachine(library(config))
        self.elements: dict[str, list[fast.Element]] = {name: [] for name in PLACES}
        for element in machine.elements():
            self.elements[place(element.name)].append(element)
        machine.close()

    @cached_property
    def bits(self) -> dict[str, int]:
        """Bits of each place that exists."""
        sums = {name: sum(e.bits * e.words for e in found) for name, found in self.elements.items()}
        return {name: bits for name, bits in sums.items() if bits}

    def draw(self, where: str, cycles: int, rng: random.Random) -> Flip:
        """A random flip in place `where` during a run of so many cycles."""
        elements = self.elements[where]
        sizes = [element.bits * element.words for element in elements]
        element = rng.choices(elements, sizes)[0]
        return Flip(
            element,
            rng.randrange(element.words),
            rng.randrange(element.bits),
            rng.randrange(1, cycles + 1),
        )


def random_program(config: Config, seed: int) -> Subject:
    """A random program, on a memory of random latency that stalls or not."""
    rng = random.Random(seed)
    options = Options(latency=rng.choice((1, 13, 50)), stall_seed=rng.choice((0, seed + 1)))
    return Subject(config, Generator(config).program(seed).job, options)


def network(config: Config, seed: int) -> Subject:
    """A convolution, max pooling, a table and a large linear layer, of random numbers."""
    rng = np.random.default_rng(seed)
    bits = config.multiplier_bits
    x = Tensor("x", 8, 8, 4, 1.0)
    first, maps = networks.conv(rng, "conv", x, 16, bits, kernel=(3, 3), low=0)
    pool, pooled = networks.maxpool("pool", maps, 2, 2)
    curved = replace(pooled, name="table.out")
    values = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    table = Table("table", pooled.name, curved.name, values)
    last, out = networks.conv(rng, "linear", curved, 32, bits, kernel=(3, 3), kind="linear")
    graph = networks.graph(
        "network", x, (first, maps), (pool, pooled), (table, curved), (last, out)
    )
    program = compiler.compile(graph, config)
    image = rng.integers(-128, 128, (8, 8, 4)).astype(np.int8)
    subject = Subject(config, program.job(image), Options(latency=50))
    expected = interpreter.run_all(graph, image[None])[graph.output][0]
    assert np.array_equal(program.unpack(program.output, subject.expected.segments), expected)
    return subject


def library(config: Config) -> Path:
    """The simulator with access to the state, whose registers have no initial values."""
    verilog = fast.without_initial_values(machine_verilog(config))
    return fast.build(fast.public_state(verilog), config.bus_bytes, state=True)


def windows(session: Session) -> list[tuple[int, int]]:
    """Base and size of the program's and the segments' windows, as the host sets them."""
    values = dict(session.setup)
    names = [name.removesuffix("_SIZE") for name in values if name.endswith("_SIZE")]
    return [
        (values[f"{name}_HI"] << 32 | values[f"{name}_LO"], values[f"{name}_SIZE"])
        for name in names
    ]


#: What holds the address that is on the bus: its copies and the parity.
ADDRESS_REGISTER = re.compile(
    r"(read|write)_engine\.address\.(word|inverted|parity|mixed)(\.register\d+)? ?$"
)


def check_address_registers(bench: Bench) -> int:
    """No bit of an address register that flips shows, in whatever cycle; returns how many did.

    Every bit in any cycle of a program, and in two in which the bus takes what the register holds,
    on a memory that makes addresses wait. The program lies in many places.
    """
    bench.reset(hard=True)
    _, job = story(bench.gemm)
    memory = {"latency": 5, "stall_seed": 3}
    good = [bench.run(job, place=place, **memory) for place in range(10)]
    rng, count = random.Random(0), 0
    for element in bench.machine.elements():
        found = ADDRESS_REGISTER.search(element.name)
        if not found:
            continue
        channel = Channel.AR if found[1] == "read" else Channel.AW
        taken = [outcome.on(channel)[:, 0].tolist() for outcome in good]
        anywhere = range(1, good[0].result.counters["CYCLES"])
        for bit in range(element.bits):
            for k in range(3):
                place = rng.randrange(len(good))
                flip = Flip(element, 0, bit, rng.choice(taken[place] if k else anywhere))
                assert bench.reset() == 0
                bench.prepare(job, place=place, **memory)
                bench.machine.flip(flip.cycle, element, 0, bit)
                bench.go()
                outcome = bench.finish()
                bench.machine.flip(NEVER, element, 0, bit)
                assert outcome.error == good[place].error, flip
                assert outcome.result.segments == good[place].result.segments, flip
                assert outcome.result.counters == good[place].result.counters, flip
                assert (outcome.traffic == good[place].traffic).all(), flip
                count += 1
    return count


#: Where an address comes from on its way to the guard before the bus.
BEFORE_THE_GUARD = re.compile(r"\.splitter\.|_engine\.bursts\.|\.frontend\.fetch\.|load__payload")


def check_guard(bench: Bench, count: int = 300) -> None:
    """No burst outside its window, whatever bit on the way of an address flips.

    Where the guard refuses one, the machine stops with CORRUPT: reads and writes that it refuses
    are among them.
    """
    bench.reset(hard=True)
    _, job = story(bench.gemm)
    elements = [e for e in bench.machine.elements() if BEFORE_THE_GUARD.search(e.name)]
    cycles = bench.run(job).result.counters["CYCLES"]
    rng = random.Random(0)
    refused: Counter[bool] = Counter()
    for seed in range(count):
        element = rng.choice(elements)
        word, bit = rng.randrange(element.words), rng.randrange(element.bits)
        flip = Flip(element, word, bit, rng.randrange(1, cycles))
        bench.reset(hard=True)
        bench.prepare(job, watchdog=SLACK, place=seed, stall_seed=seed % 2)
        bench.machine.flip(flip.cycle, element, word, bit)
        bench.go()
        ended = bench.machine.run(20 * SLACK, strict=False)
        bench.machine.flip(NEVER, element, word, bit)
        assert not bench.machine.escape, f"{flip}: {bench.machine.escape}"
        assert ended, flip
        writes = re.search(r"store_unit|write_engine", element.name) is not None
        refused[writes] += bench.read("ERROR") == Error.CORRUPT
    assert min(refused[False], refused[True]) >= count // 100, refused


#: What decides over windows and runs: all of the control block but its counters and answers.
CONTROL = re.compile(r"\.control_block\.(?!counters\.|registers\.(bus|\w*(rdata|resp|addr)))")


def check_control(bench: Bench) -> None:
    """Whatever bit of the control block flips: the run ends, and no burst leaves its window."""
    bench.reset(hard=True)
    _, job = story(bench.gemm)
    elements = [e for e in bench.machine.elements() if CONTROL.search(e.name)]
    cycles = bench.run(job).result.counters["CYCLES"]
    rng, corrupt = random.Random(0), 0
    bits = [(element, bit) for element in elements for bit in range(element.bits)]
    for seed, (element, bit) in enumerate(bits):
        flip = Flip(element, 0, bit, rng.randrange(1, cycles))
        bench.reset(hard=True)
        bench.prepare(job, watchdog=SLACK, place=seed, stall_seed=seed % 2)
        bench.machine.flip(flip.cycle, element, 0, bit)
        bench.go()
        ended = await_rest(bench.machine, 20 * SLACK, strict=False)
        bench.machine.flip(NEVER, element, 0, bit)
        assert not bench.machine.escape, f"{flip}: {bench.machine.escape}"
        assert ended, flip
        corrupt += bench.read("ERROR") == Error.CORRUPT
    assert corrupt > len(bits) // 20, corrupt
