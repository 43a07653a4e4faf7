"""The ECP5 bodies of multiplier and memory behave as the portable ones."""

from pathlib import Path

import pytest
from weft.boards import ecp5_cells
from weft.boards.ecp5_cells import Ecp5Cells
from weft.hdl.multiplier import Multiplier
from weft.hdl.ram import Ram
from weft.hdl.verilog import convert
from weft.tb.runner import simulate

MODELS = (Path(ecp5_cells.__file__).parent / "models" / "ecp5.v").read_text()

#: Width, depth and parts: every shape of a block RAM, whole and partial words, several blocks.
RAMS = [
    (16, 512, 2),
    (36, 300, 4),
    (40, 512, 5),
    (33, 40, 1),
    (8, 1024, 1),
    (18, 700, 2),
    (9, 2048, 1),
    (16, 1500, 2),
    (16, 4096, 2),
    (5, 8192, 1),
    (2, 16384, 1),
]


@pytest.mark.parametrize("output_register", [False, True])
@pytest.mark.parametrize(("width", "depth", "parts"), RAMS)
def test_ram(width, depth, parts, output_register):
    ram = Ram(width=width, depth=depth, granularity=width // parts, output_register=output_register)
    text = convert(ram, "top", Ecp5Cells())
    assert "DP16KD" in text
    env = {"LATENCY": ram.latency, "DEPTH": depth, "WIDTH": width, "PARTS": parts}
    simulate(text + MODELS, "tests.bench_ram", simulator="icarus", env=env, name="ecp5_ram")


@pytest.mark.parametrize(("width", "depth"), [(8, 16), (8, 32768)])
def test_synthesis_makes_the_smallest_and_the_deepest(width, depth):
    assert "DP16KD" not in convert(Ram(width=width, depth=depth), "top", Ecp5Cells())


@pytest.mark.parametrize("technology", [None, Ecp5Cells()], ids=["portable", "ecp5"])
def test_multiplier(technology):
    text = convert(Multiplier(), "top", technology)
    assert ("MULT18X18D" in text) == (technology is not None)
    simulate(text + MODELS * ("MULT18X18D" in text), "tests.bench_multiplier", name="multiplier")
