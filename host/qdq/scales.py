"""Where a model does not say what scale a value has, but the operators around it do.

What only moves levels, or takes the largest, has the scale of its input; and where its result is
quantized but its input is not, quantizing first gives the same levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..aten import (
    ADD,
    CAT,
    CLAMP,
    KEEPERS,
    LINEAR,
    ORIGIN,
    PAD,
    VIEWS,
    argument,
    constant,
    layer_name,
    operand,
)
from ..canonical import hoist
from ..errors import ModelError
from ..rewrites import RULES, insert_constant
from .walk import DEQUANTIZE, QUANTIZE, Scale

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.fx import Node as FxNode


def complete(module: GraphModule) -> None:
    """Rewrite into canonical operators, then add the scales that follow from others.

    Raises
    ------
    ModelError
        The input is read where it is not quantized.
    """
    for node in _calls(module):
        RULES.get(node.target, lambda *_: None)(module, node)
    for node in _calls(module):
        if node.target == ADD:
            _fuse_bias(module, node)
        if node.target == CLAMP and _scale(operand(node)) is None:
            hoist(node)
    for node in reversed(_calls(module)):
        if node.target == QUANTIZE:
            _quantize_first(module, node)
    for node in _calls(module):
        if node.target == CAT:
            _one_scale(module, node)
        if node.target in KEEPERS - VIEWS or node.target == CLAMP:
            _pass_on(module, node)
    _check_input(module)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def _calls(module: GraphModule) -> list[FxNode]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


def _scale(node: FxNode) -> Scale | None:
    """The scale of what a dequantize, or a view of one, gives."""
    while node.target in VIEWS:
        node = operand(node)
    return _of(node) if node.target == DEQUANTIZE else None


def _of(node: FxNode) -> Scale:
    return Scale(float(node.args[1]), int(node.args[2]))  # pyright: ignore[reportArgumentType]


def _pair(module: GraphModule, source: FxNode, before: FxNode, scale: Scale) -> FxNode:
    """Quantize and dequantize `source`, in front of `before`."""
    with module.graph.inserting_before(before):
        quantized = module.graph.call_function(QUANTIZE, (source, *scale.arguments))
        node = module.graph.call_function(DEQUANTIZE, (quantized, *scale.arguments))
    for new in (quantized, node):
        new.meta = {"val": source.meta["val"], ORIGIN: layer_name(source)}
    return node


def _fuse_bias(module: GraphModule, add: FxNode) -> None:
    """A vector added to a product with a constant matrix is its bias."""
    for linear, bias in (add.args[:2], add.args[1::-1]):
        if not isinstance(linear, torch.fx.Node) or not isinstance(bias, torch.fx.Node):
            continue
        if linear.target != LINEAR or len(linear.users) > 1 or argument(linear, 2, "bias"):
            continue
        size = bias.meta["val"].shape
        outputs = linear.meta["val"].shape[-1]
        if bias.op != "get_attr" or size.numel() != outputs or size[-1:] != (outputs,):
            continue
        vector = insert_constant(module, add, constant(module, bias).reshape(-1))
        with module.graph.inserting_before(add):
            made = module.graph.call_function(LINEAR, (*linear.args[:2], vector))
        made.meta = dict(linear.meta)
        add.replace_all_uses_with(made)
        module.graph.erase_node(add)
        return


def _keeps(node: FxNode) -> bool:
    return node.target in KEEPERS and not (node.target == PAD and argument(node, 2, "value", 0))


def _quantize_first(module: GraphModule, node: FxNode) -> None:
    """Quantize what a pool, a concatenation or a view reads, if only its result is quantized."""
    source = operand(node)
    if source.op != "call_function" or not _keeps(source) or len(source.users) > 1:
        return
    scale = _of(node)
    for value in set(source.all_input_nodes):
        if value.op == "get_attr" or value.target == DEQUANTIZE or _scale(value) is not None:
            continue
        made = _pair(module, value, source, scale)
        source.replace_input_with(value, made)
        _quantize_first(module, operand(made))


def _one_scale(module: GraphModule, node: FxNode) -> None:
    """Give what a concatenation joins the scale that its result is quantized to."""
    scales = {_of(user) for user in node.users if user.target == QUANTIZE}
    if len(scales) != 1 or len(scales) != len({user.target for user in node.users}):
        return
    (scale,) = scales
    parts: Any = node.args[0]
    made = [
        part
        if part.op == "get_attr" or _scale(part) in (None, scale)
        else _pair(module, part, node, scale)
        for part in parts
    ]
    node.update_arg(0, made)


def _pass_on(module: GraphModule, node: FxNode) -> None:
    """Quantize the result of what keeps levels, to the scale that its operands have."""
    if node.target == CLAMP:
        if all(user.target == QUANTIZE for user in node.users):
            return
    elif not _keeps(node):
        return
    values = node.all_input_nodes
    if node.target != CAT:
        values = [value for value in values if value.op != "get_attr"]
    scales = {_scale(value) for value in values}
    if len(scales) != 1:
        return
    (scale,) = scales
    if scale is None or (node.target == CLAMP and not _on_levels(node, scale)):
        return
    users = list(node.users)
    if users and all(user.target == QUANTIZE and _of(user) == scale for user in users):
        return
    made = _pair(module, node, node.next, scale)
    for user in users:
        user.replace_input_with(node, made)


def _on_levels(clamp: FxNode, scale: Scale) -> bool:
    """Whether the bounds of a clamp are levels, or beyond all of them."""
    for bound in (argument(clamp, 1, "min"), argument(clamp, 2, "max")):
        level = 0.0 if bound is None else float(bound) / scale.scale + scale.zero_point
        if -128 < level < 127 and abs(level - round(level)) > 1e-5:
            return False
    return True


def _check_input(module: GraphModule) -> None:
    (entry,) = (node for node in module.graph.nodes if node.op == "placeholder")
    readers = [node for node in entry.users if node.target != QUANTIZE]
    if readers:
        raise ModelError(
            f"{layer_name(readers[0])} reads the input before it is quantized: put QuantizeLinear "
            "and DequantizeLinear behind the input"
        )
    if len({_of(node) for node in entry.users}) > 1:
        raise ModelError("the input is quantized to several scales; quantize it once")
