"""The ECP5 bodies of multiplier and memory behave as the portable ones."""

from pathlib import Path

import pytest
from weft.boards import ecp5, ecp5_cells
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


def test_a_path_in_words():
    def step(kind, delay, start, end, net=""):
        ends = {"from": {"cell": start, "port": "Q"}, "to": {"cell": end, "port": "DI"}}
        return {"type": kind, "delay": delay, "net": net, **ends}

    register, lut = "registered.core.gemm.taken_TRELLIS_FF_Q_3", "core.go_LUT4_Z"
    path = [
        step("clk-to-q", 0.5, register, register),
        step("routing", 1.0, register, lut, "registered.core.gemm.taken[3]"),
        step("logic", 0.25, lut, lut),
        step("routing", 2.0, lut, "core.valid_TRELLIS_FF_Q", "core.go_LUT4_Z_D"),
        step("setup", 0.0, "core.valid_TRELLIS_FF_Q", "core.valid_TRELLIS_FF_Q"),
    ]
    assert ecp5.path_in_words(path) == {
        "from": "core.gemm.taken",
        "to": "core.valid DI",
        "by": ["core.gemm.taken", "core.go"],
        "logic_ns": 0.75,
        "routing_ns": 3.0,
        "levels": 1,
    }


def test_registers_at_the_pins_add_a_cycle_each_way():
    ram = Ram(width=8, depth=40)
    env = {"LATENCY": ram.latency + 2, "DEPTH": 40, "WIDTH": 8, "PARTS": 1}
    simulate(
        ecp5.Registered(ram), "tests.bench_ram", simulator="icarus", env=env, name="registered_ram"
    )
