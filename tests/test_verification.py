"""The page on verification: its tables are what the campaigns recorded, its campaigns exist."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from . import results
from .campaigns.__main__ import CAMPAIGNS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import verification  # noqa: E402

PAGE = verification.PAGE.read_text(encoding="utf-8")


def test_the_page_has_the_recorded_results():
    found = json.loads(results.FILE.read_text(encoding="utf-8"))
    assert verification.fill(PAGE, found) == PAGE, "run `python tools/verification.py`"
    assert not [name for name, values in found.items() if values.get("failures")]


def test_the_record_is_large_enough():
    """100,000 cases without a failure; of random programs within an hour."""
    found = json.loads(results.FILE.read_text(encoding="utf-8"))
    for name in ("programs", "fuzz"):
        assert found[name]["cases"] >= 100_000
        assert found[name]["failures"] == 0
    assert found["programs"]["seconds"] < 3600


def test_campaigns_and_files_exist():
    lists = re.findall(r"campaigns? ((?:`\w+`(?:, )?)+)", PAGE)
    named = {name for names in lists for name in re.findall(r"`(\w+)`", names)}
    assert named
    assert named <= {*CAMPAIGNS}
    files = re.findall(r"`((?:tests|tools|docs)/[\w*/.]+)`", PAGE)
    assert len(files) > 5
    assert not [name for name in files if not [*ROOT.glob(name)]]


def test_the_tables(tmp_path, monkeypatch):
    clock = results.Clock()
    monkeypatch.setattr(results, "FILE", tmp_path / "r.json")
    results.write_cases("programs", 3000, 1, clock, 2)
    found = json.loads(results.FILE.read_text())
    assert found["programs"]["jobs"] == 2
    found["programs"] |= {"seconds": 90, "processor_seconds": 60}
    assert verification.table(found).splitlines()[2] == (
        "| `programs` | 3,000 | 1 | 90 s | 60 s | 20 ms |"
    )
    speed = {"cycles": 7138, "rtl_seconds": 0.04, "model_seconds": 0.004}
    found["networks"] = {"speeds": {"lenet": speed}}
    assert verification.speeds(found).splitlines()[2] == "| `lenet` | 7,138 | 0.04 s | 4 ms | 10 |"
