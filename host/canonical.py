"""Rewrites an exported graph into fewer forms, for the quantizer and the lowering.

Afterwards every activation function that clamps is ``clamp``, every average ``avg_pool2d``, every
product of activations ``matmul``; attention is matmul, softmax, matmul; dropout and copies are
gone; a ``batch_norm`` stands directly behind a convolution or a linear layer; what does not depend
on the input is a constant. Views and operators that the accelerator does not know stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .aten import (
    BATCH_NORM,
    CLAMP,
    MAX_POOL,
    VIEWS,
    argument,
    aten,
    constants,
    is_tensor,
    layer_name,
    operand,
    unsupported,
)
from .errors import ModelError
from .rewrites import RULES, free_batch_norm, insert_constant

if TYPE_CHECKING:
    from collections.abc import Iterable

_ERASED = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.alias.default,
    aten.lift_fresh_copy.default,
}


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
    for node in _calls(module):
        if _is_in_place(node):
            _out_of_place(node)
        if node.target in _ERASED or (node.target in VIEWS and _changes_nothing(node)):
            node.replace_all_uses_with(operand(node))
            module.graph.erase_node(node)
        elif _returns_nothing(node):
            module.graph.erase_node(node)
    _fold(module)
    for node in _calls(module):
        RULES.get(node.target, lambda *_: None)(module, node)
    module.graph.eliminate_dead_code()
    _fold(module)
    for node in _calls(module):
        if node.target == CLAMP:
            hoist(node)
    for node in _calls(module):
        if node.target == BATCH_NORM:
            free_batch_norm(module, node)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def _calls(module: GraphModule) -> Iterable[Node]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


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
    for node in _calls(module):
        if not _is_in_place(node):
            continue
        chain = [operand(node)]
        while chain[-1].target in VIEWS | _ERASED:
            chain.append(operand(chain[-1]))
        if any(order[user] > order[node] for base in chain for user in base.users):
            raise unsupported(
                node, "it changes a tensor that is read again; use the out-of-place form"
            )


def _is_in_place(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    name = node.target._schema.name
    return name.endswith("_") and not name.endswith("__")


def _out_of_place(node: Node) -> None:
    """Call the operator that returns what this one writes."""
    target: Any = node.target
    name = target._schema.name.removeprefix("aten::").rstrip("_")
    plain = getattr(getattr(aten, name, None), target._overloadname, None)
    if plain is None:
        raise unsupported(node, "it has no out-of-place form; compute it another way")
    node.target = plain


def _changes_nothing(node: Node) -> bool:
    """Whether a reshape keeps the shape."""
    source = operand(node)
    reshapes = (aten.view.default, aten.reshape.default, aten.flatten.using_ints)
    return node.target in reshapes and tuple(node.meta["val"].shape) == tuple(
        source.meta["val"].shape
    )


def _returns_nothing(node: Node) -> bool:
    """Whether it is an assertion about shapes."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and not target._schema.returns


def _fold(module: GraphModule) -> None:
    """Compute what depends neither on the input nor on its sizes."""
    fixed = constants(module.graph)
    known: dict[Node, Any] = {}
    for node in _calls(module):
        if node not in fixed or not all(source in fixed for source in node.all_input_nodes):
            continue
        if not set(node.all_input_nodes) <= set(known) | {n for n in fixed if n.op == "get_attr"}:
            continue
        with torch.no_grad():
            args, kwargs = map_arg(
                (node.args, node.kwargs), lambda n: known.get(n, _attribute(module, n))
            )
            known[node] = node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
    for node, value in known.items():
        if any(user not in known for user in node.users):
            made = insert_constant(module, node, value)
            node.replace_all_uses_with(made)
    module.graph.eliminate_dead_code()


def _attribute(module: GraphModule, node: Node) -> Any:
    if node.op != "get_attr":
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def hoist(node: Node) -> None:
    """Move a clamp before the max pool or the view that feeds it: they commute."""
    while True:
        pool = operand(node)
        if pool.target not in {MAX_POOL, *VIEWS} or len(pool.users) != 1:
            return
        if not isinstance(pool.args[0], Node) or not is_tensor(pool.args[0]):
            return
        node.replace_all_uses_with(pool)
        node.update_arg(0, pool.args[0])
        pool.update_arg(0, node)
        node.meta["val"] = operand(node).meta["val"]
        pool.prepend(node)
