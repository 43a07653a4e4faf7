"""The Radiona ULX3S with an LFE5U-85F: its pins around a :class:`~.system.System`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io, wiring
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .board import Board
from .ecp5_cells import Ecp5Cells
from .pll import Pll
from .sdram import SDRAM_32MB
from .system import LIGHTS, System

if TYPE_CHECKING:
    from ..hdl.config import Config

REFERENCE_MHZ = 25.0


class Platform(Ecp5Cells, ULX3S_85F_Platform):
    """The board's pins, and its FPGA's multipliers and memories."""


class Top(Elaboratable):
    """The board's top: everything at its pins.

    Parameters
    ----------
    config
        The machine.
    clock_mhz
        Frequency of all of it.
    baud
        Bits in a second on the serial line.
    machine
        See :class:`~.system.System`.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock_mhz: float,
        baud: float,
        machine: wiring.Component | None = None,
    ):
        self._clock_mhz = clock_mhz
        self._system = System(
            config, SDRAM_32MB, clock_hz=1e6 * clock_mhz, baud=baud, machine=machine
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        m.submodules.pll = pll = Pll(reference_mhz=REFERENCE_MHZ, wanted_mhz=self._clock_mhz)
        m.submodules.system = system = self._system
        m.submodules.clock = clock = io.Buffer("i", platform.request("clk25", 0, dir="-"))
        m.d.comb += pll.reference.eq(clock.i)

        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        for index in range(len(LIGHTS)):
            light = io.Buffer("o", platform.request("led", index, dir="-"))
            m.submodules[f"light{index}"] = light
            m.d.comb += light.o.eq(system.lights[index])

        pins = platform.request("sdram", 0, dir="-")
        m.submodules.sdram_clock = clock_out = io.DDRBuffer("o", pins.clk, o_domain="sdram")
        m.d.comb += [clock_out.o[0].eq(1), clock_out.o[1].eq(0)]
        for name in ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm"):
            m.submodules[f"sdram_{name}"] = out = io.FFBuffer("o", getattr(pins, name))
            m.d.comb += out.o.eq(getattr(system.sdram, name))
        m.submodules.sdram_dq = dq = io.FFBuffer("io", pins.dq)
        m.d.comb += [
            dq.o.eq(system.sdram.dq_o),
            dq.oe.eq(system.sdram.dq_oe),
            system.sdram.dq_i.eq(dq.i),
        ]
        return m


ULX3S = Board(
    name="ulx3s",
    config="tiny",
    clock_mhz=50.0,
    baud=3_000_000,
    chip=SDRAM_32MB,
    capacity={"luts": 83_640, "ffs": 83_640, "dsps": 156, "brams": 208},
    nextpnr=("--85k", "--package", "CABGA381", "--speed", "6"),
    platform=Platform,
    top=Top,
)
