"""Host operators on arrays as torch sees them: moving elements, joining, and arithmetic of two.

Everything is exact: moving and joining keep the bytes, arithmetic is one rounding in float64 from
levels to levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ir import Host, Tensor
from .views import MOST_STRIDE, View, canonical, from_json

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Operator names, and what they compute from two arrays of real numbers.
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def same_scale(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    """Raise ValueError where a tensor has not the output's scale and zero point."""
    for source in inputs:
        if (source.scale, source.zero_point) != (output.scale, output.zero_point):
            raise ValueError(f"{node.operator} keeps scale and zero point")


# -- gather ------------------------------------------------------------------------------------


def gather(name: str, source: Tensor, target: Tensor, index: np.ndarray) -> Host:
    """``y[i] = x[index[i]]`` over the elements of one image in order; index −1 reads zero.

    Parameters
    ----------
    index
        int64, of the target's shape.
    """
    index = index.reshape(target.shape)
    origin, steps = int(index[0, 0, 0]), []
    for axis, size in enumerate(target.shape):
        second = tuple(int(other == axis) for other in range(3))
        steps.append(int(index[second]) - origin if size > 1 else 0)
    made = origin + sum(
        step * np.arange(size).reshape([-1 if other == axis else 1 for other in range(3)])
        for axis, (step, size) in enumerate(zip(steps, target.shape, strict=True))
    )
    inputs = (source.name,)
    if origin >= 0 and np.array_equal(made, index):
        attributes = {"offset": origin, "strides": steps}
        return Host(name, inputs, target.name, "gather", attributes)
    constant = index.reshape(-1).astype(np.int32)
    return Host(name, inputs, target.name, "gather", constants=(constant,))


def _index(node: Host, output: Tensor) -> np.ndarray:
    """The index of a gather, int64 of the output's shape."""
    if node.constants:
        return node.constants[0].astype(np.int64).reshape(output.shape)
    y, x, c = np.ogrid[: output.height, : output.width, : output.channels]
    strides = node.attributes["strides"]
    return node.attributes["offset"] + y * strides[0] + x * strides[1] + c * strides[2]


