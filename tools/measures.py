"""The page docs/measures.md, from what the campaigns recorded in docs/measures.json.

usage: python tools/measures.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from measures_reasons import line_reason, port_reason
from robustness import table

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import mutant_survivors

PAGE = Path(__file__).parents[1] / "docs" / "measures.md"
RESULTS = PAGE.with_suffix(".json")
Found = dict[str, Any]
#: Where no reason is known.
OPEN = "not explained yet"

_HEAD = """\
# How much the tests see

<!-- Written by `python tools/measures.py`; edit that, not this page. -->

[Verification](verification.md) says what is compared with what. This page measures how much of the
machine that reaches, and how much of what could be wrong it would notice.
"""
_PLAN = """
## What has happened

`tests/functional.py` has the plan as data, and counts from STATUS, ERROR, ERROR_PC and the retire
pins what has happened on the RTL of `{config}`: every opcode completes; each completes after each
other; every error names every opcode that it can. All of it on a bus that does not stall, whose
reads stall, whose writes stall, and on which everything stalls at random. `make test` fails if a
point is missed; `make verify ARGS=coverage` counts over more programs.

Reached: **{reached} of {plan}** points. Not in the plan: CORRUPT, which takes a flipped bit, and
PARITY, which takes one in a memory ([Robustness](robustness.md)).
"""
_VERILOG = """
## Lines and ports of the Verilog

Verilator counts on the exported Verilog of `{config}` how often each line and each branch runs, and
each edge of each bit of the ports of every module, in every instance
(`make verify ARGS=coverage`). An `if` without an `else` has a branch for both cases; a `case` has
its default, which covers what no value of an enumeration reaches.
"""
_MUTANTS = """
## Faults that the tests notice

Yosys builds faults into the flattened netlist of `{config}`: a bit at a port of a cell inverted,
stuck, or inverted by a neighbour; drawn evenly over the cells of a component, and of those only
where an output of the machine or a memory depends on the bit (`tests/mutants.py`). All are in one
netlist, behind a register that says which is active. Each mutant runs, until something differs,
against programs of `make test`, after each of which DRAM, all memories on chip, status, counters
and cycles must be those of the golden machine and the timing model: random ones, and those that
press on its component's arithmetic, semaphores or transfers; then against the tests of faults that
have to do with its component (`tests/mutant_checks.py`, `make verify ARGS=mutation`). One that
nothing notices is *equal* if a SAT solver proves that it computes, from any state and inputs, the
same next state and outputs. The campaign fails where less than 95 % of the others are noticed, or
a survivor is not explained (`tests/mutant_survivors.py`).
"""
_PYTHON = """
## Branches of the Python code

coverage.py counts which lines run and which way each branch goes in the generator and the host, in
`{tests}` (`make verify ARGS=branches`; `--missing` lists the rest).
"""
_QUICK = """
The run recorded here is the quick one (`--quick`): neither broken programs nor the tests of faults,
and no proof that the others differ. So these are lower bounds.
"""


def percent(part: int, of: int) -> str:
    """A share."""
    return f"{100 * part / of:.1f} %" if of else ""


def plan_section(found: Found) -> str:
    """The plan of functional coverage, with counts."""
    pairs = found["pairs"]
    columns = list(next(iter(pairs.values())))
    text = _PLAN.format(**found)
    text += "\nCompletions of one opcode (rows) followed by another (columns):\n\n"
    text += table(["", *columns], ([a, *(row[b] for b in columns)] for a, row in pairs.items()))
    text += "\nErrors by the opcode that they name:\n\n"
    head = ["Error", *columns, "no instruction"]
    rows: list[list[int | str]] = [
        [error, *(counts.get(name, "–") for name in (*columns, "none"))]
        for error, counts in found["errors"].items()
    ]
    return text + table(head, rows)


def verilog_section(found: Found) -> str:
    """Coverage by module."""
    modules = found["modules"]
    kinds = ("line", "branch", "toggle")

    def row(name: str, counts: dict[str, list[int]]) -> list[int | str]:
        cells: list[int | str] = [name]
        for kind in kinds:
            covered, total = counts.get(kind, (0, 0))
            cells += [total, percent(covered, total)]
        return cells

    sums = {
        kind: [sum(counts.get(kind, (0, 0))[k] for counts in modules.values()) for k in (0, 1)]
        for kind in kinds
    }
    rows = [row(f"`{name}`", counts) for name, counts in modules.items()]
    head = ["Module", "Lines", "covered", "Branches", "covered", "Port edges", "covered"]
    text = _VERILOG.format(**found) + "\n" + table(head, [row("all", sums), *rows])
    if found["lines not reached"]:
        text += "\nLines and branches not reached, by their number in the Verilog:\n\n"
        rows = [[f"`{line}`", line_reason(line) or OPEN] for line in found["lines not reached"]]
        text += table(["Where", "Why"], rows, texts=2)
    groups: dict[str, list[str]] = {}
    edges: dict[str, int] = {}
    for module, ports in found["ports not toggled"].items():
        for port, (count, bits) in ports.items():
            why = port_reason(module, port, bits) or OPEN
            groups.setdefault(why, []).append(f"`{module}.{port}`[{bits}]")
            edges[why] = edges.get(why, 0) + count
    text += "\nBits of ports that never rose or never fell, by the reason:\n\n"
    rows = [[why, f"{edges[why]:,}", ", ".join(names)] for why, names in groups.items()]
    return text + table(["Why", "Edges", "Ports"], rows, texts=3)


def mutants_section(found: Found) -> str:
    """Killed, equal and surviving mutants."""
    rows: list[list[int | str]] = []
    total = [0, 0, 0]
    for name, counts in found["components"].items():
        numbers = [counts[key] for key in ("mutants", "killed", "proven equal")]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        rows.append([name, *numbers, percent(numbers[1], numbers[0] - numbers[2])])
    rows.append(["all", *total, percent(total[1], total[0] - total[2])])
    head = ["Component", "Mutants", "Noticed", "Equal", "Noticed of the others"]
    text = _MUTANTS.format(**found) + "\n" + table(head, rows)
    if found["quick"]:
        return text + _QUICK.format(**found)
    if found["killers"]:
        text += "\nWhat notices them first:\n\n"
        text += table(["Check", "Mutants"], found["killers"].items())
    else:
        text += "\nPut together from runs of the campaign's parts, not from one whole run.\n"
    if found["survivors"]:
        text += "\nThose that nothing notices:\n\n"
        rows = [
            [s["mutant"], mutant_survivors.reason(s["component"], s["mutant"]) or OPEN]
            for s in found["survivors"]
        ]
        text += table(["Mutant", "Why"], rows, texts=2)
    return text


def python_section(found: Found) -> str:
    """Lines and branches of the Python code."""
    rows: list[list[int | str]] = []
    for folder, (lines, all_lines, branches, all_branches) in found["folders"].items():
        rows.append([f"`{folder}/`", all_lines, percent(lines, all_lines)])
        rows[-1] += [all_branches, percent(branches, all_branches)]
    head = ["Folder", "Lines", "run", "Branches", "taken"]
    return _PYTHON.format(tests=", ".join(found["tests"])) + "\n" + table(head, rows)


def page(results: Found) -> str:
    """The whole page."""
    parts = [_HEAD]
    parts += [plan_section(f) for name, f in results.items() if name.startswith("coverage of ")]
    parts += [verilog_section(f) for name, f in results.items() if name.startswith("coverage of ")]
    parts += [mutants_section(f) for name, f in results.items() if name.startswith("mutation of ")]
    if "python" in results:
        parts.append(python_section(results["python"]))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
