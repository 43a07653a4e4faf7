"""The reference bound: its totals on published networks, and what goes into it."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from weft.hdl.config import PRESETS
from weft.host import networks as examples
from weft.host import shapes
from weft.host.bound import Product, bound_cycles, compulsory_bytes, macs, product
from weft.host.ir import Conv, Graph, MatMul, Requant, Residual, Tensor
from weft.host.networks import NETWORKS

from . import networks

DEFAULT = PRESETS["default"]
NUMBERS = Requant(*(np.ones(1, np.int64) for _ in range(3)))


def traced(name: str) -> Graph:
    """The convolutions and linear layers of an example network, by their shapes alone."""
    example = NETWORKS[name]
    module, _, function = example.definition.partition(":")
    tensors, nodes = {}, []

    def add(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        sides = []
        for side, value in (("x", inputs[0]), ("y", output)):
            if isinstance(layer, nn.Conv2d):
                channels, height, width = value.shape[1:]
            else:
                channels, height, width = value.shape[-1], 1, value[0, ..., 0].numel()
            sides.append(Tensor(f"{side}{len(nodes)}", height, width, channels, 1.0))
            tensors[sides[-1].name] = sides[-1]
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        shape = layer.weight.shape
        kernel = shape[2:] if isinstance(layer, nn.Conv2d) else (1, 1)
        weight = np.broadcast_to(np.int8(1), (shape[0], *kernel, shape[1]))
        groups = getattr(layer, "groups", 1)
        nodes.append(
            Conv(str(len(nodes)), sides[0].name, sides[1].name, weight, NUMBERS, groups=groups)
        )

    with torch.device("meta"):
        definition = getattr(import_module(module, examples.__name__), function)
        model = definition(example.shape)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(add)
        model.eval()(torch.empty(1, *example.shape))
    return Graph(name, "x0", nodes[-1].output, tensors, tuple(nodes))


def bounds(graph: Graph) -> list[int]:
    """Of each convolution and linear layer."""
    return [bound_cycles([node], graph, DEFAULT) for node in graph.nodes if isinstance(node, Conv)]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("alexnet", 6.23),
        ("resnet18", 7.16),
        ("resnet50", 16.14),
        ("mobilenetv2", 2.55),
    ],
)
def test_totals_of_published_networks(name: str, millions: float):
    assert sum(bounds(traced(name))) / 1e6 == pytest.approx(millions, abs=0.005)


def test_resnet18_without_what_others_leave_to_their_host():
    """Without the first convolution 6.66 M cycles, without the classifier too 6.62 M."""
    first, *others, last = bounds(traced("resnet18"))
    assert first + sum(others) + last == 7_157_899
    assert (sum(others) + last) / 1e6 == pytest.approx(6.66, abs=0.005)
    assert sum(others) / 1e6 == pytest.approx(6.62, abs=0.005)


def test_total_of_lenet():
    assert sum(bounds(networks.lenet())) == 6787


def test_total_of_a_layer_of_bert():
    """Its linear layers, and two products of activations in each of 12 heads."""
    heads = [Product(12, 128, 64, 128), Product(12, 128, 128, 64)]
    cycles = sum(bounds(traced("bert_layer"))) + sum(p.cycles(16, 16) for p in heads)
    assert cycles / 1e6 == pytest.approx(3.64, abs=0.005)


def test_total_of_a_gemm():
    graph = shapes.graph("gemm:128x256x256")
    assert bounds(graph) == [32_799]
    assert macs(graph.nodes[0], graph) == 128 * 256 * 256


def test_the_bus_bounds_what_is_read_once():
    graph = shapes.graph("gemm:1x1024x1024")
    config = PRESETS["small"]
    moved = 1024 * 1024 + 2 * 1024
    assert compulsory_bytes(graph.nodes, graph) == moved
    assert bound_cycles(graph.nodes, graph, config) == moved // 8
    assert bound_cycles(graph.nodes, graph, config, beat_interval=3) == 3 * moved // 8


def test_depthwise_lies_on_diagonals():
    graph = shapes.graph("conv:14x14x40,k=3,p=1,g=40,n=40")
    found = product(graph.nodes[0], graph)
    assert found == Product(40, 196, 9, 1, depthwise=True)
    assert found.macs == 40 * 196 * 9
    assert found.cycles(16, 16) == 9 * 3 * 196 + 31


def test_groups_run_one_after_the_other():
    graph = shapes.graph("conv:14x14x40,k=3,p=1,g=2,n=40")
    found = product(graph.nodes[0], graph)
    assert found == Product(2, 196, 180, 20)
    assert found.cycles(16, 16) == 2 * 12 * 2 * 196 + 31


def test_products_of_activations():
    tensors = {
        t.name: t
        for t in (
            Tensor("q", 1, 10, 96, 1.0), Tensor("k", 1, 20, 96, 1.0), Tensor("v", 1, 20, 60, 1.0),
            Tensor("s", 3, 10, 20, 1.0), Tensor("c", 1, 10, 60, 1.0),
        )
    }  # fmt: skip
    scores = MatMul("scores", "q", "k", "s", NUMBERS, 3, True)
    context = MatMul("context", "s", "v", "c", NUMBERS, 3, False)
    graph = Graph("attention", "q", "c", tensors, (scores, context))
    assert product(scores, graph) == Product(3, 10, 32, 20)
    assert product(context, graph) == Product(3, 10, 20, 20)


def test_residuals_and_what_stays_inside_are_not_compulsory():
    source = Tensor("x", 8, 8, 4, 1.0)
    rng = np.random.default_rng(0)
    node, out = networks.conv(rng, "conv", source, 16)
    pool, pooled = networks.maxpool("pool", out, 2, 2)
    graph = networks.graph("net", source, (node, out), (pool, pooled))
    assert compulsory_bytes([node, pool], graph) == 8 * 8 * 4 + 4 * 16 + 4 * 4 * 16
    assert compulsory_bytes([pool], graph) == 8 * 8 * 16 + 4 * 4 * 16
    object.__setattr__(node, "residual", Residual("other", 1, 1, 0))
    assert compulsory_bytes([node], graph) == 8 * 8 * 4 + 4 * 16 + 8 * 8 * 16
    assert bound_cycles([], graph, DEFAULT) == 0
