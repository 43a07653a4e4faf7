"""The reference: an exact integer interpreter of the IR, in NumPy.

RTL, golden machine and compiled programs must equal it to the bit. It computes with integers only.
"""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .ir import Conv, Graph, Node, Pool, Requant, Residual

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
    if x.dtype != np.int8 or x.ndim != 4 or x.shape[1:] != want:
        raise ModelError(
            f"{graph.name} wants an int8 input of shape [N, {', '.join(map(str, want))}], "
            f"not {x.dtype} {list(x.shape)}"
        )
    values = {graph.input: x}
    for node in graph.nodes:
        values[node.output] = evaluate(graph, node, values)
    return values


def evaluate(graph: Graph, node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
    """The output of one node, its inputs taken from `values`; int8 [N, height, width, channels]."""
    x = values[node.input]
    zero = graph.tensors[node.input].zero_point
    if isinstance(node, Conv):
        other = values[node.residual.input] if node.residual is not None else None
        return requantize(accumulate(node, x, zero), node.requant, node.residual, other)
    if node.mode == "max":
        out = _windows(node, _pad(x, node.padding, _MAX_FILL)).max(axis=0)
        return out if node.requant is None else requantize(out, node.requant)
    windows = _windows(node, _pad(x, node.padding, zero))
    assert node.requant is not None, node.name
    return requantize(windows.sum(axis=0, dtype=np.int32), node.requant)


def quantize_input(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Real images as the graph's input.

    Parameters
    ----------
    images
        Real values [N, channels, height, width], or [N, features] where the input is a vector.

    Returns
    -------
    numpy.ndarray
        int8 [N, height, width, channels]: clamp(round(x / scale) + zero point), ties to even.
    """
    tensor = graph.tensors[graph.input]
    images = np.asarray(images, np.float64)
    if images.ndim == 2:
        images = images[:, :, None, None]
    want = (tensor.channels, tensor.height, tensor.width)
    if images.ndim != 4 or images.shape[1:] != want:
        raise ModelError(
            f"{graph.name} wants images of shape [N, {', '.join(map(str, want))}], "
            f"not {list(images.shape)}"
        )
    if np.isnan(images).any():
        raise ModelError(f"the images for {graph.name} contain a value that is not a number")
    levels = np.rint(images / tensor.scale) + tensor.zero_point
    return np.clip(levels, -128, 127).astype(np.int8).transpose(0, 2, 3, 1).copy()


def dequantize(graph: Graph, name: str, values: np.ndarray) -> np.ndarray:
    """Real values, float64, of INT8 `values` of tensor `name`."""
    tensor = graph.tensors[name]
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
    columns = np.stack(
        [
            _shifted(
                padded, (ky * node.dilation[0], kx * node.dilation[1]), (height, width), node.stride
            )
            for ky in range(kernel_h)
            for kx in range(kernel_w)
        ],
        axis=3,
    )  # [N, height, width, taps, channels]
    batch, taps, groups = x.shape[0], kernel_h * kernel_w, node.groups
    pixels = columns.reshape(batch * height * width, taps, groups, depth).astype(np.int32)
    weight = node.weight.reshape(groups, out // groups, taps, depth).astype(np.int32)
    if depth == 1 and out == groups:
        acc = np.einsum("ptg,gt->pg", pixels[..., 0], weight[:, 0, :, 0])
    else:  # einsum's inner product is several times faster than an integer matmul
        pixels = pixels.transpose(2, 0, 1, 3).reshape(groups, -1, taps * depth)
        acc = np.einsum("gpk,gok->pgo", pixels, weight.reshape(groups, -1, taps * depth))
    return acc.reshape(batch, height, width, out)


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
