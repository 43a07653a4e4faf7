"""The example networks: published sizes, sane activations, and layers that equal torch's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from weft.host import frontend, networks
from weft.host.networks import NETWORKS
from weft.host.program import load

from .torch_models import compare_layers, kinds

torch.set_num_threads(1)

#: Parameters as torchvision counts them, and those of a layer of BERT-base.
PARAMETERS = {
    "lenet": 61_706,
    "mlp": 792_586,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "squeezenet": 1_235_496,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "mobilenetv2": 3_504_872,
    "bert_layer": 7_087_872,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_sizes(name: str) -> None:
    example = NETWORKS[name]
    module, _, function = example.definition.partition(":")
    definition = getattr(import_module(module, networks.__name__), function)
    if example.trained:
        model = definition()
    else:
        with torch.device("meta"):
            model = definition(example.shape)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    x = torch.empty(1, *example.shape, device="cpu" if example.trained else "meta")
    classes = {"lenet": 10, "mlp": 10}.get(name, 1000)
    want = (1, 128, 768) if name == "bert_layer" else (1, classes)
    assert model(x).shape == want


@pytest.mark.parametrize("name", ["mobilenetv2", "bert_layer"])
def test_activations_are_sane_and_repeatable(name: str) -> None:
    example = NETWORKS[name]
    shape = (8, 768) if name == "bert_layer" else (3, 64, 64)
    torch.manual_seed(5)
    model = example.build(shape)
    assert torch.initial_seed() == 5
    assert not model.training
    inputs = example.inputs(3, shape)
    assert inputs.dtype == np.float32
    assert inputs.shape == (3, *shape)
    assert np.abs(inputs).max() < 8
    stds = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _m, _x, y: stds.append(float(y.std())))
    with torch.no_grad():
        first = model(torch.from_numpy(inputs))
        again = example.build(shape)(torch.from_numpy(example.inputs(3, shape)))
    assert torch.equal(first, again)
    assert min(stds) > 0.1
    assert max(stds) < 10


def test_weights_without_norms_keep_the_variance() -> None:
    model = NETWORKS["alexnet"].build((3, 63, 63))
    inputs = torch.from_numpy(NETWORKS["alexnet"].inputs(2, (3, 63, 63)))
    with torch.no_grad():
        assert 0.3 < float(model(inputs).std()) < 10
    assert isinstance(model, nn.Sequential)


#: Smaller inputs, where the published ones take long.
SMALL = {
    "alexnet": (3, 63, 63), "vgg16": (3, 32, 32), "squeezenet": (3, 33, 33),
    "resnet18": (3, 64, 64), "resnet50": (3, 64, 64), "mobilenetv2": (3, 64, 64),
    "bert_layer": (6, 768),
}  # fmt: skip
#: Nodes of each kind.
NODES = {
    "lenet": "conv 2, linear 3, max 2",
    "mlp": "linear 3",
    "alexnet": "conv 5, linear 3, max 3",
    "vgg16": "conv 13, linear 3, max 5",
    "squeezenet": "avg 1, concat 8, conv 26, max 3",
    "resnet18": "avg 1, conv 20, linear 1, max 1",
    "resnet50": "avg 1, conv 53, linear 1, max 1",
    "mobilenetv2": "avg 1, conv 52, linear 1",
    "bert_layer": "host:layer_norm 2, host:softmax 1, linear 6, matmul 2, table:gelu 1",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_equal_torchs(name: str) -> None:
    example = NETWORKS[name]
    shape = SMALL.get(name, example.shape)
    model, inputs = example.build(shape), example.inputs(2, shape)
    program = torch.export.export(model, (torch.from_numpy(inputs[:1]),))
    made = frontend.simulate(program, inputs, name=name)
    compare_layers(made, torch.from_numpy(inputs[:1]))
    counts = Counter(kinds(made.graph).split())
    assert ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts)) == NODES[name]


def test_example_runs(tmp_path) -> None:
    example = Path(__file__).parents[1] / "examples" / "networks.py"
    command = [sys.executable, example, "mlp", tmp_path / "mlp.weft"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"^correlation with float 0\.99\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^│ total .* 791,552 ", done.stdout, re.MULTILINE)
    assert len(load(tmp_path / "mlp.weft").layers) == 3
