"""Mutants: faults built into the netlist, one at a time; the tests must notice each of them.

Faults are drawn from the cells of the array, the requantizers, the decoder, the DMA and the
semaphores (``tests/mutants.py``), and each mutant runs against random programs, then against the
tests of faults (``tests/mutant_checks.py``) until something differs. A mutant that nothing notices
is compared with the machine: if they are proven equal, state for state, it is none. The others are
survivors, to be killed by a new test or explained in ``tests/mutant_survivors.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rich.progress import track
from weft.hdl.config import Config, load

from .. import measures
from ..mutant_checks import checks, isolated, killer
from ..mutant_survivors import reason
from ..mutants import COMPONENTS, Mutant, draw, equal, library

#: Of the mutants that are not proven equal, what share must be noticed.
WANTED = 0.95

Setting = tuple[str, int, int, bool]


def check(setting: Setting, component: str, number: int) -> tuple[int, str | None]:
    """A mutant's number, and what noticed it; `setting`: configuration, count, programs, faults."""
    name, count, programs, faults = setting
    config = load(name)
    built = library(config, count)
    for _ in checks(config, component, programs):
        pass  # prepares the programs, once for all mutants of this process
    run = partial(killer, config, built, number, component, programs, faults=faults)
    return number, isolated(run)


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many survive unexplained, one more if too many survive."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--config", default="tiny", help="preset or TOML file (%(default)s)")
    parser.add_argument("--count", type=int, default=70, help="of each component (%(default)s)")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of mutants; all unless given")
    parser.add_argument("--programs", type=int, default=100, help="random programs (%(default)s)")
    parser.add_argument("--first", type=int, help="mutants of each component; all unless given")
    parser.add_argument("--quick", action="store_true", help="random programs only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument(
        "--survivors",
        action="store_true",
        help="those of the recorded run alone (of --only), whose counts follow",
    )
    parser.add_argument("--write", action="store_true", help=measures.HELP)
    options = parser.parse_args(args)
    config = load(options.config)
    mutants = {mutant.number: mutant for mutant in draw(config, options.count)}
    before = recorded(config) if options.survivors else None
    if before is not None:
        alive = [entry["number"] for entry in before["survivors"]]
        options.only = [number for number in alive if number in (options.only or alive)]
    first = options.first or options.count
    chosen = [mutants[number] for number in options.only or mutants]
    chosen = [mutant for mutant in chosen if (mutant.number - 1) % options.count < first]
    library(config, options.count)
    setting = (options.config, options.count, options.programs, not options.quick)
    found: dict[int, str | None] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        # The machine itself passes, or no mutant would say anything.
        for component in dict.fromkeys(mutant.component for mutant in chosen):
            noticed = pool.submit(check, setting, component, 0).result()[1]
            if noticed is not None:
                print(f"the machine without a mutant fails: {noticed}")
                return 1
        runs = pool.map(
            partial(check, setting),
            [mutant.component for mutant in chosen],
            [mutant.number for mutant in chosen],
            chunksize=2,
        )
        for number, name in track(runs, "Mutants", total=len(chosen)):
            found[number] = name
            if name is None:
                print(f"{number} not noticed: {mutants[number]}", flush=True)
        alive = [mutants[number] for number, name in found.items() if name is None]
        same: set[int] = set()
        if not options.quick:
            proofs = pool.map(partial(equal, config, options.count), [[mutant] for mutant in alive])
            same = same.union(*proofs)
    summary = {
        "config": config.name,
        "programs": options.programs,
        "quick": options.quick,
        "fingerprint": f"{config.fingerprint:016x}",
        "components": {name: _component(name, chosen, found, same) for name in COMPONENTS},
        "killers": dict(_kinds(found).most_common()),
        "survivors": [
            {"number": mutant.number, "component": mutant.component, "mutant": str(mutant)}
            for mutant in alive
            if mutant.number not in same
        ],
    }
    if before is not None:
        summary = merged(before, summary, options.only)
    for name, row in summary["components"].items():
        print(name, row)
    if options.write:
        measures.write(f"mutation of {config.name}", summary)
    unexplained = [s for s in summary["survivors"] if not reason(s["component"], s["mutant"])]
    for survivor in unexplained:
        print(f"not explained: {survivor['number']} {survivor['mutant']}")
    rows = summary["components"].values()
    others = sum(row["mutants"] - row["proven equal"] for row in rows)
    share = sum(row["killed"] for row in rows) / max(others, 1)
    print(f"{100 * share:.1f} % of {others} noticed")
    return len(unexplained) + (share < WANTED)


def recorded(config: Config) -> dict:
    """The recorded run on this configuration; KeyError if there is none of this hardware."""
    found = json.loads(measures.FILE.read_text(encoding="utf-8"))[f"mutation of {config.name}"]
    if found["fingerprint"] != f"{config.fingerprint:016x}":
        raise KeyError(f"the recorded run is of another {config.name}")
    return found


def merged(before: dict, again: dict, ran: Sequence[int]) -> dict:
    """A recorded run after those of its survivors with the numbers `ran` ran once more."""
    components = {name: dict(row) for name, row in before["components"].items()}
    for name, row in again["components"].items():
        for key in ("killed", "proven equal"):
            components[name][key] += row[key]
    killers = Counter(before["killers"]) + Counter(again["killers"])
    left = [entry for entry in before["survivors"] if entry["number"] not in ran]
    return {
        **again,
        "components": components,
        "killers": dict(killers.most_common()),
        "survivors": sorted([*left, *again["survivors"]], key=lambda entry: entry["number"]),
    }


def _component(
    name: str, mutants: list[Mutant], found: dict[int, str | None], same: set[int]
) -> dict[str, int]:
    """Counts of a component's mutants."""
    of = [mutant for mutant in mutants if mutant.component == name]
    killed = sum(found[mutant.number] is not None for mutant in of)
    return {
        "mutants": len(of),
        "killed": killed,
        "proven equal": sum(mutant.number in same for mutant in of),
    }


def _kinds(found: dict[int, str | None]) -> Counter[str]:
    """How many mutants each kind of check noticed."""
    return Counter(re.sub(r" ?\d+|\(.*", "", name) for name in found.values() if name is not None)
