"""Single layers from text, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from weft.host import interpreter, shapes
from weft.host.errors import WeftError
from weft.host.ir import Conv


def layer(text: str) -> tuple[Conv, tuple[int, int, int]]:
    graph = shapes.graph(text)
    (node,) = graph.nodes
    assert isinstance(node, Conv)
    assert graph.name == text
    return node, graph.tensors[graph.output].shape


def test_gemm():
    node, out = layer("gemm:5x70x33")
    assert node.weight.shape == (33, 1, 1, 70)
    assert out == (1, 5, 33)
    assert node.kind == "linear"


def test_convolution_with_everything():
    node, out = layer("conv:30x20x8,k=3x5,s=2x1,p=1x2,d=2x1,g=2,n=12")
    assert node.weight.shape == (12, 3, 5, 4)
    assert (node.stride, node.dilation, node.groups) == ((2, 1), (2, 1), 2)
    assert node.padding == (1, 2, 1, 2)
    assert out == (14, 20, 12)


def test_defaults():
    node, out = layer("conv:7x9x3,n=4")
    assert node.weight.shape == (4, 1, 1, 3)
    assert out == (7, 9, 4)
    assert layer("conv:7x9x3,k=3,n=4")[1] == (5, 7, 4)


@pytest.mark.parametrize("text", ["gemm:64x512x32", "conv:12x12x16,k=3,p=1,n=24", "gemm:9x1x4"])
@pytest.mark.parametrize("bits", [18, 32])
def test_data_are_the_same_each_time_and_fill_int8(text: str, bits: int):
    graph = shapes.graph(text, bits)
    x = shapes.inputs(graph, 2)
    assert np.array_equal(x, shapes.inputs(graph, 2))
    out = interpreter.run(graph, x)
    assert np.array_equal(out, interpreter.run(shapes.graph(text, bits), x))
    assert 30 < out.astype(float).std() < 90
    assert np.abs(out).max() >= 100
    (node,) = graph.nodes
    assert isinstance(node, Conv)
    assert node.requant.multiplier.max() < 1 << (bits - 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gemm:3x4", "is no shape; write gemm:MxKxN or conv:"),
        ("gemm:3x4x0", "is no shape"),
        ("gemm:3x4x5,n=2", "is no shape"),
        ("conv:3x4x5", "has no valid n="),
        ("conv:3x4x5,n=", "has no valid n="),
        ("conv:3x4x5,n=2x2", "has no valid n="),
        ("conv:3x4x5,k=0,n=2", "has no valid k="),
        ("conv:3x4x5,k=2x2x2,n=2", "has no valid k="),
        ("conv:3x4x5,q=1,n=2", "unknown option 'q'"),
        ("conv:3x4x5,g=2,n=2", "channels that 2 groups do not divide"),
        ("conv:3x4x5,k=4,n=2", "has no output: its kernel is larger"),
    ],
)
def test_refused(text: str, reason: str):
    assert shapes.is_shape(text)
    with pytest.raises(WeftError, match=r"^'[a-z]") as error:
        shapes.graph(text)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_are_no_shapes():
    assert not shapes.is_shape("lenet")
