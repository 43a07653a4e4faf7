"""What a mutant is run against: parts of the normal tests, from the quickest to the longest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import PEERS, Opcode, Segment
from weft.host.device import Job, Result
from weft.host.golden import GoldenDevice
from weft.host.timing.machine import predict
from weft.host.timing.prediction import Prediction
from weft.tb.memory_model import Channel
from weft.tb.session import DONE

from . import (
    dense,
    late,
    mutants,
    onchip,
    reach,
    test_bursts,
    test_faults,
    test_faults_bus,
    test_faults_reset,
)
from .campaigns import broken
from .faults import LIMIT, Bench
from .flips import check_address_registers, check_guard
from .onchip import Memories, Part
from .programs import EXTREME_SIZES, EXTREMES, Generator, RandomProgram

#: A check of a machine: AssertionError or DeviceError where it is wrong.
Check = Callable[[Bench], object]

#: So many random programs run before everything else: they notice most mutants.
_FIRST = 40
#: Seconds after which a mutant counts as one that hangs the simulator.
PATIENCE = 1200


def checks(
    config: Config, component: str, programs: int, *, faults: bool = True
) -> Iterator[list[tuple[str, Check]]]:
    """(name, check) in the order in which they run on mutants of a component.

    Each list runs on a new machine.

    Parameters
    ----------
    config
        The machine.
    component
        Of ``mutants.COMPONENTS``; says which of the tests of faults, those of ``make test``, run.
    programs
        Random programs.
    faults
        With programs and buses that are at fault.
    """
    yield _runs(random_runs(config, 0, _FIRST))
    yield _runs(dense_runs(config) if component in ("array", "requantizer") else [])
    yield _runs(token_runs(config) if component in ("semaphores", "load") else [])
    yield _runs(transfer_runs(config) if component in _DMA else [])
    if faults:
        tests: list[tuple[str, Check]] = []
        for test, *arguments in _TESTS[component]:
            names = [getattr(x, "name", getattr(x, "__name__", str(x))) for x in arguments]
            text = f"{test.__name__}({', '.join(names)})"
            tests.append((text, partial(_call, test=test, arguments=arguments)))
        if config.name == "tiny" and tests:
            tests += [(f"broken program {k}", partial(_broken, seed=k)) for k in range(24)]
        yield tests
    yield _runs(extreme_runs(config) if component in _DMA else [])
    yield _runs(random_runs(config, _FIRST, programs))


@dataclass(frozen=True)
class Run:
    """A program, where it lies, the memory it runs on, and how it ends.

    `memories` are those on chip afterwards; `prediction` is None where memory stalls.
    """

    name: str
    job: Job
    place: int
    latency: int
    stalls: int
    expected: Result
    memories: dict[Part, np.ndarray]
    prediction: Prediction | None


@cache
def random_runs(config: Config, first: int, end: int) -> list[Run]:
    """Random programs of these seeds."""
    generator = Generator(config)
    return _expected(config, "program", map(generator.program, range(first, end)))


@cache
def dense_runs(config: Config) -> list[Run]:
    """Those of ``test_dense``."""
    return _expected(config, "dense", (dense.program(config, seed) for seed in range(12)))


@cache
def token_runs(config: Config) -> list[Run]:
    """Those of ``test_tokens``."""
    generator = Generator(config)
    pairs = [(a, b) for a, peers in PEERS.items() for b in peers]
    programs = (
        generator.tokens(k, a, b, chase=chase)
        for k, (a, b), chase in product((0, 1), pairs, (False, True))
    )
    return _expected(config, "tokens", programs)


@cache
def transfer_runs(config: Config) -> list[Run]:
    """Those of ``test_transfers``."""
    return _expected(config, "transfers", map(Generator(config).transfers, range(20)))


@cache
def extreme_runs(config: Config) -> list[Run]:
    """Those of ``test_extremes`` and ``test_pitches_and_lengths`` that only transfer."""
    generator = Generator(config)
    programs = [
        generator.assemble(0, steps, EXTREME_SIZES)
        for steps in EXTREMES.values()
        if all(opcode in (Opcode.LOAD, Opcode.STORE) for opcode, _ in steps)
    ]
    return _expected(
        config,
        "extremes",
        [*programs, *reach.pitches(config), *reach.lengths(config), *reach.programs(config)],
        scatter=False,
    )


def _expected(
    config: Config, name: str, programs: Iterable[RandomProgram], *, scatter: bool = True
) -> list[Run]:
    """To run one after the other on a new machine; some with stalls, some anywhere in memory."""
    golden, out = GoldenDevice(config), []
    for k, program in enumerate(programs):
        job = program.job
        latency = (50, 1, 7)[k % 3]
        stalls = k + 1 if k % 3 == 2 else 0
        prediction = None if stalls else predict(config, job.code, latency=latency)
        expected, memories = golden.run(job), onchip.contents(golden.machine)
        place = k if scatter and k % 2 else 0
        run = Run(f"{name} {k}", job, place, latency, stalls, expected, memories, prediction)
        out.append(run)
    return out


def _runs(runs: list[Run]) -> list[tuple[str, Check]]:
    return [(run.name, partial(_exact, run=run)) for run in runs]


def _exact(bench: Bench, run: Run) -> None:
    """It ends as on the golden machine and, where memory does not stall, in the model's cycles."""
    bench.reset()
    bench.prepare(run.job, place=run.place, latency=run.latency, stall_seed=run.stalls)
    bench.go()
    cycles = run.prediction.counters["CYCLES"] if run.prediction else 0
    outcome = bench.finish(max(2 * cycles, LIMIT))
    result, expected = outcome.result, run.expected
    assert outcome.status == DONE
    assert (result.error, result.tag) == (expected.error, expected.tag)
    assert result.segments == expected.segments
    assert not Memories(bench.config, bench.machine).difference(run.memories)
    if run.prediction is not None:
        retired = result.retired[np.lexsort((result.retired[:, 1], result.retired[:, 0]))]
        assert retired.tolist() == run.prediction.retired.tolist()
        assert result.counters == run.prediction.counters
    bench.check_account(outcome)
    assert not bench.machine.escape


