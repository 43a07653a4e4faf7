"""Main memory from the FPGA's own RAMs, for boards without a memory chip that we drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..hdl.delay import delay
from ..hdl.ram import Ram
from .memory_port import COUNT_BITS, MemoryPort

#: Address bits of a bank: as deep as an ECP5's block RAMs go, and an iCE40's single-port RAMs are.
_BANK_BITS = 14


class BlockMemory(wiring.Component):
    """Serves bursts in order, a word in every cycle; it never reads while it writes.

    Parameters
    ----------
    width
        Bits of a word.
    addr_bits
        Of a word's address.
    bank
        Makes a bank of that many words, with the ports of :class:`~weft.hdl.ram.Ram`, which it is
        by default.

    Ports
    -----
    memory : In(MemoryPort)
        Who asks.

    Attributes
    ----------
    port
        The MemoryPort.
    """

    def __init__(self, *, width: int, addr_bits: int, bank: Callable[[int], Any] | None = None):
        self._bank = bank or self._ram
        self.port = MemoryPort(width=width, addr_bits=addr_bits)
        super().__init__({"memory": In(self.port)})

    def _ram(self, depth: int) -> Ram:
        return Ram(width=self.port.width, depth=depth, granularity=8, output_register=True)

    def elaborate(self, platform) -> Module:
        m = Module()
        memory = self.memory
        width, addr_bits = self.port.width, self.port.addr_bits
        low = min(addr_bits, _BANK_BITS)
        active, write = Signal(), Signal()
        left, address = Signal(COUNT_BITS), Signal(addr_bits)
        reads, writes = Signal(), Signal()
        m.d.comb += [
            memory.request.ready.eq(~active),
            memory.w.ready.eq(active & write),
            writes.eq(memory.w.valid & memory.w.ready),
            reads.eq(active & ~write),
        ]
        with m.If(memory.request.valid & memory.request.ready):
            request = memory.request.payload
            m.d.sync += [
                active.eq(1),
                write.eq(request.write),
                left.eq(request.count),
                address.eq(request.addr),
            ]
        with m.Elif(reads | writes):
            m.d.sync += [
                address.eq(address + 1),
                left.eq(left - 1),
                active.eq(left != 0),
            ]

        words = []
        latency = 0
        for bank in range(1 << (addr_bits - low)):
            m.submodules[f"bank_{bank}"] = ram = self._bank(1 << low)
            mine = address[low:] == bank
            m.d.comb += [
                ram.w_en.eq(memory.w.payload.strobe & (writes & mine).replicate(width // 8)),
                ram.w_addr.eq(address[:low]),
                ram.w_data.eq(memory.w.payload.data),
                ram.r_en.eq(reads),
                ram.r_addr.eq(address[:low]),
            ]
            words.append(ram.r_data)
            latency = ram.latency
        bank = delay(m, address[low:], latency, name="bank")
        m.d.comb += [
            memory.r.valid.eq(delay(m, reads, latency, name="reads")),
            memory.r.payload.eq(Array(words)[bank]),
        ]
        return m
