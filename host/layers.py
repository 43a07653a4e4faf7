"""The lowering of each operator that the integer IR has a node for.

A rule takes the walk and the torch node. It returns None where the node's form is one that only
the host computes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import arrays, norms
from .aten import (
    ADD,
    AVG_POOL,
    CAT,
    CLAMP,
    CONV,
    LAYER_NORM,
    LINEAR,
    MATMUL,
    MAX_POOL,
    MOVES,
    PAD,
    SCALE,
    SOFTMAX,
    argument,
    layer_name,
    operand,
    pair,
)
from .builder import Shape, pixel_view, spread
from .ir import Concat, Host, Tensor
from .pending import Deferred, Masked, Pending, Value, Weights, identity
from .views import View, canonical, dense

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Node as FxNode

    from .lowering import Lowering

    Rule = Callable[[Lowering, FxNode], Pending | Deferred | Masked | Value | None]


# -- convolutions and linear layers ------------------------------------------------------------


def _weighted(walk: Lowering, node: FxNode) -> dict[str, Any] | None:
    """Weights [out, …], their scale, and the bias of a layer; None where they are computed."""
    weights = walk.raw(operand(node, 1))
    if not isinstance(weights, Weights):
        return None
    bias = argument(node, 2, "bias")
    return {
        "name": layer_name(node),
        "weight": weights.values,
        "weight_scale": weights.scale,
        "bias": np.zeros(len(weights.values)) if bias is None else walk.real(bias),
    }


def _conv(walk: Lowering, node: FxNode) -> Pending | None:
    layer = _weighted(walk, node)
    value = walk.raw(operand(node))
    if layer is None or len(value.view.size) != 4:
        return None
    py, px = pair(argument(node, 4, "padding", 0))
    top, left, bottom, right = value.padding
    weight = np.ascontiguousarray(layer.pop("weight").transpose(0, 2, 3, 1))
    return _placed(
        channels=len(weight),
        kind="conv",
        source=walk.builder.map(replace(value, padding=(0, 0, 0, 0))),
        kernel=weight.shape[1:3],
        weight=weight,
        stride=pair(argument(node, 3, "stride", 1)),
        padding=(top + py, left + px, bottom + py, right + px),
        dilation=pair(argument(node, 5, "dilation", 1)),
        groups=argument(node, 6, "groups", 1),
        **layer,
    )


def _placed(*, channels: int, source: Tensor, **fields: Any) -> Pending:
    """A pending operation on a map, its result's size computed."""
    kernel, stride = fields["kernel"], fields["stride"]
    padding, dilation = fields["padding"], fields.get("dilation", (1, 1))
    height, width = (
        (source.shape[i] + padding[i] + padding[i + 2] - dilation[i] * (kernel[i] - 1) - 1)
        // stride[i]
        + 1
        for i in (0, 1)
    )
    shape, view = canonical((1, channels, height, width))
    return Pending(source=source, shape=shape, view=view, **fields)


def _linear(walk: Lowering, node: FxNode) -> Pending | None:
    layer = _weighted(walk, node)
    if layer is None:
        return None
    value = walk.value(operand(node))
    weight = layer.pop("weight")
    outputs, features = weight.shape
    tensor = value.tensor
    one = math.prod(value.view.size) == features
    if one and value.view.whole(math.prod(tensor.shape)) and tensor.height * tensor.width > 1:
        order = sorted(range(len(value.view.shape)), key=lambda axis: -value.view.strides[axis])
        weight = weight.reshape(outputs, *value.view.shape)
        weight = weight.transpose(0, *(axis + 1 for axis in order))
        return Pending(
            kind="linear",
            source=tensor,
            shape=(1, 1, outputs),
            view=dense((*value.view.size[:-1], outputs)),
            kernel=tensor.shape[:2],
            weight=weight.reshape(outputs, *tensor.shape),
            **layer,
        )
    tensor, pixels = walk.builder.rows(value, -1)
    return Pending(
        kind="linear",
        source=tensor,
        shape=(tensor.height, tensor.width, outputs),
        view=spread(pixels, outputs, -1),
        weight=weight.reshape(outputs, 1, 1, features),
        **layer,
    )


