"""Random contents of memory: bytes of several characters, and requantization parameters."""

from __future__ import annotations

import numpy as np
from weft.hdl.numerics import PARAMETER_BYTES, PARAMETER_FIELDS

#: What bytes may be like, and how often.
CHARACTERS = {"random": 6, "all -128": 1, "all 127": 1, "sparse": 2, "small": 1}


def character(rng: np.random.Generator) -> str:
    """One of CHARACTERS."""
    shares = np.array([*CHARACTERS.values()])
    return str(rng.choice([*CHARACTERS], p=shares / shares.sum()))


def contents(rng: np.random.Generator, size: int, kind: str) -> bytes:
    """`size` bytes of a kind of CHARACTERS."""
    if kind == "all -128":
        return b"\x80" * size
    if kind == "all 127":
        return b"\x7f" * size
    data = np.frombuffer(rng.bytes(size), np.uint8)
    if kind == "sparse":
        data = np.where(np.frombuffer(rng.bytes(size), np.uint8) < 230, 0, data)
    elif kind == "small":
        data = data % 5 - 2
    return data.astype(np.uint8).tobytes()


def parameters(rng: np.random.Generator, count: int, multiplier_bits: int) -> bytes:
    """`count` entries of PAR: mostly such that results spread over INT8, sometimes anything.

    Within the contract: a residual's shift is not greater than the result's.
    """
    bits = multiplier_bits

    def some(*choices: np.ndarray | int) -> np.ndarray:
        """Each entry from one of the choices, which are values or arrays."""
        which = rng.integers(0, len(choices), count)
        return np.choose(which, [np.broadcast_to(choice, count) for choice in choices])

    def anything(width: int) -> np.ndarray:
        return rng.integers(-(1 << (width - 1)), 1 << (width - 1), count)

    usual = rng.choice([0, 1, bits - 2, bits, bits + 4, bits + 8, 62], count)
    shift = some(usual, usual, usual, rng.integers(0, 64, count))
    low = some(-128, -128, 0, anything(8))
    values = {
        "bias": some(0, rng.integers(-(1 << 15), 1 << 15, count), anything(32), -(1 << 31)),
        "multiplier": some(
            rng.integers(0, 1 << (bits - 1), count), 1 << (bits - 2), anything(32), (1 << 31) - 1
        ),
        "shift": shift,
        "residual_shift": some(rng.integers(0, shift + 1), shift, 0),
        "residual_multiplier": some(anything(18), (1 << 17) - 1, -(1 << 17), 0),
        "zero_point": some(0, anything(8)),
        "residual_zero": some(0, anything(8)),
        "low": low,
        "high": some(127, 127, np.maximum(low, anything(8)), anything(8)),
    }
    words = np.zeros((count, 2), np.uint64)
    at = 0
    for name, width, _ in PARAMETER_FIELDS:
        part = values[name].astype(np.uint64) & np.uint64((1 << width) - 1)
        assert at // 64 == (at + width - 1) // 64
        words[:, at // 64] |= part << np.uint64(at % 64)
        at += width
    words[:, 1] |= rng.integers(0, 4, count).astype(np.uint64) << np.uint64(62)  # ignored
    assert words.nbytes == count * PARAMETER_BYTES
    return words.tobytes()
