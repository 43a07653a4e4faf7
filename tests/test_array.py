"""The systolic array against NumPy, every column sum in its cycle."""

from __future__ import annotations

import pytest
from weft.hdl.array import SystolicArray
from weft.hdl.config import Config
from weft.hdl.packed import PackedElement
from weft.hdl.pe import ProcessingElement
from weft.tb.runner import simulate


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize(
    ("rows", "cols", "simulator"), [(4, 4, "verilator"), (8, 4, "icarus"), (12, 8, "icarus")]
)
def test_array(rows, cols, simulator, packed):
    config = Config(rows=rows, cols=cols, bus_bits=64, vector_lanes=4, packed=packed)
    simulate(
        SystolicArray(config),
        "tests.bench_array",
        simulator=simulator,
        env={"ROWS": rows, "COLS": cols, "PSUM_BITS": config.psum_bits, "TILES": 24},
        name=f"array_{rows}x{cols}{'_packed' * packed}",
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("bits", [15, 16.0, "16"])
def test_psum_bits_are_checked(bits):
    for element in (ProcessingElement, PackedElement):
        with pytest.raises(ValueError, match="psum_bits must be an integer of at least 16, not"):
            element(psum_bits=bits)
