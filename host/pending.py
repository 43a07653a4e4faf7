"""Operations on their way into the integer IR, before the scale of their result is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .errors import ModelError
from .ir import Conv, Node, Pool, Residual, Tensor
from .rescale import MAX_BIAS, rescale, residual


@dataclass(frozen=True)
class Value:
    """An INT8 tensor; `flat` says that torch sees it as a vector in (channel, y, x) order."""

    tensor: Tensor
    flat: bool = False


@dataclass(frozen=True)
class Weights:
    """Dequantized weights: int8 values and one scale per output channel."""

    values: np.ndarray
    scale: np.ndarray


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pending:
    """A layer, with whatever is fused into it so far.

    Parameters
    ----------
    kind
        "conv", "linear", "max" or "avg".
    weight, weight_scale, bias
        Of a convolution or linear layer: int8 [out, ky, kx, in / groups], one scale and one real
        bias per output channel.
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
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight: np.ndarray = field(default_factory=_nothing)
    weight_scale: np.ndarray = field(default_factory=_nothing)
    bias: np.ndarray = field(default_factory=_nothing)
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

    def result(self, name: str, scale: float, zero_point: int) -> Tensor:
        """The tensor that this operation makes."""
        height, width = (
            (
                self.source.shape[axis]
                + self.padding[axis]
                + self.padding[axis + 2]
                - self.dilation[axis] * (self.kernel[axis] - 1)
                - 1
            )
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        )
        return Tensor(name, height, width, self.channels, scale, zero_point)

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
            np.full(self.channels, self.source.scale / (target.scale * self.divisor)),
            np.full(self.channels, -taps * self.source.zero_point),
            zero_point=target.zero_point,
            low=_level(self.least, target),
            high=_level(self.most, target),
            bits=bits,
        )
        return replace(self._pool(name, target, "avg"), requant=requant)

    def _layer(self, name: str, target: Tensor, bits: int) -> Conv:
        weight, scale = self._fit_bias()
        bias = np.rint(self.bias / (self.source.scale * scale)).astype(np.int64)
        bias -= self.source.zero_point * weight.astype(np.int64).sum(axis=(1, 2, 3))
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
        weight = np.rint(self.weight / factor[:, None, None, None]).astype(np.int8)
        return weight, self.weight_scale * factor


def identity(name: str, source: Tensor) -> Pending:
    """A depthwise 1×1 convolution that passes its input on: what a bare addition adds to."""
    channels = source.channels
    return Pending(
        kind="conv",
        name=name,
        source=source,
        channels=channels,
        groups=channels,
        weight=np.full((channels, 1, 1, 1), 64, np.int8),
        weight_scale=np.full(channels, 1 / 64),
        bias=np.zeros(channels),
    )


def _level(real: float, tensor: Tensor) -> int:
    """The INT8 level of a bound, within the INT8 range."""
    return int(np.clip(np.rint(real / tensor.scale) + tensor.zero_point, -128, 127))
