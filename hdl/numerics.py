"""The numeric contract: requantization, and the parameter entry that drives it.

Source: TOSA RESCALE with single rounding, extended by a residual that shares the rounding.
The RTL twin is :class:`~.requantizer.Requantizer`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

PARAMETER_BYTES = 16
RESIDUAL_MULTIPLIER_BITS = 18

#: Name, width and sign of each field of a 128-bit parameter entry, from bit 0 upwards.
PARAMETER_FIELDS: tuple[tuple[str, int, bool], ...] = (
    ("bias", 32, True),
    ("multiplier", 32, True),
    ("shift", 6, False),
    ("residual_shift", 6, False),
    ("residual_multiplier", RESIDUAL_MULTIPLIER_BITS, True),
    ("zero_point", 8, True),
    ("residual_zero", 8, True),
    ("low", 8, True),
    ("high", 8, True),
)


@dataclass(frozen=True)
class Parameter:
    """How one channel is requantized; the fields of one parameter entry."""

    bias: int = 0
    multiplier: int = 0
    shift: int = 0
    residual_shift: int = 0
    residual_multiplier: int = 0
    zero_point: int = 0
    residual_zero: int = 0
    low: int = -128
    high: int = 127

    def encode(self) -> bytes:
        """The entry as PARAMETER_BYTES little-endian bytes; ValueError if a field is too wide."""
        word = at = 0
        for (name, bits, signed), value in zip(PARAMETER_FIELDS, astuple(self), strict=True):
            least = -(1 << (bits - 1)) if signed else 0
            if not least <= value < least + (1 << bits):
                raise ValueError(f"parameter {name} = {value} does not fit {bits} bits")
            word |= (int(value) & ((1 << bits) - 1)) << at
            at += bits
        return word.to_bytes(PARAMETER_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Parameter:
        """The entry in PARAMETER_BYTES bytes."""
        word = int.from_bytes(data, "little")
        values = []
        for _, bits, signed in PARAMETER_FIELDS:
            raw = word & ((1 << bits) - 1)
            word >>= bits
            values.append(raw - (1 << bits) if signed and raw >> (bits - 1) else raw)
        return cls(*values)


def requantize(acc: np.ndarray, p: Parameter, residual: np.ndarray | None = None) -> np.ndarray:
    """Requantize INT32 accumulators of one channel to INT8.

    ``clamp((((acc + bias)·M + ((r − z_r)·R << (s − t)) + round) >> s) + z, low, high)`` with
    ``round = 1 << (s − 1)`` (0 where s = 0), in 64-bit two's complement; the compiler proves that
    nothing wraps.

    Parameters
    ----------
    acc
        int32 or int64 values that fit 32 bits, any shape.
    p
        The channel's parameters.
    residual
        int8 values of the same shape, or None.

    Returns
    -------
    numpy.ndarray
        int8, same shape.
    """
    with np.errstate(over="ignore"):
        total = (acc.astype(np.int64) + p.bias) * np.int64(p.multiplier)
        if residual is not None:
            term = (residual.astype(np.int64) - p.residual_zero) * p.residual_multiplier
            total = total + (term << ((p.shift - p.residual_shift) & 63))
        total = total + np.int64((1 << p.shift) >> 1)
    shifted = (total >> p.shift) + p.zero_point
    return np.clip(shifted, p.low, p.high).astype(np.int8)
