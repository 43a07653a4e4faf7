"""The proofs that take seconds, and that each can fail; see docs/proofs.md."""

import re

import pytest

from . import proofs

QUICK = [proof for proof in proofs.PROOFS.values() if not proof.slow]
#: One broken design of each module.
BROKEN = [
    next((proof, label) for proof in module.PROOFS if not proof.slow for label in proof.breaks)
    for module in proofs.MODULES
]


@pytest.fixture(scope="module")
def page():
    return proofs.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("proof", QUICK, ids=lambda proof: proof.name)
def test_proven(proof, page):
    result = proof.run()
    assert result.passed, result
    line, seconds = proofs.written_rows(page)[proof.name]
    assert line == proofs.row(proof, result.assumes, seconds), "run `python -m tests.proofs`"


@pytest.mark.parametrize(
    ("proof", "label"), BROKEN, ids=lambda value: getattr(value, "name", value)
)
def test_a_broken_design_fails(proof, label):
    result = proof.run_broken(label)
    assert result.failed == [label], result
    assert result.trace is not None


def test_page_lists_every_proof(page):
    rows = proofs.written_rows(page)
    assert list(rows) == list(proofs.PROOFS), "run `python -m tests.proofs`"
    for module in proofs.MODULES:
        assert any(proof.breaks for proof in module.PROOFS)


def test_quick_ones_are_quick(page):
    rows = proofs.written_rows(page)
    assert sum(rows[proof.name][1] for proof in QUICK) <= proofs.MOST_SECONDS


def test_names_that_assumptions_give_exist(page):
    """An assumption names, in parentheses, the proof that makes it true."""
    groups = {name.partition(".")[0] for name in proofs.PROOFS}
    known = groups | set(proofs.PROOFS) | {name.rpartition("_")[0] for name in proofs.PROOFS}
    for line, _ in proofs.written_rows(page).values():
        assumptions = line.split(" | ")[5]
        for names in re.findall(r"\(([a-z._, ]+)[;)]", assumptions):
            assert set(names.split(", ")) <= known, names
