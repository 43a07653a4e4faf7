"""From torch's converted graph (quantize, operate in float, dequantize) to the integer IR.

The walk keeps, for each torch node, either the INT8 tensor it stands for or an unfinished
operation, which becomes an IR node when its result is quantized.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .canonical import (
    ADD,
    AVG_POOL,
    CLAMP,
    CONV,
    FLATTEN,
    LINEAR,
    MAX_POOL,
    argument,
    layer_name,
    pair,
)
from .errors import ModelError, UnsupportedOperator
from .ir import Conv, Graph, Node, Pool, Tensor
from .rescale import MAX_BIAS, rescale, residual

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.fx import Node as FxNode

_quantized = torch.ops.quantized_decomposed
_QUANTIZE = {_quantized.quantize_per_tensor.default, _quantized.quantize_per_tensor.tensor}
_DEQUANTIZE = {_quantized.dequantize_per_tensor.default, _quantized.dequantize_per_tensor.tensor}
_DEQUANTIZE_CHANNEL = _quantized.dequantize_per_channel.default


@dataclass(frozen=True)
class Value:
    """An INT8 tensor; `flat` says that torch sees it as a vector in (channel, y, x) order."""

    tensor: Tensor
    flat: bool = False


@dataclass(frozen=True)
class Weights:
    """Dequantized weights: int8 values and one scale per output channel."""

    values: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class Pending:
    """An operation whose result has not been quantized yet."""

    kind: str  # "input", "conv", "linear", "max", "avg"
    name: str
    height: int
    width: int
    channels: int
    source: Tensor | None = None
    weight: np.ndarray | None = None  # int8 [out, ky, kx, in / groups]
    weight_scale: np.ndarray | None = None
    bias: np.ndarray | None = None  # real
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    divisor: int = 1
    residual: Tensor | None = None
    least: float = -np.inf
    most: float = np.inf


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
    input_shape
        (channels, height, width) or (features,).
    """
    return _Lowering(module, name, input_shape, multiplier_bits).run()


