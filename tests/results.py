"""What campaigns measured: docs/robustness.json.

tools/robustness.py and tools/verification.py make the tables of docs/ from it.
"""

from __future__ import annotations

import json
import resource
import time
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


class Clock:
    """Seconds since now: on the wall, and of processors, of this process and those that ended."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), _processor()

    @property
    def seconds(self) -> int:
        """On the wall."""
        return round(time.perf_counter() - self._wall)

    @property
    def processor_seconds(self) -> int:
        """Of all processors."""
        return round(_processor() - self._processor)


def _processor() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def write_cases(name: str, cases: int, failures: int, clock: Clock, jobs: int) -> None:
    """The results of a campaign of cases that pass or fail."""
    found = {"cases": cases, "failures": failures, "jobs": jobs, "seconds": clock.seconds}
    write(name, {**found, "processor_seconds": clock.processor_seconds})
