"""`weft profile`: operations, working sets and time of each layer, and their picture."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Unit
from weft.host import plot
from weft.host.cli import main
from weft.host.errors import WeftError
from weft.host.profile import Profile, profile

TINY = PRESETS["tiny"]
CONV = "conv:9x9x6,k=3,s=1,p=1,n=10"


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(CONV, TINY, latency=20)


def weft(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["profile", *arguments])
    text = capsys.readouterr()
    assert isinstance(end.value.code, int) or end.value.code is None
    return end.value.code or 0, text.out, text.err


def test_working_set_of_a_batch(found: Profile):
    several = profile(f"{CONV},batch=3", TINY, latency=20)
    (one,), (layer,) = found.layers, several.layers
    assert (layer.macs, layer.weight_bytes) == (3 * one.macs, one.weight_bytes)
    assert (layer.input_bytes, layer.output_bytes) == (3 * one.input_bytes, 3 * one.output_bytes)
    assert one.cycles < several.cycles == layer.cycles < 3 * one.cycles


def test_working_set(found: Profile):
    (layer,) = found.layers
    assert (layer.name, layer.kind, layer.on_host) == ("conv", "conv", False)
    assert layer.input_bytes == 9 * 9 * 6
    assert layer.weight_bytes == 9 * 6 * 10
    assert layer.output_bytes == 9 * 9 * 10
    assert layer.macs == 9 * 9 * 10 * 9 * 6
    assert layer.cycles == found.cycles == found.report.predictions[0].cycles
    assert 0 < sum(layer.stalls.values()) < layer.cycles


def test_busy_is_what_the_counters_say(found: Profile):
    (prediction,) = found.report.predictions
    spans = plot.busy(found)
    account = prediction.account()
    for unit in Unit:
        first, length = spans[unit].T
        assert (first[1:] >= first[:-1] + length[:-1]).all()
        assert length.sum() == account[unit].busy + account[unit].memory


def test_near_spans_are_one():
    spans = np.array([[0, 5], [7, 3], [20, 1], [40, 2]])
    assert plot.merge(spans, 0) == [(0, 5), (7, 3), (20, 1), (40, 2)]
    assert plot.merge(spans, 2) == [(0, 10), (20, 1), (40, 2)]
    assert plot.merge(spans, 19) == [(0, 42)]


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_picture(found: Profile, tmp_path, suffix: str, start: bytes):
    path = tmp_path / f"time{suffix}"
    plot.save(found, path)
    assert path.read_bytes().startswith(start)


def test_refused(found: Profile, tmp_path, capsys, monkeypatch):
    with pytest.raises(WeftError, match=r"must end in \.svg, \.png, \.pdf"):
        plot.save(found, tmp_path / "time.txt")
    with pytest.raises(WeftError, match=r"cannot write .*: No such file"):
        plot.save(found, tmp_path / "no" / "time.svg")
    code, out, err = weft(capsys, CONV, "--plot", str(tmp_path / "no" / "time.svg"))
    assert (code, out) == (1, "")
    assert "there is no directory" in err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(WeftError, match="pictures need matplotlib: pip install"):
        plot.save(found, tmp_path / "time.svg")


def test_command(capsys, tmp_path):
    path = tmp_path / "time.svg"
    code, out, err = weft(capsys, CONV, "-c", "tiny", "--json", "--plot", str(path))
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["cycles"] == sum(layer["cycles"] for layer in values["layers"])
    assert values["layers"][0]["weight_bytes"] == 540
    assert path.stat().st_size > 1000
    code, out, _ = weft(capsys, CONV, "-c", "tiny")
    assert code == 0
    assert f"{values['cycles']:,}" in out
    assert "memory: latency 50, 8 bytes a cycle" in out
