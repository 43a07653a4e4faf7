"""Host fuzz: damaged files, graphs, inputs and commands are refused in one sentence, or they work.

A seed stands for one case; see ``tests/fuzzed.py`` for the sorts. A case fails if anything but the
project's own errors comes out, if it takes longer than its time or memory, if a file is left that
should not be, or if what was accepted computes other bytes than the interpreter. It can be run
again by its seed: ``make verify ARGS="fuzz --first SEED --count 1"``.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from rich.progress import track

from .. import corpus, fuzzed, results

#: Seconds that a case may take, and bytes that a process may have beyond those it begins with.
SECONDS, BYTES = 30, 3 << 30
#: Seeds of a job for one process.
BATCH = 200


class Hang(BaseException):
    """A case takes too long; no Exception, so that nobody takes it for one of theirs."""


def limit() -> None:
    """Bound the memory of this process, and let a crash say where it was."""
    corpus.programs()
    import torch

    torch.set_num_threads(1)
    faulthandler.enable(sys.__stderr__)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, _hang)


def _hang(*_: object) -> None:
    raise Hang(f"a case takes longer than {SECONDS} s")


def run(seed: int) -> str:
    """The outcome of a case, within its time; see :func:`.fuzzed.case`."""
    signal.alarm(SECONDS)
    try:
        with tempfile.TemporaryDirectory(prefix="weft-fuzz-") as folder:
            return fuzzed.case(seed, Path(folder))
    finally:
        signal.alarm(0)


def check(seeds: range, started: str = os.devnull) -> tuple[Counter[str], list[tuple[int, str]]]:
    """How often each outcome came, and (seed, text) of each case that failed.

    `started` is a file that holds the seed that runs; of use after a crash.
    """
    outcomes: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        Path(started).write_text(str(seed))
        try:
            outcomes[run(seed)] += 1
        except (Exception, Hang):
            wrong.append((seed, traceback.format_exc(limit=-6)))
    return outcomes, wrong


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many cases failed."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=100_000, help="cases (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    clock = results.Clock()
    end = options.first + options.count
    todo = [range(at, min(at + BATCH, end)) for at in range(options.first, end, BATCH)]
    outcomes: Counter[str] = Counter()
    failed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, initializer=limit) as pool,
    ):
        files = [str(Path(folder) / str(seeds.start)) for seeds in todo]
        try:
            for seen, wrong in track(pool.map(check, todo, files), "Host fuzz", total=len(todo)):
                outcomes += seen
                for seed, text in wrong:
                    failed += 1
                    print(f"seed {seed}: {text}", flush=True)
        except BrokenProcessPool:
            failed += 1
            last = sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime)
            seeds = ", ".join(path.read_text() for path in last[-options.jobs :])
            print(f"a process crashed; it ran one of the seeds {seeds}", file=sys.stderr)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7,} {outcome}")
    print(
        f"{sum(outcomes.values()) + failed:,} cases, {failed} failed, {clock.seconds} s, "
        f"{clock.processor_seconds} s of processors"
    )
    if options.write:
        results.write_cases("fuzz", options.count, failed, clock, options.jobs)
    return failed
