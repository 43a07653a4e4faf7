"""The walk over an ONNX graph, which emits torch operators with quantize and dequantize between.

A value of the graph is an array that does not depend on the input, stored weights with their scale,
or a node of the torch graph. A quantized value is the node that dequantizes it, and its scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch._subclasses import FakeTensorMode
from torch.fx import Graph, GraphModule
from torch.fx.node import map_arg

from ..aten import ORIGIN
from ..errors import ModelError, UnsupportedOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto, TensorProto
    from torch.fx import Node as FxNode

    Emit = Callable[["Walk", "Call"], Any]

_decomposed = torch.ops.quantized_decomposed
QUANTIZE = _decomposed.quantize_per_tensor.default
DEQUANTIZE = _decomposed.dequantize_per_tensor.default
_DEQUANTIZE_CHANNEL = _decomposed.dequantize_per_channel.default
#: Integer types whose levels fit INT8, and what is subtracted from them.
_INT8 = np.dtype(np.int8)
_LEVELS = {_INT8: 0, np.dtype(np.uint8): 128}
#: Elements that an array may have: a quarter of a gibibyte.
_MOST_ELEMENTS = 1 << 28
_ADVICE = "the importer does not know it; quantize the torch model instead, with calibration data"


@dataclass(frozen=True)
class Scale:
    """Scale and zero point of an INT8 activation."""

    scale: float
    zero_point: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Those of torch's quantize and dequantize, behind the tensor."""
        return self.scale, self.zero_point, -128, 127, torch.int8


@dataclass(frozen=True)
class Quantized:
    """A value between QuantizeLinear and DequantizeLinear."""

    node: FxNode  # dequantized
    scale: Scale
    kind: np.dtype  # int8 or uint8, as the model has it


@dataclass(frozen=True, eq=False)
class Levels:
    """Stored integers behind DequantizeLinear: real = (values − zero) · scale.

    Parameters
    ----------
    values
        Integers, less their zero point: int64.
    scale
        float64, of one value or one for each index of `axis`.
    """

    values: np.ndarray
    scale: np.ndarray
    axis: int

    @property
    def real(self) -> np.ndarray:
        """The real numbers, float32."""
        return (self.values * self._spread()).astype(np.float32)

    def _spread(self) -> np.ndarray:
        if self.scale.size == 1:
            return self.scale.reshape(())
        sides = [1] * self.values.ndim
        sides[self.axis] = -1
        return self.scale.reshape(sides)

    def transposed(self, order: tuple[int, ...]) -> Levels:
        """With its axes in another order."""
        return Levels(self.values.transpose(order), self.scale, order.index(self.axis))

    def reshaped(self, size: tuple[int, ...]) -> Levels | None:
        """With other sizes, where the scale's axis stays the first."""
        values = self.values.reshape(size)
        same = self.axis == 0 and values.shape[:1] == self.values.shape[:1]
        return Levels(values, self.scale, 0) if same or self.scale.size == 1 else None

    @property
    def weights(self) -> bool:
        """Whether the accelerator can hold them: within ±127, a scale for each first index."""
        fits = not self.values.size or np.abs(self.values).max() <= 127
        return bool(fits and (self.axis == 0 or self.scale.size == 1))