# -- what is fused into them -------------------------------------------------------------------


def _add(walk: Lowering, node: FxNode) -> Pending | Masked | None:
    if walk.is_mask(node):
        mask, scores = sorted(node.args[:2], key=lambda side: isinstance(walk.raw(side), Value))
        return Masked(walk.value(scores), walk.raw(mask).numpy() == 0)
    if not walk.is_sum(node):
        return _add_vector(walk, node)
    left, right = (
        side if isinstance(side, Pending) else walk.value(arg)
        for arg in node.args[:2]
        for side in (walk.raw(arg),)
    )
    other = node.args[1]
    if isinstance(right, Pending) or (not isinstance(left, Pending) and _is_stored(right)):
        left, right, other = right, left, node.args[0]
    if not isinstance(left, Pending):
        value = walk.builder.whole(left)
        left = identity(layer_name(node), value.tensor, value.view)
    return replace(left, residual=walk.builder.aligned(walk.value(other), left.shape, left.view))


def _add_vector(walk: Lowering, node: FxNode) -> Pending | None:
    """A tensor and a constant number a channel."""
    sides = [walk.raw(arg) for arg in node.args[:2] if isinstance(arg, torch.fx.Node)]
    values = [side for side in sides if isinstance(side, Value)]
    constants = [side for side in sides if isinstance(side, torch.Tensor)]
    if len(values) != 1 or len(constants) != 1 or any(values[0].padding):
        return None
    value, vector = values[0], constants[0]
    axes = [axis for axis in range(-vector.ndim, 0) if vector.shape[axis] > 1]
    if len(axes) != 1 or vector.ndim > len(value.view.size):
        return None
    if pixel_view(value, axes[0]) is None or not value.view.whole(math.prod(value.tensor.shape)):
        return None
    offset = vector.reshape(-1).numpy().astype(np.float64)
    return identity(layer_name(node), value.tensor, value.view, 1.0, offset)


def _is_stored(value: Value) -> bool:
    """Whether `value` lies in its tensor as it would on its own."""
    shape, view = canonical(value.view.size)
    return value.tensor.shape == shape and value.view.equals(view)


def _scale(walk: Lowering, node: FxNode) -> Pending | None:
    value = walk.raw(operand(node))
    factor = float(node.args[1])  # pyright: ignore[reportArgumentType]
    return value.scaled(factor) if isinstance(value, Pending) else None


def _clamp(walk: Lowering, node: FxNode) -> Pending:
    value = walk.raw(operand(node))
    if not isinstance(value, Pending):
        value = walk.builder.whole(walk.value(operand(node)))
        value = Pending(
            kind="avg",
            name=layer_name(node),
            source=value.tensor,
            shape=value.tensor.shape,
            view=value.view,
        )
    least, most = argument(node, 1, "min"), argument(node, 2, "max")
    return value.bounded(-np.inf if least is None else least, np.inf if most is None else most)


# -- pooling -----------------------------------------------------------------------------------


def _pool(walk: Lowering, node: FxNode, kind: str) -> Pending | None:
    value = walk.value(operand(node))
    if len(value.view.size) != 4 or value.view.size[0] != 1:
        return None
    kernel = pair(node.args[1])
    padding: Any = argument(node, 3, "padding", 0)
    if isinstance(padding, int) or len(padding) < 4:
        padding = pair(padding) * 2
    source = walk.builder.map(value)
    return _placed(
        channels=source.channels,
        kind=kind,
        name=layer_name(node),
        source=source,
        kernel=kernel,
        stride=pair(argument(node, 2, "stride") or kernel),
        padding=tuple(padding),
        divisor=kernel[0] * kernel[1],
    )


