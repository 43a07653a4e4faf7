"""The committed measurements keep to their limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import benchmark_goals as goals
import compile_cost
import measure

RESULTS, CYCLES = measure.load()
MEASURED = [goal for goal in goals.GOALS if goal.network in RESULTS]


@pytest.mark.parametrize("goal", MEASURED, ids=lambda g: f"{g.network}-{g.what}")
def test_cycles(goal: goals.Goal):
    assert 0 < goal.found(RESULTS, CYCLES) <= goal.most


def test_compiling_resnet50():
    cost = compile_cost.load()["resnet50"]
    assert 0 < cost["processor_seconds"] < 60
    assert 0 < cost["mebibytes"] < 4096
