"""Operations on their way into the integer IR, before the scale of their result is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import ModelError
from .ir import Conv, MatMul, Node, Pool, Residual, Tensor
from .rescale import MAX_BIAS, rescale, residual

if TYPE_CHECKING:
    from collections.abc import Callable

    from .views import View


@dataclass(frozen=True)
class Value:
    """An INT8 tensor, and how torch sees it.

    Parameters
    ----------
    padding
        Zeros that torch sees around the map, but the tensor does not hold: top, left, bottom,
        right.
    """

    tensor: Tensor
    view: View
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Masked:
    """Scores, and where softmax is to see them: bool, which broadcasts to their size."""

    value: Value
    seen: np.ndarray


@dataclass(frozen=True)
class Weights:
    """Dequantized weights: int8 values and one scale per output channel."""

    values: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Deferred:
    """An operation that needs no more than its result's tensor to become a node.

    Parameters
    ----------
    name
        Of its layer.
    shape
        (height, width, channels) of its result.
    view
        How torch sees the result.
    make
        The node of a name and a result.
    """

    name: str
    shape: tuple[int, int, int]
    view: View
    make: Callable[[str, Tensor], Node]


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pending:
    """A layer, with whatever is fused into it so far.

    Parameters
    ----------
    kind
        "conv", "linear", "matmul", "max" or "avg".
    shape, view
        (height, width, channels) of the result, and how torch sees it.
    weight, weight_scale, bias
        Of a convolution or linear layer: int8 [out, ky, kx, in / groups], one scale and one real
        bias per output channel.
    other, heads, transposed
        Of a product of two activations.
    factor
        What a product is multiplied by.
    divisor
        What an average divides its sum by.
    residual
        What is added to the result.
    least, most
        Real bounds of the result.
    """

    kind: str
    name: str
    source: Tensor
    shape: tuple[int, int, int]
    view: View
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight: np.ndarray = field(default_factory=_nothing)
    weight_scale: np.ndarray = field(default_factory=_nothing)
    bias: np.ndarray = field(default_factory=_nothing)
    other: Tensor | None = None
    heads: int = 1
    transposed: bool = False
    factor: float = 1.0
    divisor: int = 1
    residual: Tensor | None = None
    least: float = -np.inf
    most: float = np.inf

    def bounded(self, least: float, most: float) -> Pending:
        """This operation with its result clamped once more."""
        return replace(
            self,
            least=min(max(self.least, least), most),
            most=min(max(self.most, least), most),
        )

    def scaled(self, factor: float) -> Pending:
        """This layer, which nothing is fused into yet, times a positive number."""
        return replace(
            self,
            weight_scale=self.weight_scale * factor,
            bias=self.bias * factor,
            factor=self.factor * factor,
        )

    def node(self, name: str, target: Tensor, *, multiplier_bits: int) -> Node:
        """The IR node called `name` that computes `target`.

        Raises
        ------
        ModelError
            The scales differ too much for the multiplier.
        """
        try:
            if self.kind == "max":
                return self._pool(name, target)
            if self.kind == "avg":
                return self._average(name, target, multiplier_bits)
            if self.kind == "matmul":
                return self._product(name, target, multiplier_bits)
            return self._layer(name, target, multiplier_bits)
        except ValueError as error:
            raise ModelError(f"{name}: {error}") from error

    def _pool(self, name: str, target: Tensor, mode: str = "max") -> Pool:
        return Pool(
            name, self.source.name, target.name, mode, self.kernel, self.stride, self.padding
        )

    def _average(self, name: str, target: Tensor, bits: int) -> Pool:
        taps = self.kernel[0] * self.kernel[1]
        requant = rescale(
            np.full(target.channels, self.source.scale / (target.scale * self.divisor)),
            np.full(target.channels, -taps * self.source.zero_point),
            zero_point=target.zero_point,
            low=_level(self.least, target),
            high=_level(self.most, target),
            bits=bits,
        )
        return replace(self._pool(name, target, "avg"), requant=requant)

    def _product(self, name: str, target: Tensor, bits: int) -> MatMul:
        assert self.other is not None, name
        scale = self.source.scale * self.other.scale * self.factor / target.scale
        requant = rescale(
            np.full(target.channels, scale),
            np.zeros(target.channels),
            zero_point=target.zero_point,
            low=_level(self.least, target),
            high=_level(self.most, target),
            bits=bits,
        )
        return MatMul(
            name,
            self.source.name,
            self.other.name,
            target.name,
            requant,
            self.heads,
            self.transposed,
        )

    def _layer(self, name: str, target: Tensor, bits: int) -> Conv:
        weight, scale = self._fit_bias()
        bias = np.rint(self.bias / (self.source.scale * scale)).astype(np.int64)
        bias -= self.source.zero_point * weight.sum(axis=(1, 2, 3), dtype=np.int64)
        ratio = None if self.residual is None else self.residual.scale / target.scale
        requant = rescale(
            self.source.scale * scale / target.scale,
            bias,
            zero_point=target.zero_point,
            low=_level(self.least, target),
            high=_level(self.most, target),
            bits=bits,
            residual_scale=ratio,
        )
        operand: Residual | None = None
        if self.residual is not None and ratio is not None:
            zero = self.residual.zero_point
            operand = residual(self.residual.name, ratio, zero_point=zero, requant=requant)
        return Conv(
            name,
            self.source.name,
            target.name,
            weight,
            requant,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            operand,
            self.kind,
        )

    def _fit_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and their scales, coarser for channels whose bias would exceed MAX_BIAS.

        Such a channel is all but constant, so its weights' last bits do not show in the output.
        """
        need = np.abs(self.bias) / (self.source.scale * MAX_BIAS)
        factor = np.maximum(need / self.weight_scale, 1.0)
        coarse = np.flatnonzero(factor > 1)
        weight = self.weight
        if coarse.size:
            weight = weight.copy()
            weight[coarse] = np.rint(weight[coarse] / factor[coarse, None, None, None])
        return weight, self.weight_scale * factor


def identity(
    name: str,
    source: Tensor,
    view: View,
    factor: float = 1.0,
    offset: float | np.ndarray = 0.0,
) -> Pending:
    """A depthwise 1×1 convolution that gives ``factor · x + offset``: what a bare addition adds to.

    Parameters
    ----------
    factor
        Not 0.
    offset
        A number, or one a channel.
    """
    channels = source.channels
    return Pending(
        kind="conv",
        name=name,
        source=source,
        shape=source.shape,
        view=view,
        groups=channels,
        weight=np.full((channels, 1, 1, 1), 64 if factor > 0 else -64, np.int8),
        weight_scale=np.full(channels, abs(factor) / 64),
        bias=np.broadcast_to(np.asarray(offset, np.float64), (channels,)).copy(),
    )


def _level(real: float, tensor: Tensor) -> int:
    """The INT8 level of a bound, within the INT8 range."""
    return int(np.clip(np.rint(real / tensor.scale) + tensor.zero_point, -128, 127))
