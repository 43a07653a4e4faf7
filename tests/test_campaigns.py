"""The runner behind `make verify`: what it lists, runs and returns."""

from __future__ import annotations

import json
import pkgutil
from types import ModuleType

import pytest
from weft.host import shapes

from . import campaigns, results
from .campaigns import __main__ as runner
from .campaigns import networks, programs, scalesim


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
    machines = [programs.machine(programs.BATCH * batch) for batch in range(120)]
    assert len({*machines}) == 5 * 4 * 4
    assert sum(stalls == "none" for *_, stalls in machines) == 60


def test_failing_seeds_are_named(monkeypatch, capsys):
    monkeypatch.setattr(programs, "CONFIGS", ("tiny",))
    assert programs.main(["--first", "49", "--count", "3", "--jobs", "1"]) == 0
    assert "3 programs from seed 49" in capsys.readouterr().out
    monkeypatch.setattr(
        programs.Bench, "differences", lambda self, seed, **_: ["wrong"] if seed == 50 else []
    )
    assert programs.main(["--first", "49", "--count", "3", "--jobs", "1"]) == 1
    assert "FAILED_ONCE: 50:" in capsys.readouterr().out


def test_a_slower_network_is_a_failure(monkeypatch, capsys, tmp_path):
    text = "conv:6x6x3,k=3,n=5"
    options = [text, "--config", "tiny", "--backend", "model"]
    table = tmp_path / "cycles.json"
    monkeypatch.setattr(networks, "CYCLES", table)
    table.write_text("{}")
    assert networks.main(options) == 0
    cycles = int(capsys.readouterr().out.split(": ")[1].split()[0])
    for before, wrong in ((cycles, 0), (cycles - 1, 0), (cycles // 2, 1)):
        table.write_text(json.dumps({text: {"tiny, latency 50": {"cycles": before}}}))
        assert networks.main(options) == wrong
    assert f"takes {cycles} cycles, the table says {cycles // 2}" in capsys.readouterr().out


def test_speeds_of_networks_are_recorded(monkeypatch, tmp_path):
    """Of those that ran; what is known of others stays."""
    monkeypatch.setattr(results, "FILE", tmp_path / "r.json")
    results.FILE.write_text("{}")
    speed = {"cycles": 7138, "rtl_seconds": 0.04, "model_seconds": 0.004}
    networks.record({"resnet18": speed, "lenet": speed}, 1)
    networks.record({"mlp": speed}, 0)
    (found,) = json.loads(results.FILE.read_text()).values()
    assert found["failures"] == 0
    assert list(found["speeds"]) == ["lenet", "mlp", "resnet18"]
    with pytest.raises(SystemExit):
        networks.main(["lenet", "--config", "tiny", "--write"])


def test_a_difference_from_scale_sim_is_a_failure(monkeypatch, capsys):
    """The comparison, without the package: what it reports for each layer decides."""
    monkeypatch.setattr(scalesim, "simulate", lambda graphs, rows, cols: [281 for _ in graphs])
    layers = ["gemm:1x84x10", "gemm:2x84x10"]
    (text,) = scalesim.differences(layers, 16, 16)
    assert text == "gemm:2x84x10 on 16×16: closed form 287, package 281"
    monkeypatch.setattr(scalesim, "LAYERS", ())
    monkeypatch.setattr(scalesim, "ARRAYS", ((16, 16),))
    assert scalesim.main(["--count", "3"]) == 3
    assert "3 layers on 1 arrays" in capsys.readouterr().out


def test_topologies_of_scale_sim():
    lines = [
        scalesim._topology("L", shapes.graph(text))
        for text in ("conv:14x16x8,k=3x5,s=2,p=1,n=6", "conv:9x9x4,k=3,g=4,n=4", "gemm:7x30x5")
    ]
    assert lines == ["L,15,17,3,5,8,6,2,\n", "DPL,9,9,3,3,4,1,1,\n", "L,1,7,1,1,30,5,1,\n"]
