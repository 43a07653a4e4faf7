"""Bit flips: one random bit of a running machine; none may hang it or touch memory it must not.

Every place of ``tests/flips.py`` gets the same share of the flips, half of them during random
programs, half during a small network; each place's bits are drawn alike. What happens is counted,
on the machine without parity and on the one with it.
"""

from __future__ import annotations

import argparse
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

from rich.progress import track
from weft.hdl.config import PRESETS, Config
from weft.hdl.registers import Error

from .. import results
from ..flips import Fate, Sampler, Subject, library, network, random_program

WORKLOADS = {"programs": random_program, "network": network}
#: Programs, or networks, that flips are spread over.
SUBJECTS = 20
#: What results call the machines.
MACHINES = ("without", "with")
#: Flips of one task.
BATCH = 50
#: (parity, workload, place) → numbers of flips, fates, breaches of the bus rules, parity errors.
Counts = dict[tuple[bool, str, str], Counter[str]]
Task = tuple[bool, str, str, int, int]


def config(parity: bool) -> Config:
    """The machine."""
    return replace(PRESETS["tiny"], parity=parity)


@cache
def sampler(parity: bool) -> Sampler:
    """One for each process."""
    return Sampler(config(parity))


@cache
def subject(parity: bool, workload: str, seed: int) -> Subject:
    """One for each process."""
    return WORKLOADS[workload](config(parity), seed)


def tasks(parity: bool, first: int, count: int) -> Iterator[Task]:
    """`count` flips, about as many for every place and workload."""
    groups = [(workload, place) for place in sampler(parity).bits for workload in WORKLOADS]
    for k, (workload, place) in enumerate(groups):
        share = count * (k + 1) // len(groups) - count * k // len(groups)
        for at in range(0, share, BATCH):
            yield parity, workload, place, first + at, min(BATCH, share - at)


def run(task: Task) -> tuple[Counter[str], list[str]]:
    """The outcomes of a task by name, and what must not have happened."""
    parity, workload, place, first, count = task
    counts: Counter[str] = Counter(flips=count)
    failures = []
    for seed in range(first, first + count):
        rng = random.Random(f"{workload} {place} {seed}")
        target = subject(parity, workload, rng.randrange(SUBJECTS))
        flip = sampler(parity).draw(place, target.cycles, rng)
        outcome = target.run(flip)
        counts[outcome.fate.name] += 1
        counts["breach"] += bool(outcome.breach)
        counts["parity"] += outcome.error == Error.PARITY
        if outcome.escape or outcome.fate == Fate.HANG:
            failures.append(f"{workload}, {flip}: {outcome.escape or 'hang'}")
    return counts, failures


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many flips hung the machine or left the windows."""
    parser = argparse.ArgumentParser(prog="flips", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=10_000, help="flips a machine (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    for parity in (False, True):
        library(config(parity))  # builds the simulators, one after the other
    todo = [t for parity in (False, True) for t in tasks(parity, options.first, options.count)]
    found: Counts = {}
    failures: list[str] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        outcomes = track(pool.map(run, todo), "Bit flips", total=len(todo))
        for (parity, workload, place, *_), (counts, texts) in zip(todo, outcomes, strict=True):
            found.setdefault((parity, workload, place), Counter()).update(counts)
            failures += texts
            for text in texts:
                print(text, flush=True)
    for (parity, workload, place), counts in found.items():
        fates = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        print(f"{'parity, ' if parity else ''}{workload}, {place}: {fates}")
    outside = sum("bytes from" in text for text in failures)
    ends = {"hangs": len(failures) - outside, "outside": outside}
    print("{hangs} hangs, {outside} flips with bursts outside the windows".format(**ends))
    if options.write:
        machines = {name: summary(found, name == "with") for name in MACHINES}
        results.write("flips", {**ends, "machines": machines})
    return len(failures)


def summary(found: Counts, parity: bool) -> dict[str, dict[str, dict[str, int]]]:
    """Of one machine: what became of the flips, by workload and place."""
    bits = sampler(parity).bits
    return {
        workload: {place: {"bits": bits[place], **found[parity, workload, place]} for place in bits}
        for workload in WORKLOADS
    }
