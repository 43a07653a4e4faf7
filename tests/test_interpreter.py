"""The integer interpreter against torch, against the scalar numerics, and against hand sums."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weft.hdl import numerics
from weft.host import interpreter, verify
from weft.host.errors import ModelError, VerifyError
from weft.host.ir import Conv, Graph, Pool, Requant, Residual, Tensor
from weft.host.rescale import parameters


def requant(channels: int, rng: np.random.Generator, zero_point: int = 0) -> Requant:
    return Requant(
        bias=rng.integers(-(1 << 12), 1 << 12, channels),
        multiplier=rng.integers(1 << 30, 1 << 31, channels),
        shift=rng.integers(36, 42, channels),
        zero_point=zero_point,
    )


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv, np.ndarray, int]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depth, per = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    size = [dilation[i] * (kernel[i] - 1) + 1 + draw(st.integers(0, 4)) for i in (0, 1)]
    node = Conv(
        name="c",
        input="x",
        output="y",
        weight=rng.integers(-127, 128, (groups * per, *kernel, depth)).astype(np.int8),
        requant=requant(groups * per, rng),
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    x = rng.integers(-128, 128, (2, *size, groups * depth)).astype(np.int8)
    return node, x, draw(st.sampled_from([0, -128, 5]))


@settings(max_examples=80, deadline=None)
@given(convolutions())
def test_convolution_equals_torch(case: tuple[Conv, np.ndarray, int]) -> None:
    node, x, zero = case
    top, left, bottom, right = node.padding
    image = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    image = torch.nn.functional.pad(image, (left, right, top, bottom), value=float(zero))
    want = torch.nn.functional.conv2d(
        image,
        torch.from_numpy(node.weight).double().permute(0, 3, 1, 2),
        stride=node.stride,
        dilation=node.dilation,
        groups=node.groups,
    )
    got = interpreter.accumulate(node, x, zero)
    assert got.dtype == np.int32
    assert np.array_equal(got, want.permute(0, 2, 3, 1).numpy().astype(np.int64))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans(), st.integers(8, 32))
def test_requantize_equals_the_scalar_definition(seed: int, residual: bool, bits: int) -> None:
    rng = np.random.default_rng(seed)
    channels = 5
    numbers = Requant(
        bias=rng.integers(-(1 << 30), 1 << 30, channels),
        multiplier=rng.integers(0, 1 << (bits - 1), channels),
        shift=rng.integers(18, 48, channels),
        zero_point=int(rng.integers(-128, 128)),
        low=int(rng.integers(-128, 0)),
        high=int(rng.integers(0, 128)),
    )
    operand = other = None
    if residual:
        multiplier, zero = int(rng.integers(-(1 << 17), 1 << 17)), int(rng.integers(-128, 128))
        operand = Residual("r", multiplier, 18, zero)
        other = rng.integers(-128, 128, (40, channels)).astype(np.int8)
    width = int(rng.integers(8, 31))
    acc = rng.integers(-(1 << width), 1 << width, (40, channels))
    got = interpreter.requantize(acc, numbers, operand, other)
    for channel, entry in enumerate(parameters(numbers, operand)):
        column = None if other is None else other[:, channel]
        want = numerics.requantize(acc[:, channel], entry, column)
        assert np.array_equal(got[:, channel], want)


@pytest.mark.parametrize(("mode", "value"), [("max", -7), ("avg", -9)])
def test_pooling_reads_its_fill_outside(mode: str, value: int) -> None:
    """One pixel of −7 in padding: max sees −128 around it, average sees the zero point −10."""
    numbers = None
    if mode == "avg":  # (Σx − 9 · −10) / 3 − 10: three times the mean's deviation, rounded
        numbers = Requant(np.array([90]), np.array([1 << 30]), np.array([32]), -10)
    tensors = {n: Tensor(n, 1, 1, 1, 1.0, -10) for n in "xy"}
    node = Pool("p", "x", "y", mode, (3, 3), (1, 1), (1, 1, 1, 1), numbers)
    graph = Graph("g", "x", "y", tensors, (node,))
    verify.verify(graph)
    assert interpreter.run(graph, np.full((1, 1, 1, 1), -7, np.int8)).item() == value


def test_quantize_input_rounds_and_clamps() -> None:
    graph = Graph("g", "x", "x", {"x": Tensor("x", 1, 3, 2, 0.5, 4)})
    images = np.array([[[[0.0, 0.25, 0.75]], [[100.0, -100.0, -0.3]]]])
    want = [[[[4, 127], [4, -128], [6, 3]]]]
    assert interpreter.quantize_input(graph, images).tolist() == want
    with pytest.raises(ModelError, match=r"wants images of shape \[N, 2, 1, 3\], not \[1, 2, 3\]"):
        interpreter.quantize_input(graph, images[:, :, 0])
    with pytest.raises(ModelError, match="not a number"):
        interpreter.quantize_input(graph, images * np.nan)


def network() -> Graph:
    """Convolution, max pool and a residual convolution."""
    rng = np.random.default_rng(7)
    tensors = {
        "x": Tensor("x", 6, 6, 2, 0.1),
        "a": Tensor("a", 6, 6, 4, 0.1),
        "b": Tensor("b", 3, 3, 4, 0.1),
        "y": Tensor("y", 3, 3, 4, 0.2, 3),
    }

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    nodes = (
        Conv("conv", "x", "a", weight(4, 3, 3, 2), requant(4, rng), padding=(1, 1, 1, 1)),
        Pool("pool", "a", "b", "max", (2, 2), (2, 2)),
        Conv(
            "last", "b", "y", weight(4, 1, 1, 4), requant(4, rng, 3),
            residual=Residual("b", 1 << 16, 17, 0),
        ),
    )  # fmt: skip
    return Graph("net", "x", "y", tensors, nodes)


def test_run_all_gives_every_tensor() -> None:
    graph = network()
    verify.verify(graph)
    x = np.random.default_rng(1).integers(-128, 128, (3, 6, 6, 2)).astype(np.int8)
    values = interpreter.run_all(graph, x)
    assert {n: v.shape[1:] for n, v in values.items()} == {
        n: t.shape for n, t in graph.tensors.items()
    }
    assert np.array_equal(values["y"], interpreter.run(graph, x))
    single = np.concatenate([interpreter.run(graph, x[i : i + 1]) for i in range(3)])
    assert np.array_equal(values["y"], single)


@pytest.mark.parametrize("x", [np.zeros((1, 6, 6, 2), np.int16), np.zeros((1, 2, 6, 6), np.int8)])
def test_wrong_inputs_are_refused(x: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"wants an int8 input of shape \[N, 6, 6, 2\]"):
        interpreter.run(network(), x)


def change(graph: Graph, which: str, fields: dict) -> Graph:
    """`graph` with fields of one node, or of its requantization, replaced."""
    nodes = []
    for node in graph.nodes:
        if node.name == which:
            inner = {k: v for k, v in fields.items() if k in _NUMBERS}
            outer = {k: v for k, v in fields.items() if k not in inner}
            if inner:
                outer["requant"] = dataclasses.replace(node.requant, **inner)
            node = dataclasses.replace(node, **outer)
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes))


_NUMBERS = {f.name for f in dataclasses.fields(Requant)}
FOUR = np.ones(4, np.int64)
BROKEN = [
    ("conv", {"weight": np.zeros((3, 3, 3, 2), np.int8)}, "conv: 3 filters for 4 output channels"),
    ("pool", {"input": "x"}, "pool: pools 2 channels into 4"),
    ("pool", {"requant": requant(4, np.random.default_rng(0))}, "pool: max pooling has no requ"),
    ("conv", {"input": "b"}, "conv: reads 'b', which nothing has written yet"),
    ("conv", {"output": "q"}, "conv: writes 'q', which is not a tensor"),
    ("pool", {"output": "a"}, "pool: writes 'a', which is already written"),
    ("pool", {"name": "conv"}, "conv: two nodes have this name"),
    ("conv", {"weight": np.full((4, 3, 3, 2), -128, np.int8)}, "conv: weights must lie within"),
    ("conv", {"weight": np.zeros((4, 3, 3, 2))}, "conv: weight must be int8"),
    ("conv", {"groups": 2}, "conv: 4 filters of 2 channels in 2 groups do not fit"),
    ("conv", {"padding": (0, 0, 0, 0)}, "conv: output height is 4, but 'a' has 6"),
    ("conv", {"dilation": (9, 1)}, "conv: a kernel reaching 19 does not fit the padded height 8"),
    ("conv", {"stride": (0, 1)}, "conv: kernel, stride and dilation start at 1"),
    ("conv", {"shift": 63 * FOUR}, "conv: shifts must be 1 to 62"),
    ("conv", {"shift": 0 * FOUR}, "conv: shifts must be 1 to 62"),
    ("conv", {"multiplier": FOUR << 31}, "conv: a multiplier does not fit 32 signed bits"),
    ("conv", {"multiplier": -FOUR}, "conv: a multiplier does not fit"),
    ("conv", {"bias": FOUR[:3]}, "conv: requantization must have 4 channels"),
    ("conv", {"bias": FOUR.astype(np.int32)}, "conv: bias, multiplier and shift must be int64"),
    ("conv", {"low": 5, "high": 4}, r"conv: clamp \[5, 4\] is not within INT8"),
    ("conv", {"zero_point": 1}, "conv: requantizes to zero point 1, but 'a' has 0"),
    ("conv", {"bias": FOUR * ((1 << 31) - 5)}, "conv: the accumulator of channel 0 can overflow"),
    ("conv", {"bias": FOUR * (5 - (1 << 31))}, "conv: the accumulator of channel 0 can overflow"),
    ("pool", {"kernel": (2, 3)}, "pool: output width is 2, but 'b' has 3"),
    ("pool", {"mode": "min"}, "pool: mode must be"),
    ("pool", {"padding": (2, 0, 0, 0)}, "pool: output height is 4"),
    ("pool", {"padding": (0, 0, 2, 0), "stride": (3, 2)}, "pool: a window lies wholly in"),
    ("last", {"residual": Residual("a", 1, 1, 0)}, r"last: residual 'a' is \[6, 6, 4\]"),
    ("last", {"residual": Residual("b", 1 << 17, 17, 0)}, "last: the residual's multiplier"),
    ("last", {"residual": Residual("b", 1, 50, 0)}, "last: the residual's shift"),
    ("last", {"residual": Residual("b", 1, 1, 9)}, "last: the residual's zero point"),
    ("last", {"shift": 62 * FOUR}, "last: the requantization of channel 0 can overflow 64 bits"),
]


@pytest.mark.parametrize(("node", "fields", "message"), BROKEN)
def test_verifier_names_the_broken_node(node: str, fields: dict, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify.verify(change(network(), node, fields))


FAR = Tensor("far", 1, 1, 4, 0.1)
BROKEN_GRAPHS = [
    ({"nodes": []}, "graph.nodes must be a tuple, not "),
    ({"tensors": []}, "graph.tensors must be a dictionary, not "),
    ({"input": "q"}, "net: 'q' is not a tensor of the graph"),
    ({"nodes": (), "output": "x", "tensors": {"x": network().tensors["x"]}}, "net: the graph comp"),
    ({"tensors": {**network().tensors, "far": FAR}}, "far: no node writes this tensor"),
    ({"far": {"name": "near"}}, "far: the tensor under this name is called 'near'"),
    ({"far": {"width": 0}}, r"far: shape \[1, 0, 4\] must be positive"),
    ({"far": {"scale": np.inf}}, "far: scale must be positive and finite, not inf"),
    ({"far": {"zero_point": -129}}, "far: zero point -129 does not fit INT8"),
    ({"b": {"scale": 0.2}}, "pool: max pooling must keep scale and zero point"),
]


@pytest.mark.parametrize(("fields", "message"), BROKEN_GRAPHS)
def test_verifier_names_the_broken_tensor(fields: dict, message: str) -> None:
    graph = network()
    for name in fields.keys() & {"far", "b"}:
        tensor = dataclasses.replace({**graph.tensors, "far": FAR}[name], **fields[name])
        fields = {"tensors": {**graph.tensors, name: tensor}}
    graph = dataclasses.replace(graph, **fields)
    with pytest.raises(VerifyError, match=message):
        verify.verify(graph)


def test_parts_of_graphs_read_their_tensors() -> None:
    graph = network()
    verify.verify_part(graph)
    with pytest.raises(VerifyError, match="conv: 'q' is not a tensor"):
        verify.verify_part(change(graph, "conv", {"input": "q"}))


def test_images_are_numbers() -> None:
    for images in ([[1, 2], [3]], np.array(["a"])):
        with pytest.raises(ModelError, match="the images for net are no array of numbers"):
            interpreter.quantize_input(network(), images)


def test_verifier_checks_multiplier_bits() -> None:
    with pytest.raises(VerifyError, match="conv: a multiplier does not fit 18 signed bits"):
        verify.verify(network(), multiplier_bits=18)


def test_overflow_is_judged_by_actual_weights() -> None:
    """132,200 weights of ±127 overflow on the way although no sum does; half as many do not."""

    def graph(weight: np.ndarray) -> Graph:
        tensors = {
            "x": Tensor("x", 1, 1, weight.size, 1.0),
            "y": Tensor("y", 1, 1, 1, 1.0),
        }
        numbers = Requant(np.zeros(1, np.int64), np.ones(1, np.int64), np.full(1, 20))
        return Graph("g", "x", "y", tensors, (Conv("c", "x", "y", weight, numbers),))

    weight = np.full((1, 1, 1, 132200), 127, np.int8)
    weight[..., 1::2] = -127
    with pytest.raises(VerifyError, match="c: the accumulator of channel 0 can overflow INT32"):
        verify.verify(graph(weight))
    weight[..., ::2] = 0
    verify.verify(graph(weight))


@pytest.mark.parametrize("sign", [-1, 1])
def test_overflow_with_bias_is_judged_to_the_unit(sign: int) -> None:
    graph = network()
    flat = graph.nodes[0].weight.reshape(4, -1).astype(int)
    least = np.minimum(flat * 127, flat * -128).sum(axis=1)
    most = np.maximum(flat * 127, flat * -128).sum(axis=1)
    edge = -(1 << 31) - least if sign < 0 else (1 << 31) - 1 - most
    verify.verify(change(graph, "conv", {"bias": edge}))
    edge[2] += sign
    with pytest.raises(VerifyError, match="conv: the accumulator of channel 2 can overflow INT32"):
        verify.verify(change(graph, "conv", {"bias": edge}))


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import weft.host.interpreter, weft.host.verify, weft.host.datasets, weft.host.rescale; "
        "assert len(weft.host.datasets.load().images) == 360\n"
        "from weft.host.errors import ModelError\n"
        "try: import weft.host.frontend\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "quantizing a model needs torch: pip install -e '.[torch]'"
