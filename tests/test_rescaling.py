"""Requantization against recorded results of the TOSA reference model; `make verify` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from .campaigns import tosa
from .rescaling import MISTAKES, SHIFTS, Case, cases, defined, differences, interpreted, load

RECORDED, RESULTS = load(tosa.RECORDED)


def test_the_sample_has_what_matters():
    """Every shift TOSA defines, ties, INT32's extremes, both of TOSA's widths, one for all."""
    shifts = np.concatenate([case.shift for case in RECORDED])
    assert set(shifts.tolist()) == set(SHIFTS.tolist())
    assert sum(case.ties for case in RECORDED) > 500
    sums = np.concatenate([(case.acc.astype(np.int64) + case.bias).ravel() for case in RECORDED])
    assert sums.min() == -(1 << 31)
    assert sums.max() == (1 << 31) - 1
    assert {case.multiplier.dtype.name for case in RECORDED} == {"int16", "int32"}
    assert {len(case.multiplier) for case in RECORDED} == {1, len(SHIFTS)}
    assert sum(case.acc.size for case in RECORDED) > 10_000


@pytest.mark.parametrize("ours", [interpreted, defined], ids=lambda f: f.__name__)
def test_equals_tosa(ours):
    assert differences(RESULTS, RECORDED, ours) == 0


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(name):
    assert differences(RESULTS, RECORDED, MISTAKES[name]) > 10


def test_every_width_is_among_the_cases():
    found = list(cases(0, values=8))
    for bits in range(8, 33):
        assert any(case.multiplier.max() == (1 << (bits - 1)) - 1 for case in found), bits


def test_a_difference_fails_the_campaign(monkeypatch, capsys):
    """One value that differs in one seed; the model itself is not needed for that."""

    def reference(found: list[Case], python) -> list[np.ndarray]:
        results = [interpreted(case) for case in found]
        results[0][0, 0] ^= 1
        return results

    monkeypatch.setattr(tosa, "environment", Path)
    monkeypatch.setattr(tosa, "reference", reference)
    assert tosa.main(["--count", "1"]) == 2  # the interpreter and the definition
    assert "1 values of `interpreted` differ" in capsys.readouterr().out


def test_without_a_registry_the_campaign_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert tosa.main([]) == 1
    text = capsys.readouterr().out
    assert text.startswith("the TOSA reference model (tosa-tools==")
    assert "is not installed and cannot be now: ERROR: No matching distribution" in text
    assert text.endswith("run this campaign once where pip finds packages\n")
    assert text.count("\n") == 1


def test_a_model_that_fails_is_reported():
    """Here: a Python without the model."""
    with pytest.raises(tosa.OracleError, match="failed: ModuleNotFoundError: No module named 't"):
        tosa.reference(RECORDED[:1], Path(sys.executable))
