"""Rewrites an exported graph into the few operators that the quantizer and the lowering know.

Afterwards a graph consists of ``conv2d``, ``linear``, ``add``, ``clamp`` (every activation),
``max_pool2d``, ``avg_pool2d``, ``flatten`` and ``batch_norm`` directly behind a convolution or a
linear layer; anything else has been refused with the name of its layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule, Node

from .aten import (
    ADD,
    AVG_POOL,
    BATCH_NORM,
    CLAMP,
    CONV,
    FLATTEN,
    LINEAR,
    MAX_POOL,
    argument,
    aten,
    constant,
    layer_name,
    operand,
    pair,
    shape,
    unsupported,
)
from .errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

_KNOWN = {CONV, LINEAR, ADD, CLAMP, MAX_POOL, AVG_POOL, FLATTEN, BATCH_NORM}
_SIZES = {aten.sym_size.int}
_ERASED = {
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.alpha_dropout.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.alias.default,
}
_VIEWS = {
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
}
_SUPPORTED = (
    "conv2d, linear, relu, relu6, hardtanh, clamp, add, max_pool2d, avg_pool2d, "
    "adaptive_avg_pool2d, mean over height and width, flatten, batch norm and dropout are"
)


def canonicalize(module: GraphModule) -> None:
    """Rewrite `module` in place.

    Raises
    ------
    UnsupportedOperator
        Names the first operator that has no counterpart.
    ModelError
        The graph does not have one input and one output.
    """
    _check_ends(module)
    _check_in_place(module)
    for node in list(module.graph.nodes):
        if node.op == "call_function":
            _rewrite(module, node)
    for node in list(module.graph.nodes):
        if node.target == CLAMP:
            _hoist(node)
    module.graph.eliminate_dead_code()
    for node in list(module.graph.nodes):
        if node.target == BATCH_NORM:
            _free_batch_norm(module, node)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target not in _KNOWN:
            raise unsupported(node, f"only {_SUPPORTED}")


def _check_ends(module: GraphModule) -> None:
    inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
    (output,) = (n for n in module.graph.nodes if n.op == "output")
    results = output.args[0]
    results = results if isinstance(results, (tuple, list)) else (results,)
    if len(inputs) != 1 or len(results) != 1 or not isinstance(results[0], Node):
        raise ModelError(
            f"the model must take one tensor and return one, not {len(inputs)} and {len(results)}"
        )
    if results[0].op == "placeholder":
        raise ModelError("the model returns its input, so there is nothing to run")
    for node in module.graph.nodes:
        if node.target == BATCH_NORM and argument(node, 5, "training"):
            raise ModelError(
                f"batch norm at {layer_name(node)!r} is in training mode: call eval() before export"
            )


def _check_in_place(module: GraphModule) -> None:
    """Refuse in-place operators whose effect on other views the graph does not show."""
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        if node.op != "call_function" or not _is_in_place(node):
            continue
        chain = [operand(node)]
        while chain[-1].target in _VIEWS | _ERASED:
            chain.append(operand(chain[-1]))
        if any(order[user] > order[node] for base in chain for user in base.users):
            raise unsupported(
                node, "it changes a tensor that is read again; use the out-of-place form"
            )


def _is_in_place(node: Node) -> bool:
    name = str(node.target).split(".")[-2]
    return name.endswith("_") and not name.endswith("__")


def _rewrite(module: GraphModule, node: Node) -> None:
    """Replace `node` by its canonical form, where it has another one."""
    rule = _RULES.get(node.target)
    if rule is not None:
        rule(module, node)
    elif node.target in _ERASED:
        node.replace_all_uses_with(operand(node))
        module.graph.erase_node(node)
    elif node.target in _VIEWS:
        _flatten(module, node)
    elif node.target not in _KNOWN | _SIZES:
        raise unsupported(node, f"only {_SUPPORTED}")


def _replace(module: GraphModule, node: Node, target: Any, *args: Any) -> Node:
    with module.graph.inserting_before(node):
        new = module.graph.call_function(target, args)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return new


def _clamp(least: float | None, most: float | None) -> Callable[[GraphModule, Node], None]:
    def rule(module: GraphModule, node: Node) -> None:
        _replace(module, node, CLAMP, node.args[0], least, most)

    return rule


def _hardtanh(module: GraphModule, node: Node) -> None:
    least, most = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    _replace(module, node, CLAMP, node.args[0], float(least), float(most))


def _clamp_rule(module: GraphModule, node: Node) -> None:
    bounds = [argument(node, 1, "min"), argument(node, 2, "max")]
    least, most = (None if bound is None else float(bound) for bound in bounds)
    _replace(module, node, CLAMP, node.args[0], least, most)


def _add(module: GraphModule, node: Node) -> None:
    left, right = node.args[:2]
    if not (isinstance(left, Node) and isinstance(right, Node)) or node.kwargs.get("alpha", 1) != 1:
        raise unsupported(node, "only the plain sum of two tensors is")
    for side in (left, right):
        if side.op == "get_attr" or shape(side) != shape(node):
            raise unsupported(node, "both operands must be activations of the same shape")
    _replace(module, node, ADD, left, right)


def _conv(module: GraphModule, node: Node) -> None:
    padding = argument(node, 4, "padding", 0)
    weight = operand(node, 1).meta["val"].shape
    dilation = pair(argument(node, 5, "dilation", 1))
    if padding == "valid":
        padding = 0
    elif padding == "same":
        extents = [d * (int(k) - 1) for d, k in zip(dilation, weight[2:], strict=True)]
        if any(extent % 2 for extent in extents):
            raise unsupported(node, "padding 'same' needs an odd kernel")
        padding = [extent // 2 for extent in extents]
    _replace(
        module,
        node,
        CONV,
        node.args[0],
        node.args[1],
        argument(node, 2, "bias"),
        list(pair(argument(node, 3, "stride", 1))),
        list(pair(padding)),
        list(dilation),
        argument(node, 6, "groups", 1),
    )


def _linear(module: GraphModule, node: Node) -> None:
    if len(shape(operand(node))) != 1:
        raise unsupported(node, "a linear layer needs a flattened input [N, features]")


def _flatten(module: GraphModule, node: Node) -> None:
    source = operand(node)
    before, after = shape(source), shape(node)
    count = 1
    for size in before:
        count *= size
    if after == before:
        node.replace_all_uses_with(source)
        module.graph.erase_node(node)
    elif after == (count,) and node.meta["val"].shape[0] == source.meta["val"].shape[0]:
        _replace(module, node, FLATTEN, source, 1)
    else:
        raise unsupported(node, "only flattening to [N, features] is")


def _mean(module: GraphModule, node: Node) -> None:
    source = operand(node)
    axes = argument(node, 1, "dim", [])
    if len(shape(source)) != 3 or {axis % 4 for axis in axes} != {2, 3}:
        raise unsupported(node, "only the mean over height and width is")
    if shape(source)[1:] == (1, 1):
        pooled = source
    else:
        with module.graph.inserting_before(node):
            pooled = module.graph.call_function(AVG_POOL, (source, list(shape(source)[1:])))
        pooled.meta = dict(node.meta)
        pooled.meta["val"] = source.meta["val"].mean((2, 3), keepdim=True)
    if len(shape(node)) == 1:
        _replace(module, node, FLATTEN, pooled, 1)
    else:
        node.replace_all_uses_with(pooled)
        module.graph.erase_node(node)


def _adaptive(module: GraphModule, node: Node) -> None:
    source = operand(node)
    have, want = shape(source)[1:], shape(node)[1:]
    if have == want:
        node.replace_all_uses_with(source)
        module.graph.erase_node(node)
        return
    if any(h % w for h, w in zip(have, want, strict=True)):
        raise unsupported(node, f"the output size must divide the input size {list(have)}")
    window = [h // w for h, w in zip(have, want, strict=True)]
    _replace(module, node, AVG_POOL, source, window)


_RULES: dict[Any, Callable[[GraphModule, Node], None]] = {
    aten.relu.default: _clamp(0.0, None),
    aten.relu_.default: _clamp(0.0, None),
    aten.relu6.default: _clamp(0.0, 6.0),
    aten.relu6_.default: _clamp(0.0, 6.0),
    aten.hardtanh.default: _hardtanh,
    aten.hardtanh_.default: _hardtanh,
    aten.clamp.default: _clamp_rule,
    aten.clamp_.default: _clamp_rule,
    aten.clamp_min.default: _clamp_rule,
    aten.clamp_min_.default: _clamp_rule,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.conv2d.default: _conv,
    aten.conv2d.padding: _conv,
    aten.linear.default: _linear,
    aten.mean.dim: _mean,
    aten.adaptive_avg_pool2d.default: _adaptive,
}


def _hoist(node: Node) -> None:
    """Move a clamp before the max pool (or flatten) that feeds it: the two commute."""
    while True:
        pool = operand(node)
        if pool.target not in (MAX_POOL, FLATTEN) or len(pool.users) != 1:
            return
        node.replace_all_uses_with(pool)
        node.update_arg(0, pool.args[0])
        pool.update_arg(0, node)
        node.meta["val"] = operand(node).meta["val"]
        pool.prepend(node)


def _free_batch_norm(module: GraphModule, node: Node) -> None:
    """Turn a batch norm that no convolution can absorb into a depthwise 1×1 convolution."""
    source = operand(node)
    if source.target in (CONV, LINEAR) and len(source.users) == 1:
        return
    if len(shape(source)) != 3:
        raise unsupported(node, "a batch norm on vectors must follow a linear layer")
    channels = shape(source)[0]
    gamma, beta, mean, variance = (
        None if node.args[i] is None else constant(module, operand(node, i)) for i in range(1, 5)
    )
    assert mean is not None
    assert variance is not None, "only training mode has no statistics"
    scale = (variance + argument(node, 7, "eps", 1e-5)).rsqrt()
    scale = scale if gamma is None else scale * gamma
    offset = -mean * scale if beta is None else beta - mean * scale
    names = []
    for suffix, value in (("weight", scale.reshape(channels, 1, 1, 1)), ("bias", offset)):
        name = f"_{node.name}_{suffix}"
        module.register_buffer(name, value)
        names.append(name)
    with module.graph.inserting_before(node):
        weight, bias = (module.graph.get_attr(name) for name in names)
    for attribute in (weight, bias):
        attribute.meta["val"] = constant(module, attribute)
    _replace(module, node, CONV, source, weight, bias, [1, 1], [0, 0], [1, 1], channels)
