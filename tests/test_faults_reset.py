"""Resets at any time, and the watchdog's time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from weft.hdl.isa import Instruction, Opcode
from weft.hdl.registers import REGISTERS, Error
from weft.tb.memory_model import Channel
from weft.tb.session import DONE, FAILED, OPEN, SOFT_RESET

from .faults import DRAINED, Bench, check_addresses, story

#: Cycles from the handshake of a write of SOFT_RESET to the last one in which an effective write
#: beat, or an address, may be offered for the first time.
RESET_TO_LAST = 2


def interrupt(bench: Bench, job, cycle: int, *, hard: bool, **memory: int) -> bool:
    """Start `job` and reset the machine after so many cycles; whether transfers were open then."""
    bench.prepare(job, **memory)
    bench.go()
    bench.machine.run(cycle)
    begin = bench.machine.cycle
    open_transfers = not bench.machine.answered
    if hard:
        assert bench.reset(hard=True) == 0
        assert bench.read("WATCHDOG") == REGISTERS["WATCHDOG"].init
        return open_transfers
    assert bench.reset() == 0
    assert bench.machine.answered
    assert bench.machine.written <= begin + RESET_TO_LAST
    check_addresses(bench.machine.traffic(), begin + RESET_TO_LAST)
    before = len(bench.machine.traffic())
    bench.machine.idle(60)
    assert len(bench.machine.traffic()) == before
    for name in ("STATUS", "ERROR", "ERROR_PC"):
        assert bench.read(name) == 0
    return open_transfers


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_reset_in_every_cycle(bench, hard):
    """Also in the middle of bursts; the next program is exact."""
    _, job = story(bench.gemm)
    cycles = bench.run(job).result.counters["CYCLES"]
    seen = [
        interrupt(bench, job, cycle, hard=hard) and not bench.check_known()
        for cycle in range(cycles + 4)
    ]
    assert sum(seen) > cycles // 2
    bench.check_known()


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_reset_while_the_bus_stalls(stalling_bench, hard):
    """A sample of cycles of a program that takes several times as long."""
    bench = stalling_bench
    _, job = story(bench.gemm)
    cycles = bench.run(job).result.counters["CYCLES"]
    seen = 0
    for cycle in range(0, cycles, 5):
        seen += interrupt(bench, job, cycle, hard=hard)
        bench.check_known()
    assert seen > cycles // 15


def test_reset_after_every_error_cycle(bench):
    """SOFT_RESET in each cycle around an error and its wait for the bus."""
    _, job = story(bench.gemm)
    good = bench.run(job)
    beats = good.on(Channel.R)
    when = int(beats[len(beats) // 2, 0])
    for cycle in range(when - 4, when + 40):
        interrupt(bench, job, cycle, hard=False, read_fault=len(beats) // 2)
        bench.check_known()


def test_soft_reset_repeated_in_every_cycle(bench):
    """A second SOFT_RESET while the first waits for the bus."""
    _, job = story(bench.gemm)
    for gap in range(30):
        bench.prepare(job)
        bench.go()
        bench.machine.run(80)
        bench.write("CONTROL", SOFT_RESET)
        bench.machine.idle(gap)
        assert bench.reset() == 0
        bench.check_known()


def test_soft_reset_that_gave_up_is_repeated(bench):
    """BUS_STUCK as often as it is asked, and success once the bus has answered."""
    _, job = story(bench.gemm)
    bench.prepare(job, watchdog=300, stop=Channel.R, after=30)
    bench.go()
    assert bench.finish().error[0] == Error.WATCHDOG
    for _ in range(3):
        assert bench.reset() == FAILED | OPEN
        assert bench.read("ERROR") == Error.BUS_STUCK
        bench.write("CONTROL", 1)  # START is refused
        bench.machine.idle(20)
        assert bench.read("STATUS") == FAILED | OPEN
    bench.check_recovery()


@pytest.mark.parametrize("watchdog", [1, 2, 3, 10, 57, 58, 59, 200, 1000])
def test_the_watchdog_bites_in_its_cycle(bench, watchdog):
    """WATCHDOG cycles after the last completion, or after START; not before."""
    _, job = story(bench.gemm)
    good = bench.run(job)
    done = [0, *sorted(good.result.retired[:, 0].tolist()), good.result.counters["CYCLES"] - 1]
    bitten = next((a for a, b in pairwise(done) if b - a > watchdog), None)
    outcome = bench.run(job, watchdog=watchdog)
    if bitten is None:
        assert outcome.status == DONE
        assert outcome.result.counters == good.result.counters
        return
    assert outcome.error[0] == Error.WATCHDOG
    assert outcome.result.counters["CYCLES"] == bitten + watchdog + 1
    # Where it is shorter than the memory's latency, it does not wait for the bus either.
    bench.machine.idle(DRAINED)
    bench.check_stopped(bench.outcome())
    bench.check_recovery()


def test_the_watchdog_after_reset(bench):
    """It is on, and as patient as it can be."""
    assert bench.read("WATCHDOG") == 0xFFFF_FFFF
    job = bench.gemm.job(Instruction(Opcode.STORE, {"wait": 1}), Instruction(Opcode.END))
    bench.prepare(job)
    bench.write("WATCHDOG", 0xFFFF_FFFF)
    bench.go()
    assert not bench.machine.run(30_000)
    assert bench.reset() == 0
    bench.check_known()
