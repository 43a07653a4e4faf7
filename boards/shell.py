"""A board's top: the system, and what is between it and the pins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io
from amaranth.lib.wiring import connect

from .sdram import SdramController
from .system import System

if TYPE_CHECKING:
    from amaranth.lib import wiring

    from ..hdl.config import Config
    from .memory_port import MemoryPort

#: Pins of an SDRAM that registers drive.
_DRIVEN = ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm")


class Shell(Elaboratable):
    """Everything at the pins of a board; each board is a class with what is its own.

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

    #: Resource with the oscillator.
    clock_pin: ClassVar[str]
    #: How many times slower than it the stand-in of the clock generator makes the core's clock.
    clock_divider: ClassVar[int] = 2

    def __init__(
        self,
        config: Config,
        *,
        clock_mhz: float,
        baud: float,
        machine: wiring.Component | None = None,
    ):
        self._clock_mhz = clock_mhz
        self._memory = self.memory(1e6 * clock_mhz)
        self._system = System(
            config, self._memory.port, clock_hz=1e6 * clock_mhz, baud=baud, machine=machine
        )

    @property
    def memory_port(self) -> MemoryPort:
        """How the main memory is reached."""
        return self._memory.port

    def memory(self, clock_hz: float) -> Any:
        """The main memory: a component with `port` and `memory`; an SDRAM has `pins` too."""
        raise NotImplementedError

    def clock(self, clock_mhz: float) -> wiring.Component:
        """What makes the domains `sync` and, a quarter of a cycle later, `sdram` of `reference`."""
        raise NotImplementedError

    def lights(self, platform) -> list[io.PortLike]:
        """Pins of lights, in the order of :data:`~.system.LIGHTS`; there may be fewer."""
        raise NotImplementedError

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        m.submodules.system = system = self._system
        m.submodules.memory = memory = self._memory
        connect(m, system.memory, memory.memory)

        m.submodules.pll = pll = self.clock(self._clock_mhz)
        m.submodules.clock = clock = io.Buffer("i", platform.request(self.clock_pin, 0, dir="-"))
        m.d.comb += pll.reference.eq(clock.i)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        for index, pin in enumerate(self.lights(platform)):
            m.submodules[f"light{index}"] = light = io.Buffer("o", pin)
            m.d.comb += light.o.eq(system.lights[index])
        if isinstance(memory, SdramController):
            _connect_sdram(m, memory, platform.request("sdram", 0, dir="-"))
        return m


def _connect_sdram(m: Module, memory: SdramController, pins) -> None:
    """An SDRAM's pins, through registers at the pins; its clock is that of the domain `sdram`."""
    m.submodules.sdram_clock = clock = io.DDRBuffer("o", pins.clk, o_domain="sdram")
    m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]
    for name in _DRIVEN:
        m.submodules[f"sdram_{name}"] = out = io.FFBuffer("o", getattr(pins, name))
        m.d.comb += out.o.eq(getattr(memory.pins, name))
    m.submodules.sdram_dq = dq = io.FFBuffer("io", pins.dq)
    m.d.comb += [
        dq.o.eq(memory.pins.dq_o),
        dq.oe.eq(memory.pins.dq_oe),
        memory.pins.dq_i.eq(dq.i),
    ]
