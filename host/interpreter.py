"""The reference: an exact integer interpreter of the IR, in NumPy.

RTL, golden machine and compiled programs must equal it to the bit. Products are summed by BLAS in
floating point, in a type that holds every partial sum exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hdl.brief import brief
from . import operators
from .errors import ModelError
from .ir import (
    Concat,
    Conv,
    Graph,
    Host,
    MatMul,
    Node,
    Pool,
    Requant,
    Residual,
    Table,
    Tensor,
    sources,
)

if TYPE_CHECKING:
    from .program import Port

#: What max pooling reads outside its input.
_MAX_FILL = -128


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The output of `graph` for a batch.

    Parameters
    ----------
    graph
        A verified graph.
    x
        int8 [N, height, width, channels], as :func:`quantize_input` makes it.

    Returns
    -------
    numpy.ndarray
        int8 [N, height, width, channels] of the output tensor; a vector is a 1×1 map.

    Raises
    ------
    ModelError
        `x` has another dtype or shape than the graph's input.
    """
    return run_all(graph, x)[graph.output]


def run_all(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of `graph` by name, for a batch; see :func:`run`."""
    want = graph.tensors[graph.input].shape
    if not isinstance(x, np.ndarray) or x.dtype != np.int8 or x.shape[1:] != want or not len(x):
        given = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else brief(x)
        raise ModelError(
            f"{graph.name} wants an int8 input of shape [N, {', '.join(map(str, want))}], "
            f"not {given}"
        )
    values = {graph.input: x}
    for node in graph.nodes:
        values[node.output] = evaluate(graph, node, values)
    return values


def evaluate(graph: Graph, node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
    """The output of one node, its inputs taken from `values`; int8 [N, height, width, channels]."""
    first, *others = (values[name] for name in sources(node))
    match node:
        case Conv():
            acc = accumulate(node, first, graph.tensors[node.input].zero_point)
            return requantize(acc, node.requant, node.residual, *others)
        case Pool(mode="max"):
            return _windows(node, _pad(first, node.padding, _MAX_FILL)).max(axis=0)
        case Pool(requant=numbers):
            windows = _windows(
                node, _pad(first, node.padding, graph.tensors[node.input].zero_point)
            )
            assert numbers is not None, node.name
            return requantize(windows.sum(axis=0, dtype=np.int32), numbers)
        case MatMul():
            return requantize(product(node, first, *others), node.requant)
        case Concat():
            return np.concatenate([first, *others], axis=3)
        case Table():
            return node.table[first.astype(np.int16) + 128]
        case Host():
            return operators.apply(node, graph.tensors, [first, *others])


def quantize_input(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Real images as the graph's input.

    Parameters
    ----------
    images
        Real values [N, channels, height, width], [N, tokens, features] for a sequence of tokens,
        or [N, features] for a vector.

    Returns
    -------
    numpy.ndarray
        int8 [N, height, width, channels]: clamp(round(x / scale) + zero point), ties to even.

    Raises
    ------
    ModelError
        `images` are no numbers, of another shape than the graph's input, or NaN.
    """
    tensor = graph.tensors[graph.input]
    return to_levels(images, tensor, tensor.shape, graph.name)


def to_levels(
    images: np.ndarray, tensor: Tensor | Port, shape: tuple[int, int, int], name: str
) -> np.ndarray:
    """As :func:`quantize_input`, for a tensor or port of images of `shape`.

    Parameters
    ----------
    name
        What errors call the network.
    """
    try:
        images = np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the images for {name} are no array of numbers") from error
    if images.dtype.kind not in "biuf":
        raise ModelError(f"the images for {name} are no array of numbers: {images.dtype}")
    given = images.shape
    if images.ndim == 2:
        images = images[:, :, None, None]
    elif images.ndim == 3:
        images = images.transpose(0, 2, 1)[:, :, None]
    height, width, channels = shape
    want = channels, height, width
    if images.ndim != 4 or images.shape[1:] != want:
        raise ModelError(
            f"{name} wants images of shape [N, {', '.join(map(str, want))}], not {list(given)}"
        )
    images = images.astype(np.float64)
    if np.isnan(images).any():
        raise ModelError(f"the images for {name} contain a value that is not a number")
    with np.errstate(over="ignore"):
        levels = np.rint(images / tensor.scale) + tensor.zero_point
    return np.clip(levels, -128, 127).astype(np.int8).transpose(0, 2, 3, 1).copy()


def dequantize(graph: Graph, name: str, values: np.ndarray) -> np.ndarray:
    """Real values, float64, of INT8 `values` of tensor `name`."""
    return to_real(graph.tensors[name], values)


def to_real(tensor: Tensor | Port, values: np.ndarray) -> np.ndarray:
    """As :func:`dequantize`, for any tensor or port."""
    return (values.astype(np.float64) - tensor.zero_point) * tensor.scale


def requantize(
    acc: np.ndarray,
    requant: Requant,
    operand: Residual | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """:func:`weft.hdl.numerics.requantize` with every channel (last axis) at once.

    Parameters
    ----------
    acc
        Integers that fit 32 bits, [..., channels].
    operand, residual
        The residual's numbers and its int8 values of the same shape, or None.
    """
    total = (acc.astype(np.int64) + requant.bias) * requant.multiplier
    if operand is not None:
        assert residual is not None
        term = (residual.astype(np.int64) - operand.zero_point) * operand.multiplier
        total += term << (requant.shift - operand.shift)
    total += (np.int64(1) << requant.shift) >> 1
    total >>= requant.shift
    total += requant.zero_point
    return np.clip(total, requant.low, requant.high).astype(np.int8)


def accumulate(node: Conv, x: np.ndarray, zero_point: int) -> np.ndarray:
    """Convolution without bias: int32 [N, height, width, channels], wrap-around.

    Outside its bounds `x` reads `zero_point`.
    """
    out, kernel_h, kernel_w, depth = node.weight.shape
    padded = _pad(x, node.padding, zero_point)
    height = _extent(padded.shape[1], kernel_h, node.stride[0], node.dilation[0])
    width = _extent(padded.shape[2], kernel_w, node.stride[1], node.dilation[1])
    groups, per = node.groups, out // node.groups
    kind = _exact(int(np.abs(node.weight.reshape(out, -1).astype(np.int64)).sum(1).max()) * 128)
    weight = node.weight.reshape(groups, per, kernel_h, kernel_w, depth)
    acc = np.zeros((groups, len(x) * height * width, per), kind)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            first = ky * node.dilation[0], kx * node.dilation[1]
            pixels = _shifted(padded, first, (height, width), node.stride)
            pixels = pixels.reshape(-1, groups, depth).transpose(1, 0, 2).astype(kind)
            acc += np.matmul(pixels, weight[:, :, ky, kx].transpose(0, 2, 1).astype(kind))
    acc = acc.transpose(1, 0, 2).reshape(len(x), height, width, out)
    return acc.astype(np.int64).astype(np.int32)


def product(node: MatMul, x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sums of a matrix product in heads: int32 [N, height, width, channels] of its output."""
    batch, heads = len(x), node.heads
    other = other.reshape(batch, other.shape[2], heads, -1)
    if node.transposed:
        x = x.reshape(batch, x.shape[2], heads, -1).transpose(0, 2, 1, 3)
        other = other.transpose(0, 2, 3, 1)
    else:
        other = other.transpose(0, 2, 1, 3)
    kind = _exact(x.shape[3] << 14)
    out = np.matmul(x.astype(kind), other.astype(kind))  # [N, heads, M, N or D]
    if not node.transposed:
        out = out.transpose(0, 2, 1, 3).reshape(batch, 1, out.shape[2], -1)
    return out.astype(np.int32)


def _exact(bound: int) -> type[np.float32] | type[np.float64]:
    """The type whose integers reach `bound`, the largest magnitude of a partial sum."""
    return np.float32 if bound <= 1 << 24 else np.float64


def _pad(x: np.ndarray, padding: tuple[int, int, int, int], fill: int) -> np.ndarray:
    top, left, bottom, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def _extent(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def _shifted(
    x: np.ndarray, first: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]
) -> np.ndarray:
    """Every stride-th pixel from `first` on, size[0] × size[1] of them."""
    rows, columns = (
        slice(at, at + (count - 1) * step + 1, step)
        for at, count, step in zip(first, size, stride, strict=True)
    )
    return x[:, rows, columns]


def _windows(node: Pool, padded: np.ndarray) -> np.ndarray:
    """The pixels under each window position: [taps, N, height, width, channels]."""
    height = _extent(padded.shape[1], node.kernel[0], node.stride[0])
    width = _extent(padded.shape[2], node.kernel[1], node.stride[1])
    return np.stack(
        [
            _shifted(padded, (ky, kx), (height, width), node.stride)
            for ky in range(node.kernel[0])
            for kx in range(node.kernel[1])
        ]
    )
