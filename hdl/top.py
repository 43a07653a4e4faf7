"""The whole accelerator, with flat pins that carry AXI's names."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from .axi import AxiLite, AxiRead, AxiWrite
from .config import Config
from .control import Control
from .core import CORE_FAULTS, Core
from .isa import INSTRUCTION_BYTES, Unit
from .read_engine import ReadEngine
from .registers import REGISTER_ADDR_BITS
from .write_engine import WriteEngine

MASTER = "m_axi_"
SLAVE = "s_axil_"


class Weft(wiring.Component):
    """The top level: one clock `clk`, synchronous reset `rst`.

    Cycle 0 of a run is the one after the handshake of the START write's W channel (or AW, if that
    is later). The first ARVALID rises in cycle 3; CYCLES is the number of cycles from 1 to the one
    in which END leaves, and STATUS and `irq` show the end in the cycle after that.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    m_axi_*
        AXI4 master: 64 to 512 data bits, ID 0, INCR bursts of full beats. RREADY and BREADY are
        always 1.
    s_axil_*
        AXI4-Lite slave: the registers of ``registers.REGISTERS``.
    irq : Out(1)
        Level interrupt.
    retire : Out(5)
        Bit u: unit u completes an instruction in this cycle of a run.
    """

    def __init__(self, config: Config):
        self._config = config
        members = {}
        for signature in (AxiWrite(config), AxiRead(config)):
            members |= {MASTER + name: member for name, member in signature.members.items()}
        for name, member in AxiLite(REGISTER_ADDR_BITS).members.items():
            members[SLAVE + name] = member.flip()
        super().__init__({**members, "irq": Out(1), "retire": Out(len(Unit))})

    @property
    def config(self) -> Config:
        """The machine."""
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.control_block = control = Control(config, sources=CORE_FAULTS + 2)
        core = Core(config)
        read = ReadEngine(config)
        write = WriteEngine(config)
        m.submodules.core = ResetInserter(~control.run)(core)
        m.submodules.read_engine = ResetInserter(control.reset)(read)
        m.submodules.write_engine = ResetInserter(control.reset)(write)

        for name, member in AxiLite(REGISTER_ADDR_BITS).members.items():
            self._pin(m, SLAVE + name, getattr(control.bus, name), member.flip())
        for engine, signature in ((write, AxiWrite(config)), (read, AxiRead(config))):
            for name, member in signature.members.items():
                self._pin(m, MASTER + name, getattr(engine.axi, name), member)

        connect(m, core.fetch, read.fetch)
        connect(m, core.load, read.load)
        connect(m, read.fetch_data, core.fetch_data)
        connect(m, read.load_data, core.load_data)
        connect(m, core.write, write.port)
        connect(m, control.segments, core.segments)
        for engine in (read, write):
            for field in ("base", "size"):
                m.d.comb += getattr(engine.segments, field).eq(getattr(control.segments, field))
        faults = [read.error, write.error, *core.faults]
        for source, sink in zip(faults, control.faults, strict=True):
            connect(m, source, sink)
        m.d.comb += [
            core.start.eq(control.start),
            core.base.eq(control.base),
            core.count.eq(control.count),
            core.idle.eq(read.idle & write.idle),
            read.base.eq(control.base),
            read.size.eq(control.count * INSTRUCTION_BYTES),
            control.refused.eq(read.refused | write.refused),
            control.wrong.eq(core.wrong),
            read.kill.eq(control.kill),
            write.kill.eq(control.kill),
            control.idle.eq(read.idle & write.idle),
            control.finish.eq(core.finish),
            control.tag.eq(core.tag),
            core.oldest.eq(control.oldest),
            control.done.eq(core.done),
            control.events.eq(Cat(read.beats, write.beats, core.vector_read, core.dispatched)),
            self.irq.eq(control.irq),
            self.retire.eq(core.done & control.run.replicate(len(Unit))),
        ]
        for unit in Unit:
            m.d.comb += [
                control.causes[unit].eq(core.causes[unit]),
                control.pcs[unit].eq(core.pcs[unit]),
            ]
        return m

    def _pin(self, m: Module, name: str, inner, member: wiring.Member):
        """Connect a pin with what drives or reads it."""
        pin = getattr(self, name)
        m.d.comb += pin.eq(inner) if member.flow == Out else inner.eq(pin)
