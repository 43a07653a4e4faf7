"""The integer IR: a graph of fused INT8 nodes, each carrying its own numbers.

Activations are (height, width, channels) INT8 maps; a vector is a 1×1 map, a sequence of tokens
(1, tokens, features), a matrix per attention head (heads, rows, columns). A fully connected layer
is a :class:`Conv` whose kernel covers the whole input map, so flatten costs nothing; on a sequence
it is a 1×1 :class:`Conv`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """An INT8 activation map: real = (value − zero_point) · scale."""

    name: str
    height: int
    width: int
    channels: int
    scale: float
    zero_point: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


@dataclass(frozen=True, eq=False)
class Requant:
    """Per-channel requantization, see :func:`weft.hdl.numerics.requantize`.

    `bias` already carries −z_x·Σw (convolution) or −N·z_x (average pool).
    """

    bias: np.ndarray  # int64 [channels], each fits 32 bits
    multiplier: np.ndarray  # int64 [channels], 0 ≤ M < 2^31
    shift: np.ndarray  # int64 [channels]
    zero_point: int = 0
    low: int = -128
    high: int = 127


@dataclass(frozen=True)
class Residual:
    """A second input added before rounding."""

    input: str
    multiplier: int  # R, 18 bits signed
    shift: int  # t ≤ every channel's shift
    zero_point: int


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution (or fully connected layer), bias, requantization, clamp and residual in one."""

    name: str
    input: str
    output: str
    weight: np.ndarray  # int8 [out, kernel height, kernel width, in / groups]
    requant: Requant
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    residual: Residual | None = None
    kind: str = "conv"  # what the model called it: "conv" or "linear"


@dataclass(frozen=True, eq=False)
class Pool:
    """Max or average pooling; max has no requantization of its own (requant is the identity)."""

    name: str
    input: str
    output: str
    mode: str  # "max" or "avg"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    requant: Requant | None = None  # avg: bias = −N·z_x, multiplier includes 1/N


@dataclass(frozen=True)
class Concat:
    """Maps joined along channels, in order; all inputs have the output's scale and zero point."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, eq=False)
class MatMul:
    """Product of two activations in each attention head; both have zero point 0.

    Transposed (scores): `input` (1, M, heads·K) and `other` (1, N, heads·K) give (heads, M, N) with
    ``out[h, m, n] = Σ_k input[m, h·K + k] · other[n, h·K + k]``. Otherwise (context): `input`
    (heads, M, K) and `other` (1, K, heads·D) give (1, M, heads·D) with
    ``out[m, h·D + d] = Σ_k input[h, m, k] · other[k, h·D + d]``.
    """

    name: str
    input: str
    other: str
    output: str
    requant: Requant  # one multiplier and shift, repeated for every channel of the output
    heads: int
    transposed: bool


@dataclass(frozen=True, eq=False)
class Table:
    """A pointwise function: ``out = table[x + 128]``."""

    name: str
    input: str
    output: str
    table: np.ndarray  # int8 [256]
    function: str = "table"  # what the model called it: "gelu", "sigmoid", …


@dataclass(frozen=True, eq=False)
class Host:
    """An operation that the host computes, by the function of this name in :mod:`.operators`."""

    name: str
    inputs: tuple[str, ...]
    output: str
    operator: str
    attributes: dict[str, Any] = field(default_factory=dict)  # as JSON can write them
    constants: tuple[np.ndarray, ...] = ()  # arrays that the operator also takes


Node = Conv | Pool | Concat | MatMul | Table | Host


def sources(node: Node) -> tuple[str, ...]:
    """The tensors that `node` reads, one for each of its operands (a tensor may occur twice)."""
    match node:
        case Conv(residual=Residual(input=other)):
            return node.input, other
        case MatMul():
            return node.input, node.other
        case Concat() | Host():
            return node.inputs
        case _:
            return (node.input,)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in execution order over named tensors, one input and one output."""

    name: str
    input: str
    output: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
