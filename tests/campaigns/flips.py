"""Bit flips: one random bit of a running machine; none may hang it or touch memory it must not.

Every place of ``tests/flips.py`` gets the same share of the flips, half of them during random
programs, half during a small network; each place's bits are drawn alike. What happens is counted,
and written into the tables of ``docs/robustness.md`` on demand.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.progress import track
from weft.hdl.config import PRESETS, Config
from weft.hdl.registers import Error

from ..flips import Fate, Sampler, Subject, library, network, random_program

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
WORKLOADS = {"programs": random_program, "network": network}
#: Programs, or networks, that flips are spread over.
SUBJECTS = 20
#: Flips of one task.
BATCH = 50
#: Places that parity covers.
MEMORIES = ("ACT", "WGT", "ACC", "PAR", "tables")

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
    parser.add_argument("--write", action="store_true", help=f"the tables into {PAGE.name}")
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
    tables = {"flips": flips_table(found), "parity": parity_table(found)}
    for text in tables.values():
        print(text)
    outside = sum("bytes from" in text for text in failures)
    print(f"{len(failures) - outside} hangs, {outside} flips with bursts outside the windows")
    if options.write and not failures:
        write(tables)
    return len(failures)


def flips_table(found: Counts) -> str:
    """What became of the flips by place, on the machine without parity."""
    fates = (Fate.MASKED, Fate.DETECTED, Fate.WATCHDOG, Fate.HOST, Fate.SILENT)
    lines = [
        "| Place | Bits | Flips | No effect | Error | Watchdog | Host | Silent | Bus rules "
        "| Silent in programs | Silent in the network |",
        "|---|" + "---:|" * 10,
    ]
    total: Counter[str] = Counter()
    places = sampler(False).bits
    for place, bits in places.items():
        parts = [found[False, workload, place] for workload in WORKLOADS]
        counts = parts[0] + parts[1]
        total += counts
        numbers = [counts["flips"], *(counts[fate.name] for fate in fates), counts["breach"]]
        rates = (interval(part["SILENT"], part["flips"]) for part in parts)
        lines.append(f"| {place} | {bits:,} | {cells(*numbers, *rates)} |")
    numbers = [total["flips"], *(total[fate.name] for fate in fates), total["breach"]]
    lines.append(f"| all | {sum(places.values()):,} | {cells(*numbers)} | | |")
    groups = {
        "memories, by bits": {place: bits for place, bits in places.items() if place in MEMORIES},
        "the rest, by bits": {p: bits for p, bits in places.items() if p not in MEMORIES},
        "all, by bits": places,
    }
    for name, group in groups.items():
        rates = (weighted(found, False, workload, group) for workload in WORKLOADS)
        lines.append(f"| {name} | {sum(group.values()):,} | {cells(*[''] * 7, *rates)} |")
    return "\n".join(lines)


def parity_table(found: Counts) -> str:
    """Silent corruption of the memories without and with parity, both workloads together."""
    lines = [
        "| Place | Flips | Silent without parity | Silent with parity | Stopped by parity |",
        "|---|---:|---:|---:|---:|",
    ]
    for place in sampler(True).bits:
        without, having = (
            found[parity, "programs", place] + found[parity, "network", place]
            for parity in (False, True)
        )
        if place in MEMORIES or having["parity"]:
            rates = (interval(c["SILENT"], c["flips"]) for c in (without, having))
            lines.append(f"| {place} | {cells(having['flips'], *rates, having['parity'])} |")
    places = sampler(True).bits
    for workload in WORKLOADS:
        rates = [weighted(found, parity, workload, places) for parity in (False, True)]
        lines.append(f"| all by bits, {workload} | {cells('', *rates, '')} |")
    return "\n".join(lines)


def cells(*values: int | str) -> str:
    """Cells of a row."""
    return " | ".join(f"{v:,}" if isinstance(v, int) else v for v in values)


def weighted(found: Counts, parity: bool, workload: str, places: dict[str, int]) -> str:
    """Rate of silent corruption for a random bit of these places."""
    rates = {place: found[parity, workload, place] for place in places}
    parts = (bits * rates[p]["SILENT"] / max(1, rates[p]["flips"]) for p, bits in places.items())
    return f"{100 * sum(parts) / sum(places.values()):.2f} %"


def interval(count: int, of: int) -> str:
    """A rate with its 95 % confidence interval (Wilson's)."""
    if not of:
        return ""
    z = 1.96
    rate = count / of
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    low, high = max(0.0, middle - half), middle + half
    return f"{100 * rate:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def write(tables: dict[str, str]) -> None:
    """Replace the tables between their marks in the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, replaced = mark.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
        assert replaced == 1
    PAGE.write_text(text, encoding="utf-8")
