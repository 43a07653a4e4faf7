"""Networks by name: quantized once, and again when the front end or the model changes."""

from __future__ import annotations

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.host import frontend, workloads
from weft.host.errors import ModelError, WeftError

from . import networks


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Counts quantizations, with a cache of its own."""
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))
    calls = []

    def quantize(model, calibration, *, name, multiplier_bits):
        calls.append((name, multiplier_bits, calibration.shape))
        return networks.graph(
            name, source, networks.conv(np.random.default_rng(0), "fc", source, 10)
        )

    source = networks.Tensor("x", 1, 1, 1024, 0.01)
    monkeypatch.setattr(frontend, "quantize", quantize)
    clear = workloads._front_end.cache_clear
    clear()
    yield calls
    clear()


def test_quantized_once_for_each_multiplier(counted):
    first = workloads.load("mlp", PRESETS["default"])
    again = workloads.load("mlp", PRESETS["large"])
    assert counted == [("mlp", 32, (2, 1024))]
    assert first.inputs.shape == (1, 1, 1, 1024)
    assert np.array_equal(first.inputs, again.inputs)
    assert first.inputs.std() > 0
    assert np.array_equal(first.graph.nodes[0].weight, again.graph.nodes[0].weight)
    workloads.load("mlp", PRESETS["tiny"])
    assert counted[1:] == [("mlp", 18, (2, 1024))]


def test_quantized_again_when_the_front_end_changes(counted, monkeypatch):
    workloads.load("mlp", PRESETS["default"])
    key = workloads._front_end()
    monkeypatch.setattr(workloads, "_front_end", lambda: (*key, "changed"))
    workloads.load("mlp", PRESETS["default"])
    assert len(counted) == 2


def test_what_a_graph_depends_on():
    """The front end and the models, but not the compiler."""
    texts = "".join(workloads._front_end())
    for part in ("def quantize(", "class EncoderLayer", "class LeNet5", "def verify("):
        assert part in texts, part
    for part in ("def compile(", "class Emitter", "def predict("):
        assert part not in texts, part


def test_lenet_is_the_trained_one():
    workload = workloads.load("lenet", PRESETS["tiny"])
    assert workload.graph.nodes[0].name == "conv1"
    assert workload.inputs.shape == (1, 32, 32, 1)


def test_batches():
    assert inputs_of("gemm:4x5x6") == (1, 1, 4, 5)
    assert inputs_of("gemm:4x5x6,batch=3") == (3, 1, 4, 5)
    assert inputs_of("lenet,batch=16") == (16, 32, 32, 1)
    for wrong in ("0", "-1", "x", "2,batch=3", "12345"):
        with pytest.raises(WeftError, match="a batch is of 1 to 9999 inputs"):
            workloads.load(f"gemm:4x5x6,batch={wrong}", PRESETS["tiny"])


def inputs_of(name: str) -> tuple[int, ...]:
    workload = workloads.load(name, PRESETS["tiny"])
    assert workload.batch == len(workload.inputs)
    return workload.inputs.shape


def test_shapes_need_neither_cache_nor_torch(monkeypatch):
    monkeypatch.delattr(workloads, "_front_end")
    workload = workloads.load("gemm:4x5x6", PRESETS["tiny"])
    assert workload.graph.name == "gemm:4x5x6"
    assert workload.inputs.shape == (1, 1, 4, 5)


def test_refused(monkeypatch):
    with pytest.raises(WeftError, match=r"unknown network 'resnet'; there are lenet, .*gemm:MxKxN"):
        workloads.load("resnet", PRESETS["tiny"])

    def missing(name):
        raise workloads.PackageNotFoundError(name)

    monkeypatch.setattr(workloads, "version", missing)
    workloads._front_end.cache_clear()
    with pytest.raises(ModelError, match="needs torch"):
        workloads.load("mlp", PRESETS["tiny"])