def _max_pool(walk: Lowering, node: FxNode) -> Pending | None:
    if pair(argument(node, 4, "dilation", 1)) != (1, 1):
        return None
    pool = _pool(walk, node, "max")
    if pool is None or not argument(node, 5, "ceil_mode", False):
        return pool
    top, left, bottom, right = pool.padding
    down, across = _ceil_extra(pool)
    padding = top, left, bottom + down, right + across
    return _placed(
        channels=pool.source.channels,
        kind="max",
        name=pool.name,
        source=pool.source,
        kernel=pool.kernel,
        stride=pool.stride,
        padding=padding,
        divisor=pool.divisor,
    )


def _avg_pool(walk: Lowering, node: FxNode) -> Pending | None:
    padded = any(pair(argument(node, 3, "padding", 0)))
    if padded and not argument(node, 5, "count_include_pad", True):
        return None
    pool = _pool(walk, node, "avg")
    if pool is None or (argument(node, 4, "ceil_mode", False) and any(_ceil_extra(pool))):
        return None
    return replace(pool, divisor=argument(node, 6, "divisor_override") or pool.divisor)


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


# -- attention ---------------------------------------------------------------------------------


def _matmul(walk: Lowering, node: FxNode) -> Pending | None:
    left, right = walk.raw(node.args[0]), walk.raw(node.args[1])
    if not isinstance(left, Value) or not isinstance(right, Value):
        return None
    left, right = walk.value(node.args[0]), walk.value(node.args[1])
    *leading, m, k = left.view.size
    *others, _, n = right.view.size
    if leading != others:
        return None
    if left.tensor.zero_point or right.tensor.zero_point:
        return None
    heads = math.prod(leading)
    stacked = tuple(math.prod(leading[i + 1 :]) for i in range(len(leading)))

    def view(rows: int, columns: int, *strides: int) -> View:
        """Of a matrix a head, `strides` from head to head, row to row, column to column."""
        size = (*leading, rows, columns)
        steps = (*(step * strides[0] for step in stacked), *strides[1:])
        return View(size, steps, 0, size)

    scores = _Form(
        (1, m, heads * k), view(m, k, k, heads * k, 1),
        (1, n, heads * k), view(k, n, k, 1, heads * k),
        (heads, m, n), view(m, n, m * n, n, 1),
    )  # fmt: skip
    context = _Form(
        (heads, m, k), view(m, k, m * k, k, 1),
        (1, k, heads * n), view(k, n, n, heads * n, 1),
        (1, m, heads * n), view(m, n, n, heads * n, 1),
    )  # fmt: skip
    form = max((scores, context), key=lambda form: form.fits(left, right))
    return Pending(
        kind="matmul",
        name=layer_name(node),
        source=walk.builder.aligned(left, form.left, form.left_view),
        other=walk.builder.aligned(right, form.right, form.right_view),
        shape=form.out,
        view=form.out_view,
        heads=heads,
        transposed=form is scores,
    )


class _Form:
    """Shapes and views of a product's operands and result in one of the two forms of MatMul."""

    def __init__(
        self, left: Shape, left_view: View, right: Shape, right_view: View, out: Shape, view: View
    ):
        self.left, self.left_view = left, left_view
        self.right, self.right_view = right, right_view
        self.out, self.out_view = out, view

    def fits(self, left: Value, right: Value) -> int:
        """How many operands are so already."""
        pairs = ((left, self.left, self.left_view), (right, self.right, self.right_view))
        return sum(v.tensor.shape == shape and v.view.equals(view) for v, shape, view in pairs)


# -- row by row --------------------------------------------------------------------------------


def _rows(walk: Lowering, value: Value, axis: int) -> tuple[Tensor, View]:
    """`value` in a tensor whose channels are `axis`, and its view there."""
    tensor, pixels = walk.builder.rows(value, axis)
    return tensor, spread(pixels, tensor.channels, axis)


def _softmax(walk: Lowering, node: FxNode) -> Deferred:
    axis = int(argument(node, 1, "dim"))
    value, seen = walk.raw(operand(node)), None
    if isinstance(value, Masked):
        value, seen = value.value, value.seen
    tensor, view = _rows(walk, value if seen is not None else walk.value(operand(node)), axis)
    if seen is not None:
        seen = np.broadcast_to(seen, view.size)[None].astype(np.int8)
        seen = view.write(seen, tensor.shape)[0]
    return Deferred(
        layer_name(node),
        tensor.shape,
        view,
        lambda name, target: norms.softmax(name, tensor, target, seen),
    )


