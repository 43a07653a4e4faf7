"""The torch operators that the front end knows, and readers of graph nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from .errors import UnsupportedOperator

aten = torch.ops.aten

CONV = aten.conv2d.default
LINEAR = aten.linear.default
ADD = aten.add.Tensor
CLAMP = aten.clamp.default
MAX_POOL = aten.max_pool2d.default
AVG_POOL = aten.avg_pool2d.default
FLATTEN = aten.flatten.using_ints
BATCH_NORM = aten.batch_norm.default


def layer_name(node: Node) -> str:
    """The module that `node` comes from, or the node itself where a function was called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if stack:
        path, kind = stack[-1]
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        if path and kind.startswith("torch.nn.modules") and "container" not in kind:
            return path
    return node.name


def shape(node: Node) -> tuple[int, ...]:
    """Shape of `node`'s value without the batch dimension."""
    return tuple(int(size) for size in node.meta["val"].shape[1:])


def argument(node: Node, position: int, name: str, default: Any = None) -> Any:
    """An operator's argument, given by position or by name, or its default."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def pair(value: Any) -> tuple[int, int]:
    """Two integers from an operator's int, [int] or [int, int]."""
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def operand(node: Node, position: int = 0) -> Node:
    """The graph node that is `node`'s argument at `position`."""
    value = node.args[position]
    assert isinstance(value, Node), (node, position)
    return value


def constant(module: torch.nn.Module, node: Node) -> torch.Tensor:
    """The parameter or buffer of `module` that a ``get_attr`` node reads."""
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach()


def unsupported(node: Node, advice: str) -> UnsupportedOperator:
    """The refusal of `node`."""
    return UnsupportedOperator(str(node.target), layer_name(node), advice)
