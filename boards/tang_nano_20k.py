"""The Sipeed Tang Nano 20K with a GW2AR-18: 8 MB of SDRAM in the FPGA's package, 32 bits wide.

The serial line is the board's own USB bridge.
"""

from __future__ import annotations

from pathlib import Path

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.vendor import GowinPlatform
from amaranth_boards.resources import LEDResources, SDRAMResource, UARTResource

from .board import Board
from .families import GOWIN
from .pll import GW2A, GowinPll, settings
from .sdram import Sdram, SdramController
from .shell import Shell
from .system import LIGHTS

REFERENCE_MHZ = 27.0
DEVICE = "GW2AR-18C"
PART = "GW2AR-LV18QN88C8/I7"
#: 2 M words of 32 bits, in rows of 256. Its data sheet is not public; these times are slower than
#: those of common chips of the same organisation at 143 MHz.
SDRAM_8MB = Sdram(
    width=32, row_bits=11, col_bits=8, rcd=21, rp=21, ras=49, rc=70, rfc=70, wr=20,
    refresh_us=64_000 / 4096,
)  # fmt: skip
_LVCMOS = Attrs(IO_TYPE="LVCMOS33")


class Platform(GowinPlatform):
    """Pins; those of the SDRAM are pads inside the package, named by side and place."""

    part = PART
    family = DEVICE
    default_clk = "clk27"
    connectors = ()
    resources = (
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), _LVCMOS),
        UARTResource(0, rx="70", tx="69", attrs=_LVCMOS),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=_LVCMOS),
        SDRAMResource(
            0,
            clk="IOR11B",
            cke="IOL13A",
            cs_n="IOL14B",
            cas_n="IOL14A",
            ras_n="IOL13B",
            we_n="IOL12B",
            dqm="IOL12A IOR11A IOL18A IOR15B",
            a="IOR14A IOR13B IOR14B IOR15A IOL16B IOL17B IOL16A IOL17A IOL15B IOL15A IOR12B",
            ba="IOR13A IOR12A",
            dq="IOL3A IOL3B IOL8A IOL8B IOL9A IOL9B IOL11A IOL11B "
            "IOR9B IOR9A IOR5B IOR6A IOR5A IOR4B IOR3B IOR3A "
            "IOL39B IOL39A IOL35B IOL35A IOL30B IOL30A IOL20A IOL18B "
            "IOR17A IOR16A IOR16B IOR17B IOR18A IOR18B IOR44A IOR44B",
            attrs=_LVCMOS,
        ),
    )


class Top(Shell):
    """The board's top."""

    clock_pin = "clk27"

    def memory(self, clock_hz):
        return SdramController(SDRAM_8MB, clock_hz=clock_hz)

    def clock(self, clock_mhz):
        return GowinPll(reference_mhz=REFERENCE_MHZ, wanted_mhz=clock_mhz, device=DEVICE)

    def lights(self, platform):
        return [platform.request("led", index, dir="-") for index in range(len(LIGHTS))]


TANG_NANO_20K = Board(
    name="tang-nano-20k",
    title="Sipeed Tang Nano 20K",
    fpga="GW2AR-18",
    family=GOWIN,
    capacity={"luts": 20_736, "ffs": 15_552, "dsps": 96, "brams": 46},
    nextpnr=("--device", PART, "--vopt", "family=GW2A-18C"),
    packer=("-d", "GW2A-18C"),
    config=str(Path(__file__).with_name("configs") / "least.toml"),
    clock_mhz=27.0,
    clock=lambda mhz: settings(REFERENCE_MHZ, mhz, GW2A),
    baud=1_000_000,
    chip=SDRAM_8MB,
    memory_bytes=SDRAM_8MB.memory_bytes,
    loader="tangnano20k",
    platform=Platform,
    top=Top,
)