def _layer_norm(walk: Lowering, node: FxNode) -> Deferred | None:
    if len(argument(node, 1, "normalized_shape")) != 1:
        return None
    gamma, beta = (argument(node, 2, "weight"), argument(node, 3, "bias"))
    features = walk.value(operand(node)).view.size[-1]
    scale = np.ones(features) if gamma is None else walk.real(gamma)
    offset = np.zeros(features) if beta is None else walk.real(beta)
    epsilon = float(argument(node, 4, "eps", 1e-5))

    tensor, view = _rows(walk, walk.value(operand(node)), -1)

    def make(name: str, target: Tensor) -> Host:
        return norms.layer_norm(name, tensor, target, scale, offset, epsilon)

    return Deferred(layer_name(node), tensor.shape, view, make)


# -- moving ------------------------------------------------------------------------------------


def _cat(walk: Lowering, node: FxNode) -> Deferred | None:
    parts: Any = node.args[0]
    axis = int(argument(node, 1, "dim", 0))
    if not all(isinstance(walk.raw(part), Value) for part in parts):
        return None
    values = [walk.value(part) for part in parts]
    known = [(v.tensor.shape[:2], pixel_view(v, axis)) for v in values]
    (height, width), pixels = next((k for k in known if k[1] is not None), known[0])
    if pixels is None:
        return _cat_on_host(walk, node, values, axis)
    tensors = [
        walk.builder.aligned(value, (height, width, size), spread(pixels, size, axis))
        for value in values
        for size in (value.view.size[axis],)
    ]
    channels = sum(tensor.channels for tensor in tensors)
    names = tuple(tensor.name for tensor in tensors)

    def make(name: str, target: Tensor) -> Concat:
        return Concat(name, names, target.name)

    view = spread(pixels, channels, axis)
    return Deferred(layer_name(node), (height, width, channels), view, make)


def _cat_on_host(walk: Lowering, node: FxNode, values: list[Value], axis: int) -> Deferred:
    values = [walk.builder.strided(value) for value in values]
    size = list(values[0].view.size)
    size[axis] = sum(value.view.size[axis] for value in values)
    shape, view = canonical(tuple(size))

    def make(name: str, target: Tensor) -> Host:
        pairs = [(value.tensor, value.view) for value in values]
        return arrays.logical(name, "cat", pairs, target, axis=axis, result=view.as_json())

    return Deferred(layer_name(node), shape, view, make)


def _move(walk: Lowering, node: FxNode) -> Deferred | Value | None:
    """Whatever the operator moves, found out by moving the elements' numbers."""
    target: Any = node.target
    value = walk.value(operand(node))
    if target == PAD and argument(node, 2, "value", 0):
        return None
    if target == PAD and len(value.view.size) == 4:
        left, right, top, bottom, *outer = *node.args[1], *(0,) * (4 - len(node.args[1]))  # pyright: ignore
        if not any(outer) and min(left, right, top, bottom) >= 0:
            return replace(value, padding=(top, left, bottom, right))
    (_, *args), kwargs = walk.arguments(node)
    index = torch.from_numpy(value.view.indices() + 1).double()
    moved = target(index, *args, **kwargs).to(torch.int64).numpy() - 1
    shape, view = canonical(moved.shape)

    def make(name: str, out: Tensor) -> Host:
        return arrays.gather(name, value.tensor, out, view.write(moved[None], shape)[0])

    return Deferred(layer_name(node), shape, view, make)


LAYERS: dict[Any, Rule] = {
    CONV: _conv,
    LINEAR: _linear,
    ADD: _add,
    SCALE: _scale,
    CLAMP: _clamp,
    MAX_POOL: _max_pool,
    AVG_POOL: _avg_pool,
    MATMUL: _matmul,
    SOFTMAX: _softmax,
    LAYER_NORM: _layer_norm,
    CAT: _cat,
    **dict.fromkeys(MOVES, _move),
}