def _broken(bench: Bench, seed: int) -> None:
    broken.run(seed, bench)


def _call(bench: Bench, test: Callable, arguments: Sequence) -> None:
    bench.reset(hard=True)
    test(bench, *arguments)


def _each(test: Callable, *values: object) -> tuple[tuple, ...]:
    return tuple((test, value) for value in values)


_DECODING = (
    *_each(test_faults.test_no_end, 0, 1, 5, 6),
    *_each(test_faults.test_malformed_instruction_in_a_program, 0, 1, 3, 6),
    (test_faults.test_the_first_error_in_program_order_wins,),
    *_each(
        test_faults.test_malformed_instruction,
        *(test_faults.undefined_opcodes, test_faults.illegal_fields),
        *(test_faults.misaligned, test_faults.reserved_bits),
    ),
)
_WAITING = (
    *_each(test_faults.test_semaphore_that_is_never_posted, 0, 3, 6),
    (test_faults.test_semaphores_left_and_overflowing,),
    (test_faults.test_the_first_error_in_program_order_wins,),
    *_each(test_faults_reset.test_the_watchdog_bites_in_its_cycle, 58, 200),
    (test_faults_reset.test_soft_reset_repeated_in_every_cycle,),
)
_READING = (
    *((test_faults.test_window_edges, Opcode.LOAD, segment) for segment in Segment),
    (test_faults.test_windows_without_memory_or_beyond_the_address_space, Opcode.LOAD),
    (test_faults.test_window_edges_anywhere, Opcode.LOAD),
    (test_bursts.test_bursts, Channel.AR),
    (test_faults.test_errors_far_into_a_program, Opcode.LOAD),
    (test_faults_bus.test_exclusive_okay_is_none,),
    (test_faults_bus.test_an_error_while_the_bus_is_silent,),
    (test_faults.test_the_first_error_in_program_order_wins,),
    (test_faults_reset.test_reset_after_every_error_cycle,),
    (test_faults_reset.test_soft_reset_that_gave_up_is_repeated,),
    *_each(test_faults_bus.test_every_handshake_withheld_for_a_while, Channel.AR),
    (test_faults_bus.test_every_read_beat_fails,),
)
_WRITING = (
    *((test_faults.test_window_edges, Opcode.STORE, segment) for segment in Segment),
    (test_faults.test_windows_without_memory_or_beyond_the_address_space, Opcode.STORE),
    (test_faults.test_window_edges_anywhere, Opcode.STORE),
    (test_bursts.test_bursts, Channel.AW),
    (test_faults.test_errors_far_into_a_program, Opcode.STORE),
    (test_faults_bus.test_every_write_burst_fails,),
    (test_faults_bus.test_exclusive_okay_is_none,),
    (test_faults.test_the_first_error_in_program_order_wins,),
    (test_faults_reset.test_soft_reset_repeated_in_every_cycle,),
    *_each(
        test_faults_bus.test_every_handshake_withheld_for_a_while,
        *(Channel.AW, Channel.W, Channel.B),
    ),
)
_FLIPS = ((check_address_registers,), (check_guard,))
_LATE = ((late.check,),)
_RESETS = (
    (test_faults_reset.test_soft_reset_repeated_in_every_cycle,),
    *_each(test_faults_reset.test_reset_in_every_cycle, False, True),
)
_DMA = {"load", "store", "read engine", "write engine"}
#: Tests of ``make test`` that have to do with a component, and what they are called with.
_TESTS: dict[str, tuple[tuple, ...]] = {
    "array": (),
    "requantizer": (),
    "decoder": (*_DECODING, *_LATE),
    "load": (*_READING, *_LATE),
    "store": (*_WRITING, *_LATE),
    "read engine": (*_READING, *_FLIPS, *_RESETS, *_LATE),
    "write engine": (*_WRITING, *_FLIPS, *_RESETS, *_LATE),
    "semaphores": _WAITING,
}


def killer(
    config: Config,
    built: Path,
    number: int,
    component: str,
    programs: int,
    *,
    faults: bool = True,
) -> str | None:
    """The first check that notices mutant `number` of a component; None if all pass."""
    for several in checks(config, component, programs, faults=faults):
        bench = None
        for name, check in several:
            try:
                if bench is None:
                    bench = Bench(config, machine=mutants.machine(built, number))
                check(bench)
            except Exception:  # whatever a faulty machine leads to
                return name
        if bench is not None:
            bench.close()
    return None


def isolated(function: Callable[[], str | None]) -> str | None:
    """Call a function in a process of its own; says how that died if it did."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            os.close(receive)
            # What a simulator says before it gives up is of no interest.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            text = function()
            os.write(send, b"-" if text is None else b"+" + text.encode())
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"simulator ended by {signal.Signals(os.WTERMSIG(status)).name}"
    assert status == 0, "the check itself failed"
    return None if text == "-" else text[1:]
