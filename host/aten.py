"""The torch operators that the front end knows, and readers of graph nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from .errors import UnsupportedOperator

aten = torch.ops.aten

CONV = aten.conv2d.default
LINEAR = aten.linear.default
MATMUL = aten.matmul.default
ADD = aten.add.Tensor
SCALE = aten.mul.Scalar  # by a positive number
CLAMP = aten.clamp.default
MAX_POOL = aten.max_pool2d.default
AVG_POOL = aten.avg_pool2d.default
BATCH_NORM = aten.batch_norm.default
LAYER_NORM = aten.layer_norm.default
SOFTMAX = aten.softmax.int
CAT = aten.cat.default
PAD = aten.constant_pad_nd.default
SIZE = aten.sym_size.int

#: Key of the name, in a rewritten node's meta, that the node had in the exported graph.
ORIGIN = "weft_origin"
#: Views whose result shows the same elements in the same order.
RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
}
#: Views that permute, repeat or select elements.
SLICES = {
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.numpy_T.default,
    aten.movedim.int,
    aten.movedim.intlist,
    aten.swapaxes.default,
    aten.swapdims.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.narrow.default,
    aten.expand.default,
}
VIEWS = RESHAPES | SLICES
#: Operators that move elements, and may add zeros.
MOVES = {
    PAD,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.channel_shuffle.default,
    aten.flip.default,
    aten.roll.default,
    aten.repeat.default,
    aten.repeat_interleave.self_int,
    aten.reflection_pad2d.default,
    aten.replication_pad2d.default,
    aten.index_select.default,
}
#: Operators whose result has the scale of their input.
KEEPERS = VIEWS | MOVES | {MAX_POOL, CAT}


def layer_name(node: Node) -> str:
    """The module that `node` comes from, or the node itself where a function was called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if stack:
        path, kind = stack[-1]
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        if path and kind.startswith("torch.nn.modules") and "container" not in kind:
            return path
    return node.meta.get(ORIGIN, node.name)


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


def is_tensor(node: Node) -> bool:
    """Whether `node` makes one tensor; other nodes make sizes."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def constants(graph: torch.fx.Graph) -> set[Node]:
    """The tensors of `graph` that do not depend on the model's input, but perhaps on its sizes."""
    found: set[Node] = set()
    for node in graph.nodes:
        tensors = [source for source in node.all_input_nodes if is_tensor(source)]
        made = node.op == "call_function" and is_tensor(node) and set(tensors) <= found
        if node.op == "get_attr" or made:
            found.add(node)
    return found


def unsupported(node: Node, advice: str) -> UnsupportedOperator:
    """The refusal of `node`."""
    return UnsupportedOperator(str(node.target), layer_name(node), advice)
