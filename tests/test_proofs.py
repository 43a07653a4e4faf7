"""The proofs that take seconds, and that each can fail; see docs/proofs.md."""

import pytest

from . import proofs

QUICK = [proof for proof in proofs.PROOFS.values() if not proof.slow]


@pytest.mark.parametrize("proof", QUICK, ids=lambda proof: proof.name)
def test_proven(proof):
    result = proof.run()
    assert result.passed, result


@pytest.mark.parametrize(
    ("proof", "label"),
    [(proof, next(iter(proof.breaks))) for proof in QUICK if proof.breaks],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_broken_design_fails(proof, label):
    result = proof.run_broken(label)
    assert result.failed == [label], result
    assert result.trace is not None


def test_page_is_current():
    text = proofs.PAGE.read_text(encoding="utf-8")
    seconds = proofs.written_seconds(text)
    assert seconds.keys() == proofs.PROOFS.keys(), "run `python -m tests.proofs`"
    assert text == proofs.page(seconds), "run `python -m tests.proofs`"
