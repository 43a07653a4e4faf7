"""The comparison of layers with torch's notices a layer that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from weft.host import frontend
from weft.host.ir import Conv
from weft.host.networks import NETWORKS

from .torch_models import compare

LENET = NETWORKS["lenet"]
IMAGES = LENET.inputs(2)


@pytest.fixture(scope="module")
def made() -> frontend.Quantized:
    program = torch.export.export(LENET.build(), (torch.from_numpy(IMAGES[:1]),))
    return frontend.simulate(program, IMAGES, name="lenet")


def half(node: Conv) -> Conv:
    """Without the half that rounds to the nearest."""
    numbers = node.requant
    unit = 2.0**numbers.shift / numbers.multiplier
    return replace(node, requant=replace(numbers, bias=numbers.bias - (unit / 2).astype(int)))


def zero_point(node: Conv) -> Conv:
    """Two levels too many; one is what may be."""
    return replace(node, requant=replace(node.requant, zero_point=node.requant.zero_point + 2))


def multiplier(node: Conv) -> Conv:
    """Scales 3 % too large."""
    numbers = node.requant
    return replace(node, requant=replace(numbers, multiplier=numbers.multiplier * 103 // 100))


def weight(node: Conv) -> Conv:
    """The largest weight of every channel with the other sign; ReLU hides some channels."""
    values = node.weight.copy()
    for kernel in values:
        kernel.flat[np.abs(kernel.astype(int)).argmax()] *= -1
    return replace(node, weight=values)


@pytest.mark.parametrize(
    "mistake", [half, zero_point, multiplier, weight], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("place", range(2))
def test_a_mistake_is_noticed(made, mistake: Callable[[Conv], Conv], place: int):
    """In the first convolution or the second one, on the inputs that torch's has."""
    convs = [node for node in made.graph.nodes if isinstance(node, Conv)]
    wrong = mistake(convs[place])
    nodes = tuple(wrong if node is convs[place] else node for node in made.graph.nodes)
    with pytest.raises(AssertionError, match=f"^{wrong.name}: "):
        compare(replace(made, graph=replace(made.graph, nodes=nodes)), torch.from_numpy(IMAGES))


def test_without_one_all_layers_are_seen(made):
    found = compare(made, torch.from_numpy(IMAGES))
    assert (found.nodes, found.unseen) == (7, 0)
    assert found.levels == sum(
        2 * int(np.prod(made.graph.tensors[node.output].shape)) for node in made.graph.nodes
    )
