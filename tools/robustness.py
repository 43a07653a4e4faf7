"""The tables of docs/robustness.md, from the campaigns' results in docs/robustness.json.

usage: python tools/robustness.py
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
RESULTS = PAGE.with_suffix(".json")

#: Places that parity covers.
MEMORIES = ("ACT", "WGT", "ACC", "PAR", "tables")
#: Columns of what a flip may lead to, and what the results call it.
FATES = {
    "No effect": "MASKED",
    "Error": "DETECTED",
    "Watchdog": "WATCHDOG",
    "Host": "HOST",
    "Silent": "SILENT",
    "Bus rules": "breach",
}

#: Counts by workload and place, of one machine.
Flips = dict[str, dict[str, dict[str, int]]]


def table(head: Iterable[str], rows: Iterable[Iterable[int | str]], texts: int = 1) -> str:
    """A table in Markdown whose first `texts` columns are text, the others numbers."""
    head = list(head)
    marks = ["---"] * texts + ["---:"] * (len(head) - texts)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|"]
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else cell for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ends_table(found: dict[str, Any]) -> str:
    """How many flips there were, and what none of them may lead to."""
    machines = found["machines"].values()
    flips = sum(place["flips"] for m in machines for w in m.values() for place in w.values())
    rows = [["hangs", found["hangs"]], ["bursts outside the windows", found["outside"]]]
    return table(["What must not happen", f"of {flips:,} flips"], rows)


def flips_table(machine: Flips) -> str:
    """What became of the flips by place, on one machine."""
    head = ["Place", "Bits", "Flips", *FATES, *(f"Silent in {name}" for name in machine)]
    rows: list[list[int | str]] = []
    total: Counter[str] = Counter()
    places = {place: counts["bits"] for place, counts in next(iter(machine.values())).items()}
    for place, bits in places.items():
        parts = [workload[place] for workload in machine.values()]
        counts = sum((Counter(part) for part in parts), Counter())
        total += counts
        rates = [interval(part.get("SILENT", 0), part["flips"]) for part in parts]
        rows.append([place, bits, *_fates(counts), *rates])
    rows.append(["all", sum(places.values()), *_fates(total), *[""] * len(machine)])
    groups = {
        "memories, by bits": [place for place in places if place in MEMORIES],
        "the rest, by bits": [place for place in places if place not in MEMORIES],
        "all, by bits": list(places),
    }
    for name, group in groups.items():
        rates = [weighted(workload, group) for workload in machine.values()]
        bits = sum(places[place] for place in group)
        rows.append([name, bits, *[""] * (1 + len(FATES)), *rates])
    return table(head, rows)


def _fates(counts: Counter[str]) -> list[int]:
    return [counts[name] for name in ("flips", *FATES.values())]


def parity_table(without: Flips, having: Flips) -> str:
    """Silent corruption of the memories without and with parity, all workloads together."""
    rows: list[list[int | str]] = []
    places = list(next(iter(having.values())))
    for place in places:
        sums = [sum((Counter(w[place]) for w in m.values()), Counter()) for m in (without, having)]
        if place in MEMORIES or sums[1]["parity"]:
            rates = (interval(counts["SILENT"], counts["flips"]) for counts in sums)
            rows.append([place, sums[1]["flips"], *rates, sums[1]["parity"]])
    for workload in having:
        rates = (weighted(machine[workload], places) for machine in (without, having))
        rows.append([f"all by bits, {workload}", "", *rates, ""])
    head = ("Place", "Flips", "Silent without parity", "Silent with parity", "Stopped by parity")
    return table(head, rows)


def weighted(workload: dict[str, dict[str, int]], places: list[str]) -> str:
    """Rate of silent corruption for a random bit of these places."""
    counts = [workload[place] for place in places]
    parts = (c["bits"] * c.get("SILENT", 0) / max(1, c["flips"]) for c in counts)
    return f"{100 * sum(parts) / sum(c['bits'] for c in counts):.2f} %"


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


def runs_table(found: dict[str, Any], what: str) -> str:
    """How the runs of a campaign ended."""
    ends = sorted(found["ends"].items(), key=lambda item: -item[1])
    rows = [*ends, ("hangs", found["hangs"]), ("failures", found["failures"])]
    return table([what, f"of {found['runs']:,} runs"], rows)


def cost_table(machines: dict[str, dict[str, dict[str, int]]]) -> str:
    """Memory bits and cells of every machine without and with parity, and the difference."""
    rows: list[list[int | str]] = []
    kinds = list(next(iter(machines.values()))["without"])
    for name, found in machines.items():
        without, having = ([found[which][kind] for kind in kinds] for which in ("without", "with"))
        pairs = zip(without, having, strict=True)
        rows += [[name, "no", *without], [name, "yes", *having]]
        rows.append(["", "", *(f"{100 * (b - a) / a:+.1f} %" if a else "" for a, b in pairs)])
    return table(["Machine", "Parity", *kinds], rows, texts=2)


def layers_table(found: dict[str, dict[str, int]]) -> str:
    """Levels that differ from torch's, by network."""
    rows = [
        [
            name,
            n["nodes"],
            n["levels"],
            n["differ"],
            f"{100 * n['differ'] / n['levels']:.3f} %",
            n["most"],
        ]
        for name, n in found.items()
    ]
    return table(["Network", "Nodes", "Levels", "Differ", "Rate", "At most by"], rows)


def tosa_table(found: dict[str, Any]) -> str:
    """Differences to the reference model, ours and those of mistakes."""
    rows = [["the interpreter, and the machine's definition", found["differences"]]]
    rows += [[f"a mistake on purpose: {name}", n] for name, n in found["mistakes"].items()]
    head = f"of {found['values']:,} values, {found['ties']:,} of them ties"
    return table([head, "Differences"], rows)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Every table of the page that has results, by the name of its marks."""
    flips = results["flips"]["machines"]
    out = {
        "ends": ends_table(results["flips"]),
        "flips": flips_table(flips["without"]),
        "parity": parity_table(flips["without"], flips["with"]),
        "broken": runs_table(results["broken"], "Error"),
        "withheld": runs_table(results["withheld"], "What became of it"),
        "tosa": tosa_table(results["tosa"]),
    }
    if "cost" in results:
        out["cost"] = cost_table(results["cost"])
    if "layers" in results:
        out["layers"] = layers_table(results["layers"])
    return out


def fill(text: str, results: dict[str, Any]) -> str:
    """The page with its tables replaced."""
    for name, made in tables(results).items():
        mark = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text, replaced = mark.subn(lambda _, made=made: made, text)
        if replaced != 1:
            raise ValueError(f"{PAGE.name} needs one place for the table {name!r}")
    return text


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(old, json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
