"""From torch's converted graph (quantize, operate in float, dequantize) to the integer IR.

The walk keeps, for each torch node, the INT8 tensor it stands for and how torch sees it, or a
pending operation, which becomes an IR node when its result is quantized. It sees one image: sizes
that depend on the batch are those of a batch of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.fx.node import map_arg

from .arrays import levels
from .aten import (
    CLAMP,
    RESHAPES,
    SCALE,
    SIZE,
    VIEWS,
    argument,
    constant,
    layer_name,
    operand,
    unsupported,
)
from .builder import Builder
from .errors import ModelError
from .ir import Graph, Table, Tensor
from .layers import LAYERS
from .onhost import on_host
from .pending import Deferred, Masked, Pending, Value, Weights, identity
from .views import View, canonical

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.fx import Node as FxNode

    from .pointwise import Region
    from .quantizer import Roles

_quantized = torch.ops.quantized_decomposed
_QUANTIZE = {_quantized.quantize_per_tensor.default, _quantized.quantize_per_tensor.tensor}
_DEQUANTIZE = {_quantized.dequantize_per_tensor.default, _quantized.dequantize_per_tensor.tensor}
_QUANTIZE_CHANNEL = _quantized.quantize_per_channel.default
_DEQUANTIZE_CHANNEL = _quantized.dequantize_per_channel.default


@dataclass(frozen=True)
class Lowered:
    """The integer graph, and for its tensors the torch node that holds each, and its view."""

    graph: Graph
    sources: dict[str, tuple[str, View]]


def lower(
    module: GraphModule,
    roles: Roles,
    *,
    name: str,
    input_shape: tuple[int, ...],
    multiplier_bits: int = 32,
) -> Lowered:
    """Lower a graph that ``convert_pt2e`` made.

    Parameters
    ----------
    module
        The converted graph.
    roles
        What its nodes were to the quantizer.
    name
        What the integer graph is called.
    input_shape
        Of one input: (channels, height, width), (tokens, features) or (features,).
    multiplier_bits
        Width of the machine's requantization multiplier.
    """
    return Lowering(module, roles, input_shape, multiplier_bits).run(name)


class Lowering:
    """The walk.

    Attributes
    ----------
    builder
        The graph so far.
    """

    def __init__(self, module: GraphModule, roles: Roles, input_shape: tuple[int, ...], bits: int):
        self.builder = Builder()
        self._module = module
        self._roles = roles
        self._input_size = (1, *input_shape)
        self._bits = bits
        self._values: dict[FxNode, Any] = {}
        self._sources: dict[str, tuple[str, View]] = {}

    def run(self, name: str) -> Lowered:
        """Walk the graph in its order."""
        first = last = ""
        for node in self._module.graph.nodes:
            if node.op == "output":
                last = self._output(node)
            elif node.op == "placeholder":
                first = node.name
            elif node.op == "get_attr":
                self._values[node] = constant(self._module, node)
            elif node.op == "call_function":
                self.builder.layer = layer_name(node)
                self._values[node] = self._call(node)
        graph = self.builder.graph(name, first, last)
        sources = {key: self._sources[key] for key in self._sources if key in graph.tensors}
        return Lowered(graph, sources)

    def _output(self, node: FxNode) -> str:
        self.builder.layer = "output"
        results: Any = node.args[0]
        value = self.value(results[0] if isinstance(results, (tuple, list)) else results)
        return self.builder.map(value).name

    # -- what rules read -----------------------------------------------------------------------

    def raw(self, node: Any) -> Any:
        """What `node` stands for."""
        return self._values[node]

    def value(self, node: Any) -> Value:
        """The INT8 tensor that `node` stands for, its padding stored."""
        value = self._values[node]
        if not isinstance(value, Value):
            raise self._unquantized(node)
        if any(value.padding):
            value = self._store_padding(value)
        return value

    def arguments(self, node: FxNode) -> tuple[Any, Any]:
        """Positional and named arguments of `node`, sizes and constants put in; tensors stay."""

        def resolve(source: FxNode) -> Any:
            value = self._values[source]
            return value if isinstance(value, (int, float, torch.Tensor)) else source

        return map_arg((node.args, node.kwargs), resolve)

    def is_sum(self, node: FxNode) -> bool:
        """Whether `node` adds two activations of the same shape."""
        return node.name in self._roles.sums

    def is_mask(self, node: FxNode) -> bool:
        """Whether `node` hides scores from softmax."""
        return node.name in self._roles.masks

    def real(self, node: FxNode) -> np.ndarray:
        """A constant of the model, float64."""
        return self._values[node].numpy().astype(np.float64)

    def _unquantized(self, node: FxNode) -> ModelError:
        return ModelError(
            f"{self.builder.layer}: it reads what {layer_name(node)} computes, which is not "
            "quantized and which the accelerator cannot compute in one step with it; quantize it"
        )

    # -- the walk ------------------------------------------------------------------------------

    def _call(self, node: FxNode) -> Any:
        target: Any = node.target
        if node.name in self._roles.inner:
            return None
        if target in _QUANTIZE:
            return self._quantize(node)
        if target in _DEQUANTIZE:
            return self._values[operand(node)]
        if target == _QUANTIZE_CHANNEL:
            args, kwargs = self.arguments(node)
            return Weights(target(*args, **kwargs).numpy(), self.real(operand(node, 1)))
        if target == _DEQUANTIZE_CHANNEL:
            value = self._values[operand(node)]
            if isinstance(value, Weights):
                return value
            return Weights(value.numpy(), self.real(operand(node, 1)))
        if node.name in self._roles.regions:
            return self._pointwise(node, self._roles.regions[node.name])
        if target == SIZE:
            return self._values[operand(node)].view.size[node.args[1]]
        inputs = [self._values[source] for source in node.all_input_nodes]
        if not any(
            isinstance(value, (Value, Pending, Deferred, Masked, Weights)) for value in inputs
        ):
            args, kwargs = self.arguments(node)
            return target(*args, **kwargs)
        for source, value in zip(node.all_input_nodes, inputs, strict=True):
            if isinstance(value, (Pending, Deferred)) and not self._fuses(node, value):
                raise self._unquantized(source)
        if target in VIEWS and isinstance(inputs[0], Value):
            return self._view(node)
        rule = LAYERS.get(target)
        made = None if rule is None else rule(self, node)
        return made if made is not None else on_host(self, node)

    def _fuses(self, node: FxNode, value: Pending | Deferred) -> bool:
        """Whether `node` becomes part of the operation that makes `value`."""
        if not isinstance(value, Pending):
            return False
        weighted = value.kind in ("conv", "linear")
        plain = value.residual is None and value.least == -np.inf and value.most == np.inf
        if node.target == CLAMP:
            return value.kind != "max"
        if node.target == SCALE:
            return plain and (weighted or value.kind == "matmul")
        others = [self._values[source] for source in node.all_input_nodes]
        return (
            self.is_sum(node) and plain and weighted and any(isinstance(o, Value) for o in others)
        )

    def _quantize(self, node: FxNode) -> Value:
        """Give the value its scale: a pending operation becomes an IR node."""
        scale, zero = (
            arg if isinstance(arg, (int, float)) else self._values[arg].item()
            for arg in (argument(node, 1, "scale"), argument(node, 2, "zero_point"))
        )
        scale, zero = float(scale), int(zero)
        source = operand(node)
        if source.op == "placeholder":
            shape, view = canonical(self._input_size)
            tensor = self.builder.tensor(source.name, shape, scale, zero)
            value = self._values[source] = Value(tensor, view)
            self._sources[tensor.name] = node.name, view
            return value
        value = self._values[source]
        if isinstance(value, Value):
            if (value.tensor.scale, value.tensor.zero_point) == (scale, zero):
                if value.view.dense(math.prod(value.tensor.shape)) and not any(value.padding):
                    self._sources[value.tensor.name] = node.name, value.view
                return value
            stored = self.builder.whole(self.value(source))
            value = identity(f"{layer_name(node)}.rescale", stored.tensor, stored.view)
        tensor = self.builder.tensor(value.name, value.shape, scale, zero)
        name = self.builder.node_name(value.name)
        if isinstance(value, Pending):
            self.builder.add(value.node(name, tensor, multiplier_bits=self._bits))
        else:
            self.builder.add(value.make(name, tensor))
        self._sources[tensor.name] = node.name, value.view
        return Value(tensor, value.view)

    # -- views ---------------------------------------------------------------------------------

    def _view(self, node: FxNode) -> Value:
        """The same tensor, seen otherwise; only what has no strides is gathered first."""
        target: Any = node.target
        value = self.value(operand(node))
        (_, *args), kwargs = self.arguments(node)
        try:
            if target in RESHAPES:
                size = tuple(target(_meta(_plain(value.view.size)), *args, **kwargs).shape)
                try:
                    view = _of(_meta(value.view).view(size))
                except RuntimeError:
                    view = replace(value.view, size=size)
            else:
                value = self.builder.strided(value)
                view = _of(target(_meta(value.view), *args, **kwargs))
        except (RuntimeError, IndexError) as error:
            first = str(error).splitlines()[0]
            raise unsupported(
                node,
                f"for a batch of one it fails ({first}); export the model with a batch of one, or "
                "with a batch of any size",
            ) from error
        return Value(value.tensor, view)

    def _store_padding(self, value: Value) -> Value:
        top, left, bottom, right = value.padding
        index = np.pad(
            value.view.indices(),
            ((0, 0), (0, 0), (top, bottom), (left, right)),
            constant_values=-1,
        )
        shape, view = canonical(index.shape)
        tensor = self.builder.moved(value.tensor, view.write(index[None], shape)[0])
        return Value(tensor, view)

    # -- pointwise functions -------------------------------------------------------------------

    def _pointwise(self, node: FxNode, region: Region) -> Pending | Deferred:
        """A table, or a convolution where the function is a line."""
        names = {member.name for member in region.nodes}
        root = next(
            source
            for member in self._module.graph.nodes
            if member.name in names
            for source in member.all_input_nodes
            if source.name not in names
            if not isinstance(self._values.get(source), (int, float, torch.Tensor))
        )
        value = self.builder.whole(self.value(root))
        source = value.tensor
        reals = (np.arange(-128.0, 128) - source.zero_point) * source.scale
        with torch.no_grad():
            results = region(torch.from_numpy(reals)).numpy()
        name = layer_name(node)
        slope = (results[255] - results[0]) / (reals[255] - reals[0])
        line = results[0] + slope * (reals - reals[0])
        if slope and np.abs(line - results).max() <= 1e-9 * np.abs(results).max():
            return identity(name, source, value.view, slope, results[0] - slope * reals[0])

        def make(name: str, target: Tensor) -> Table:
            return Table(name, source.name, target.name, levels(results, target), region.name)

        return Deferred(name, source.shape, value.view, make)


def _meta(view: View) -> torch.Tensor:
    """A tensor of no data with the strides of `view`."""
    last = view.offset + sum(
        (count - 1) * stride for count, stride in zip(view.shape, view.strides, strict=True)
    )
    return torch.empty(last + 1, device="meta").as_strided(view.shape, view.strides, view.offset)


def _plain(size: tuple[int, ...]) -> View:
    strides = tuple(torch.empty(size, device="meta").stride())
    return View(size, strides, 0, size)


def _of(meta: torch.Tensor) -> View:
    size = tuple(meta.shape)
    return View(size, tuple(meta.stride()), int(meta.storage_offset()), size)
