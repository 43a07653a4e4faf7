"""The committed measurements keep to their limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from weft.hdl.config import PRESETS
from weft.host.bench import predict_cycles

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import benchmark_goals as goals
import compile_cost
import measure

RESULTS, CYCLES = measure.load()
#: Processor seconds of the RTL, where they were taken down.
TIMED = {
    name: here["processor_seconds"]
    for name, places in CYCLES.items()
    if "processor_seconds" in (here := places[goals.place("default", 50)])
}
#: What no compiler can hide are three latencies: of the first instructions, of the first data and
#: of the last response; more than 3 % of LeNet.
SHORT = ("lenet",)


@pytest.mark.parametrize("goal", goals.GOALS, ids=lambda g: f"{g.network}-{g.what}")
def test_cycles(goal: goals.Goal):
    assert 0 < goal.found(RESULTS, CYCLES) <= goal.most


@pytest.mark.parametrize("name", [name for name in CYCLES if name not in SHORT])
def test_latency_costs_little(name: str):
    least, most = (CYCLES[name][goals.place("default", n)]["cycles"] for n in (0, 100))
    assert least <= most <= (1 + goals.LATENCY_COST) * least


def test_short_bursts_are_avoided():
    """Channels that are stored 16 at a time are write bursts of a beat each: 32 a latency."""
    _, cycles = predict_cycles("conv:112x112x16,k=1,n=96", PRESETS["default"], (0, 100))
    assert cycles[100] <= (1 + goals.LATENCY_COST) * cycles[0]


@pytest.mark.parametrize("name", goals.RTL_SECONDS)
def test_the_rtl_runs_in_minutes(name: str):
    """On two cores, of which each runs one of the two machines; at the slowest pace of those whose
    processor seconds were taken down.
    """
    place = goals.place("default", 50)
    paces = [2 * CYCLES[timed][place]["cycles"] / TIMED[timed] for timed in TIMED]
    assert 0 < CYCLES[name][place]["cycles"] / min(paces) < goals.RTL_SECONDS[name]


def test_compiling_resnet50():
    cost = compile_cost.load()["resnet50"]
    assert 0 < cost["seconds"] < 60
    assert 0 < cost["mebibytes"] < 4096
