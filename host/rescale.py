"""From real scales to the integers of the requantizer: multiplier, shift and residual.

The formula they feed is :func:`weft.hdl.numerics.requantize`; rounding of the scale itself is to
nearest, as TOSA's reference computes it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.numerics import RESIDUAL_MULTIPLIER_BITS, Parameter
from .ir import Requant, Residual

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SHIFT = 62
#: Largest bias: leaves the accumulator the other half of INT32.
MAX_BIAS = 1 << 30
#: Bits of an INT8 value less its zero point, sign left out.
_DIFFERENCE_BITS = 8


def multiplier(real: float, *, bits: int = 32, max_shift: int = MAX_SHIFT) -> tuple[int, int]:
    """The multiplier M and shift s with M / 2^s nearest to `real`.

    M lies in [2^(bits − 2), 2^(bits − 1)), unless `real` is so small that s would exceed
    `max_shift`; M then has fewer bits, down to 0.

    Raises
    ------
    ValueError
        `real` is negative, not finite, or so large that s would be below 1.
    """
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"a scale must be finite and not negative, not {real}")
    mantissa, exponent = math.frexp(real)
    value = math.floor(math.ldexp(mantissa, bits - 1) + 0.5)
    if value == 1 << (bits - 1):
        value >>= 1
        exponent += 1
    shift = bits - 1 - exponent
    if shift > max_shift or real == 0:
        return math.floor(math.ldexp(real, max_shift) + 0.5), max_shift
    if shift < 1:
        raise ValueError(f"a scale of {real:g} is too large for a {bits}-bit multiplier")
    return value, shift


def rescale(
    real: Sequence[float] | np.ndarray,
    bias: np.ndarray,
    *,
    zero_point: int,
    low: int = -128,
    high: int = 127,
    bits: int = 32,
    residual_scale: float | None = None,
) -> Requant:
    """Requantization of every channel.

    Parameters
    ----------
    real
        One real multiplier per channel.
    bias
        int64, one per channel, in units of the accumulator.
    residual_scale
        Ratio of the residual's scale to the output's, which bounds the shifts so that the
        residual's term fits 64 bits.
    """
    limit = MAX_SHIFT
    if residual_scale is not None:
        # |r − z_r| · ratio · 2^s must stay below 2^61, a quarter of the 64-bit range.
        limit = min(limit, 61 - _DIFFERENCE_BITS - math.frexp(residual_scale)[1])
    pairs = [multiplier(float(value), bits=bits, max_shift=limit) for value in real]
    return Requant(
        bias=np.asarray(bias, np.int64),
        multiplier=np.array([m for m, _ in pairs], np.int64),
        shift=np.array([s for _, s in pairs], np.int64),
        zero_point=zero_point,
        low=low,
        high=high,
    )


def residual(input_name: str, real: float, *, zero_point: int, requant: Requant) -> Residual:
    """The residual operand whose scale is `real` times the output's, with t ≤ every shift."""
    value, shift = multiplier(
        real, bits=RESIDUAL_MULTIPLIER_BITS, max_shift=int(requant.shift.min())
    )
    return Residual(input=input_name, multiplier=value, shift=shift, zero_point=zero_point)


def parameters(requant: Requant, operand: Residual | None = None) -> list[Parameter]:
    """The parameter entries, one a channel, of a node with these numbers."""
    extra = {}
    if operand is not None:
        extra = {
            "residual_shift": operand.shift,
            "residual_multiplier": operand.multiplier,
            "residual_zero": operand.zero_point,
        }
    columns = zip(
        requant.bias.tolist(), requant.multiplier.tolist(), requant.shift.tolist(), strict=True
    )
    return [
        Parameter(
            bias=b,
            multiplier=m,
            shift=s,
            zero_point=requant.zero_point,
            low=requant.low,
            high=requant.high,
            **extra,
        )
        for b, m, s in columns
    ]
