"""What is the same on every board with a serial port and a memory: link, machine, arbiter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..hdl.axi import AxiLite, AxiRead, AxiWrite
from ..hdl.registers import REGISTER_ADDR_BITS
from ..hdl.top import MASTER, SLAVE, Weft
from .axi_slave import AxiSlave
from .frame import PROTOCOL_VERSION, Identity
from .link import Link
from .memory_port import Arbiter
from .uart import UartReceiver, UartSender, bit_time

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .memory_port import MemoryPort

#: Lights of a board, in this order.
LIGHTS = ("alive", "link", "working", "interrupt")


class System(wiring.Component):
    """A machine that a host reaches over a serial line, and its memory.

    Parameters
    ----------
    config
        The machine.
    memory
        Port of the memory; its words divide a beat of the machine's bus.
    clock_hz
        Frequency of the clock.
    baud
        Bits in a second on the line.
    machine
        Component with the pins of :class:`~weft.hdl.top.Weft`, which it is by default.

    Ports
    -----
    rx, tx
        The line.
    memory : Out(MemoryPort)
        To the memory.
    lights : Out
        Bit by bit what LIGHTS says.
    """

    def __init__(
        self,
        config: Config,
        memory: MemoryPort,
        *,
        clock_hz: float,
        baud: float,
        machine: wiring.Component | None = None,
    ):
        self._config = config
        self._port = memory
        self._clock_hz = clock_hz
        self._ticks = bit_time(clock_hz, baud)
        self._machine = machine or Weft(config)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory": Out(memory),
                "lights": Out(len(LIGHTS)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        port = self._port
        identity = Identity(
            PROTOCOL_VERSION, config.fingerprint, port.memory_bytes, round(self._clock_hz)
        )
        m.submodules.receiver = receiver = UartReceiver(ticks=self._ticks)
        m.submodules.sender = sender = UartSender(ticks=self._ticks)
        m.submodules.link = link = Link(identity, port)
        m.submodules.slave = slave = AxiSlave(config, port)
        m.submodules.arbiter = arbiter = Arbiter(width=port.width, addr_bits=port.addr_bits)
        m.submodules.machine = machine = self._machine

        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(sender.line)]
        connect(m, receiver.o_stream, link.i_stream)
        connect(m, link.o_stream, sender.i_stream)
        connect(m, link.memory, arbiter.clients[0])
        connect(m, slave.memory, arbiter.clients[1])
        connect(m, arbiter.memory, flipped(self.memory))
        for signature, inner in ((AxiWrite(config), slave.write), (AxiRead(config), slave.read)):
            for name, member in signature.members.items():
                pin, other = getattr(machine, MASTER + name), getattr(inner, name)
                m.d.comb += other.eq(pin) if member.flow == Out else pin.eq(other)
        for name, member in AxiLite(REGISTER_ADDR_BITS).members.items():
            pin, other = getattr(machine, SLAVE + name), getattr(link.registers, name)
            m.d.comb += pin.eq(other) if member.flow == Out else other.eq(pin)

        beat = Signal(range(round(self._clock_hz)))
        m.d.sync += beat.eq(beat + 1)
        m.d.comb += [
            self.lights[0].eq(beat[-1]),
            self.lights[1].eq(link.active),
            self.lights[2].eq(machine.retire.any()),
            self.lights[3].eq(machine.irq),
        ]
        return m
