"""What campaigns measured: docs/robustness.json; tools/robustness.py makes the tables from it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "robustness.json"
#: Of the campaigns' option that records.
HELP = "record the outcome in docs/robustness.json; then run tools/robustness.py"


def write(name: str, values: dict[str, Any]) -> None:
    """Replace the results of one campaign; those of the others stay."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known[name] = values
    FILE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def write_runs(name: str, runs: int, ends: Counter[str]) -> None:
    """The results of a campaign whose runs end in a few ways, "hang" and "failure" among them."""
    good = {end: count for end, count in ends.items() if end not in ("hang", "failure")}
    found = {"runs": runs, "hangs": ends["hang"], "failures": ends["failure"], "ends": good}
    write(name, found)
