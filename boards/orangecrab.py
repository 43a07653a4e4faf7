"""The OrangeCrab with an LFE5U-25F or 85F: main memory in block RAMs, since its DDR3 is not driven.

The serial line is that of the Feather header: IO0 receives, IO1 sends.
"""

from __future__ import annotations

from pathlib import Path

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform, OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from .block_memory import BlockMemory
from .board import Board
from .ecp5_cells import Ecp5Cells
from .families import ECP5
from .pll import Pll, settings
from .shell import Shell

REFERENCE_MHZ = 48.0
_WORD_BITS = 32
_SERIAL = UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33"))


class Platform25F(Ecp5Cells, OrangeCrabR0_2_25FPlatform):
    """Pins and cells."""

    resources = (*OrangeCrabR0_2_25FPlatform.resources, _SERIAL)


class Platform85F(Ecp5Cells, OrangeCrabR0_2_85FPlatform):
    """Pins and cells."""

    resources = (*OrangeCrabR0_2_85FPlatform.resources, _SERIAL)


class Top(Shell):
    """The board's top; its three lights are the colours of one."""

    clock_pin = "clk"
    memory_bytes: int

    def memory(self, clock_hz):
        words = 8 * self.memory_bytes // _WORD_BITS
        return BlockMemory(width=_WORD_BITS, addr_bits=words.bit_length() - 1)

    def clock(self, clock_mhz):
        return Pll(reference_mhz=REFERENCE_MHZ, wanted_mhz=clock_mhz)

    def lights(self, platform):
        light = platform.request("rgb_led", 0, dir={"r": "-", "g": "-", "b": "-"})
        return [light.r, light.g, light.b]


class Top25F(Top):
    """With what block RAMs the machine leaves."""

    memory_bytes = 32 << 10


class Top85F(Top):
    """With room for LeNet and more."""

    memory_bytes = 128 << 10


def _board(name: str, fpga: str, **fields) -> Board:
    return Board(
        name=name,
        title=f"OrangeCrab {fpga[-3:]}",
        fpga=fpga,
        family=ECP5,
        packer=("--freq", "38.8"),
        clock_mhz=48.0,
        clock=lambda mhz: settings(REFERENCE_MHZ, mhz),
        baud=1_000_000,
        chip=None,
        memory_bytes=fields["top"].memory_bytes,
        memory_brams=fields["top"].memory_bytes >> 11,
        loader="orangeCrab",
        **fields,
    )


ORANGECRAB = _board(
    "orangecrab",
    "LFE5U-25F",
    capacity={"luts": 24_288, "ffs": 24_288, "dsps": 28, "brams": 56},
    nextpnr=("--25k", "--package", "CSFBGA285", "--speed", "8"),
    config=str(Path(__file__).with_name("configs") / "nano.toml"),
    platform=Platform25F,
    top=Top25F,
)
ORANGECRAB_85F = _board(
    "orangecrab-85f",
    "LFE5U-85F",
    capacity={"luts": 83_640, "ffs": 83_640, "dsps": 156, "brams": 208},
    nextpnr=("--85k", "--package", "CSFBGA285", "--speed", "8"),
    config="tiny",
    platform=Platform85F,
    top=Top85F,
)
