"""The runner behind `make verify`: what it lists, runs and returns."""

from __future__ import annotations

import pkgutil
from types import ModuleType

import pytest

from . import campaigns
from .campaigns import __main__ as runner
from .campaigns import programs


def test_every_campaign_is_listed_and_described():
    found = {entry.name for entry in pkgutil.iter_modules(campaigns.__path__)} - {"__main__"}
    assert set(runner.CAMPAIGNS) == found
    for name in runner.CAMPAIGNS:
        assert callable(runner.module(name).main)
        assert len(runner.description(name)) > 20


def test_all_run_in_order_and_failures_are_counted(monkeypatch, capsys):
    calls: list[tuple[str, tuple[str, ...]]] = []

    def campaign(name: str) -> ModuleType:
        def main(args):
            calls.append((name, tuple(args)))
            if name == "crashes":
                raise RuntimeError("no luck")
            return {"passes": 0, "fails": 3}[name]

        out = ModuleType(f"tests.campaigns.{name}", f"What {name} does.")
        out.main = main  # pyright: ignore[reportAttributeAccessIssue]
        return out

    monkeypatch.setattr(runner, "CAMPAIGNS", ("fails", "passes", "crashes"))
    monkeypatch.setattr(runner, "module", campaign)
    assert runner.main([]) == 2
    assert calls == [("fails", ()), ("passes", ()), ("crashes", ())]
    text = capsys.readouterr()
    assert "fails: 3 failures" in text.out
    assert "passes: passed" in text.out
    assert "failed: fails, crashes" in text.out
    assert "no luck" in text.err
    assert runner.main(["passes", "--count", "5"]) == 0
    assert calls[-1] == ("passes", ("--count", "5"))
    with pytest.raises(SystemExit):
        runner.main(["unheard-of"])


def test_batches_keep_to_one_machine():
    cut = list(programs.batches(30, 100))
    assert [seed for batch in cut for seed in batch] == list(range(30, 130))
    for batch in cut:
        assert len({programs.machine(seed) for seed in batch}) == 1
    every = {programs.machine(seed) for seed in range(0, 16 * programs.BATCH, programs.BATCH)}
    assert len(every) == len(programs.CONFIGS) * len(programs.LATENCIES)


def test_failing_seeds_are_named(monkeypatch, capsys):
    monkeypatch.setattr(programs, "CONFIGS", ("tiny",))
    assert programs.main(["--first", "49", "--count", "3", "--jobs", "1"]) == 0
    assert "3 programs from seed 49" in capsys.readouterr().out
    monkeypatch.setattr(
        programs.Bench, "differences", lambda self, seed: ["wrong"] if seed == 50 else []
    )
    assert programs.main(["--first", "49", "--count", "3", "--jobs", "1"]) == 1
    assert "FAILED_ONCE: 50:" in capsys.readouterr().out
