"""The requantizer against its NumPy definition, to the bit and to the cycle."""

from __future__ import annotations

import gc

import pytest
from weft.hdl.requantizer import Requantizer
from weft.tb.runner import simulate


@pytest.mark.parametrize("bits", [8, 18, 19, 32])
def test_equals_numerics(bits):
    simulate(
        Requantizer(multiplier_bits=bits),
        "tests.bench_requantizer",
        env={"MULTIPLIER_BITS": bits},
        name=f"requantizer{bits}",
    )


def test_icarus_agrees():
    simulate(
        Requantizer(multiplier_bits=32),
        "tests.bench_requantizer",
        simulator="icarus",
        env={"MULTIPLIER_BITS": 32, "SETS": 60},
        name="requantizer_icarus",
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("bits", [7, 33])
def test_refuses_widths(bits):
    with pytest.raises(ValueError, match=f"multiplier_bits must be 8 to 32, not {bits}"):
        Requantizer(multiplier_bits=bits)
    gc.collect()  # while its warning is ignored
