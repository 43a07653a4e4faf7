"""The lowering of what only the host computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.fx.node import map_arg
from torch.utils import _pytree

from .arrays import BINARY, logical, result_of
from .aten import aten, layer_name, unsupported
from .fallback import encode
from .ir import Host, Tensor
from .pending import Deferred, Value

if TYPE_CHECKING:
    from torch.fx import Node as FxNode

    from .lowering import Lowering

_ARITHMETIC = {
    getattr(getattr(aten, name), overload): name
    for name, overload in (
        ("add", "Tensor"), ("sub", "Tensor"), ("mul", "Tensor"), ("div", "Tensor"),
        ("maximum", "default"), ("minimum", "default"),
    )
}  # fmt: skip
assert set(_ARITHMETIC.values()) == set(BINARY)


def on_host(walk: Lowering, node: FxNode) -> Deferred:
    """The call of `node` on the host: arithmetic by name, any other operator through torch.

    Raises
    ------
    UnsupportedOperator
        It does not make one tensor of real numbers, or its arguments cannot be written down.
    """
    target: Any = node.target
    args, kwargs = walk.arguments(node)
    activations: list[FxNode] = []
    map_arg((args, kwargs), activations.append)
    activations = list(dict.fromkeys(activations))
    values = {source: walk.builder.strided(walk.value(source)) for source in activations}
    result = _try(node, args, kwargs, values)
    size = tuple(result.shape)
    pairs = [(value.tensor, value.view) for value in values.values()]
    shape, view = result_of(size, next((p for p in pairs if p[1].size == size), None))
    if target in _ARITHMETIC and not kwargs and result.dtype == torch.float32:
        constants = tuple(
            np.asarray(side, np.float64) for side in args if not isinstance(side, torch.fx.Node)
        )
        sides = [values[side] for side in args if isinstance(side, torch.fx.Node)]
        first = int(isinstance(args[0], torch.fx.Node))
        attributes = {"result": view.as_json(), **({"constant": first} if constants else {})}

        def arithmetic(name: str, out: Tensor) -> Host:
            operands = [(side.tensor, side.view) for side in sides]
            made = logical(name, _ARITHMETIC[target], operands, out, **attributes)
            return replace(made, constants=constants)

        return Deferred(layer_name(node), shape, view, arithmetic)
    arrays: list[torch.Tensor] = []

    def number(source: Any) -> Any:
        if isinstance(source, torch.Tensor):
            arrays.append(source)
            return _Array(len(arrays) - 1)
        return source

    try:
        numbered = _pytree.tree_map(number, (args, kwargs))
        inputs = {source: i for i, source in enumerate(activations)}
        constants = {_Array(i): i for i in range(len(arrays))}
        arguments, keywords = (
            {key: encode(item, inputs, constants) for key, item in part.items()}
            if isinstance(part, dict)
            else encode(part, inputs, constants)
            for part in numbered
        )
    except TypeError as error:
        raise unsupported(node, f"the host cannot keep its arguments: {error}") from error
    attributes = {"result": view.as_json(), "arguments": arguments, "keywords": keywords}

    def call(name: str, out: Tensor) -> Host:
        made = logical(name, str(target), pairs, out, **attributes)
        return replace(made, constants=tuple(array.numpy() for array in arrays))

    return Deferred(layer_name(node), shape, view, call)


@dataclass(frozen=True)
class _Array:
    """A constant among the arguments, by its number."""

    index: int


def _try(node: FxNode, args: Any, kwargs: Any, values: dict[FxNode, Value]) -> torch.Tensor:
    """The result of `node` for zeros of the sizes that one image has."""
    target: Any = node.target
    args, kwargs = map_arg((args, kwargs), lambda n: torch.zeros(values[n].view.size))
    try:
        with torch.no_grad():
            result = target(*args, **kwargs)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise unsupported(node, f"for a batch of one it fails: {first}") from error
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        raise unsupported(node, "it does not make one tensor of real numbers")
    return result
