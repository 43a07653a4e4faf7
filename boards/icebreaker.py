"""The iCEBreaker with an iCE40UP5K: main memory in its four single-port RAMs.

No machine fits it: see docs/boards.md.
"""

from __future__ import annotations

from pathlib import Path

from amaranth.hdl import ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth_boards.icebreaker import ICEBreakerPlatform

from .block_memory import BlockMemory
from .board import Board
from .families import ICE40
from .ice40_cells import Spram
from .shell import Shell

CLOCK_MHZ = 12.0
_WORD_BITS = 32
MEMORY_BYTES = 128 << 10
#: Cycles in reset: block RAMs cannot be read in the first microseconds after configuration.
_RESET_CYCLES = 255


class Oscillator(wiring.Component):
    """The board's clock as it comes, and a reset at power-up."""

    def __init__(self):
        super().__init__({"reference": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal(range(_RESET_CYCLES + 1), init=_RESET_CYCLES, reset_less=True)
        m.d.sync += left.eq(left - (left != 0))
        m.d.comb += [
            ClockSignal("sync").eq(self.reference),
            ClockSignal("sdram").eq(0),
            ResetSignal("sync").eq(left != 0),
        ]
        return m


class Top(Shell):
    """The board's top."""

    clock_pin = "clk12"
    clock_divider = 1

    def memory(self, clock_hz):
        words = 8 * MEMORY_BYTES // _WORD_BITS
        return BlockMemory(
            width=_WORD_BITS,
            addr_bits=words.bit_length() - 1,
            bank=lambda depth: Spram(width=_WORD_BITS),
        )

    def clock(self, clock_mhz):
        return Oscillator()

    def lights(self, platform):
        return [platform.request("led", index, dir="-") for index in range(2)]


def _settings(clock_mhz: float) -> None:
    if clock_mhz != CLOCK_MHZ:
        raise ValueError(f"its clock is {CLOCK_MHZ:g} MHz, not {clock_mhz:g}")


ICEBREAKER = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    fpga="iCE40UP5K",
    family=ICE40,
    capacity={"luts": 5_280, "ffs": 5_280, "dsps": 8, "brams": 30},
    nextpnr=("--up5k", "--package", "sg48"),
    config=str(Path(__file__).with_name("configs") / "least.toml"),
    clock_mhz=CLOCK_MHZ,
    clock=_settings,
    baud=1_000_000,
    chip=None,
    memory_bytes=MEMORY_BYTES,
    loader="ice40_generic",
    platform=ICEBreakerPlatform,
    top=Top,
)