class Call:
    """An ONNX node, its operands and attributes."""

    def __init__(self, proto: NodeProto, inputs: list[Any], name: str):
        self.operator = proto.op_type
        self.name = name
        self.inputs = inputs
        self.outputs = list(proto.output)
        self._attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        value = self._attributes.get(key, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, position: int) -> bool:
        """Whether there is an operand at `position`."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def unsupported(self, advice: str = _ADVICE) -> UnsupportedOperator:
        """The refusal of this node."""
        return UnsupportedOperator(self.operator, self.name, advice)

    def array(self, position: int, key: str = "") -> np.ndarray | None:
        """A constant operand, or the attribute that older opsets have in its place."""
        if self.has(position):
            value = self.inputs[position]
            if isinstance(value, Levels):
                return value.real
            if not isinstance(value, np.ndarray):
                raise self.unsupported(f"its operand {position} must be a constant")
            return value
        value = self.get(key) if key else None
        return None if value is None else np.asarray(value)

    def integers(self, position: int, key: str = "") -> list[int] | None:
        """As :meth:`array`, as a list of integers."""
        found = self.array(position, key)
        return None if found is None else [int(n) for n in found.reshape(-1)]


class Walk:
    """The torch graph while it grows.

    Attributes
    ----------
    opset
        Version of the operators.
    quantized
        For torch's quantizing nodes, the name of the ONNX value that each makes.
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.quantized: dict[str, str] = {}
        self._graph = Graph()
        self._root = torch.nn.Module()
        self._mode = FakeTensorMode()
        self._known: dict[str, Any] = {"": None}
        self._pairs: dict[tuple[FxNode, Scale], FxNode] = {}
        self._layer = ""
        self._input = ""

    def stored(self, entry: TensorProto) -> None:
        """An array that the model holds."""
        try:
            self._known[entry.name] = numpy_helper.to_array(entry)
        except Exception as error:
            raise ModelError(f"the model's array {entry.name!r} cannot be read") from error

    def placeholder(self, name: str, size: tuple[int, ...]) -> None:
        """The input."""
        node = self._graph.placeholder("input")
        with self._mode:
            node.meta["val"] = torch.empty(size)
        self._known[name] = node
        self._input = name

    def finish(self, name: str) -> GraphModule:
        """The module that returns the ONNX value `name`."""
        result = self._known[name]
        result = result.node if isinstance(result, Quantized) else result
        if not isinstance(result, torch.fx.Node) or result.op == "placeholder":
            raise ModelError(f"the model's output {name!r} does not depend on computing its input")
        self._graph.output(result)
        return GraphModule(self._root, self._graph)

    # -- nodes ---------------------------------------------------------------------------------

    def visit(self, proto: NodeProto, index: int, rules: dict[str, Emit]) -> None:
        """Emit one ONNX node."""
        name = proto.name or f"{proto.op_type}_{index}"
        missing = [key for key in proto.input if key not in self._known]
        if missing:
            raise ModelError(f"{name}: nothing computes its operand {missing[0]!r}")
        call = Call(proto, [self._known[key] for key in proto.input], name)
        if proto.domain not in ("", "ai.onnx", "com.microsoft"):
            raise call.unsupported(f"operators of {proto.domain} have no definition here")
        self._layer = name
        try:
            made = self._emit(proto, call, rules)
        except ModelError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{call.operator} at {name!r} has operands or attributes that do not fit: {reason}"
            ) from error
        results = made if isinstance(made, list) else [made]
        for key, value in zip(call.outputs, results, strict=False):
            self._known[key] = value

    def _emit(self, proto: NodeProto, call: Call, rules: dict[str, Emit]) -> Any:
        if call.operator == "QuantizeLinear":
            return self._quantize(call)
        if call.operator == "DequantizeLinear":
            return self._dequantize(call)
        constant = all(v is None or isinstance(v, (np.ndarray, Levels)) for v in call.inputs)
        if call.operator == "Shape" and isinstance(call.inputs[0], (torch.fx.Node, Quantized)):
            sizes = np.array(self.size(call.inputs[0]), np.int64)
            return sizes[call.get("start", 0) : call.get("end")]
        if call.operator == "Transpose" and constant and isinstance(call.inputs[0], Levels):
            rank = call.inputs[0].values.ndim
            return call.inputs[0].transposed(tuple(call.get("perm", range(rank)[::-1])))
        if constant and not call.operator.startswith(("Random", "Bernoulli", "Multinomial")):
            return self._fold(proto, call)
        levels = [v for v in call.inputs if isinstance(v, Quantized)]
        if levels and call.operator not in _ON_LEVELS:
            raise call.unsupported("it computes with integers; the importer reads the QDQ form")
        if call.operator not in rules:
            raise call.unsupported()
        call.inputs = [v.node if isinstance(v, Quantized) else v for v in call.inputs]
        made = rules[call.operator](self, call)
        if levels:
            if len({v.scale for v in levels}) > 1:
                raise call.unsupported("its operands have different scales")
            results = made if isinstance(made, list) else [made]
            return [self._pair(node, levels[0].scale, kind=levels[0].kind) for node in results]
        return made

    def _fold(self, proto: NodeProto, call: Call) -> Any:
        """What does not depend on the input, by ONNX's reference implementation."""
        if call.operator in ("ConstantOfShape", "Expand", "Tile") and call.inputs:
            _bounded(call.inputs[-1])
        arrays = [v.real if isinstance(v, Levels) else v for v in call.inputs]
        feeds = {key: v for key, v in zip(proto.input, arrays, strict=True) if key}
        evaluator = ReferenceEvaluator(proto, opsets={"": self.opset})
        return [np.asarray(value) for value in evaluator.run(None, feeds)]  # pyright: ignore[reportCallIssue, reportArgumentType]

    def size(self, value: Any) -> tuple[int, ...]:
        """Sizes of a value, the batch being one."""
        if isinstance(value, Quantized):
            value = value.node
        if isinstance(value, torch.fx.Node):
            value = value.meta["val"]
        return tuple(value.values.shape if isinstance(value, Levels) else value.shape)

    def node(self, value: Any) -> FxNode:
        """The torch node of a value; constants become buffers."""
        if isinstance(value, torch.fx.Node):
            return value
        array = value.real if isinstance(value, Levels) else value
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        return self._buffer(torch.from_numpy(np.array(array, order="C")))

    def weights(self, value: Any) -> FxNode:
        """The torch node of weights, int8 behind a dequantize where the accelerator holds them."""
        if not isinstance(value, Levels) or not value.weights:
            return self.node(value)
        count = len(value.values)
        stored = self._buffer(torch.from_numpy(np.ascontiguousarray(value.values, np.int8)))
        scale = np.broadcast_to(value.scale.reshape(-1), (count,))
        scales = self._buffer(torch.from_numpy(scale.astype(np.float64)))
        zeros = self._buffer(torch.zeros(count, dtype=torch.int64))
        arguments = stored, scales, zeros, 0, -127, 127, torch.int8
        return self._add(_DEQUANTIZE_CHANNEL, arguments, stored.meta["val"].shape)

    def _buffer(self, value: torch.Tensor) -> FxNode:
        key = f"constant_{len(list(self._root.buffers()))}"
        self._root.register_buffer(key, value)
        node = self._graph.get_attr(key)
        node.meta = {"val": self._mode.from_tensor(value), ORIGIN: self._layer}
        return node

    def emit(self, target: Any, *args: Any, **kwargs: Any) -> FxNode:
        """A call of a torch operator; its sizes by torch."""
        node = self._graph.call_function(target, args, kwargs)
        values = map_arg((args, kwargs), lambda n: n.meta["val"])
        with self._mode, torch.no_grad():
            result = target(*values[0], **values[1])
        _bounded(result.shape)
        node.meta = {"val": result, ORIGIN: self._layer}
        return node

    def emit_sized(self, target: Any, size: tuple[int, ...], *args: Any) -> FxNode:
        """As :meth:`emit`, for arguments that torch does not take but the lowering does."""
        return self._add(target, args, size)

    def _add(self, target: Any, args: Any, size: Any) -> FxNode:
        _bounded(size)
        node = self._graph.call_function(target, args)
        with self._mode:
            node.meta = {"val": torch.empty(tuple(size)), ORIGIN: self._layer}
        return node

    # -- quantization --------------------------------------------------------------------------

    def _pair(
        self, source: FxNode, scale: Scale, value: str = "", kind: np.dtype = _INT8
    ) -> Quantized:
        """Quantize and dequantize; once for each value and scale."""
        if (source, scale) not in self._pairs:
            size = source.meta["val"].shape
            quantized = self._add(QUANTIZE, (source, *scale.arguments), size)
            node = self._add(DEQUANTIZE, (quantized, *scale.arguments), size)
            self._pairs[source, scale] = node
            self.quantized[quantized.name] = value
        return Quantized(self._pairs[source, scale], scale, kind)

    def _quantize(self, call: Call) -> Any:
        source, scale, zero, axis = self._numbers(call)
        if isinstance(source, Levels):
            source = source.real
        if isinstance(source, np.ndarray):
            spread = Levels(np.ones(source.shape, np.int64), scale, axis).real
            shift = Levels(np.ones(source.shape, np.int64), zero.astype(np.float64), axis).real
            bounds = np.iinfo(zero.dtype)
            levels = np.rint(source / spread) + shift
            return np.asarray(levels.clip(bounds.min, bounds.max)).astype(zero.dtype)
        if isinstance(source, Quantized):
            raise ModelError(f"{call.name}: it quantizes integers")
        return self._pair(source, self._scale(call, scale, zero), call.outputs[0], zero.dtype)

    def _dequantize(self, call: Call) -> Any:
        source, scale, zero, axis = self._numbers(call)
        if isinstance(source, Quantized):
            if source.scale != self._scale(call, scale, zero):
                raise ModelError(f"{call.name}: another scale or zero point than quantized with")
            return source.node
        if isinstance(source, torch.fx.Node):
            if source.op != "placeholder":
                raise ModelError(f"{call.name}: it dequantizes what is not quantized")
            return self._pair(source, self._scale(call, scale, zero), self._input).node
        if not isinstance(source, np.ndarray) or source.dtype.kind in "fcbO":
            raise ModelError(f"{call.name}: it dequantizes what is no array of integers")
        values = source.astype(np.int64)
        if values.ndim and zero.size > 1:
            sides = [1] * values.ndim
            sides[axis] = -1
            values = values - zero.astype(np.int64).reshape(sides)
        else:
            values = values - int(zero.reshape(-1)[0])
        return Levels(values, scale, axis)

    def _numbers(self, call: Call) -> tuple[Any, np.ndarray, np.ndarray, int]:
        """Operand, scale (float64), zero point and axis of a quantize or dequantize."""
        source = call.inputs[0]
        scale = call.array(1)
        zero = call.array(2)
        assert scale is not None
        if call.get("block_size", 0):
            raise call.unsupported("scales of blocks have no form here; use one a channel")
        if zero is None:
            zero = np.zeros(scale.shape, _kind(source))
        scale = scale.astype(np.float64)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ModelError(f"{call.name}: its scale must be positive and finite")
        if zero.dtype.kind not in "iu" or zero.size != scale.size:
            raise call.unsupported(f"its zero point is {zero.dtype} {list(zero.shape)}")
        size = self.size(source)
        axis = int(call.get("axis", 1))
        axis += len(size) * (axis < 0)
        if scale.size > 1 and (not 0 <= axis < len(size) or size[axis] != scale.size):
            raise ModelError(
                f"{call.name}: {scale.size} scales along axis {axis} do not fit {list(size)}"
            )
        return source, scale, zero, axis

    def _scale(self, call: Call, scale: np.ndarray, zero: np.ndarray) -> Scale:
        if scale.size != 1:
            raise call.unsupported("an activation has one scale, not one a channel")
        if zero.dtype not in _LEVELS:
            raise call.unsupported(f"activations are int8 or uint8, not {zero.dtype}")
        return Scale(float(scale.reshape(())), int(zero.reshape(())) - _LEVELS[zero.dtype])


def _bounded(size: Any) -> None:
    """Raise ValueError where an array of `size` is larger than any activation may be."""
    if math.prod(int(n) for n in size) > _MOST_ELEMENTS:
        raise ValueError(f"{[int(n) for n in size]} is too large")


def _kind(source: Any) -> np.dtype:
    """The type of a zero point that is not given."""
    if isinstance(source, Quantized):
        return source.kind
    integers = isinstance(source, np.ndarray) and source.dtype.kind in "iu"
    return source.dtype if integers else np.dtype(np.uint8)


#: Operators that ONNX also lets stand between QuantizeLinear and DequantizeLinear.
_ON_LEVELS = {
    "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split",
    "Concat", "MaxPool", "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
}  # fmt: skip
