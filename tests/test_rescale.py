"""Real scales to multiplier and shift, against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weft.hdl.numerics import Parameter
from weft.host.ir import Residual
from weft.host.rescale import MAX_SHIFT, multiplier, parameters, rescale, residual

scales = st.floats(2.0**-30, 2.0**5)


@given(scales, st.integers(8, 32))
def test_multiplier_is_the_nearest(real: float, bits: int) -> None:
    value, shift = multiplier(real, bits=bits)
    assert 1 << (bits - 2) <= value < 1 << (bits - 1)
    assert 1 <= shift <= MAX_SHIFT
    assert abs(Fraction(value, 1 << shift) - Fraction(real)) <= Fraction(1, 1 << (shift + 1))


@given(st.floats(0, 2.0**-32), st.integers(8, 32), st.integers(20, MAX_SHIFT))
def test_small_scales_lose_bits_not_range(real: float, bits: int, limit: int) -> None:
    value, shift = multiplier(real, bits=bits, max_shift=limit)
    assert 0 <= value < 1 << (bits - 1)
    assert shift <= limit
    assert abs(Fraction(value, 1 << shift) - Fraction(real)) <= Fraction(1, 1 << (shift + 1))


@pytest.mark.parametrize(
    ("real", "bits", "want"),
    [
        (1.0, 32, (1 << 30, 30)),
        (0.5, 32, (1 << 30, 31)),
        (0.75, 8, (96, 7)),
        (1 - 2.0**-20, 8, (64, 6)),  # rounds up to the next power of two
        (0.0, 32, (0, MAX_SHIFT)),
        (2.0**-70, 32, (0, MAX_SHIFT)),
        (2.0**-62, 32, (1, MAX_SHIFT)),
    ],
)
def test_multiplier_examples(real: float, bits: int, want: tuple[int, int]) -> None:
    assert multiplier(real, bits=bits) == want


@pytest.mark.parametrize("real", [-1.0, math.nan, math.inf])
def test_bad_scales_are_refused(real: float) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        multiplier(real)


def test_a_scale_beyond_the_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="too large for a 8-bit multiplier"):
        multiplier(64.0, bits=8)


@given(st.lists(st.floats(2.0**-45, 2.0**5), min_size=1, max_size=8), scales, st.integers(8, 32))
def test_residual_shift_and_64_bits(reals: list[float], ratio: float, bits: int) -> None:
    requant = rescale(
        reals, np.zeros(len(reals), int), zero_point=0, bits=bits, residual_scale=ratio
    )
    operand = residual("x", ratio, zero_point=-128, requant=requant)
    assert 0 <= operand.shift <= requant.shift.min()
    assert -(1 << 17) <= operand.multiplier < 1 << 17
    for value, shift in zip(requant.multiplier.tolist(), requant.shift.tolist(), strict=True):
        worst = (1 << 31) * value + (255 * operand.multiplier << (shift - operand.shift))
        assert worst + (1 << (shift - 1)) < 1 << 63


def test_parameters_carry_every_number() -> None:
    requant = rescale([0.5, 0.25], np.array([-7, 9]), zero_point=3, low=3, high=90)
    operand = Residual("r", 70000, 17, -4)
    assert parameters(requant, operand) == [
        Parameter(bias, 1 << 30, shift, 17, 70000, 3, -4, 3, 90)
        for bias, shift in ((-7, 31), (9, 32))
    ]
    assert parameters(requant)[1] == Parameter(
        bias=9, multiplier=1 << 30, shift=32, zero_point=3, low=3, high=90
    )