def check_gather(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    if len(inputs) != 1:
        raise ValueError("gather reads one tensor")
    same_scale(node, inputs, output)
    elements = output.height * output.width * output.channels
    if node.constants:
        (constant,) = node.constants
        if constant.dtype != np.int32 or constant.shape != (elements,):
            raise ValueError(f"gather's index must be int32 [{elements}]")
        least, most = int(constant.min()), int(constant.max())
    else:
        numbers = [node.attributes.get("offset"), *node.attributes.get("strides", ())]
        if len(numbers) != 4 or not all(isinstance(number, int) for number in numbers):
            raise ValueError("gather has an index, or an offset and three strides")
        if max(map(abs, numbers)) > MOST_STRIDE:
            raise ValueError(f"gather's strides are at most {MOST_STRIDE}")
        offset, *strides = numbers
        steps = [stride * (size - 1) for stride, size in zip(strides, output.shape, strict=True)]
        least = offset + sum(step for step in steps if step < 0)
        most = offset + sum(step for step in steps if step > 0)
    source = inputs[0]
    if least < -1 or most >= source.height * source.width * source.channels:
        raise ValueError("gather reads outside its input")


def run_gather(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    index = _index(node, output)
    (x,) = values
    out = x.reshape(len(x), -1)[:, index]
    out[:, index < 0] = inputs[0].zero_point
    return out


# -- arrays as torch sees them -----------------------------------------------------------------


def logical(
    name: str, operator: str, operands: Sequence[tuple[Tensor, View]], target: Tensor, **attributes
) -> Host:
    """A node of an operator that sees its operands, and its result, as torch does."""
    return Host(
        name,
        tuple(tensor.name for tensor, _ in operands),
        target.name,
        operator,
        {"views": [view.as_json() for _, view in operands], **attributes},
    )


def views(node: Host, inputs: Sequence[Tensor], output: Tensor) -> tuple[list[View], View]:
    """How the operands and the result of a node look to torch.

    Raises
    ------
    ValueError
        A view is broken, or reaches outside its tensor; or the result's does not fill the output.
    """
    entries = node.attributes.get("views")
    if not isinstance(entries, list) or len(entries) != len(inputs):
        raise ValueError(f"{node.operator} has a view of each input")
    found = [from_json(entry) for entry in entries]
    for view, tensor in zip(found, inputs, strict=True):
        last = view.offset + sum(
            (count - 1) * stride for count, stride in zip(view.shape, view.strides, strict=True)
        )
        if last >= tensor.height * tensor.width * tensor.channels:
            raise ValueError(f"a view of {tensor.name!r} reaches outside of it")
    result = from_json(node.attributes.get("result"))
    if not result.whole(output.height * output.width * output.channels):
        raise ValueError(f"the result does not fill {output.name!r}")
    return found, result


def store(node: Host, output: Tensor, results: np.ndarray) -> np.ndarray:
    """Torch's results [N, …] of one image each, as the int8 output."""
    return from_json(node.attributes["result"]).write(results, output.shape)


def operands(node: Host, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Torch's arrays [N, *size] of the node's inputs."""
    pairs = zip(node.attributes["views"], values, strict=True)
    return [from_json(entry).read(value) for entry, value in pairs]


def levels(real: np.ndarray, tensor: Tensor) -> np.ndarray:
    """INT8 levels of real numbers: rounded to even, clamped; not a number becomes zero."""
    with np.errstate(invalid="ignore"):
        out = np.rint(real / tensor.scale) + tensor.zero_point
    return np.nan_to_num(out, nan=tensor.zero_point).clip(-128, 127).astype(np.int8)


def reals(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Real numbers, float64, of INT8 levels."""
    return (values.astype(np.float64) - tensor.zero_point) * tensor.scale


# -- concatenation along any axis --------------------------------------------------------------


def check_cat(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    same_scale(node, inputs, output)
    found, result = views(node, inputs, output)
    axis = node.attributes.get("axis")
    sizes = [list(view.size) for view in (*found, result)]
    if not isinstance(axis, int) or not all(0 <= axis < len(size) for size in sizes):
        raise ValueError("cat has the number of an axis")
    joined = [size.pop(axis) for size in sizes]
    if sum(joined[:-1]) != joined[-1] or any(size != sizes[0] for size in sizes):
        raise ValueError("the inputs of cat do not give its output")


def run_cat(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    joined = np.concatenate(operands(node, values), axis=node.attributes["axis"] + 1)
    return store(node, output, joined)


# -- arithmetic --------------------------------------------------------------------------------


def check_binary(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    found, result = views(node, inputs, output)
    sizes = [view.size for view in found] + [array.shape for array in node.constants]
    if len(sizes) != 2 or any(array.dtype != np.float64 for array in node.constants):
        raise ValueError(f"{node.operator} has two operands, tensors or float64 constants")
    if node.attributes.get("constant", 1) not in (0, 1):
        raise ValueError(f"{node.operator}'s constant is its operand 0 or 1")
    try:
        fits = np.broadcast_shapes(*sizes) == result.size
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"the operands of {node.operator} do not give its output")


def run_binary(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    arrays = [
        reals(array, tensor) for array, tensor in zip(operands(node, values), inputs, strict=True)
    ]
    rank = max(array.ndim - 1 for array in arrays)
    arrays = [
        array.reshape(len(array), *(1,) * (rank + 1 - array.ndim), *array.shape[1:])
        for array in arrays
    ]
    if node.constants:
        arrays.insert(int(node.attributes.get("constant", 1)), node.constants[0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        result = BINARY[node.operator](*arrays)
    return store(node, output, levels(result, output))


def result_of(size: tuple[int, ...], like: tuple[Tensor, View] | None) -> tuple[tuple, View]:
    """Shape and view of a result of `size`: those of an operand of that size, else canonical."""
    if like is not None and like[1].size == size:
        tensor, view = like
        if view.whole(tensor.height * tensor.width * tensor.channels):
            return tensor.shape, view
    return canonical(size)
