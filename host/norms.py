"""Softmax and layer norm in integers: everything real is in the node's constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ir import Host, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Fraction bits of softmax's exponentials.
EXP_BITS = 24
#: Fraction bits of layer norm's gamma and beta.
NORM_BITS = 16
#: Fraction bits of its square root, at most.
MOST_ROOT_BITS = 20


def _check_shapes(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    if len(inputs) != 1 or inputs[0].shape != output.shape:
        raise ValueError(f"{node.operator} maps one tensor to one of the same shape")


# -- softmax -----------------------------------------------------------------------------------


def softmax(name: str, source: Tensor, target: Tensor, seen: np.ndarray | None = None) -> Host:
    """Softmax along channels: ``y = ⌊(2·t[d] + S) / 2S⌋ + z_y`` with ``d = max x − x``.

    ``e[d]`` is exp(−d·s_x) with EXP_BITS fraction bits, ``t[d]`` the same over s_y, and ``S`` the
    sum of e over the channels.

    Parameters
    ----------
    seen
        int8 of the tensor's shape: where it is 0, x takes no part and y is real 0.
    """
    falling = np.exp(-np.arange(256) * source.scale)
    tables = (
        np.rint(falling * real).astype(np.int64)
        for real in (2.0**EXP_BITS, 2.0**EXP_BITS / target.scale)
    )
    constants = (*tables, *(() if seen is None else (seen,)))
    return Host(name, (source.name,), target.name, "softmax", constants=constants)


def check_softmax(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    _check_shapes(node, inputs, output)
    exp, scaled, *mask = node.constants if len(node.constants) > 1 else (np.zeros(0),) * 2
    if any(table.dtype != np.int64 or table.shape != (256,) for table in (exp, scaled)):
        raise ValueError("softmax has two tables, int64 [256]")
    if len(mask) > 1 or any(seen.shape != output.shape or seen.dtype != np.int8 for seen in mask):
        raise ValueError(f"softmax has at most one mask, int8 {list(output.shape)}")
    if mask and not mask[0].any(axis=-1).all():
        raise ValueError("softmax must see a value in every row")
    if exp[0] != 1 << EXP_BITS or min(exp.min(), scaled.min()) < 0 or exp.max() > exp[0]:
        raise ValueError(f"softmax's exponentials lie within [0, 2^{EXP_BITS}], the first is 1")
    if 2 * int(scaled.max()) + output.channels * int(exp[0]) >= 1 << 63:
        raise ValueError("softmax can overflow 64 bits")


def run_softmax(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    exp, scaled, *mask = node.constants
    seen = mask[0] != 0 if mask else np.ones(1, bool)
    x = values[0].astype(np.int64)
    below = np.where(seen, x, -128).max(axis=-1, keepdims=True) - x
    below = np.maximum(below, 0)  # where it is hidden
    total = (exp[below] * seen).sum(axis=-1, keepdims=True)
    y = (2 * scaled[below] * seen + total) // (2 * total) + output.zero_point
    return np.clip(y, -128, 127).astype(np.int8)


# -- layer norm --------------------------------------------------------------------------------


def layer_norm(
    name: str, source: Tensor, target: Tensor, gamma: np.ndarray, beta: np.ndarray, epsilon: float
) -> Host:
    """Layer norm along n channels, with ``c = n·x − Σx`` and ``V = n·Σx² − (Σx)²``:

    ``r = ⌊√(V · 4^k + E)⌋``, at least 1, and
    ``y = ((⌊c·G·2^k / r⌋ + B + 2^(NORM_BITS − 1)) >> NORM_BITS) + z_y``, where E is
    n²·epsilon / s_x² · 4^k, G and B are gamma / s_y and beta / s_y with NORM_BITS fraction bits.
    The square root has k fraction bits, as many as 64 bits allow: without them, rows of a small
    variance would lose a level.
    """
    level = 2.0**NORM_BITS / target.scale
    numbers = tuple(np.rint(real * level).astype(np.int64) for real in (gamma, beta))
    real = source.channels**2 * epsilon / source.scale**2

    def of(bits: int) -> Host:
        attributes = {"epsilon": round(real * 4.0**bits), "root_bits": bits}
        return Host(name, (source.name,), target.name, "layer_norm", attributes, numbers)

    nodes = (of(bits) for bits in range(MOST_ROOT_BITS, -1, -1))
    return next((node for node in nodes if _overflows(node, source.channels) is None), of(0))


def _overflows(node: Host, n: int) -> str | None:
    """What of a layer norm over `n` channels can exceed 64 bits."""
    bits, extra = (node.attributes[key] for key in ("root_bits", "epsilon"))
    gamma, beta = (int(np.abs(numbers).max()) for numbers in node.constants)
    deviation = 255 * n  # of c, and of √V
    if (deviation**2 << (2 * bits)) + extra >= 1 << 62:
        return "layer norm's variance can overflow 64 bits"
    if (deviation * gamma << bits) + beta + (1 << NORM_BITS) >= 1 << 63:
        return "layer norm can overflow 64 bits"
    return None


def check_layer_norm(node: Host, inputs: Sequence[Tensor], output: Tensor) -> None:
    _check_shapes(node, inputs, output)
    n = output.channels
    if len(node.constants) != 2 or any(
        numbers.dtype != np.int64 or numbers.shape != (n,) for numbers in node.constants
    ):
        raise ValueError(f"layer norm has gamma and beta, int64 [{n}]")
    extra, bits = (node.attributes.get(key) for key in ("epsilon", "root_bits"))
    if not isinstance(extra, int) or extra < 0:
        raise ValueError("layer norm's epsilon must be an integer, 0 or above")
    if not isinstance(bits, int) or not 0 <= bits <= MOST_ROOT_BITS:
        raise ValueError(f"layer norm's root has 0 to {MOST_ROOT_BITS} fraction bits")
    reason = _overflows(node, n)
    if reason is not None:
        raise ValueError(reason)


def run_layer_norm(
    node: Host, inputs: Sequence[Tensor], output: Tensor, values: Sequence[np.ndarray]
) -> np.ndarray:
    gamma, beta = node.constants
    x = values[0].astype(np.int64)
    n = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    variance = n * (x * x).sum(axis=-1, keepdims=True) - total**2
    bits = node.attributes["root_bits"]
    root = _root((variance << (2 * bits)) + node.attributes["epsilon"])
    quotient = ((n * x - total) * gamma << bits) // np.maximum(root, 1)
    y = (quotient + beta + (1 << (NORM_BITS - 1))) >> NORM_BITS
    return np.clip(y + output.zero_point, -128, 127).astype(np.int8)


def _root(square: np.ndarray) -> np.ndarray:
    """Integer square root, rounded down, of int64 values below 2^62."""
    root = np.sqrt(square.astype(np.float64)).astype(np.int64)
    root -= root * root > square
    root += (root + 1) * (root + 1) <= square
    return root
