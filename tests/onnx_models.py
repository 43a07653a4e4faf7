"""ONNX models as tests write them, quantized by onnxruntime, and imports against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from weft.host import interpreter
from weft.host.ir import Host, Pool
from weft.host.qdq.importer import Imported

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
    import tempfile
    from pathlib import Path

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
    found = values(model, sorted({name for name, _ in inner.values()}), x)
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
        if isinstance(node, Pool) and node.mode == "max":
            assert np.array_equal(got, want), node.name
        if not isinstance(node, Host | Pool):  # averages of few levels end in ties
            assert (got != want).mean() < 0.02, node.name
        count += got.size
    assert graph.output in made.sources
    return count
