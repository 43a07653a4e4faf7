"""Withheld responses: random programs on a bus of which one channel falls silent at random.

A seed stands for a configuration, a program, a memory, a channel, the handshake from which on it
is silent, and for how long: for ever, or for less or more than the watchdog's time. Every run must
end in the watchdog's error or, if the bus was quick enough, in none; after the error nothing is
written, what was asked for is drained, and after a reset the next program is exact.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path

from rich.progress import track
from weft.hdl.config import load
from weft.hdl.registers import Error
from weft.tb.memory_model import NEVER, Channel
from weft.tb.session import FAILED, OPEN

from .. import results
from ..faults import DRAINED, LIMIT, Bench, Hang, Outcome, oldest
from ..programs import Generator, RandomProgram

ODD = str(Path(__file__).parent.with_name("configs") / "odd.toml")
CONFIGS = ("tiny", "tiny", "tiny", ODD)
#: Seeds that follow each other on the same program.
REUSE = 8
#: Seeds of a job for one process.
BATCH = 10 * REUSE


@cache
def bench(config: str) -> Bench:
    """One simulator for each configuration and process."""
    return Bench(load(config))


@cache
def generator(config: str) -> Generator:
    """Draws the programs of a configuration."""
    return Generator(load(config))


@cache
def program(number: int) -> tuple[str, RandomProgram]:
    """A program and the configuration that it is for."""
    config = CONFIGS[number % len(CONFIGS)]
    return config, generator(config).program(number, most=10)


def run(seed: int) -> str:
    """Withhold something; returns what the machine made of it. AssertionError where it is wrong."""
    rng = random.Random(f"withheld {seed}")
    config, subject = program(seed // REUSE)
    machine = bench(config)
    instructions, job = list(subject.instructions), subject.job
    memory = {"latency": rng.choice((1, 7, 20, 50)), "stall_seed": rng.choice((0, 0, seed + 1))}

    good = machine.run(job, **memory)
    assert good.error == (Error.NONE, 0)
    assert machine.reset() == 0
    done = [0, *sorted(good.result.retired[:, 0].tolist()), good.result.counters["CYCLES"]]
    longest = max(b - a for a, b in pairwise(done))
    slack = rng.randrange(50, 400)
    watchdog = longest + slack
    channel = rng.choice([c for c in Channel if len(good.on(c))])
    after = rng.randrange(len(good.on(channel)))
    pause = rng.choice((NEVER, rng.randrange(1, slack), rng.randrange(1, 4 * watchdog)))
    hard = rng.random() < 0.3

    machine.prepare(job, watchdog=watchdog, stop=channel, after=after, pause=pause, **memory)
    machine.go()
    outcome = machine.finish(LIMIT + 4 * watchdog)
    if outcome.result.error == Error.NONE:
        assert pause != NEVER
        machine.check_account(outcome)
        assert machine.reset() == 0
        machine.check_known()
        return "slow"
    assert outcome.error == (Error.WATCHDOG, oldest(instructions, outcome))
    assert pause > slack or memory["stall_seed"]
    if pause == NEVER:
        return _recover(machine, outcome, hard=hard)
    if rng.random() < 0.3:  # amid the late answers
        if machine.reset() != 0:
            assert machine.read("ERROR") == Error.BUS_STUCK
            machine.machine.idle(pause + DRAINED)
        machine.check_recovery(hard=hard)
        return "late, reset at once"
    # Wait until the late answers have come, so that the bus can be seen to be quiet.
    machine.machine.idle(pause + DRAINED)
    machine.check_stopped(machine.outcome())
    machine.check_recovery(hard=hard)
    return "late"


def _recover(machine: Bench, outcome: Outcome, *, hard: bool) -> str:
    """After an error on a bus that will never answer, or not before the machine gave up."""
    machine.check_stopped(outcome, answered=False)
    if hard:
        machine.check_recovery(hard=True)
        return "never, hard reset"
    assert machine.reset() == FAILED | OPEN
    assert machine.read("ERROR") == Error.BUS_STUCK
    machine.check_late_answers(outcome)
    machine.check_recovery()
    return "never, then all"


def check(seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """What became of so many runs, and (seed, text) of each that went wrong."""
    fates: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        try:
            fates[run(seed)] += 1
        except Exception as error:
            fates["hang" if isinstance(error, Hang) else "failure"] += 1
            wrong.append((seed, traceback.format_exc(limit=-2)))
            bench(program(seed // REUSE)[0]).reset(hard=True)
    return fates, wrong


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many seeds failed."""
    parser = argparse.ArgumentParser(prog="withheld", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=10_000, help="runs (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    for config in set(CONFIGS):
        bench(config).close()  # builds the simulators, one after the other
    bench.cache_clear()  # a machine has threads, which a forked process would wait for in vain
    begin = time.perf_counter()
    end = options.first + options.count
    todo = [range(at, min(at + BATCH, end)) for at in range(options.first, end, BATCH)]
    fates: Counter[str] = Counter()
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for seen, wrong in track(pool.map(check, todo), "Withheld responses", total=len(todo)):
            fates += seen
            for seed, text in wrong:
                failed += 1
                print(f"seed {seed}: {text}", flush=True)
    seconds = time.perf_counter() - begin
    listed = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    print(f"{options.count} withheld responses, {fates['hang']} hangs ({listed}), {seconds:.0f} s")
    if options.write:
        results.write_runs("withheld", options.count, fates)
    return failed
