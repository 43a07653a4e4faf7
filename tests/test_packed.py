"""Two products in one multiplier: exact for all weights and activations."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from weft.boards.ecp5_cells import Ecp5Cells
from weft.boards.netlist import cell_models, synthesized
from weft.hdl.array import SystolicArray
from weft.hdl.config import Config
from weft.hdl.packed import OVERLAP, SPACING, PackedMultiplier
from weft.hdl.verilog import convert
from weft.tb.fast import verilate
from weft.tb.runner import simulate

MAIN = Path(__file__).with_name("packed_main.cpp")
NOTE = Path(__file__).parents[1] / "docs" / "decisions" / "012-two-products-in-a-multiplier.md"


def test_the_identity():
    """What the multiplier's docstring says, for all 2^24 operands in integers."""
    values = np.arange(-128, 128)
    v, w, a = values[:, None, None], values[None, :, None], values[None, None, :]
    both = v + (w << SPACING)
    assert both.min() >= -(1 << 17)
    assert both.max() < 1 << 17
    product = both * a
    low, high = product & ((1 << SPACING) - 1), product >> SPACING
    mask = (1 << OVERLAP) - 1
    carry = (high - (w & mask) * (a & mask)) & mask
    carry = np.where((carry >= 1 << (OVERLAP - 1)) & ((v ^ a) < 0), carry - (1 << OVERLAP), carry)
    assert (low + (carry << SPACING) == v * a).all()
    assert (high - carry == w * a).all()
    assert np.abs(carry).max() == 1 << (OVERLAP - 1)


def wrong(text: str) -> int:
    """How many of all results of a multiplier's Verilog are wrong."""
    files = {"packed_main.cpp": MAIN.read_text(), "top.v": text}
    library = ctypes.CDLL(str(verilate("packed", "top", files)))
    library.packed_wrong.restype = ctypes.c_uint64
    return library.packed_wrong()


@pytest.mark.parametrize("technology", [None, Ecp5Cells()], ids=["portable", "ecp5"])
def test_every_product(technology):
    text = convert(PackedMultiplier(), "top", technology)
    assert ("CCU2C" in text) == ("MULT18X18D" in text) == (technology is not None)
    assert wrong(text + cell_models() * (technology is not None)) == 0


def test_a_wrong_bit_is_noticed():
    text = convert(PackedMultiplier(), "top")
    broken = text.replace("= y[5] ?", "= y[4] ?")
    assert broken != text
    assert wrong(broken) > 0


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_the_netlist_of_an_array(packed):
    """It computes what the array does, from as many cells as the decision says."""
    config = Config(rows=4, cols=4, bus_bits=64, vector_lanes=4, packed=packed)
    text = synthesized(SystolicArray(config), "top")
    env = {"ROWS": 4, "COLS": 4, "PSUM_BITS": config.psum_bits, "TILES": 12}
    simulate(text, "tests.bench_array", simulator="icarus", env=env, name="netlist_array")
    cells = Counter(re.findall(r"^  (\w+) #\($", text, re.MULTILINE))
    luts = cells["LUT4"] + 2 * cells["CCU2C"]
    row = re.search(r"^\| 4×4 \|(.*)\|$", NOTE.read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None
    counts = [int(cell) for cell in row[1].split("|")]
    found = [cells["MULT18X18D"], luts, cells["TRELLIS_FF"]]
    assert found == counts[3 * packed :][:3]
    assert cells["MULT18X18D"] == config.multipliers
