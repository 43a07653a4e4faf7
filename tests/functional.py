"""Functional coverage: what must have happened on the RTL, as data, and what has.

The plan has three parts, each under four conditions of the bus: every opcode completes; every
ordered pair of opcodes completes one after the other; every error names every opcode that it can.
What happened is taken from STATUS, ERROR, ERROR_PC and the retire pins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from weft.hdl.axi import Response
from weft.hdl.isa import (
    INSTRUCTION_BYTES,
    UNIT_OF,
    Instruction,
    IsaError,
    Memory,
    Opcode,
    Segment,
    Unit,
)
from weft.hdl.registers import Error
from weft.host.device import Job
from weft.tb.memory_model import ALL_STALLS, READ_STALLS, WRITE_STALLS, Channel

from . import test_faults
from .faults import LIMIT, Bench, Outcome, change
from .gemm import Gemm

#: Conditions of the bus, and the channels that stall at random.
STALLS: dict[str, int] = {
    "none": 0,
    "reads": READ_STALLS,
    "writes": WRITE_STALLS,
    "all": ALL_STALLS,
}

#: Opcodes that a unit executes.
UNITS = tuple(opcode for opcode in Opcode if opcode != Opcode.END)

#: The opcodes that an error can name. CORRUPT takes a flipped bit and PARITY one in a memory: they
#: are counted by the campaign of flips, see robustness.md.
ERRORS: dict[Error, tuple[Opcode, ...]] = {
    Error.RESERVED: tuple(Opcode),
    Error.FIELD: tuple(Opcode),
    Error.ALIGNMENT: (Opcode.LOAD, Opcode.STORE),
    Error.WINDOW: (Opcode.LOAD, Opcode.STORE),
    Error.SEMAPHORE_OVERFLOW: UNITS,
    Error.SEMAPHORE_LEFT: (Opcode.END,),
    Error.READ_BUS: tuple(Opcode),
    Error.WRITE_BUS: (Opcode.STORE,),
    # Of the two units that meet, the one named is VECTOR, else STORE: see core.Core.
    Error.BANK_CONFLICT: (Opcode.DRAIN, Opcode.POOL, Opcode.STORE),
    Error.WATCHDOG: UNITS,
}
#: Errors that name no instruction: an undefined opcode, a program's end, a bus that is stuck.
ALONE = (Error.OPCODE, Error.PROGRAM_END, Error.BUS_STUCK)

#: A point of the plan: ("opcode", opcode, stalls), ("pair", first, second, stalls),
#: ("error", error, opcode or "", stalls).
Point = tuple[str, ...]


def plan() -> list[Point]:
    """Every point that must be reached."""
    out: list[Point] = []
    for stalls in STALLS:
        out += [("opcode", opcode.name, stalls) for opcode in Opcode]
        out += [("pair", a.name, b.name, stalls) for a in UNITS for b in Opcode]
        for error, opcodes in ERRORS.items():
            out += [("error", error.name, opcode.name, stalls) for opcode in opcodes]
        out += [("error", error.name, "", stalls) for error in ALONE]
    return out


@dataclass
class Seen:
    """Counts of what happened."""

    points: Counter[Point] = field(default_factory=Counter)

    def record(self, code: bytes, outcome: Outcome, stalls: str) -> None:
        """Take down a run of `code`."""
        opcodes = [_opcode(code, at) for at in range(0, len(code), INSTRUCTION_BYTES)]
        error, pc = outcome.error
        if error != Error.NONE:
            named = opcodes[pc // INSTRUCTION_BYTES] if pc < len(code) else ""
            self.points["error", error.name, "" if error in ALONE else named, stalls] += 1
            return
        program = opcodes[: opcodes.index("END") + 1]
        # As many completions as the program has parts: all of it has happened.
        parts = sum(1 + (opcode == "MATMUL") for opcode in program) - 1
        assert len(outcome.result.retired) == parts
        for opcode in program:
            self.points["opcode", opcode, stalls] += 1
        for a, b in pairwise(program):
            self.points["pair", a, b, stalls] += 1

    def missing(self) -> list[Point]:
        """Points of the plan that were not reached."""
        return [point for point in plan() if not self.points[point]]


def _opcode(code: bytes, at: int) -> str:
    try:
        return Opcode(code[at] & 0xF).name
    except (ValueError, IsaError):
        return ""


@dataclass(frozen=True)
class Stimulus:
    """A run that reaches points of the plan: a program and how the memory misbehaves."""

    job: Job
    memory: dict[str, int] = field(default_factory=dict)
    watchdog: int = 0
    stuck: bool = False


def stimuli(bench: Bench) -> Iterator[Stimulus]:
    """Runs that bring about every error at every opcode."""
    gemm, end = bench.gemm, Instruction(Opcode.END)
    words = [*test_faults.undefined_opcodes(), *test_faults.reserved_bits()]
    words += [*test_faults.illegal_fields(), *test_faults.misaligned(bench.config)]
    met: set[tuple[Error, int]] = set()
    for word, error in words:
        if (error, word[0] & 0xF) not in met:
            met.add((error, word[0] & 0xF))
            yield Stimulus(gemm.job_of(word + end.encode()))
    for opcode in (Opcode.LOAD, Opcode.STORE):
        yield Stimulus(test_faults.transfer(opcode, Segment.INPUT, offset=1 << 20, length=1))
    for unit, waiting in test_faults.unposted():
        if unit != Unit.WEIGHT:
            yield Stimulus(gemm.job(waiting, end), watchdog=2000)
    for opcode in UNIT_OF:
        giving = change(test_faults.legal(opcode), post=1)
        yield Stimulus(gemm.job(*[giving] * 64, end))
        yield Stimulus(gemm.job(giving, end))
        yield Stimulus(gemm.job(test_faults.legal(opcode), end))
    yield Stimulus(gemm.job(*[change(test_faults.legal(Opcode.MATMUL), weight_post=1)] * 64, end))
    yield Stimulus(gemm.job(test_faults.legal(Opcode.LOAD)))
    yield from map(Stimulus, _conflicts(gemm))
    story = gemm.job(*gemm.program[:5], *(test_faults.legal(o) for o in UNIT_OF), end)
    for beat in range(80):
        yield Stimulus(story, {"read_fault": beat}, watchdog=5000)
    for response in (Response.SLVERR, Response.DECERR, Response.EXOKAY):
        yield Stimulus(gemm.job(), {"write_fault": 0, "write_response": response})
        yield Stimulus(gemm.job(), {"read_fault": 20, "read_response": response})
    yield Stimulus(gemm.job(), {"stop": Channel.R, "after": 3}, watchdog=500, stuck=True)


def _conflicts(gemm: Gemm) -> Iterator[Job]:
    """Two units at one bank, or half, without a semaphore between them, for each that it names."""
    end = Instruction(Opcode.END)
    matmul = change(gemm.program[3], oy=512, height=512, ox=1, post=0)
    store = change(gemm.program[5], wait=0, local=0)
    yield gemm.job(*gemm.program[:2], matmul, *[store] * 3, end)
    fields = {"memory": Memory.ACT, "segment": Segment.INPUT, "length": 64, "rows": 64}
    load = Instruction(Opcode.LOAD, fields)
    for opcode in (Opcode.DRAIN, Opcode.POOL):
        vector = change(test_faults.legal(opcode), oy=64, ox=64)
        yield gemm.job(*[load] * 3, vector, end)
    # The half of ACC into which MATMUL accumulates.
    drain = change(test_faults.legal(Opcode.DRAIN), oy=64, ox=8, dst=gemm.config.act_bytes // 2)
    yield gemm.job(*gemm.program[:2], matmul, drain, end)


def run(
    bench: Bench, stimulus: Stimulus, seen: Seen, stalls: str, seed: int = 1, *, place: int = 0
) -> None:
    """Run it under a condition of the bus, and take down what happened.

    `seed` is of the stalls, `place` of where the program lies; see ``Bench.prepare``.
    """
    memory = {"stall_seed": seed, "stall_channels": STALLS[stalls]} if STALLS[stalls] else {}
    bench.reset(hard=True)
    bench.prepare(
        stimulus.job, watchdog=stimulus.watchdog, place=place, **{**memory, **stimulus.memory}
    )
    bench.go()
    outcome = bench.finish(LIMIT)
    seen.record(stimulus.job.code, outcome, stalls)
    if stimulus.stuck:
        bench.reset()
        result = replace(outcome.result, error=Error(bench.read("ERROR")))
        seen.record(stimulus.job.code, replace(outcome, result=result), stalls)
