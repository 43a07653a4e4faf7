"""An AXI4 slave in front of a board's memory, for the machine's bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..hdl.axi import AxiRead, AxiWrite, Response
from .memory_port import COUNT_BITS, MemoryPort

if TYPE_CHECKING:
    from ..hdl.config import Config


class AxiSlave(wiring.Component):
    """Turns INCR bursts of full beats into bursts of the memory's words, one at a time.

    It relies on what the machine promises: RREADY and BREADY are always 1, and IDs are 0. Bursts
    outside the memory are answered with DECERR.

    Parameters
    ----------
    config
        The machine.
    port
        The memory; its words divide a beat.

    Ports
    -----
    write, read : In(AxiWrite), In(AxiRead)
        The machine's bus.
    memory : Out(MemoryPort)
        Whom it asks.
    """

    def __init__(self, config: Config, port: MemoryPort):
        self._config = config
        self._port = port
        super().__init__(
            {"write": In(AxiWrite(config)), "read": In(AxiRead(config)), "memory": Out(port)}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        port, memory = self._port, self.memory
        aw, ar = self.write, self.read
        ratio = self._config.bus_bits // port.width
        part = Signal(range(ratio))  # of the beat
        beats = Signal(8)  # that follow this one
        outside = Signal()
        prefer_write = Signal()
        is_write = Signal()
        address = Signal(self._config.addr_bits)
        length = Signal(8)
        m.d.comb += [
            is_write.eq(Mux(prefer_write, aw.awvalid, ~ar.arvalid)),
            address.eq(Mux(is_write, aw.awaddr, ar.araddr)),
            length.eq(Mux(is_write, aw.awlen, ar.arlen)),
        ]
        request = memory.request.payload
        m.d.comb += [
            request.write.eq(is_write),
            request.addr.eq(address >> (port.width // 8 - 1).bit_length()),
            request.count.eq(((length + 1) * ratio - 1)[:COUNT_BITS]),
            ar.rresp.eq(Mux(outside, Response.DECERR, Response.OKAY)),
            aw.bresp.eq(Mux(outside, Response.DECERR, Response.OKAY)),
            ar.rlast.eq(beats == 0),
        ]
        beat = Signal(self._config.bus_bits)
        full = Signal()
        m.d.sync += full.eq(0)
        m.d.comb += [ar.rdata.eq(beat), ar.rvalid.eq(full)]
        final_part = part == ratio - 1

        with m.FSM():
            with m.State("IDLE"):
                beyond = (address >= port.memory_bytes) & (aw.awvalid | ar.arvalid)
                m.d.comb += memory.request.valid.eq((aw.awvalid | ar.arvalid) & ~beyond)
                m.d.sync += [part.eq(0), beats.eq(length), outside.eq(beyond)]
                with m.If((memory.request.valid & memory.request.ready) | beyond):
                    m.d.comb += [aw.awready.eq(is_write), ar.arready.eq(~is_write)]
                    m.d.sync += prefer_write.eq(~is_write)
                    m.next = "READ"
                    with m.If(is_write):
                        m.next = "WRITE"
            with m.State("READ"):
                word = memory.r.payload
                with m.If(memory.r.valid | outside):
                    m.d.sync += [
                        beat.word_select(part, port.width).eq(word),
                        part.eq(Mux(final_part, 0, part + 1)),
                        full.eq(final_part),
                    ]
                with m.If(full):
                    m.d.sync += beats.eq(beats - 1)
                    with m.If(beats == 0):
                        m.d.sync += full.eq(0)
                        m.next = "IDLE"
            with m.State("WRITE"):
                word = memory.w.payload
                m.d.comb += [
                    word.data.eq(aw.wdata.word_select(part, port.width)),
                    word.strobe.eq(aw.wstrb.word_select(part, port.width // 8)),
                    memory.w.valid.eq(aw.wvalid & ~outside),
                ]
                with m.If(aw.wvalid & (memory.w.ready | outside)):
                    m.d.sync += part.eq(Mux(final_part, 0, part + 1))
                    with m.If(final_part):
                        m.d.comb += aw.wready.eq(1)
                        m.d.sync += beats.eq(beats - 1)
                        with m.If(beats == 0):
                            m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += aw.bvalid.eq(1)
                m.next = "IDLE"
        return m
