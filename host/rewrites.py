"""The rewriting rules of :mod:`.canonical`, one function an operator."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .aten import (
    ADD,
    AVG_POOL,
    CAT,
    CLAMP,
    CONV,
    LINEAR,
    MATMUL,
    MAX_POOL,
    ORIGIN,
    PAD,
    SCALE,
    SOFTMAX,
    argument,
    aten,
    constant,
    operand,
    pair,
    shape,
    unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Rule = Callable[[GraphModule, Node], None]


def insert(module: GraphModule, like: Node, target: Any, *args: Any) -> Node:
    """A new call before `like`, of whose layer it is part."""
    with module.graph.inserting_before(like):
        new = module.graph.call_function(target, args)
    new.meta = {ORIGIN: like.name, **like.meta}
    values = map_arg(args, lambda n: n.meta["val"])
    with _fake(like), torch.no_grad():
        new.meta["val"] = target(*values)
    return new


def insert_constant(module: GraphModule, like: Node, value: torch.Tensor) -> Node:
    """A new buffer of `module`, and the node before `like` that reads it."""
    name = f"_constant_{like.name}"
    while hasattr(module, name):
        name += "_"
    module.register_buffer(name, value.detach().clone())
    with module.graph.inserting_before(like):
        new = module.graph.get_attr(name)
    new.meta["val"] = _fake(like).from_tensor(value.detach().clone())
    return new


def _fake(node: Node) -> Any:
    """The fake tensor mode that `node` was exported in."""
    value = node.meta["val"]
    return (value[0] if isinstance(value, (list, tuple)) else value).fake_mode


def replace(module: GraphModule, node: Node, target: Any, *args: Any) -> Node:
    """Put a call in the place of `node`."""
    new = insert(module, node, target, *args)
    return substitute(module, node, new)


def substitute(module: GraphModule, node: Node, new: Node) -> Node:
    """Put `new` in the place of `node`."""
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return new


# -- clamps ------------------------------------------------------------------------------------


def _bounded(least: float | None, most: float | None) -> Rule:
    def rule(module: GraphModule, node: Node) -> None:
        replace(module, node, CLAMP, node.args[0], least, most)

    return rule


def _hardtanh(module: GraphModule, node: Node) -> None:
    least, most = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    replace(module, node, CLAMP, node.args[0], float(least), float(most))


def _clamp(module: GraphModule, node: Node) -> None:
    name = str(node.target)
    least = None if "clamp_max" in name else argument(node, 1, "min")
    most = argument(node, 1 if "clamp_max" in name else 2, "max")
    bounds = (None if bound is None else float(bound) for bound in (least, most))
    replace(module, node, CLAMP, node.args[0], *bounds)


# -- layers ------------------------------------------------------------------------------------


def _conv(module: GraphModule, node: Node) -> None:
    padding = argument(node, 4, "padding", 0)
    weight = operand(node, 1)
    if weight.op != "get_attr":
        return
    dilation = pair(argument(node, 5, "dilation", 1))
    if padding == "valid":
        padding = 0
    elif padding == "same":
        extents = [
            d * (int(k) - 1) for d, k in zip(dilation, weight.meta["val"].shape[2:], strict=True)
        ]
        if any(extent % 2 for extent in extents):
            raise unsupported(node, "padding 'same' needs an odd kernel")
        padding = [extent // 2 for extent in extents]
    replace(
        module,
        node,
        CONV,
        node.args[0],
        weight,
        argument(node, 2, "bias"),
        list(pair(argument(node, 3, "stride", 1))),
        list(pair(padding)),
        list(dilation),
        argument(node, 6, "groups", 1),
    )


def _one_dimensional(module: GraphModule, node: Node) -> None:
    """A convolution or pool of sequences [N, channels, length] is one of maps of one row."""
    target, across = _ONE_DIMENSIONAL[node.target]
    source = operand(node)
    if len(shape(source)) != 2:
        return
    args: list[Any] = list(node.args)
    if "conv1d" in str(node.target):
        weight = operand(node, 1)
        if weight.op != "get_attr":
            return
        args[1] = insert_constant(module, node, constant(module, weight).unsqueeze(2))
    for position, row in across.items():
        along = args[position] if position < len(args) else []
        if along != []:
            args[position] = [row, along if isinstance(along, int) else along[0]]
    args[0] = insert(module, node, aten.unsqueeze.default, source, 2)
    made = insert(module, node, target, *args)
    replace(module, node, aten.squeeze.dim, made, 2)
    RULES.get(made.target, lambda *_: None)(module, made)


#: The operator on maps, and for its arguments [row, along] the value of row.
_ONE_DIMENSIONAL: dict[Any, tuple[Any, dict[int, int]]] = {
    aten.conv1d.default: (CONV, {3: 1, 4: 0, 5: 1}),
    aten.conv1d.padding: (aten.conv2d.padding, {3: 1, 5: 1}),
    aten.max_pool1d.default: (MAX_POOL, {1: 1, 2: 1, 3: 0, 4: 1}),
    aten.avg_pool1d.default: (AVG_POOL, {1: 1, 2: 1, 3: 0}),
    aten.adaptive_avg_pool1d.default: (aten.adaptive_avg_pool2d.default, {1: 1}),
}


def _matmul(module: GraphModule, node: Node) -> None:
    """A product with a constant matrix is a linear layer."""
    weight = operand(node, 1)
    if weight.op == "get_attr" and len(weight.meta["val"].shape) == 2:
        columns = insert_constant(module, node, constant(module, weight).T.contiguous())
        replace(module, node, LINEAR, operand(node), columns)
    elif node.target != MATMUL:
        replace(module, node, MATMUL, operand(node), weight)


def _addmm(module: GraphModule, node: Node) -> None:
    """``bias + x @ w``."""
    bias, source, weight = node.args[:3]
    plain = all(node.kwargs.get(name, 1) == 1 for name in ("alpha", "beta"))
    if isinstance(weight, Node) and weight.op == "get_attr" and plain:
        columns = insert_constant(module, node, constant(module, weight).T.contiguous())
        replace(module, node, LINEAR, source, columns, bias)


def _add(module: GraphModule, node: Node) -> None:
    alpha: Any = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return
    left: Any = node.args[0]
    right: Any = node.args[1]
    if isinstance(right, Node):
        right = insert(module, node, aten.mul.Tensor, right, float(alpha))
        replace(module, node, ADD, left, right)
        _scale(module, right)
    else:
        replace(module, node, ADD, left, right * alpha)


def _scale(module: GraphModule, node: Node) -> None:
    """A positive factor behind a layer becomes part of it."""
    source: Any = node.args[0]
    factor: Any = node.args[1]
    if node.target == aten.mul.Tensor and isinstance(source, (int, float)):
        source, factor = factor, source
    if isinstance(factor, Node) or not isinstance(source, Node) or not factor > 0:
        return
    if source.target in (CONV, LINEAR, MATMUL) and len(source.users) == 1:
        value = 1 / factor if node.target == aten.div.Tensor else factor
        replace(module, node, SCALE, source, float(value))


def _attention(module: GraphModule, node: Node) -> None:
    """``softmax(q · kᵀ / √d + mask) · v``."""
    query, key, value = (operand(node, i) for i in range(3))
    mask = argument(node, 3, "attn_mask")
    if isinstance(mask, Node) and mask.op != "get_attr":
        raise unsupported(node, "the mask must be a constant")
    if argument(node, 4, "dropout_p", 0.0):
        raise unsupported(node, "attention must be without dropout: call eval() before export")
    if argument(node, 7, "enable_gqa", False):
        raise unsupported(node, "repeat the keys' and values' heads, instead of enable_gqa")
    scale = argument(node, 6, "scale") or 1 / math.sqrt(int(query.meta["val"].shape[-1]))
    columns = insert(module, node, aten.transpose.int, key, -2, -1)
    scores = insert(module, node, MATMUL, query, columns)
    scores = insert(module, node, SCALE, scores, float(scale))
    hidden = None
    if mask is not None:
        hidden = constant(module, mask)
    elif argument(node, 5, "is_causal", False):
        size = [int(n) for n in scores.meta["val"].shape[-2:]]
        hidden = torch.ones(size, dtype=torch.bool).tril()
    if hidden is not None:
        if hidden.dtype == torch.bool:
            hidden = torch.zeros(hidden.shape).masked_fill(~hidden, -torch.inf)
        scores = insert(module, node, ADD, scores, insert_constant(module, node, hidden))
    weights = insert(module, node, SOFTMAX, scores, -1)
    replace(module, node, MATMUL, weights, value)


def _softmax(module: GraphModule, node: Node) -> None:
    replace(module, node, SOFTMAX, node.args[0], node.args[1])


# -- averages ----------------------------------------------------------------------------------


def _mean(module: GraphModule, node: Node) -> None:
    """The mean over all but batch and channels: of maps and sequences, channels first or last."""
    source = operand(node)
    rank = len(source.meta["val"].shape)
    axes = {int(axis) % rank for axis in argument(node, 1, "dim") or range(rank)}
    orders = {
        (4, frozenset((2, 3))): None,
        (4, frozenset((1, 2))): [0, 3, 1, 2],
        (3, frozenset((1,))): [0, 2, 1],
        (3, frozenset((2,))): [0, 1, 2],
    }
    key = (rank, frozenset(axes))
    if key not in orders:
        return
    pooled = source
    order = orders[key]
    if order is not None:
        pooled = insert(module, node, aten.permute.default, pooled, order)
    if rank == 3:
        pooled = insert(module, node, aten.unsqueeze.default, pooled, 2)
    window = list(shape(pooled)[1:])
    if window != [1, 1]:
        pooled = insert(module, node, AVG_POOL, pooled, window)
    if not argument(node, 2, "keepdim", False):
        replace(module, node, aten.flatten.using_ints, pooled, 1)
    elif order is None:
        substitute(module, node, pooled)
    elif rank == 4:
        replace(module, node, aten.permute.default, pooled, [0, 2, 3, 1])
    else:
        pooled = insert(module, node, aten.flatten.using_ints, pooled, 1)
        replace(module, node, aten.unsqueeze.default, pooled, *axes)


def _adaptive(module: GraphModule, node: Node) -> None:
    source = operand(node)
    have, want = shape(source)[1:], shape(node)[1:]
    if have == want:
        substitute(module, node, source)
    elif not any(h % w for h, w in zip(have, want, strict=True)):
        replace(module, node, AVG_POOL, source, [h // w for h, w in zip(have, want, strict=True)])


# -- views -------------------------------------------------------------------------------------


def _part(module: GraphModule, node: Node) -> None:
    """One of the parts that split, chunk or unbind make: a slice."""
    pieces, index = operand(node), int(node.args[1])  # pyright: ignore[reportArgumentType]
    if pieces.target not in _SPLITS:
        return
    source = operand(pieces)
    position = 1 if pieces.target in (aten.unbind.int,) else 2
    axis = int(argument(pieces, position, "dim", 0))
    if pieces.target == aten.unbind.int:
        replace(module, node, aten.select.int, source, axis, index)
        return
    sizes = [int(part.shape[axis]) for part in pieces.meta["val"]]
    start = sum(sizes[:index])
    replace(module, node, aten.slice.Tensor, source, axis, start, start + sizes[index])


_SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.split.sizes,
    aten.chunk.default,
    aten.unbind.int,
}


def _reshape(module: GraphModule, node: Node) -> None:
    """A view of what may lie otherwise in memory by now."""
    replace(module, node, aten.reshape.default, node.args[0], node.args[1])


def _squeeze(module: GraphModule, node: Node) -> None:
    """Squeeze the axes that have size 1, but not the batch."""
    sizes = list(operand(node).meta["val"].shape)
    axes = [axis for axis, size in enumerate(sizes) if axis and isinstance(size, int) and size == 1]
    replace(module, node, aten.squeeze.dims, node.args[0], axes)


def _pad(module: GraphModule, node: Node) -> None:
    """Padding by name of its mode."""
    mode = argument(node, 2, "mode", "constant")
    if mode == "constant":
        value = argument(node, 3, "value") or 0.0
        # Its sizes stay known: torch cannot tell those of a crop where the batch is symbolic.
        node.target, node.args, node.kwargs = PAD, (*node.args[:2], value), {}
    elif mode in _PADS and len(shape(node)) == 3 and len(node.args[1]) == 4:  # pyright: ignore[reportArgumentType]
        replace(module, node, _PADS[mode], node.args[0], node.args[1])


_PADS = {"reflect": aten.reflection_pad2d.default, "replicate": aten.replication_pad2d.default}


def _cat(module: GraphModule, node: Node) -> None:
    """With its axis counted from the front; a single operand needs no concatenation."""
    parts: Any = node.args[0]
    axis = int(argument(node, 1, "dim", 0)) % len(node.meta["val"].shape)
    if len(parts) == 1:
        substitute(module, node, parts[0])
    else:
        replace(module, node, CAT, list(parts), axis)


def _stack(module: GraphModule, node: Node) -> None:
    parts: Any = node.args[0]
    axis = int(argument(node, 1, "dim", 0)) % len(node.meta["val"].shape)
    raised = [insert(module, node, aten.unsqueeze.default, part, axis) for part in parts]
    replace(module, node, CAT, raised, axis)


def free_batch_norm(module: GraphModule, node: Node) -> None:
    """Turn a batch norm that no convolution can absorb into a depthwise 1×1 convolution."""
    source = operand(node)
    if source.target in (CONV, LINEAR) and len(source.users) == 1:
        return
    channels = shape(source)[0]
    gamma, beta, mean, variance = (
        None if node.args[i] is None else constant(module, operand(node, i)) for i in range(1, 5)
    )
    assert mean is not None
    assert variance is not None, "only training mode has no statistics"
    scale = (variance + argument(node, 7, "eps", 1e-5)).rsqrt()
    scale = scale if gamma is None else scale * gamma
    offset = -mean * scale if beta is None else beta - mean * scale
    weight = insert_constant(module, node, scale.reshape(channels, 1, 1, 1))
    bias = insert_constant(module, node, offset)
    pixels = source
    for _ in range(3 - len(shape(source))):
        pixels = insert(module, node, aten.unsqueeze.default, pixels, -1)
    made = insert(module, node, CONV, pixels, weight, bias, [1, 1], [0, 0], [1, 1], channels)
    for _ in range(3 - len(shape(source))):
        made = insert(module, node, aten.squeeze.dim, made, -1)
    substitute(module, node, made)


RULES: dict[Any, Rule] = {
    aten.relu.default: _bounded(0.0, None),
    aten.relu6.default: _bounded(0.0, 6.0),
    aten.hardtanh.default: _hardtanh,
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: _clamp,
    aten.add.Tensor: _add,
    aten.mul.Tensor: _scale,
    aten.div.Tensor: _scale,
    aten.conv2d.default: _conv,
    aten.conv2d.padding: _conv,
    **dict.fromkeys(_ONE_DIMENSIONAL, _one_dimensional),
    aten.matmul.default: _matmul,
    aten.bmm.default: _matmul,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.scaled_dot_product_attention.default: _attention,
    aten.softmax.int: _softmax,
    aten.special_softmax.default: _softmax,
    aten._softmax.default: _softmax,
    aten.mean.dim: _mean,
    aten.adaptive_avg_pool2d.default: _adaptive,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.squeeze.default: _squeeze,
    aten.pad.default: _pad,
    aten.cat.default: _cat,
    aten.concat.default: _cat,
    aten.concatenate.default: _cat,
    aten.stack.default: _stack,
    operator.getitem: _part,
}
