"""ONNX models as tests write them, quantized by onnxruntime, and imports against it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from weft.host import interpreter
from weft.host.ir import Conv, MatMul, Pool
from weft.host.qdq.importer import Imported
from weft.host.views import canonical

OPSET = 18
onnxruntime.set_default_logger_severity(4)


class Model:
    """An ONNX graph that grows: each call appends a node and returns the name of its output."""

    def __init__(self, *size: int, kind: int = TensorProto.FLOAT):
        self.size = size
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []
        self._kind = kind

    def array(self, value: Any) -> str:
        """A stored array."""
        name = f"array_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.array(x) for x in inputs]
        outputs = attributes.pop("outputs", [f"{operator.lower()}_{len(self.nodes)}"])
        node = helper.make_node(operator, names, outputs, name=outputs[0], **attributes)
        self.nodes.append(node)
        return outputs[0]

    def proto(self, output: str, kind: int = TensorProto.FLOAT, opset: int = OPSET) -> Any:
        """The model that returns `output`."""
        graph = helper.make_graph(
            self.nodes,
            "m",
            [helper.make_tensor_value_info("x", self._kind, ["N", *self.size])],
            [helper.make_tensor_value_info(output, kind, None)],
            self.arrays,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
        )
        return onnx.shape_inference.infer_shapes(model)


class Reader(quantization.CalibrationDataReader):
    """The rows of `inputs`, one after the other."""

    def __init__(self, inputs: np.ndarray):
        self._rows = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"x": row[None]}


def quantize(model: Any, inputs: np.ndarray, **options: Any) -> Any:
    """`model` quantized by onnxruntime to the QDQ form, `inputs` [N, …] its calibration data."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantization.quantize_static(
            source,
            target,
            Reader(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            **{"per_channel": True, "weight_type": quantization.QuantType.QInt8, **options},
        )
        return onnx.load(target)


def values(model: Any, names: Sequence[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """Values of a model by onnxruntime, without optimizations, for each input by itself."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(extended.SerializeToString(), options)
    rows = [session.run(list(names), {"x": row[None]}) for row in x]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def compare_layers(made: Imported, model: Any, x: np.ndarray) -> int:
    """Asserts that each layer differs by at most one level from onnxruntime; levels compared."""
    graph = made.graph
    inner = {key: entry for key, entry in made.sources.items() if entry[0] != "x"}
    last = model.graph.output[0].name
    found = values(model, sorted({last, *(name for name, _ in inner.values())}), x)
    known = {}
    for key, (name, view) in inner.items():
        array = found[name].reshape(len(x), *view.size)
        shift = 128 if array.dtype == np.uint8 else 0
        levels = (array.astype(np.int16) - shift).astype(np.int8)
        known[key] = view.write(levels, graph.tensors[key].shape)
    assert np.array_equal(known[graph.input], interpreter.quantize_input(graph, x))
    count = 0
    for node in graph.nodes:
        got = interpreter.evaluate(graph, node, known)
        want = known.setdefault(node.output, got).astype(int)
        assert np.abs(got - want).max() <= 1, node.name
        if isinstance(node, Pool) and node.mode == "max" and node.input in inner:
            assert np.array_equal(got, want), node.name
        # the others end in ties, which may break elsewhere; a few levels may all be close to one
        if isinstance(node, Conv | MatMul) and got.size > 1000:
            assert (got != want).mean() < 0.02, node.name
        count += got.size
    tensor, result = graph.tensors[graph.output], found[last]
    if result.dtype.kind == "f":
        result = np.rint(result / tensor.scale) + tensor.zero_point
    else:
        result = result.astype(np.int16) - (128 if result.dtype == np.uint8 else 0)
    shape, view = canonical((1, *result.shape[2:]))
    assert shape == tensor.shape
    result = view.write(result.reshape(len(x), *view.size), shape)
    assert np.abs(known[graph.output] - result).max() <= 1
    return count


class Weights:
    """Seeded weights, float32."""

    def __init__(self, seed: int = 0):
        self._rng = np.random.default_rng(seed)

    def __call__(self, *size: int) -> np.ndarray:
        """Of a layer: normal, the variance kept through ReLU."""
        scale = np.sqrt(2 / np.prod(size[1:]))
        return (self._rng.normal(size=size) * scale).astype(np.float32)

    def small(self, size: int) -> np.ndarray:
        """Of a bias."""
        return (self._rng.normal(size=size) * 0.1).astype(np.float32)


def residual() -> Any:
    """A CNN with a residual, a depthwise convolution, a concatenation and every kind of pool."""
    w, m = Weights(), Model(3, 16, 16)
    y = m("Relu", m("Conv", "x", w(8, 3, 3, 3), w.small(8), pads=[1, 1, 1, 1]))
    z = m("Relu", m("Conv", y, w(8, 8, 3, 3), w.small(8), pads=[1, 1, 1, 1]))
    z = m("Conv", z, w(8, 8, 3, 3), w.small(8), pads=[1, 1, 1, 1])
    y = m("Relu", m("Add", z, y))
    y = m("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    z = m("Conv", y, w(8, 1, 3, 3), w.small(8), pads=[1, 1, 1, 1], group=8)
    y = m("Concat", z, y, axis=1)
    y = m("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = m("Flatten", m("GlobalAveragePool", y))
    return m.proto(m("Softmax", m("Gemm", y, w(10, 16), w.small(10), transB=1)))


def transformer(tokens: int = 6, width: int = 32, heads: int = 4) -> Any:
    """An encoder layer, GELU and biases spelled out as exporters do."""
    w, m = Weights(1), Model(tokens, width)

    def linear(x: str, inputs: int, outputs: int) -> str:
        return m("Add", m("MatMul", x, w(outputs, inputs).T.copy()), w.small(outputs))

    def split(x: str) -> str:
        parts = m("Reshape", x, np.array([0, tokens, heads, width // heads]))
        return m("Transpose", parts, perm=[0, 2, 1, 3])

    query, key, value = (split(linear("x", width, width)) for _ in range(3))
    scores = m("MatMul", query, m("Transpose", key, perm=[0, 1, 3, 2]))
    scores = m("Softmax", m("Div", scores, np.float32(np.sqrt(width // heads))), axis=-1)
    context = m("Transpose", m("MatMul", scores, value), perm=[0, 2, 1, 3])
    context = m("Reshape", context, np.array([0, tokens, width]))
    y = m("Add", linear(context, width, width), "x")
    y = m("LayerNormalization", y, 1 + w.small(width), w.small(width))
    z = linear(y, width, 4 * width)
    half = m("Add", m("Erf", m("Div", z, np.float32(np.sqrt(2)))), np.float32(1))
    z = m("Mul", m("Mul", z, half), np.float32(0.5))
    y = m("Add", linear(z, 4 * width, width), y)
    return m.proto(m("LayerNormalization", y, 1 + w.small(width), w.small(width)))
