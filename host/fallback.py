"""Any operator of torch, on the host: dequantize, call it, quantize.

A node's operator is the ATen name, its attributes hold the arguments as JSON, where
``{"input": i}`` is an activation and ``{"constant": i}`` an array of the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.brief import one_line
from .arrays import levels, operands, reals, store, views
from .errors import ModelError
from .ir import Host, Tensor
from .views import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PREFIX = "aten."
#: Types of torch that an argument may be.
_DTYPES = ("float32", "float64", "float16", "bfloat16")


def encode(value: Any, inputs: dict[Any, int], constants: dict[Any, int]) -> Any:
    """An argument as JSON; `inputs` and `constants` number the graph nodes that are arrays.

    Raises
    ------
    TypeError
        JSON has no form of it.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(item, inputs, constants) for item in value]
    if value in inputs:
        return {"input": inputs[value]}
    if value in constants:
        return {"constant": constants[value]}
    kind = str(value)
    if kind.removeprefix("torch.") in _DTYPES:
        return {"dtype": kind.removeprefix("torch.")}
    raise TypeError(f"{value!r} has no form in JSON")


def check(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    views(node, inputs, output)
    if not isinstance(node.attributes.get("arguments"), list) or not isinstance(
        node.attributes.get("keywords"), dict
    ):
        raise ValueError(f"{node.operator} has arguments and keywords")
    if node.operator.count(".") != 2:
        raise ValueError(f"{node.operator!r} is not the name of an operator and its overload")

    def numbered(index: Any, count: int) -> None:
        if not isinstance(index, int) or not 0 <= index < count:
            raise ValueError(f"{node.operator} has an argument that does not exist")

    def resolve(kind: str, index: Any) -> None:
        if kind == "dtype":
            if index not in _DTYPES:
                raise ValueError(f"{node.operator} has a type that does not exist")
        else:
            numbered(index, len(inputs) if kind == "input" else len(node.constants))

    _decode([node.attributes["arguments"], node.attributes["keywords"]], resolve)


def run(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{node.name}: {node.operator} runs on the host with torch: pip install -e '.[torch]'"
        ) from error
    function = _function(node)
    arrays = [
        torch.from_numpy(reals(array, tensor).astype(np.float32))
        for array, tensor in zip(operands(node, values), inputs, strict=True)
    ]
    constants = [torch.from_numpy(array) for array in node.constants]
    results = []
    for image in range(len(values[0])):

        def resolve(kind: str, index: Any, image: int = image) -> Any:
            if kind == "dtype":
                return getattr(torch, index)
            return arrays[index][image] if kind == "input" else constants[index]

        arguments = _decode(node.attributes["arguments"], resolve)
        keywords = _decode(node.attributes["keywords"], resolve)
        try:
            with torch.no_grad():
                result = function(*arguments, **keywords)
            results.append(result.to(torch.float64).numpy().reshape(_size(node)))
        except Exception as error:  # torch's operators raise whatever they like
            raise ModelError(
                f"{node.name}: torch cannot compute {node.operator}: {one_line(error)}"
            ) from error
    return store(node, output, levels(np.stack(results), output))


def _size(node: Host) -> tuple[int, ...]:
    return from_json(node.attributes["result"]).size


def _function(node: Host) -> Any:
    """The operator, if it only computes: a file may name any, also those that write files."""
    import torch

    _, name, overload = node.operator.split(".")
    try:
        function = getattr(getattr(torch.ops.aten, name), overload)
        schema = function._schema
        pure = not schema.is_mutable and [str(r.type) for r in schema.returns] == ["Tensor"]
        takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    except (AttributeError, RuntimeError) as error:
        raise ModelError(f"{node.name}: torch has no operator {node.operator}") from error
    if not (pure and takes):
        raise ModelError(f"{node.name}: {node.operator} does not make one tensor of others")
    return function


def _decode(value: Any, resolve: Callable[[str, Any], Any]) -> Any:
    """An argument from JSON, its arrays and types found by `resolve`."""
    if isinstance(value, list):
        return [_decode(item, resolve) for item in value]
    if isinstance(value, dict) and set(value) & {"input", "constant", "dtype"}:
        ((kind, index),) = value.items()
        return resolve(kind, index)
    if isinstance(value, dict):
        return {key: _decode(item, resolve) for key, item in value.items()}
    return value
