"""`weft bench`: every number is what it says, and adds up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import INSTRUCTION_BYTES, Opcode
from weft.host import bench, compiler, interpreter, norms, peers, shapes, workloads
from weft.host.bound import Product
from weft.host.cli import main
from weft.host.errors import WeftError
from weft.host.timing.machine import predict

from . import networks

TINY, DEFAULT = PRESETS["tiny"], PRESETS["default"]
CONV = "conv:9x9x6,k=3,s=1,p=1,n=10"
KEYS = {
    "network", "config", "latency", "batch", "bus_bytes", "macs", "bound_cycles", "cycles",
    "ratio", "utilization", "mismatches", "seconds", "layers",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def random_lenet():
    """LeNet needs no torch here."""
    with pytest.MonkeyPatch.context() as patch:
        honest = workloads.load

        def load(name, config):
            network, _, count = name.partition(",batch=")
            if network != "lenet":
                return honest(name, config)
            graph = networks.lenet(config.multiplier_bits)
            return workloads.Workload(graph, shapes.inputs(graph, int(count or 1)))

        patch.setattr(workloads, "load", load)
        yield


def test_layers_add_up():
    result = bench.measure("lenet", DEFAULT, backend="model")
    assert result.mismatches == 0
    assert result.as_predicted
    for field in ("macs", "bound_cycles", "cycles", "moved_bytes", "compulsory_bytes"):
        assert getattr(result, field) == sum(getattr(layer, field) for layer in result.layers)
    assert result.bound_cycles == 6787
    assert result.ratio == result.cycles / 6787
    assert result.utilization == pytest.approx(416_520 / 256 / result.cycles)
    assert result.ideal_cycles == -(-416_520 // 256)
    assert min(result.device_seconds, result.model_seconds) > 0
    for layer in result.layers:
        assert 0 < sum(layer.stalls.values()) < layer.cycles
        assert layer.ratio == layer.cycles / layer.bound_cycles
    assert result.stalls["weights"] == sum(layer.stalls["weights"] for layer in result.layers[2:])


@pytest.mark.parametrize("config", ["tiny", "default", "large"])
def test_moved_bytes_are_the_bus_s(config: str):
    """All beats that the counters see, and no others; FETCH may read a part of the last beat."""
    machine = PRESETS[config]
    result = bench.measure("lenet", machine, backend="model")
    program = compiler.compile(workloads.load("lenet", machine).graph, machine)
    counters = predict(machine, program.code).counters
    beats = counters["READ_BEATS"] + counters["WRITE_BEATS"]
    assert 0 <= beats * machine.bus_bytes - result.moved_bytes < machine.bus_bytes
    instructions = len(program.code) // INSTRUCTION_BYTES
    assert sum(layer.instructions for layer in program.layers) == instructions
    stored = sum(
        i.rows * -(-i.length // machine.bus_bytes) * machine.bus_bytes
        for i in program.instructions()
        if i.opcode == Opcode.STORE
    )
    assert sum(layer.written_bytes for layer in program.layers) == stored > 0


def test_a_batch_is_measured_as_a_whole():
    one, four = (bench.measure(n, DEFAULT, backend="model") for n in ("lenet", "lenet,batch=4"))
    assert four.mismatches == 0
    assert four.as_predicted
    assert four.macs == sum(layer.macs for layer in four.layers) == 4 * one.macs
    assert one.bound_cycles < four.bound_cycles < 4 * one.bound_cycles
    assert one.cycles < four.cycles < 4 * one.cycles
    bound, cycles = bench.predict_cycles("lenet,batch=4", DEFAULT, [50])
    assert (bound, cycles) == (four.bound_cycles, {50: four.cycles})
    assert four.utilization == pytest.approx(4 * 416_520 / 256 / four.cycles)


def test_rtl_and_model_agree():
    rtl, model = (bench.measure(CONV, TINY, backend=b, latency=13) for b in ("verilator", "model"))
    assert rtl.mismatches == model.mismatches == 0
    assert rtl.as_predicted
    assert rtl.layers == model.layers
    assert (rtl.cycles, rtl.stalls) == (model.cycles, model.stalls)


def test_what_the_host_does_is_timed(monkeypatch):
    """Of one softmax between two runs of the machine."""
    x, y = networks.Tensor("x", 1, 8, 8, 0.1), networks.Tensor("y", 1, 8, 8, 1 / 128)
    numbers = np.random.default_rng(0)
    layer, out = networks.conv(numbers, "layer", y, 8, TINY.multiplier_bits)
    graph = networks.graph("g", x, (norms.softmax("soft", x, y), y), (layer, out))
    load = workloads.Workload(graph, shapes.inputs(graph, 1))
    monkeypatch.setattr(workloads, "load", lambda name, config: load)
    result = bench.measure("soft", TINY, backend="model")
    assert result.mismatches == 0
    assert 0 < result.host_seconds < 1


def test_wrong_bytes_and_cycles_are_failures(monkeypatch):
    honest = interpreter.run_all

    def lying(graph, x):
        values = honest(graph, x)
        return values | {graph.output: values[graph.output] ^ 1}

    with monkeypatch.context() as patch:
        patch.setattr(interpreter, "run_all", lying)
        result = bench.measure(CONV, TINY, backend="model")
    size = 9 * 9 * 10
    assert result.mismatches == 2 * size  # as the program's output, and as the layer's
    assert result.layers[0].mismatches == size
    assert "bytes differ from the reference" in result.failure
    with monkeypatch.context() as patch:
        patch.setattr(bench.Report, "as_predicted", False)
        result = bench.measure(CONV, TINY, backend="model")
    assert "counters differ" in result.failure
    assert not bench.measure(CONV, TINY, backend="model").failure


def test_a_slow_memory_bounds_more():
    fast, slow = (
        bench.measure("gemm:1x256x64", TINY, backend="model", beat_interval=n) for n in (1, 8)
    )
    assert slow.bound_cycles == 8 * -(-fast.compulsory_bytes // TINY.bus_bytes)
    assert slow.cycles > slow.bound_cycles > fast.cycles


def test_backends_without_cycles_are_refused():
    with pytest.raises(WeftError, match="golden does not count cycles; take verilator"):
        bench.measure(CONV, TINY, backend="golden")


# -- peers -------------------------------------------------------------------------------------


def test_scale_sim_s_closed_form():
    layer = Product(1, 196, 576, 64)
    assert peers.scale_sim_cycles([layer], 16, 16) == 36 * 4 * (196 + 46) - 1
    assert peers.scale_sim_cycles([layer, layer], 8, 32) == 2 * (72 * 2 * (196 + 46) - 1)
    assert peers.scale_sim_cycles([Product(3, 10, 20, 5)], 16, 16) == 3 * (2 * (10 + 46) - 1)


def test_published_numbers_are_of_their_array_only():
    assert {p.cycles for p in peers.published("resnet18", 16, 16)} == {7_729_601}
    assert {p.cycles for p in peers.published("resnet50", 16, 16)} == {22_012_906, 38_427_339}
    assert peers.published("resnet50", 32, 32) == ()
    assert peers.published("lenet", 16, 16) == ()
    for entry in peers.PUBLISHED:
        assert entry.peer.memory
        assert entry.peer.source
        assert entry.scope


def test_peers_beside_a_gemm():
    result = bench.measure("gemm:128x256x256", DEFAULT, backend="model")
    scale_sim, cgra4ml = result.peers
    assert scale_sim.cycles == 16 * 16 * (128 + 46) - 1 == result.layers[0].scale_sim_cycles
    assert cgra4ml.cycles == 33_267
    assert scale_sim.ours == cgra4ml.ours == result.cycles


def test_layers_that_a_peer_skips_are_not_counted(monkeypatch):
    entry = peers.Published(peers.SCALE_SIM, "lenet", 5, "middle", skipped=(1, 2))
    monkeypatch.setattr(peers, "PUBLISHED", (entry,))
    result = bench.measure("lenet", DEFAULT, backend="model")
    assert result.peers[1].ours == sum(layer.cycles for layer in result.layers[1:3])


# -- command -----------------------------------------------------------------------------------


def weft(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["bench", *arguments])
    text = capsys.readouterr()
    assert isinstance(end.value.code, int) or end.value.code is None
    return end.value.code or 0, text.out, text.err


def test_json_has_a_line_for_each_network(capsys):
    code, out, err = weft(capsys, "lenet", CONV, "-b", "model", "-c", "tiny", "--json")
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert first.keys() == second.keys() == KEYS
    assert (first["network"], second["network"]) == ("lenet", CONV)
    assert (first["config"], first["latency"], first["bus_bytes"]) == ("tiny", 50, 8)
    assert len(first["layers"]) == 5
    assert first["layers"][0].keys() >= {"name", "macs", "cycles", "stalls", "moved_bytes"}
    assert first["layers"][0].keys() >= {"bound_cycles", "compulsory_bytes", "scale_sim_cycles"}


def test_batch(capsys):
    """All numbers are those of the images together; weights pass over the bus once."""
    code, out, _ = weft(capsys, "lenet", "-b", "model", "-c", "small", "--batch", "3", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["batch"], found["macs"], found["mismatches"]) == (3, 3 * 416_520, 0)
    assert 1 <= found["ratio"] < 1.02
    alone = bench.measure("lenet", PRESETS["small"], backend="model")
    for one, three in zip(alone.layers, found["layers"], strict=True):
        image_by_image = one.kind != "linear"
        assert (three["bound_cycles"] > 2.9 * one.bound_cycles) == image_by_image
        assert (three["bound_cycles"] < 1.1 * one.bound_cycles) == (not image_by_image)
    code, out, _ = weft(capsys, "lenet", "-b", "model", "-c", "small", "--batch", "3")
    assert f"{found['cycles'] / 3:,.0f} cycles an input" in out


def test_table_names_every_memory(capsys):
    code, out, _ = weft(capsys, "gemm:128x256x256", "-b", "model", "--latency", "7")
    assert code == 0
    assert "memory: latency 7, 16 bytes a cycle" in out
    assert "0 mismatching bytes" in out
    for line in out.splitlines():
        if line.startswith(("SCALE-Sim", "cgra4ml")):
            assert "memory: " in line
    assert "ideal memory" in out.split("gemm ")[0]
    assert "33,267" in out


def test_one_that_fails_does_not_stop_the_others(capsys):
    code, out, err = weft(capsys, "resnet1", CONV, "-b", "model", "-c", "tiny", "--json")
    assert code == 1
    assert json.loads(out)["network"] == CONV
    assert "unknown network 'resnet1'; there are lenet, mlp" in err
    assert err.count("\n") == 1


def test_failures_are_told_after_the_report(capsys, monkeypatch):
    monkeypatch.setattr(bench.Result, "failure", "it went wrong")
    code, out, err = weft(capsys, CONV, "-b", "model", "-c", "tiny", "--json")
    assert (code, err) == (1, "weft: it went wrong\n")
    assert np.isfinite(json.loads(out)["ratio"])
