"""The committed measurements: complete, right, shown in the pages, and not to be fallen behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from weft.hdl.config import PRESETS
from weft.host.bench import predict_cycles
from weft.host.networks import NETWORKS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import benchmark_tables as tables  # noqa: E402
import measure  # noqa: E402

RESULTS, CYCLES = measure.load()
#: Reference bounds, in cycles, as they are published.
BOUNDS = {
    "lenet": 6_787,
    "alexnet": 6_232_038,
    "resnet18": 7_157_899,
    "gemm:128x256x256": 32_799,
}
#: What is quick to compile; the campaign `networks` has VGG-16 too.
QUICK = [name for name in measure.NAMES if name != "vgg16"]
#: How much slower than the table a network may get.
SLOWER = 1.01


def test_everything_is_measured_and_right():
    assert list(CYCLES) == [name for name in measure.NAMES if name in CYCLES]
    assert list(RESULTS) == [name for name in CYCLES if name in RESULTS]
    assert {*NETWORKS, "lenet,batch=16"} <= CYCLES.keys()
    for name, result in RESULTS.items():
        assert result["network"] == name
        assert result["mismatches"] == 0, name
        assert result["as_predicted"], name
        assert (result["config"], result["latency"]) == ("default", 50)
        entry = CYCLES[name]["default, latency 50"]
        assert (result["cycles"], result["bound_cycles"], result["backend"]) == (
            *(entry["cycles"], entry["bound_cycles"], entry["backend"]),
        )
        machine_layers = [layer for layer in result["layers"] if not layer["on_host"]]
        assert result["cycles"] == sum(layer["cycles"] for layer in machine_layers)


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str):
    assert RESULTS[name]["bound_cycles"] == BOUNDS[name]


@pytest.mark.parametrize("name", [name for name in QUICK if name in CYCLES])
def test_no_slower_than_the_table(name: str):
    latencies = tables.LATENCIES
    _, found = predict_cycles(name, PRESETS["default"], latencies)
    for latency, cycles in found.items():
        before = CYCLES[name][tables.place("default", latency)]["cycles"]
        assert cycles <= SLOWER * before, (
            f"{name} takes {cycles} cycles at latency {latency}, the table says {before}; "
            f"`make bench ARGS={name}` measures it again"
        )


def test_pages_show_the_measurements():
    for (path, marker), block in tables.blocks(RESULTS, CYCLES).items():
        (shown,) = tables.pattern(marker).findall(path.read_text(encoding="utf-8"))
        assert shown == block, f"{path.name}, {marker}: run `python tools/measure.py --docs`"


def test_files_are_written_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(measure, "CYCLES", tmp_path / "cycles.json")
    assert measure.load() == ({}, {})
    measure.save(RESULTS, CYCLES)
    assert measure.load() == (RESULTS, CYCLES)
    committed = ROOT / "benchmarks"
    for name in ("results.json", "cycles.json"):
        assert (tmp_path / name).read_text() == (committed / name).read_text()


def test_pages_follow_the_measurements(tmp_path, monkeypatch):
    for name in ("PAGE", "README"):
        copy = tmp_path / name
        text = getattr(tables, name).read_text(encoding="utf-8")
        copy.write_text(text, encoding="utf-8")
        monkeypatch.setattr(tables, name, copy)
    slower = {name: {**record, "cycles": 123_456_789} for name, record in RESULTS.items()}
    tables.write(slower, CYCLES)
    assert tables.README.read_text(encoding="utf-8").count("123,456,789") == len(
        RESULTS.keys() & NETWORKS
    )
    tables.write(RESULTS, CYCLES)
    assert tables.PAGE.read_text() == (ROOT / "docs" / "benchmarks.md").read_text()
    tables.PAGE.write_text("no markers")
    with pytest.raises(ValueError, match="must have one block"):
        tables.write(RESULTS, CYCLES)
