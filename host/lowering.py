"""From torch's converted graph (quantize, operate in float, dequantize) to the integer IR.

The walk keeps, for each torch node, either the INT8 tensor it stands for or a pending operation,
which becomes an IR node when its result is quantized.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .aten import (
    ADD,
    AVG_POOL,
    CLAMP,
    CONV,
    FLATTEN,
    LINEAR,
    MAX_POOL,
    argument,
    constant,
    layer_name,
    operand,
    pair,
    unsupported,
)
from .errors import ModelError
from .ir import Graph, Node, Tensor
from .pending import Pending, Value, Weights, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from torch.fx import GraphModule
    from torch.fx import Node as FxNode

_quantized = torch.ops.quantized_decomposed
_QUANTIZE = {_quantized.quantize_per_tensor.default, _quantized.quantize_per_tensor.tensor}
_DEQUANTIZE = {_quantized.dequantize_per_tensor.default, _quantized.dequantize_per_tensor.tensor}
_DEQUANTIZE_CHANNEL = _quantized.dequantize_per_channel.default


@dataclass(frozen=True)
class Lowered:
    """The integer graph, and the torch node that holds each of its tensors."""

    graph: Graph
    sources: dict[str, str]


def lower(
    module: GraphModule, *, name: str, input_shape: tuple[int, ...], multiplier_bits: int = 32
) -> Lowered:
    """Lower a graph that ``convert_pt2e`` made.

    Parameters
    ----------
    module
        The converted graph.
    name
        What the integer graph is called.
    input_shape
        (channels, height, width) or (features,).
    multiplier_bits
        Width of the machine's requantization multiplier.
    """
    return _Lowering(module, input_shape, multiplier_bits).run(name)


class _Lowering:
    def __init__(self, module: GraphModule, input_shape: tuple[int, ...], bits: int):
        self._module = module
        self._input_shape = input_shape
        self._bits = bits
        self._values: dict[FxNode, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[Node] = []
        self._sources: dict[str, str] = {}

    def run(self, name: str) -> Lowered:
        """Walk the graph in its order."""
        first = last = ""
        for node in self._module.graph.nodes:
            if node.op == "output":
                last = self._output(node)
            elif node.op == "placeholder":
                first = node.name
            elif node.op == "call_function":
                self._values[node] = self._call(node)
        return Lowered(Graph(name, first, last, self._tensors, tuple(self._nodes)), self._sources)

    def _output(self, node: FxNode) -> str:
        results: Any = node.args[0]
        result = results[0] if isinstance(results, (tuple, list)) else results
        value = self._values[result]
        if value.flat and value.tensor.height * value.tensor.width > 1:
            raise ModelError("the model ends by flattening a map: leave the flattening out")
        return value.tensor.name

    def _call(self, node: FxNode) -> Value | Weights | Pending:
        target = node.target
        if target in _QUANTIZE:
            return self._quantize(node)
        if target in _DEQUANTIZE:
            return self._values[operand(node)]
        if target == _DEQUANTIZE_CHANNEL:
            values = constant(self._module, operand(node)).numpy()
            return Weights(values, self._real(operand(node, 1)))
        if target == FLATTEN:
            return replace(self._values[operand(node)], flat=True)
        rules: dict[Any, Callable[[FxNode], Pending]] = {
            CONV: self._conv,
            LINEAR: self._linear,
            MAX_POOL: self._max_pool,
            AVG_POOL: self._avg_pool,
            ADD: self._add,
            CLAMP: self._clamp,
        }
        if target not in rules:
            raise unsupported(node, "remove it from the model")
        return rules[target](node)

    def _real(self, node: FxNode) -> np.ndarray:
        return constant(self._module, node).numpy().astype(np.float64)

    def _conv(self, node: FxNode) -> Pending:
        py, px = pair(argument(node, 4, "padding", 0))
        return replace(
            self._layer(node, "conv", self._values[operand(node, 1)].values),
            stride=pair(argument(node, 3, "stride", 1)),
            padding=(py, px, py, px),
            dilation=pair(argument(node, 5, "dilation", 1)),
            groups=argument(node, 6, "groups", 1),
        )

    def _linear(self, node: FxNode) -> Pending:
        height, width, channels = self._values[operand(node)].tensor.shape
        values = self._values[operand(node, 1)].values
        return self._layer(node, "linear", values.reshape(-1, channels, height, width))

    def _layer(self, node: FxNode, kind: str, weight: np.ndarray) -> Pending:
        """A layer with int8 weights in torch's order [out, in / groups, ky, kx]."""
        bias = argument(node, 2, "bias")
        return Pending(
            kind=kind,
            name=layer_name(node),
            source=self._values[operand(node)].tensor,
            channels=len(weight),
            kernel=(weight.shape[2], weight.shape[3]),
            weight=np.ascontiguousarray(weight.transpose(0, 2, 3, 1)),
            weight_scale=self._values[operand(node, 1)].scale,
            bias=np.zeros(len(weight)) if bias is None else self._real(bias),
        )

    def _pool(self, node: FxNode, kind: str) -> Pending:
        source: Tensor = self._values[operand(node)].tensor
        kernel = pair(node.args[1])
        py, px = pair(argument(node, 3, "padding", 0))
        return Pending(
            kind=kind,
            name=layer_name(node),
            source=source,
            channels=source.channels,
            kernel=kernel,
            stride=pair(argument(node, 2, "stride") or kernel),
            padding=(py, px, py, px),
            divisor=kernel[0] * kernel[1],
        )

    def _max_pool(self, node: FxNode) -> Pending:
        pool = self._pool(node, "max")
        if pair(argument(node, 4, "dilation", 1)) != (1, 1):
            raise unsupported(node, "max pooling must not be dilated")
        if argument(node, 5, "ceil_mode", False):
            top, left, bottom, right = pool.padding
            down, across = _ceil_extra(pool)
            pool = replace(pool, padding=(top, left, bottom + down, right + across))
        return pool

    def _avg_pool(self, node: FxNode) -> Pending:
        pool = self._pool(node, "avg")
        if argument(node, 4, "ceil_mode", False) and any(_ceil_extra(pool)):
            raise unsupported(node, "ceil_mode must not add windows beyond the input")
        if any(pool.padding) and not argument(node, 5, "count_include_pad", True):
            raise unsupported(node, "padding must be counted (count_include_pad=True)")
        return replace(pool, divisor=argument(node, 6, "divisor_override") or pool.divisor)

    def _add(self, node: FxNode) -> Pending:
        left, right = self._values[operand(node)], self._values[operand(node, 1)]
        if isinstance(right, Pending):
            left, right = right, left
        if not isinstance(left, Pending):
            left = identity(layer_name(node), left.tensor)
        return replace(left, residual=right.tensor)

    def _clamp(self, node: FxNode) -> Pending:
        value = self._values[operand(node)]
        if isinstance(value, Value):
            tensor = value.tensor
            value = Pending(
                kind="avg", name=layer_name(node), source=tensor, channels=tensor.channels
            )
        least, most = argument(node, 1, "min"), argument(node, 2, "max")
        return value.bounded(-np.inf if least is None else least, np.inf if most is None else most)

    def _quantize(self, node: FxNode) -> Value:
        """Give the value its scale: a pending operation becomes an IR node."""
        scale, zero = (
            arg if isinstance(arg, (int, float)) else constant(self._module, arg).item()
            for arg in (argument(node, 1, "scale"), argument(node, 2, "zero_point"))
        )
        source = operand(node)
        if source.op == "placeholder":
            channels, height, width = (*self._input_shape, 1, 1)[:3]
            tensor = Tensor(source.name, height, width, channels, float(scale), int(zero))
            self._values[source] = Value(tensor)
        elif isinstance(self._values[source], Pending):
            value = self._values[source]
            name = _unique(value.name, self._tensors)
            tensor = value.result(name, float(scale), int(zero))
            name = _unique(value.name, {made.name for made in self._nodes})
            self._nodes.append(value.node(name, tensor, multiplier_bits=self._bits))
        else:
            value = self._values[source]
            if (value.tensor.scale, value.tensor.zero_point) != (scale, zero):
                raise ModelError(f"{node.name}: a value is quantized twice with different scales")
            return value
        self._tensors[tensor.name] = tensor
        self._sources[tensor.name] = node.name
        return Value(tensor)


def _unique(name: str, taken: Container[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _ceil_extra(pool: Pending) -> tuple[int, int]:
    """Rows and columns beyond the padding that ceil_mode reads (its last window starts inside)."""
    extra = []
    for axis in (0, 1):
        size, padding = pool.source.shape[axis], pool.padding[axis]
        kernel, stride = pool.kernel[axis], pool.stride[axis]
        count = -(-(size + 2 * padding - kernel) // stride) + 1
        if (count - 1) * stride >= size + padding:
            count -= 1
        extra.append(max(0, (count - 1) * stride + kernel - size - 2 * padding))
    return extra[0], extra[1]