class _Lowering:
    def __init__(self, module: GraphModule, name: str, input_shape: tuple, bits: int):
        self._module = module
        self._name = name
        self._input_shape = input_shape
        self._bits = bits
        self._values: dict[FxNode, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[Node] = []
        self._sources: dict[str, str] = {}
        self._input = ""

    def run(self) -> Lowered:
        output = ""
        for node in self._module.graph.nodes:
            if node.op == "output":
                output = self._output(node)
            elif node.op == "placeholder":
                channels, height, width = (*self._input_shape, 1, 1)[:3]
                self._values[node] = Pending("input", node.name, height, width, channels)
            elif node.op == "call_function":
                self._values[node] = self._call(node)
        graph = Graph(self._name, self._input, output, self._tensors, tuple(self._nodes))
        return Lowered(graph, self._sources)

    def _output(self, node: FxNode) -> str:
        results = node.args[0]
        result = results[0] if isinstance(results, (tuple, list)) else results
        value = self._values[result]
        if value.flat and value.tensor.height * value.tensor.width > 1:
            raise ModelError("the model ends by flattening a map: leave the flattening out")
        return value.tensor.name

    def _call(self, node: FxNode) -> Any:
        target = node.target
        if target in _QUANTIZE:
            return self._quantize(node, self._values[node.args[0]])
        if target in _DEQUANTIZE:
            return self._values[node.args[0]]
        if target == _DEQUANTIZE_CHANNEL:
            return Weights(self._constant(node.args[0]), self._constant(node.args[1], np.float64))
        if target == CONV:
            return self._conv(node)
        if target == LINEAR:
            return self._linear(node)
        if target in (MAX_POOL, AVG_POOL):
            return self._pool(node)
        if target == ADD:
            return self._add(node)
        if target == CLAMP:
            return self._clamp(node)
        if target == FLATTEN:
            return dataclasses.replace(self._values[node.args[0]], flat=True)
        raise UnsupportedOperator(str(target), layer_name(node), "remove it from the model")

    def _constant(self, node: FxNode | None, dtype: Any = None) -> np.ndarray:
        value: Any = self._module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach().cpu().numpy().astype(dtype or value.numpy(force=True).dtype)

    # -- operators -----------------------------------------------------------------------------

    def _conv(self, node: FxNode) -> Pending:
        source: Value = self._values[node.args[0]]
        weights: Weights = self._values[node.args[1]]
        py, px = pair(argument(node, 4, "padding", 0))
        weight = np.ascontiguousarray(weights.values.transpose(0, 2, 3, 1))
        return self._layer(
            node,
            "conv",
            source.tensor,
            weight,
            weights.scale,
            stride=pair(argument(node, 3, "stride", 1)),
            padding=(py, px, py, px),
            dilation=pair(argument(node, 5, "dilation", 1)),
            groups=argument(node, 6, "groups", 1),
        )

    def _linear(self, node: FxNode) -> Pending:
        tensor = self._values[node.args[0]].tensor
        weights: Weights = self._values[node.args[1]]
        height, width, channels = tensor.shape
        weight = weights.values.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        return self._layer(node, "linear", tensor, np.ascontiguousarray(weight), weights.scale)

    def _layer(
        self,
        node: FxNode,
        kind: str,
        source: Tensor,
        weight: np.ndarray,
        scale: np.ndarray,
        **geometry: Any,
    ) -> Pending:
        bias = argument(node, 2, "bias")
        made = Pending(
            kind,
            layer_name(node),
            0,
            0,
            weight.shape[0],
            source=source,
            weight=weight,
            weight_scale=scale,
            bias=np.zeros(weight.shape[0]) if bias is None else self._constant(bias, np.float64),
            kernel=weight.shape[1:3],
            **geometry,
        )
        return _sized(made)

    def _pool(self, node: FxNode) -> Pending:
        source: Tensor = self._values[node.args[0]].tensor
        is_max = node.target == MAX_POOL
        kernel = pair(node.args[1])
        stride = pair(argument(node, 2, "stride", None) or kernel)
        py, px = pair(argument(node, 3, "padding", 0))
        ceil = argument(node, 5 if is_max else 4, "ceil_mode", False)
        if is_max and pair(argument(node, 4, "dilation", 1)) != (1, 1):
            raise self._refuse(node, "max pooling must not be dilated")
        made = Pending(
            "max" if is_max else "avg",
            layer_name(node),
            0,
            0,
            source.channels,
            source=source,
            kernel=kernel,
            stride=stride,
            padding=(py, px, py, px),
            divisor=kernel[0] * kernel[1],
        )
        if not is_max:
            if (py or px) and not argument(node, 5, "count_include_pad", True):
                raise self._refuse(node, "padding must be counted (count_include_pad=True)")
            made = dataclasses.replace(
                made, divisor=argument(node, 6, "divisor_override") or made.divisor
            )
        if ceil:
            extra = [
                _ceil_extra(size, k, s, p)
                for size, k, s, p in zip(source.shape[:2], kernel, stride, (py, px), strict=True)
            ]
            if not is_max and any(extra):
                raise self._refuse(node, "ceil_mode must not add windows beyond the input")
            made = dataclasses.replace(made, padding=(py, px, py + extra[0], px + extra[1]))
        return _sized(made)

    def _add(self, node: FxNode) -> Pending:
        left, right = (self._values[side] for side in node.args[:2])
        if isinstance(left, Pending):
            pending, other = left, right
        elif isinstance(right, Pending):
            pending, other = right, left
        else:
            pending, other = self._identity(node, left), right
        return dataclasses.replace(pending, residual=other.tensor)

    def _identity(self, node: FxNode, value: Value) -> Pending:
        """A depthwise 1×1 convolution that passes its input on: what a bare addition adds to."""
        channels = value.tensor.channels
        return _sized(
            Pending(
                "conv",
                layer_name(node),
                0,
                0,
                channels,
                source=value.tensor,
                weight=np.full((channels, 1, 1, 1), 64, np.int8),
                weight_scale=np.full(channels, 1 / 64),
                bias=np.zeros(channels),
                groups=channels,
            )
        )

    def _clamp(self, node: FxNode) -> Pending:
        value = self._values[node.args[0]]
        if isinstance(value, Value):
            tensor = value.tensor
            value = _sized(Pending("avg", layer_name(node), 0, 0, tensor.channels, source=tensor))
        least, most = (argument(node, i + 1, key) for i, key in enumerate(("min", "max")))
        least = -np.inf if least is None else float(least)
        most = np.inf if most is None else float(most)
        return dataclasses.replace(
            value,
            least=min(max(value.least, least), most),
            most=min(max(value.most, least), most),
        )

    def _refuse(self, node: FxNode, advice: str) -> UnsupportedOperator:
        return UnsupportedOperator(str(node.target), layer_name(node), advice)

    # -- materialisation -----------------------------------------------------------------------

    def _quantize(self, node: FxNode, value: Value | Pending) -> Value:
        scale, zero = (
            arg if isinstance(arg, (int, float)) else self._constant(arg).item()
            for arg in node.args[1:3]
        )
        if isinstance(value, Value):
            if (value.tensor.scale, value.tensor.zero_point) == (scale, zero):
                return value
            raise ModelError(f"{node.name}: a value is quantized twice with different scales")
        tensor = Tensor(
            self._unique(value.name, self._tensors),
            value.height,
            value.width,
            value.channels,
            float(scale),
            int(zero),
        )
        self._tensors[tensor.name] = tensor
        self._sources[tensor.name] = node.name
        if value.kind == "input":
            self._input = tensor.name
        else:
            self._nodes.append(self._finish(value, tensor))
        return Value(tensor)

    def _finish(self, value: Pending, tensor: Tensor) -> Node:
        """The IR node that computes `tensor`."""
        source = value.source
        name = self._unique(value.name, {node.name for node in self._nodes})
        if value.kind == "max":
            return Pool(
                name, source.name, tensor.name, "max", value.kernel, value.stride, value.padding
            )
        ratio = None if value.residual is None else value.residual.scale / tensor.scale
        numbers = {
            "zero_point": tensor.zero_point,
            "low": _level(value.least, tensor),
            "high": _level(value.most, tensor),
            "bits": self._bits,
            "residual_scale": ratio,
        }
        try:
            if value.kind == "avg":
                taps = value.kernel[0] * value.kernel[1]
                real = np.full(value.channels, source.scale / (tensor.scale * value.divisor))
                bias = np.full(value.channels, -taps * source.zero_point)
                requant = rescale(real, bias, **numbers)
                return Pool(
                    name,
                    source.name,
                    tensor.name,
                    "avg",
                    value.kernel,
                    value.stride,
                    value.padding,
                    requant,
                )
            weight, scale = _fit_bias(value, source.scale)
            bias = np.rint(value.bias / (source.scale * scale)).astype(np.int64)
            bias -= source.zero_point * weight.astype(np.int64).sum(axis=(1, 2, 3))
            requant = rescale(source.scale * scale / tensor.scale, bias, **numbers)
            operand = None
            if value.residual is not None:
                operand = residual(
                    value.residual.name,
                    ratio,
                    zero_point=value.residual.zero_point,
                    requant=requant,
                )
        except ValueError as error:
            raise ModelError(f"{name}: {error}") from error
        return Conv(
            name,
            source.name,
            tensor.name,
            weight,
            requant,
            value.stride,
            value.padding,
            value.dilation,
            value.groups,
            operand,
            value.kind,
        )

    @staticmethod
    def _unique(name: str, taken: Any) -> str:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        return candidate


def _level(real: float, tensor: Tensor) -> int:
    """The INT8 level of a bound, within the INT8 range."""
    return int(np.clip(np.rint(real / tensor.scale) + tensor.zero_point, -128, 127))


def _fit_bias(value: Pending, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and their scales, coarser for channels whose bias would exceed MAX_BIAS.

    Such a channel is all but constant, so its weights' last bits do not show in the output.
    """
    need = np.abs(value.bias) / (scale * MAX_BIAS)
    factor = np.maximum(need / value.weight_scale, 1.0)
    weight = np.rint(value.weight / factor[:, None, None, None]).astype(np.int8)
    return weight, value.weight_scale * factor


def _sized(value: Pending) -> Pending:
    """`value` with the height and width of its output."""
    sizes = []
    for axis in (0, 1):
        padded = value.source.shape[axis] + value.padding[axis] + value.padding[axis + 2]
        reach = value.dilation[axis] * (value.kernel[axis] - 1) + 1
        sizes.append((padded - reach) // value.stride[axis] + 1)
    return dataclasses.replace(value, height=sizes[0], width=sizes[1])


def _ceil_extra(size: int, kernel: int, stride: int, padding: int) -> int:
    """Rows below the padding that torch's ceil_mode reads (its last window starts inside)."""
    count = -(-(size + 2 * padding - kernel) // stride) + 1
    if (count - 1) * stride >= size + padding:
        count -= 1
    return max(0, (count - 1) * stride + kernel - size - 2 * padding)
