"""Quantized ONNX models: every layer within a level of onnxruntime's, the RTL equal to the byte."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType
from weft.hdl.config import load
from weft.host import compiler, datasets, frontend, interpreter
from weft.host.cli import main
from weft.host.device import open_device
from weft.host.errors import ModelError
from weft.host.ir import Graph
from weft.host.models import lenet5
from weft.host.qdq.importer import imported
from weft.host.run import Report, run

from .onnx_models import Model, Weights, compare_layers, quantize, residual, transformer, values
from .torch_models import kinds


def inputs(model: Any, count: int = 8) -> np.ndarray:
    size = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(count).normal(size=(count, *size)).astype(np.float32)


#: How onnxruntime places and chooses its scales.
STYLES = {
    "int8": {},
    "uint8, a scale a tensor, a pair for each reader, float weights": {
        "activation_type": QuantType.QUInt8,
        "per_channel": False,
        "extra_options": {"DedicatedQDQPair": True, "AddQDQPairToWeight": True},
    },
    "symmetric": {"extra_options": {"ActivationSymmetric": True}},
}
RESIDUAL = "conv conv conv conv max conv conv concat avg avg linear host:softmax"
HOST_ATTENTION = "host:aten.matmul.default conv host:gather host:softmax host:aten.matmul.default"
REST = (
    "linear conv conv host:layer_norm linear conv table:div+erf+add+mul+mul linear conv conv "
    "host:layer_norm"
)
PROJECTIONS = "linear linear linear conv conv conv"
WANT = {
    ("residual", "symmetric"): (
        "conv avg conv avg conv conv avg max conv conv concat avg avg linear host:softmax"
    ),
    ("transformer", "symmetric"): f"{PROJECTIONS} matmul conv host:softmax matmul {REST}",
    ("transformer", "int8"): f"{PROJECTIONS} {HOST_ATTENTION} {REST}",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("make", [residual, transformer])
def test_layers_equal_onnxruntimes(make, style: str) -> None:
    x = inputs(make())
    model = quantize(make(), x, **STYLES[style])
    made = imported(model, name="m", multiplier_bits=24)
    assert compare_layers(made, model, x) > 0
    want = WANT.get((make.__name__, style), RESIDUAL)
    if make is transformer:
        want = WANT.get((make.__name__, style), WANT["transformer", "int8"])
    assert kinds(made.graph) == want


def on_the_rtl(graph: Graph, x: np.ndarray, config: str = "small") -> None:
    machine = load(config)
    program = compiler.compile(graph, machine)
    inspect = compiler.compile(graph, machine, inspect=True)
    device = open_device("verilator", machine)
    try:
        levels = interpreter.quantize_input(graph, x)
        reference = interpreter.run_all(graph, levels)
        report = run(program, device, levels, reference=reference, inspect=inspect)
    finally:
        device.close()
    assert report.mismatches == 0
    assert report.as_predicted


@pytest.mark.parametrize("make", [residual, transformer])
def test_rtl_equals_the_interpreter(make) -> None:
    x = inputs(make())
    model = quantize(make(), x, **STYLES["symmetric"])
    on_the_rtl(frontend.import_onnx(model, multiplier_bits=24), x[:2])


def lenet() -> Any:
    """The trained LeNet-5 as a float ONNX model."""
    state = {key: value.numpy() for key, value in lenet5().state_dict().items()}
    weights = [value for key, value in state.items() if key.endswith("weight")]
    biases = [value for key, value in state.items() if key.endswith("bias")]
    m = Model(1, 32, 32)
    y = "x"
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.ndim == 4:
            y = m("Relu", m("Conv", y, weight, bias))
            y = m("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
            continue
        y = m("Flatten", y) if weights[index - 1].ndim == 4 else y
        y = m("Gemm", y, weight, bias, transB=1)
        y = m("Relu", y) if index < len(weights) - 1 else y
    return m.proto(y)


def test_lenet_keeps_its_accuracy() -> None:
    data = datasets.load()
    model = quantize(lenet(), data.calibration[:64], activation_type=QuantType.QUInt8)
    made = imported(model, name="lenet")
    assert compare_layers(made, model, data.images[:16]) > 0
    assert kinds(made.graph) == "conv max conv max linear linear linear"
    levels = interpreter.run(made.graph, interpreter.quantize_input(made.graph, data.images))
    accuracy = (levels.reshape(len(levels), -1).argmax(1) == data.labels).mean()
    assert accuracy >= 0.985
    on_the_rtl(frontend.import_onnx(model, multiplier_bits=24), data.images[:2])


# -- operators, one by one ---------------------------------------------------------------------


class Pairs(Model):
    """A model of which every call is quantized: inputs, results, and weights by themselves.

    Parameters
    ----------
    kind
        int8 or uint8 of activations.
    """

    def __init__(self, *size: int, kind: Any = np.int8, **options: Any):
        super().__init__(*size, **options)
        self._type = kind

    def pair(self, x: str, scale: float = 0.04, zero: int = 3) -> str:
        zero = self._type(zero + (128 if self._type is np.uint8 else 0))
        numbers = np.float32(scale), zero
        return self("DequantizeLinear", self("QuantizeLinear", x, *numbers), *numbers)

    def weight(self, value: np.ndarray, axis: int = 0) -> str:
        """Stored int8 weights with a scale each index of `axis`."""
        other = tuple(a for a in range(value.ndim) if a != axis)
        scale = (np.abs(value).max(axis=other) / 127).astype(np.float32)
        sides = [-1 if a == axis else 1 for a in range(value.ndim)]
        levels = np.rint(value / scale.reshape(sides)).astype(np.int8)
        zeros = np.zeros(len(scale), np.int8)
        return self("DequantizeLinear", levels, scale, zeros, axis=axis)


MAP, TOKENS, VECTOR = (4, 6, 5), (5, 8), (12,)
W = Weights(2)
TWO = np.float32(2)
LIST = np.array


def one(operator: str, *rest: Any, **attributes: Any):
    """A builder of a single operator of `x` and constants."""
    return lambda m, x: m(operator, x, *rest, **attributes)


def with_weight(operator: str, value: np.ndarray, *rest: Any, axis: int = 0, **attributes: Any):
    return lambda m, x: m(operator, x, m.weight(value, axis), *rest, **attributes)


OPERATORS: dict[str, tuple[tuple[int, ...], Any, str]] = {
    "conv padded unequally": (
        MAP, with_weight("Conv", W(6, 4, 3, 2), W.small(6), pads=[1, 0, 2, 1], strides=[2, 1]),
        "conv",
    ),
    "conv same": (MAP, with_weight("Conv", W(6, 2, 3, 3), auto_pad="SAME_UPPER", group=2), "conv"),
    "conv same but for a row": (
        MAP, with_weight("Conv", W(6, 4, 2, 2), auto_pad="SAME_UPPER"), "conv"
    ),
    "conv same but for the first": (
        MAP, with_weight("Conv", W(6, 4, 2, 2), auto_pad="SAME_LOWER"), "conv"
    ),
    "relu that keeps its scale": (
        MAP, lambda m, x: m("Conv", m("Relu", x), m.weight(W(6, 4, 3, 3))), "avg conv"
    ),
    "conv dilated": (MAP, with_weight("Conv", W(3, 4, 2, 2), dilations=[2, 3]), "conv"),
    "conv of sequences": (
        (4, 9), with_weight("Conv", W(6, 4, 3), W.small(6), strides=[2], pads=[1, 1]),
        "host:gather conv host:gather",
    ),
    "conv of float weights": (MAP, one("Conv", W(6, 4, 3, 3)), "host:aten.conv2d.default"),
    "gemm": (VECTOR, with_weight("Gemm", W(7, 12), W.small(7), transB=1, alpha=0.5), "linear"),
    "gemm turned": (VECTOR, with_weight("Gemm", W(7, 12).T.copy(), axis=1, beta=2.0), "linear"),
    "matmul": (TOKENS, with_weight("MatMul", W(6, 8).T.copy(), axis=1), "linear"),
    "transposed conv": (
        MAP, with_weight("ConvTranspose", W(4, 3, 2, 2), strides=[2, 2], axis=1),
        "host:aten.conv_transpose2d.input",
    ),
    "max pool": (MAP, one("MaxPool", kernel_shape=[3, 2], strides=[2, 1], ceil_mode=1), "max conv"),
    "max pool of sequences": ((4, 9), one("MaxPool", kernel_shape=[3], pads=[1, 1]),
        "host:gather max conv host:gather"),
    "average": (MAP, one("AveragePool", kernel_shape=[2, 2]), "avg"),
    "average of some": (
        MAP, one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "host:aten.avg_pool2d.default",
    ),
    "average of all": (
        MAP, one("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1),
        "host:gather avg",
    ),
    "global average": (MAP, one("GlobalAveragePool"), "avg"),
    "global maximum": (MAP, one("GlobalMaxPool"), "max conv"),
    "mean": (MAP, one("ReduceMean", LIST([2, 3]), keepdims=0), "avg"),
    "mean of tokens": (TOKENS, one("ReduceMean", LIST([1]), keepdims=0), "avg"),
    "sum": (MAP, one("ReduceSum", LIST([1]), keepdims=1), "host:aten.sum.dim_IntList"),
    "relu": (MAP, one("Relu"), "avg"),
    "clip": (MAP, one("Clip", np.float32(-0.5), np.float32(1)), "avg"),
    "add vector": (TOKENS, one("Add", W.small(8)), "conv"),
    "add to channels": (MAP, one("Add", W.small(4).reshape(4, 1, 1)), "conv"),
    "add twice": (MAP, lambda m, x: m("Add", x, x), "conv"),
    "multiply": (MAP, lambda m, x: m("Mul", x, m.pair(m("GlobalAveragePool", x))), "avg host:mul"),
    "times itself": (MAP, lambda m, x: m("Mul", x, x), "table:mul"),
    "line": (MAP, lambda m, x: m("Add", m("Mul", x, TWO), np.float32(1)), "conv"),
    "subtract from": (MAP, lambda m, x: m("Sub", np.float32(1), x), "conv"),
    "gelu": (TOKENS, lambda m, x: m("Mul", x, m("Sigmoid", x)), "table:sigmoid+mul"),
    "gelu in steps": (
        TOKENS, lambda m, x: m("Mul", x, m.pair(m("Sigmoid", x), 1 / 256, -128)),
        "table:sigmoid+mul",
    ),
    "hard": (MAP, one("HardSwish"), "table:hardswish"),
    "hard sigmoid": (MAP, one("HardSigmoid"), "conv"),
    "leaky": (MAP, one("LeakyRelu", alpha=0.2), "table:leaky_relu"),
    "square": (MAP, one("Pow", TWO), "table:pow"),
    "prelu": (MAP, one("PRelu", W.small(4).reshape(4, 1, 1)), "host:aten.prelu.default"),
    "softmax": (TOKENS, one("Softmax", axis=-1), "host:softmax"),
    "softmax of channels": (MAP, one("Softmax", axis=1), "host:softmax"),
    "norm": (TOKENS, one("LayerNormalization", 1 + W.small(8), W.small(8)), "host:layer_norm"),
    "batch norm": (
        MAP, one("BatchNormalization", *(1 + W.small(4) for _ in range(4))),
        "host:aten.batch_norm.default",
    ),
    "reshape": (
        VECTOR, lambda m, x: m("Reshape", m("Relu", x), LIST([0, -1, 3])), "avg host:gather"
    ),
    "split": (
        MAP, lambda m, x: m("Add", *(m("Split", x, outputs=["a", "b"], axis=1, num_outputs=2),
                                     "b")), "host:gather host:gather conv",
    ),
    "slice": (MAP, one("Slice", LIST([1]), LIST([6]), LIST([2]), LIST([2])), "host:gather conv"),
    "gather": (TOKENS, one("Gather", LIST([3, -1, 0]), axis=1), "host:gather conv"),
    "first": (TOKENS, one("Gather", LIST(0), axis=1), "host:gather conv"),
    "pad": (MAP, one("Pad", LIST([0, 0, 1, 2, 0, 0, 0, 1])), "host:gather conv"),
    "reflect": (MAP, one("Pad", LIST([0, 0, 1, 2, 0, 0, 0, 1]), mode="reflect"),
                "host:gather conv"),
    "resize": (MAP, one("Resize", "", LIST([1, 1, 2, 3], np.float32)), "host:gather conv"),
    "depth to space": (MAP, one("DepthToSpace", blocksize=2), "conv host:gather"),
    "space to depth": ((2, 4, 6), one("SpaceToDepth", blocksize=2), "conv host:gather"),
    "concat": (MAP, lambda m, x: m("Concat", x, m.pair(m("Relu", x), 0.02, -128), axis=1),
               "avg conv conv concat"),
    "concat of rows": (MAP, lambda m, x: m("Concat", x, x, axis=2), "conv conv host:cat"),
    "shape": (MAP, lambda m, x: m("Relu", m("Reshape", x, m("Concat", m("Slice", m("Shape", x),
              LIST([0]), LIST([2])), LIST([-1]), axis=0))), "avg host:gather"),
    "identity": (MAP, lambda m, x: m("Identity", m("Dropout", x)), "conv"),
    "other precision": (MAP, lambda m, x: m("Cast", m("Cast", x, to=11), to=1), "conv"),
    "conv valid": (MAP, with_weight("Conv", W(6, 4, 3, 3), auto_pad="VALID"), "conv"),
    "conv of sequences of float weights": (
        (4, 9), one("Conv", W(6, 4, 3)), "host:aten.conv2d.default host:gather"
    ),
    "max pool whose last window would begin in the padding": (
        MAP, one("MaxPool", kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1),
        "max conv",
    ),
    "global average of sequences": (
        (4, 9), one("GlobalAveragePool"), "host:gather avg host:gather"
    ),
    "bias behind a product": (
        TOKENS, lambda m, x: m("Add", W.small(6), m("MatMul", x, m.weight(W(6, 8).T.copy(), 1))),
        "linear",
    ),
    "transposed weights": (
        VECTOR, lambda m, x: m("Gemm", x, m("Transpose", m.weight(W(7, 12)), perm=[1, 0])),
        "linear",
    ),
    "numbers behind a product": (
        TOKENS, lambda m, x: m("Add", m.pair(m("MatMul", x, m.weight(W(8, 8), 1))), W(5, 8)),
        "linear host:add",
    ),
    "weights quantized twice": (
        MAP, lambda m, x: m("Conv", x, m.pair(m.weight(W(6, 4, 3, 3)), zero=0)), "conv"
    ),
    "concat that two read": (
        MAP, lambda m, x: m("Add", m.pair(m("Concat", x, x, axis=1, outputs=["y"])),
                            m("Relu", "y")),
        "concat avg conv",
    ),
    "pad with a number": (
        MAP, one("Pad", LIST([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(0.5)),
        "host:aten.constant_pad_nd.default",
    ),
    "prelu of one slope": (MAP, one("PRelu", W.small(1)), "table:leaky_relu"),
    "instance norm": (
        MAP, one("InstanceNormalization", 1 + W.small(4), W.small(4)),
        "host:aten.instance_norm.default",
    ),
    "sum of nothing": (MAP, one("ReduceSum", noop_with_empty_axes=1), "conv"),
    "squeeze": (
        (4, 1, 5), lambda m, x: m("Squeeze", m("Relu", x), LIST([-2])), "avg host:gather"
    ),
    "squeeze whatever is one": (
        (4, 1, 5), lambda m, x: m("Reshape", m("Squeeze", m("Relu", x)), LIST([1, 5, 4])),
        "avg host:gather",
    ),
    "unsqueeze": (
        VECTOR, lambda m, x: m("Unsqueeze", m("Relu", x), LIST([1, 3])), "avg host:gather"
    ),
    "split by sizes": (
        MAP, lambda m, x: m("Concat", *(m("Split", x, LIST([1, 3]), outputs=["a", "b"], axis=1),
                                        "b")[::-1], axis=1),
        "host:gather conv host:gather conv concat",
    ),
    "expand": ((4, 1, 5), one("Expand", LIST([1, 4, 3, 5])), "host:gather conv"),
    "tile": (TOKENS, one("Tile", LIST([1, 2, 1])), "host:gather conv"),
    "resize to sizes": (
        MAP, lambda m, x: m("Resize", x, "", "", LIST([1, 4, 12, 10])), "host:gather conv"
    ),
    "resize between pixels": (
        MAP, one("Resize", "", LIST([1, 1, 2, 2], np.float32), mode="linear"),
        "host:aten.upsample_bilinear2d.default",
    ),
    "depth to space of channels": (
        MAP, one("DepthToSpace", blocksize=2, mode="CRD"), "host:gather conv"
    ),
    "reshape that may hold 0": (
        VECTOR, lambda m, x: m("Reshape", m("Relu", x), LIST([-1, 3, 4]), allowzero=1),
        "avg host:gather",
    ),
    "where": (TOKENS, lambda m, x: m("Where", W(5, 8) > 0, x, np.float32(0.5)),
              "host:aten.where.self"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str) -> None:
    size, build, want = OPERATORS[name]
    for kind in (np.int8, np.uint8):
        m = Pairs(*size, kind=kind)
        out = m.pair(build(m, m.pair("x")), 0.05, -4)
        model = m.proto(out)
        made = imported(model, name="m")
        assert kinds(made.graph) == want
        x = inputs(model, 4) * 2
        assert compare_layers(made, model, x) > 0


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_of_opset_20(form: str) -> None:
    model = pairs(one("Gelu", approximate=form), opset=20)
    made = imported(model, name="m")
    assert kinds(made.graph) == "table:gelu"
    assert compare_layers(made, model, inputs(model) * 2) > 0


# -- where scales are --------------------------------------------------------------------------


def test_scales_only_before_layers() -> None:
    """Batch norm folded, nothing quantized between a layer and the pool behind it."""
    m = Pairs(3, 9, 9)
    x = m.pair("x")
    y = m("Relu", m("Conv", x, m.weight(W(8, 3, 3, 3)), W.small(8)))
    y = m.pair(m("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 0.03, -128)
    y = m("Conv", y, m.weight(W(8, 8, 3, 3)), pads=[1, 1, 1, 1])
    y = m("Reshape", m("Transpose", m("Clip", y, np.float32(0), np.float32(6)), perm=[0, 2, 3, 1]),
          LIST([0, -1]))  # fmt: skip
    y = m.pair(y, 0.02, -128)
    y = m("Gemm", y, m.weight(W(10, 72)), W.small(10), transB=1)
    model = m.proto(m.pair(y))
    made = imported(model, name="m")
    assert kinds(made.graph) == "conv max conv linear"
    assert compare_layers(made, model, inputs(model) * 2) > 0


def test_integers_between() -> None:
    """What moves levels may stand between quantize and dequantize; ends may be integers."""
    m = Pairs(3, 8, 8, kind=np.uint8)
    scale, zero = np.float32(0.05), np.uint8(120)
    y = m("QuantizeLinear", "x", scale, zero)
    y = m("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = m("DequantizeLinear", m("Transpose", y, perm=[0, 1, 3, 2]), scale, zero)
    y = m("Conv", y, m.weight(W(4, 3, 2, 2)))
    y = m("QuantizeLinear", y, np.float32(0.03), np.uint8(99))
    y = m("Concat", y, y, axis=1)
    model = m.proto(y, TensorProto.UINT8)
    made = imported(model, name="m")
    assert kinds(made.graph) == "max host:gather conv concat"
    x = inputs(model)
    got = interpreter.run(made.graph, interpreter.quantize_input(made.graph, x))
    want = values(model, [y], x)[y].reshape(8, 8, 3, 3).transpose(0, 2, 3, 1).astype(int) - 128
    assert np.abs(got - want).max() <= 1


def test_integer_input() -> None:
    m = Model(3, 4, 4, kind=TensorProto.UINT8)
    numbers = np.float32(1 / 255), np.uint8(0)
    y = m("Relu", m("DequantizeLinear", "x", *numbers))
    graph = frontend.import_onnx(m.proto(m("QuantizeLinear", y, *numbers), TensorProto.UINT8))
    assert (graph.tensors[graph.input].scale, graph.tensors[graph.input].zero_point) == (
        pytest.approx(1 / 255), -128,
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4))
    levels = interpreter.quantize_input(graph, x * float(numbers[0]))
    assert np.array_equal(levels.transpose(0, 3, 1, 2).astype(int) + 128, x)
    assert np.array_equal(interpreter.run(graph, levels), levels)


def test_weights_beyond_the_accelerators_go_to_the_host() -> None:
    levels = np.random.default_rng(0).integers(-128, 128, (4, 3, 2, 2)).astype(np.int8)
    levels[0, 0, 0, 0] = -128
    for zero in (0, 5):
        m = Pairs(3, 5, 5)
        weight = m("DequantizeLinear", levels, np.float32(0.01), np.int8(zero))
        model = m.proto(m.pair(m("Conv", m.pair("x"), weight)))
        made = imported(model, name="m")
        assert kinds(made.graph) == "host:aten.conv2d.default"
        assert compare_layers(made, model, inputs(model)) > 0


def test_uint8_weights_around_128_are_int8_ones() -> None:
    levels = np.random.default_rng(0).integers(1, 256, (4, 3, 2, 2)).astype(np.uint8)
    m = Pairs(3, 5, 5)
    weight = m("DequantizeLinear", levels, np.float32(0.01), np.uint8(128))
    model = m.proto(m.pair(m("Conv", m.pair("x"), weight)))
    made = imported(model, name="m")
    assert kinds(made.graph) == "conv"
    assert compare_layers(made, model, inputs(model)) > 0


# -- what is refused ---------------------------------------------------------------------------


def pairs(build, *size: int, opset: int = 18, **options: Any) -> Any:
    m = Pairs(*(size or MAP), **options)
    return with_shape(m.proto(m.pair(build(m, m.pair("x"))), opset=opset))


def plain(build, *size: int, **options: Any) -> Any:
    m = Model(*(size or MAP), **options)
    return with_shape(m.proto(build(m, "x")))


def with_shape(model: Any) -> Any:
    """Its output has some shape, without which ONNX itself would refuse `model`."""
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    return model


def changed(change) -> Any:
    """A good model after `change`."""
    model = pairs(with_weight("Conv", W(6, 4, 3, 3)))
    return change(model) or model


def int16(m: Model, x: str) -> str:
    return m("DequantizeLinear", m("QuantizeLinear", x, np.float32(1), np.int16(0)),
             np.float32(1), np.int16(0))  # fmt: skip


def scaled(scale: Any, zero: Any = 0, **attributes: Any):
    """A model that quantizes its input so."""
    numbers = np.asarray(scale, np.float32), np.asarray(zero, np.int8)
    return plain(lambda m, x: m("Relu", m("DequantizeLinear", m("QuantizeLinear", x, *numbers,
                 **attributes), *numbers, **attributes)))  # fmt: skip


def with_blocks(m: Model, x: str) -> str:
    """A product with weights that have a scale for each two of a column."""
    levels, scales = np.ones((5, 4), np.int8), np.ones((5, 2), np.float32)
    return m("MatMul", x, m("DequantizeLinear", levels, scales, block_size=2))


def with_opset_9(model: Any) -> Any:
    model.opset_import[0].version = 9
    return model


def two_inputs(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3]))


def no_size(model: Any) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    for _ in range(2):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = "any"


def cut_array(model: Any) -> None:
    next(a for a in model.graph.initializer if len(a.raw_data) > 100).raw_data = b"123"


def cycle(model: Any) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def foreign(model: Any) -> None:
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def text(model: Any) -> None:
    """An array of text that is no text."""
    broken = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1])
    broken.string_data.append(b"\xff")
    model.graph.initializer.append(broken)


def answer(model: Any) -> None:
    """The output is an array that the model holds."""
    model.graph.output[0].name = model.graph.initializer[0].name


QUANTIZED = np.float32(1), np.int8(0)
REFUSED: dict[str, tuple[Any, str]] = {
    "not quantized": (lambda: plain(one("Relu")), "the model is not quantized"),
    "float input": (
        lambda: pairs(lambda m, _: m("Conv", "x", m.weight(W(6, 4, 3, 3)))),
        "conv_.* reads the input before it is quantized",
    ),
    "nothing between": (
        lambda: pairs(lambda m, x: m("Softmax", m("Conv", x, m.weight(W(6, 4, 3, 3))))),
        "softmax_.*: it reads what conv_.* computes, which is not quantized",
    ),
    "bound between levels": (
        lambda: pairs(lambda m, x: m("Conv", m("Clip", x, np.float32(0), np.float32(0.77)),
                      m.weight(W(6, 4, 3, 3)))), "conv_.*: it reads what clip_.* computes",
    ),
    "table of what is not quantized": (
        lambda: pairs(lambda m, x: m("Sigmoid", m("Conv", x, m.weight(W(6, 4, 3, 3))))),
        "sigmoid_.*: it reads what conv_.* computes, which is not quantized",
    ),
    "sum of two": (
        lambda: pairs(lambda m, x: m("Add", *(m("Conv", x, m.weight(W(6, 4, 3, 3)))
                      for _ in range(2)))), "add_.*: it reads what conv_.* computes",
    ),
    "output": (
        lambda: plain(lambda m, x: m("Conv", m("DequantizeLinear", m("QuantizeLinear", x, TWO),
                      TWO), m("DequantizeLinear", LIST([[[[3]]]], np.int8), TWO)), 1, 5, 5),
        "output: it reads what conv_.* computes",
    ),
    "unknown operator": (lambda: pairs(one("LRN", size=3)), "operator LRN at 'lrn_.*' is not supp"),
    "choices": (lambda: pairs(one("ArgMax", axis=1)), "operator ArgMax at 'argmax_.*'"),
    "integers": (
        lambda: plain(lambda m, x: m("DequantizeLinear", m("QLinearMatMul", m("QuantizeLinear", x,
                      *QUANTIZED), *QUANTIZED, np.zeros((3, 3), np.int8), *QUANTIZED, *QUANTIZED),
                      *QUANTIZED), 4, 3),
        "operator QLinearMatMul at .* it computes with integers",
    ),
    "int16": (lambda: plain(int16), "activations are int8 or uint8, not int16"),
    "scale of channels": (
        lambda: scaled(np.full(4, 0.1), np.zeros(4), axis=1), "an activation has one scale"
    ),
    "scales that do not fit": (
        lambda: scaled(np.full(3, 0.1), np.zeros(3), axis=1), "3 scales along axis 1 do not fit"
    ),
    "scale of 0": (lambda: scaled(0), "its scale must be positive and finite"),
    "scale of nothing": (lambda: scaled(np.nan), "its scale must be positive and finite"),
    "scale of infinity": (lambda: scaled(np.inf), "its scale must be positive and finite"),
    "two inputs": (lambda: changed(two_inputs), "must take one tensor and return one, not 2 and 1"),
    "no size": (lambda: changed(no_size), "input 'x' must be .* with fixed sizes but N"),
    "damaged array": (lambda: changed(cut_array), "not valid ONNX|cannot be read"),
    "cycle": (lambda: changed(cycle), "is not valid ONNX"),
    "foreign domain": (lambda: changed(foreign), "operators of com.example have no definition"),
    "shape": (
        lambda: pairs(one("Reshape", LIST([7, -1]))), "is not .*: export the model with a batch"
    ),
    "memory": (lambda: pairs(one("Pad", LIST([0, 0, 1 << 30, 0, 0, 0, 0, 0]))), "is too large"),
    "batch": (lambda: pairs(one("ReduceMean", LIST([0]))), "must leave the batch alone"),
    "kernel": (lambda: pairs(with_weight("Conv", W(6, 4, 9, 9))), "operands .* do not fit"),
    "random": (
        lambda: pairs(lambda m, x: m("Add", x, m("RandomNormal", shape=[1]))),
        "operator RandomNormal",
    ),
    "before quantization": (
        lambda: with_opset_9(plain(one("Relu"))), "is of opset 9, but QuantizeLinear exists from 10"
    ),
    "nothing between two of the host": (
        lambda: pairs(lambda m, x: m("Softmax", m("Softmax", x, axis=1), axis=1)),
        "softmax_3: it reads what softmax_2 computes, which is not quantized",
    ),
    "concat of two scales": (
        lambda: pairs(lambda m, x: m("Softmax", m("Concat", x, m.pair(m("Relu", x), 0.02, -128),
                      axis=1))), "softmax_.*: it reads what concat_.* computes",
    ),
    "old": (lambda: pairs(one("Relu"), opset=9), "not valid ONNX|is of opset 9"),
    "dynamic condition": (
        lambda: pairs(lambda m, x: m("Where", m("Cast", x, to=9), x, x)), "stay real numbers"
    ),
    "other scale": (
        lambda: plain(lambda m, x: m("Relu", m("DequantizeLinear",
                      m("QuantizeLinear", x, np.float32(1), np.int8(0)), np.float32(2),
                      np.int8(0)))), "another scale or zero point",
    ),
    "array that is no text": (lambda: changed(text), "the model's array 'text' cannot be read"),
    "answer": (lambda: changed(answer), "output 'array_.*' does not depend on computing its input"),
    "sides": (
        lambda: pairs(one("MaxPool", kernel_shape=[2])), "maps .* or sequences are its inputs"
    ),
    "windows": (
        lambda: pairs(one("MaxPool", kernel_shape=[9, 2])), r"its windows do not fit \[6, 5\]"
    ),
    "weights": (lambda: pairs(lambda m, x: m("Conv", x, x)), "its weights must be constants"),
    "kernel of another size": (
        lambda: pairs(with_weight("Conv", W(6, 4, 3, 3), kernel_shape=[2, 2])),
        r"kernel_shape is not that of the weights, \[6, 4, 3, 3\]",
    ),
    "transposed": (
        lambda: pairs(with_weight("ConvTranspose", W(4, 3, 2, 2), auto_pad="SAME_UPPER", axis=1)),
        "only symmetric explicit padding of maps is known",
    ),
    "places of maxima": (
        lambda: pairs(one("MaxPool", kernel_shape=[2, 2], outputs=["a", "b"])),
        "indices have no form here",
    ),
    "average of a part": (
        lambda: pairs(one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)),
        "rounding sizes up, are not known",
    ),
    "average of unequal padding": (
        lambda: pairs(one("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 1, 1])),
        "unequal padding that is not counted is not known",
    ),
    "product of two": (
        lambda: pairs(lambda m, x: m("Gemm", x, x), 1), "its second operand must be constant"
    ),
    "sum of three": (
        lambda: pairs(lambda m, x: m("Sum", x, x, x)), "it is known of two operands"
    ),
    "exponents": (lambda: pairs(lambda m, x: m("Pow", x, x)), "exponent must be one number"),
    "slopes": (
        lambda: pairs(one("PRelu", W.small(5))), "its slope must be one number, or one a channel"
    ),
    "softmax of all": (
        lambda: pairs(one("Softmax", axis=1), opset=12), "before opset 13 .* along the last axis"
    ),
    "training": (
        lambda: pairs(one("BatchNormalization", *(W.small(4) for _ in range(4)), training_mode=1)),
        "it is in training mode",
    ),
    "condition": (
        lambda: pairs(lambda m, x: m("Where", x, x, x)), "its condition must be a constant"
    ),
    "bounds": (lambda: pairs(lambda m, x: m("Clip", x, x)), "its operand 1 must be a constant"),
    "mask": (
        lambda: pairs(lambda m, x: m("Add", m("Dropout", x, outputs=["a", "mask"]), "mask")),
        "nothing computes its operand 'mask'",
    ),
    "squeezed": (
        lambda: pairs(one("Squeeze", LIST([1]))), r"axes \[1\] of \[1, 4, 6, 5\] are not all 1"
    ),
    "nothing": (lambda: pairs(one("Slice", LIST([3]), LIST([3]))), "it selects nothing"),
    "backwards": (
        lambda: pairs(one("Slice", LIST([-1]), LIST([-9]), LIST([2]), LIST([-1]))),
        "steps must be positive",
    ),
    "parts": (
        lambda: pairs(one("Split", LIST([1, 2]), axis=1, outputs=["a", "b"])),
        r"parts \[1, 2\] do not add up to 4",
    ),
    "outside": (lambda: pairs(one("Gather", LIST([4]), axis=1)), "it reads outside of axis 1"),
    "indices of two axes": (
        lambda: pairs(one("Gather", LIST([[1]]), axis=1)), "its indices must be a list"
    ),
    "padding around": (
        lambda: pairs(one("Pad", LIST([0, 0, 1, 1, 0, 0, 1, 1]), mode="wrap")),
        "padding by 'wrap' is known around maps, by reflect and edge",
    ),
    "more channels": (
        lambda: pairs(one("Resize", "", LIST([1, 2, 1, 1], np.float32))),
        "only maps are resized, in height and width",
    ),
    "pixels' corners": (
        lambda: pairs(one("Resize", "", LIST([1, 1, 2, 2], np.float32), mode="linear",
                          coordinate_transformation_mode="asymmetric")),
        "known are whole factors to nearest, and linear to pixel centres",
    ),
    "half as many again": (
        lambda: pairs(one("Resize", "", LIST([1, 1, 1.5, 2], np.float32))),
        "known are whole factors to nearest, and linear to pixel centres",
    ),
    "matrix behind a product": (
        lambda: pairs(lambda m, x: m("Add", m("MatMul", x, m.weight(W(8, 8), 1)), W(5, 8)), 5, 8),
        "add_.*: it reads what matmul_.* computes, which is not quantized",
    ),
    "cubic": (
        lambda: pairs(one("Resize", "", LIST([1, 1, 2, 2], np.float32), mode="cubic")),
        "known are whole factors to nearest, and linear to pixel centres",
    ),
    "integers of two scales": (
        lambda: plain(lambda m, x: m("DequantizeLinear", m("Concat", m("QuantizeLinear", x,
                      *QUANTIZED), m("QuantizeLinear", x, TWO, np.int8(0)), axis=1), *QUANTIZED)),
        "its operands have different scales",
    ),
    "quantized twice": (
        lambda: plain(lambda m, x: m("QuantizeLinear", m("QuantizeLinear", x, *QUANTIZED),
                      *QUANTIZED)), "it quantizes integers",
    ),
    "reals dequantized": (
        lambda: plain(lambda m, x: m("DequantizeLinear", m("Relu", x), *QUANTIZED)),
        "it dequantizes what is not quantized",
    ),
    "weights of reals": (
        lambda: pairs(lambda m, x: m("Add", x, m("DequantizeLinear", W.small(4), *QUANTIZED))),
        "it dequantizes what is no array of integers",
    ),
    "blocks": (
        lambda: pairs(with_blocks, opset=21),
        "scales of blocks have no form here; use one a channel",
    ),
    "zero points": (lambda: scaled(0.1, np.zeros(2)), r"its zero point is int8 \[2\]"),
    "constant": (
        lambda: pairs(lambda m, x: m("Add", x, m("ConstantOfShape", LIST([1 << 20, 1 << 20])))),
        "is too large",
    ),
    "input of two scales": (
        lambda: plain(lambda m, x: m("Add", *(m("DequantizeLinear", m("QuantizeLinear", x, scale,
                      np.int8(0)), scale, np.int8(0)) for scale in (TWO, np.float32(1))))),
        "the input is quantized to several scales; quantize it once",
    ),
    "an archive": (object, "an ONNX model is a file or a ModelProto, not object"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    with pytest.raises(ModelError, match=message) as error:
        frontend.import_onnx(model)
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path) -> None:
    """Every file with bytes changed is imported, or refused by an error of ours."""
    data = pairs(with_weight("Conv", W(6, 4, 3, 3), pads=[1, 1, 1, 1])).SerializeToString()
    rng = np.random.default_rng(0)
    path = tmp_path / "m.onnx"
    refusals: list[str] = []
    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(1, len(data))] if rng.random() < 0.2 else broken)
        try:
            frontend.import_onnx(path)
        except ModelError as error:
            refusals.append(str(error))
    assert 20 < len(refusals) < 150
    assert not [text for text in refusals if "\n" in text]


def test_a_file_by_the_command(tmp_path, capsys) -> None:
    x = inputs(residual())
    onnx.save(quantize(residual(), x), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(SystemExit) as end:
        main(["compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "net.weft")])
    assert not end.value.code
    assert "│ softmax" in capsys.readouterr().out
    files = ["-i", str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]
    with pytest.raises(SystemExit) as end:
        main(["run", str(tmp_path / "net.weft"), "-b", "golden", *files])
    assert not end.value.code
    graph = frontend.import_onnx(tmp_path / "net.onnx")
    assert graph.name == "net"
    want = interpreter.run(graph, interpreter.quantize_input(graph, x))
    got = np.load(tmp_path / "y.npy")
    assert np.allclose(got, interpreter.dequantize(graph, graph.output, want))


def test_without_onnx(tmp_path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('none here', name='onnx')\n")
    (tmp_path / "m.onnx").touch()
    command = [sys.executable, "-m", "weft.host.cli", "compile", "m.onnx", "-o", "m.weft"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "weft: reading an ONNX model needs onnx: pip install -e '.[onnx]'\n"


def test_page_shows_what_works(tmp_path, monkeypatch) -> None:
    """The commands and the Python of docs/frontend.md, with models that it takes."""
    monkeypatch.chdir(tmp_path)
    x = inputs(residual(), 4)
    np.save("x.npy", x)
    onnx.save(quantize(residual(), x), "model.onnx")
    exported = torch.export.export(torch.nn.Conv2d(3, 4, 3).eval(), (torch.from_numpy(x[:1]),))
    torch.export.save(exported, "model.pt2")
    page = (Path(__file__).parents[1] / "docs/frontend.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "python", "python"]
    for line in blocks[0][1].splitlines():
        with pytest.raises(SystemExit) as end:
            main(shlex.split(line)[1:])
        assert not end.value.code
    names: dict[str, Any] = {}
    for _, text in blocks[1:]:
        exec(text, names)
    assert np.load("y.npy").shape == (4, 1, 1, 10)
    assert [call.operator for call in Report(names["compiler"].compile(
        names["graph"], names["config"])).host_calls] == ["softmax"]  # fmt: skip
