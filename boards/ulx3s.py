"""The Radiona ULX3S with an LFE5U-85F: 32 MB of SDRAM."""

from __future__ import annotations

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .board import Board
from .ecp5_cells import Ecp5Cells
from .families import ECP5
from .pll import Pll, settings
from .sdram import SDRAM_32MB, SdramController
from .shell import Shell
from .system import LIGHTS

REFERENCE_MHZ = 25.0


class Platform(Ecp5Cells, ULX3S_85F_Platform):
    """The board's pins, and its FPGA's multipliers and memories."""


class Top(Shell):
    """The board's top."""

    clock_pin = "clk25"

    def memory(self, clock_hz):
        return SdramController(SDRAM_32MB, clock_hz=clock_hz)

    def clock(self, clock_mhz):
        return Pll(reference_mhz=REFERENCE_MHZ, wanted_mhz=clock_mhz)

    def lights(self, platform):
        return [platform.request("led", index, dir="-") for index in range(len(LIGHTS))]


ULX3S = Board(
    name="ulx3s",
    title="Radiona ULX3S",
    fpga="LFE5U-85F",
    family=ECP5,
    capacity={"luts": 83_640, "ffs": 83_640, "dsps": 156, "brams": 208},
    nextpnr=("--85k", "--package", "CABGA381", "--speed", "6"),
    config="tiny",
    clock_mhz=50.0,
    clock=lambda mhz: settings(REFERENCE_MHZ, mhz),
    baud=3_000_000,
    chip=SDRAM_32MB,
    memory_bytes=SDRAM_32MB.memory_bytes,
    loader="ulx3s",
    platform=Platform,
    top=Top,
)
