"""Random programs: golden machine, timing model and RTL must agree in everything.

A seed stands for a configuration, a memory latency, stalls and a program. Memories keep their
contents from seed to seed within a batch. One that fails is printed with its program and the first
wrong instruction, and with the line to add to ``FAILED_ONCE`` in ``tests/test_random_programs.py``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from rich.progress import track
from weft.hdl.config import load

from .. import results
from ..side_by_side import Bench

ODD, WIDE = (
    str(Path(__file__).parent.with_name("configs") / f"{name}.toml") for name in ("odd", "wide")
)
CONFIGS = ("tiny", "small", ODD, "default", WIDE)
LATENCIES = (1, 13, 50, 100)
#: Half of the programs run without stalls, where cycles are compared as well.
STALLS = ("none", "read", "none", "write", "none", "both")
#: Seeds that follow each other on the same configuration, latency and stalls.
BATCH = 50


@cache
def bench(config: str) -> Bench:
    """One simulator for each configuration and process."""
    return Bench(load(config))


def machine(seed: int) -> tuple[str, int, str]:
    """The configuration, the memory latency and the stalls that `seed` runs with."""
    rest, config = divmod(seed // BATCH, len(CONFIGS))
    rest, latency = divmod(rest, len(LATENCIES))
    return CONFIGS[config], LATENCIES[latency], STALLS[rest % len(STALLS)]


def check(seeds: range) -> list[tuple[int, str]]:
    """(seed, difference) of each program of a batch that goes wrong, from empty memories on."""
    config, latency, stalls = machine(seeds.start)
    bed = bench(config)
    bed.reset()
    found = []
    for seed in seeds:
        try:
            texts = bed.differences(seed, latency=latency, stalls=stalls)
        except (RuntimeError, ValueError, LookupError, ArithmeticError) as error:
            texts = [f"seed {seed}, {config}, latency {latency}: {type(error).__name__}: {error}"]
            bed.reset()
        found += [(seed, text) for text in texts]
    return found


def again(seed: int) -> list[tuple[int, str]]:
    """As :func:`check`, of the seeds of a batch up to this one."""
    return check(range(seed // BATCH * BATCH, seed + 1))


def batches(first: int, count: int) -> Iterator[range]:
    """`count` seeds from `first` on, cut where the machine changes."""
    at, end = first, first + count
    while at < end:
        following = min(end, (at // BATCH + 1) * BATCH)
        yield range(at, following)
        at = following


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many seeds failed."""
    parser = argparse.ArgumentParser(prog="programs", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=100_000, help="programs (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    for config in CONFIGS:
        bench(config).close()  # builds the simulators, one after the other
    bench.cache_clear()  # a machine has threads, which a forked process would wait for in vain
    clock = results.Clock()
    failed: list[int] = []
    todo = list(batches(options.first, options.count))
    with ProcessPoolExecutor(options.jobs) as pool:
        for found in track(pool.map(check, todo), "Random programs", total=len(todo)):
            for seed, text in found:
                failed.append(seed)
                print(text, flush=True)
    print(
        f"{options.count} programs from seed {options.first}: {len(failed)} failed, "
        f"{clock.seconds} s, {clock.processor_seconds} s of processors"
    )
    for seed in failed:
        print(f'failed; add to FAILED_ONCE: {seed}: "why it failed",')
        start = seed // BATCH * BATCH
        print(f'again: make verify ARGS="programs --first {start} --count {seed - start + 1}"')
    if options.write:
        results.write_cases("programs", options.count, len(failed), clock, options.jobs)
    return len(failed)
