"""The page on robustness says what the campaigns recorded, and nothing bad happened in them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from weft.hdl.config import PRESETS

from . import results
from .campaigns import flips
from .flips import Fate

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import robustness  # noqa: E402

RESULTS = json.loads(results.FILE.read_text(encoding="utf-8"))


def test_the_page_has_the_recorded_results():
    page = robustness.PAGE.read_text(encoding="utf-8")
    assert robustness.fill(page, RESULTS) == page, "run `python tools/robustness.py`"


def test_what_must_not_happen_did_not():
    found = RESULTS["flips"]
    assert (found["hangs"], found["outside"]) == (0, 0)
    for name in ("broken", "withheld"):
        ends = RESULTS[name]["ends"]
        assert (RESULTS[name]["hangs"], RESULTS[name]["failures"]) == (0, 0)
        assert sum(ends.values()) == RESULTS[name]["runs"] > 0
    assert RESULTS["tosa"]["differences"] == 0
    assert RESULTS["tosa"]["values"] > 1_000_000


def test_tables_that_come_later():
    """Those of campaigns that take long have their places before there are results."""
    counts = {"nodes": 7, "levels": 8000, "differ": 2, "most": 1, "unseen": 0}
    cost = {"tiny": {"without": {"LUT4": 200}, "with": {"LUT4": 210}}}
    text = robustness.fill(
        robustness.PAGE.read_text(encoding="utf-8"),
        {**RESULTS, "layers": {"lenet": counts}, "cost": cost},
    )
    assert "| lenet | 7 | 8,000 | 2 | 0.025 % | 1 |\n" in text
    assert "| tiny | no | 200 |\n| tiny | yes | 210 |\n|  |  | +5.0 % |\n" in text


def test_flips_are_counted_once():
    """Every flip has one fate; the bits are those of the machine."""
    machines = RESULTS["flips"]["machines"]
    for name, workloads in machines.items():
        for places in workloads.values():
            for place, counts in places.items():
                assert sum(counts.get(fate.name, 0) for fate in Fate) == counts["flips"], place
        bits = workloads["network"]["ACT"]["bits"]
        assert bits == PRESETS["tiny"].act_bytes * (9 if name == "with" else 8)
    assert set(machines) == set(flips.MACHINES)


def test_a_page_without_a_place_is_refused():
    with pytest.raises(ValueError, match="needs one place for the table 'ends'"):
        robustness.fill("", RESULTS)


def test_rates():
    """Wilson's interval, by hand: 5 of 50 at 95 %."""
    assert robustness.interval(5, 50) == "10.0 % (4.3–21.4)"
    assert robustness.interval(0, 100) == "0.0 % (0.0–3.7)"
    places = {"a": {"bits": 300, "flips": 10, "SILENT": 1}, "b": {"bits": 100, "flips": 4}}
    assert robustness.weighted(places, ["a", "b"]) == "7.50 %"


def test_runs_are_recorded(monkeypatch, tmp_path):
    """Hangs and failures apart from how other runs ended; other campaigns' results stay."""
    monkeypatch.setattr(results, "FILE", tmp_path / "r.json")
    results.write("other", {"x": 1})
    results.write_runs("runs", 6, Counter(late=3, hang=1, failure=2))
    assert json.loads(results.FILE.read_text()) == {
        "other": {"x": 1},
        "runs": {"runs": 6, "hangs": 1, "failures": 2, "ends": {"late": 3}},
    }
