"""Pointwise functions of one tensor, however many operators spell them: they become tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .aten import (
    ADD,
    AVG_POOL,
    BATCH_NORM,
    CLAMP,
    CONV,
    LINEAR,
    MATMUL,
    SCALE,
    aten,
    constant,
    constants,
    is_tensor,
    operand,
)

_decomposed = torch.ops.quantized_decomposed
_QUANTIZE = _decomposed.quantize_per_tensor.default
_DEQUANTIZE = _decomposed.dequantize_per_tensor.default
_UNTAGGED = {aten.hardswish.default, aten.log_sigmoid.default, aten.rsub.Scalar}
#: What does not make a region a function worth a table: the accelerator has it anyway.
_PLAIN = {ADD, CLAMP, SCALE, _QUANTIZE, _DEQUANTIZE}
_LAYERS = {CONV, LINEAR, MATMUL, ADD, AVG_POOL, BATCH_NORM, SCALE}


@dataclass(frozen=True)
class Region:
    """A function of one tensor.

    Parameters
    ----------
    name
        The operators' names, such as ``gelu`` or ``sigmoid+mul``.
    root
        The tensor.
    nodes
        What computes the function, in order; only the last one's value is read elsewhere.
    steps
        The nodes' targets, positional and named arguments, as they were when the region was found.
    numbers
        The constants among the arguments.
    """

    name: str
    root: Node
    nodes: tuple[Node, ...]
    steps: tuple[tuple[Any, Any, Any], ...]
    numbers: dict[Node, torch.Tensor]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The function of each element of `x`, float64."""
        results = {self.root: x.double(), **self.numbers}
        for node, (target, args, kwargs) in zip(self.nodes, self.steps, strict=True):
            args, kwargs = map_arg((args, kwargs), results.__getitem__)
            results[node] = target(*args, **kwargs)
        return results[self.nodes[-1]].double()


def regions(module: GraphModule) -> dict[Node, Region]:
    """The regions of a canonical graph, by their last node; no node is in two.

    Where the graph quantizes in between, so does a region, and it begins with what is dequantized.
    """
    graph = module.graph
    fixed = constants(graph)
    quantized = any(node.target == _DEQUANTIZE for node in graph.nodes)
    found: dict[Node, Region] = {}
    taken: set[Node] = set()
    for node in reversed(graph.nodes):
        if node in taken or node.target in (_QUANTIZE, _DEQUANTIZE):
            continue
        if not _is_pointwise(node, fixed):
            continue
        grown = _grow(node, fixed, {_DEQUANTIZE} if quantized else None)
        if grown is not None:
            found[node] = _region(module, *grown)
            taken.update(grown[1])
    return found


def _is_pointwise(node: Node, fixed: set[Node]) -> bool:
    """Whether `node` computes each element from the elements at the same place, and numbers."""
    target: Any = node.target
    if node.op != "call_function" or node in fixed or not is_tensor(node):
        return False
    known = target in _UNTAGGED or target in (_QUANTIZE, _DEQUANTIZE)
    if not known and torch.Tag.pointwise not in getattr(target, "tags", ()):
        return False
    if target == CLAMP and _fuses(operand(node)):
        return False
    size = node.meta["val"].shape
    for source in node.all_input_nodes:
        if not is_tensor(source):
            return False
        value = source.meta["val"]
        number = source.op == "get_attr" and value.numel() == 1
        if not number and (source in fixed or value.shape != size):
            return False
    return True


def _fuses(node: Node) -> bool:
    """Whether a clamp behind `node` becomes part of it."""
    while node.target == CLAMP and len(node.users) == 1:
        node = operand(node)
    return node.target in _LAYERS and len(node.users) == 1


def _grow(
    last: Node, fixed: set[Node], roots: set[Any] | None
) -> tuple[Node, tuple[Node, ...]] | None:
    """Root and nodes of the largest region that ends at `last`, if one of a single input exists.

    The root is a call of one of `roots`, if there are any.
    """
    order = {node: i for i, node in enumerate(last.graph.nodes)}
    members = {last}
    best: tuple[Node, tuple[Node, ...]] | None = None
    while True:
        inputs = {n for m in members for n in m.all_input_nodes if n not in fixed} - members
        if len(inputs) == 1 and (roots is None or min(inputs).target in roots):
            best = min(inputs), tuple(sorted(members, key=order.__getitem__))
        more = [n for n in inputs if set(n.users) <= members and _is_pointwise(n, fixed)]
        if not more:
            break
        members = members | {max(more, key=order.__getitem__)}
    if best is None or all(node.target in _PLAIN for node in best[1]):
        return None
    return best


def _region(module: GraphModule, root: Node, nodes: tuple[Node, ...]) -> Region:
    levels: dict[Any, Any] = {_QUANTIZE: _quantized, _DEQUANTIZE: _dequantized}
    name = "+".join(str(n.target).split(".")[-2] for n in nodes if n.target not in levels)
    steps = tuple((levels.get(n.target, n.target), n.args, n.kwargs) for n in nodes)
    numbers = {}
    for source in {n for node in nodes for n in node.all_input_nodes} - {root, *nodes}:
        value = constant(module, source).reshape(())
        numbers[source] = value.double() if value.is_floating_point() else value
    return Region(name, root, nodes, steps, numbers)


def _quantized(x: torch.Tensor, scale: float, zero: int, low: int, high: int, _type: Any) -> Any:
    return ((x / scale).round() + zero).clamp(low, high)


def _dequantized(x: torch.Tensor, scale: float, zero: int, *_: Any) -> torch.Tensor:
    return (x - zero) * scale
