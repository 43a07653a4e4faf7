"""Random programs in bulk: golden machine, timing model and RTL must agree in everything.

`make verify` runs ``python -m tests.verify_programs --count 100000`` on all cores. A seed
that fails is printed with its program; add it to ``tests/test_random_programs.py``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache

from rich.progress import track
from weft.hdl.config import load

from .programs import Bench

CONFIGS = ("tiny", "small", "tests/configs/odd.toml", "default")
BATCH = 50


@cache
def bench(config: str, latency: int) -> Bench:
    """One simulator for each configuration and process."""
    return Bench(load(config), latency=latency)


def batch(job: tuple[str, int, int]) -> list[str]:
    """The differences that one batch of seeds shows."""
    config, first, count = job
    machine = bench(config, (1, 13, 50, 100)[first // BATCH % 4])
    return [text for seed in range(first, first + count) for text in machine.differences(seed)]


def jobs(count: int) -> Iterator[tuple[str, int, int]]:
    """Batches that alternate between the configurations."""
    for k in range(-(-count // BATCH)):
        first = k * BATCH
        yield CONFIGS[k % len(CONFIGS)], first, min(BATCH, count - first)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000, help="programs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    for config in CONFIGS:
        bench(config, 50)  # builds the simulators, one after the other
    begin = time.perf_counter()
    failures: list[str] = []
    todo = list(jobs(options.count))
    with ProcessPoolExecutor(options.jobs) as pool:
        for texts in track(pool.map(batch, todo), "Random programs", total=len(todo)):
            failures += texts
            for text in texts:
                print(text)
    seconds = time.perf_counter() - begin
    print(f"{options.count} programs, {len(failures)} differences, {seconds:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
