"""STORE: rows from ACT to DRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .burst import BurstSplitter
from .isa import Opcode
from .ports import ACT_ADDR_BITS, ACT_READ_LATENCY, ActRead, Fault, Segments, UnitPort
from .write_engine import WRITE_BUFFER_BEATS, WritePort, write_burst_beats

if TYPE_CHECKING:
    from .config import Config


class StoreUnit(wiring.Component):
    """Executes STORE, one instruction at a time.

    An instruction starts in the first cycle s in which it is valid, all its semaphores are there
    and none is in flight (one that is done in cycle d still is in cycle d). Its first ACT read is
    in cycle s + 4; from then on a read is issued in every cycle in which fewer than
    WRITE_BUFFER_BEATS beats are under way: a beat is under way from the cycle after its read until
    the cycle of its `write.sent`, both included. A read in cycle t gives its beat to the write
    engine in cycle t + ACT_READ_LATENCY. The instruction is done in the cycle of its last
    `write.response`.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    unit : Out(UnitPort(STORE))
        `stall`: an instruction is in flight, and ACT is not read in this cycle.
    segments : In(Segments)
        Must not change while an instruction starts.
    act : Out(ActRead(bus_bytes))
        Bytes beyond the row's end are masked.
    write : Out(WritePort)
        Bursts and beats.
    fault : Out(Fault)
        WINDOW; stays, and no burst of that row or later is issued, until reset.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.STORE)),
                "segments": In(Segments(config)),
                "act": Out(ActRead(config, config.bus_bytes)),
                "write": Out(WritePort(config)),
                "fault": Out(Fault()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        bus = config.bus_bytes
        shift = (bus - 1).bit_length()
        unit = self.unit
        word = unit.instr.payload.word
        m.submodules.splitter = splitter = BurstSplitter(
            config, burst_beats=write_burst_beats(config)
        )
        connect(m, splitter.fault, flipped(self.fault))

        busy = Signal()
        start = Signal()
        done = Signal()
        post = Signal(8)
        pitch = Signal(ACT_ADDR_BITS)
        tail = Signal(bus)
        transfer = splitter.transfer.payload
        m.d.comb += [
            splitter.transfer.valid.eq(unit.instr.valid & unit.go & ~busy),
            start.eq(splitter.transfer.valid & splitter.transfer.ready),
            unit.instr.ready.eq(start),
            transfer.base.eq(self.segments.base[word.segment]),
            transfer.size.eq(self.segments.size[word.segment]),
            transfer.offset.eq(word.offset),
            transfer.length.eq(word.length),
            transfer.rows.eq(word.rows),
            transfer.pitch.eq(word.dram_pitch),
            transfer.segment.eq(word.segment),
            transfer.pc.eq(unit.instr.payload.pc),
        ]

        # The walker reads one burst's beats from ACT; `addr` is where the next one lies.
        burst = splitter.burst
        walking = Signal()
        left = Signal(8)
        row_end = Signal()
        addr = Signal(ACT_ADDR_BITS)
        next_row = Signal(ACT_ADDR_BITS)
        credit = Signal(range(WRITE_BUFFER_BEATS + 1), init=WRITE_BUFFER_BEATS)
        some_credit = Signal(init=1)  # it is not 0
        free = Signal()
        read = Signal()
        last = Signal(init=1)  # left is 0
        take = Signal()
        m.d.comb += [
            read.eq(walking & some_credit),
            free.eq(~walking | (read & last)),
            self.write.burst.valid.eq(burst.valid & free),
            self.write.burst.payload.eq(burst.payload.request),
            burst.ready.eq(self.write.burst.ready & free),
            take.eq(burst.valid & burst.ready),
            self.act.en.eq(read),
            self.act.base.eq(addr),
            self.act.mask.eq(tail | (~(last & row_end)).replicate(bus)),
            self.act.fill.eq(0),
        ]
        with m.If(read):
            m.d.sync += [
                left.eq(left - 1),
                last.eq(left == 1),
                addr.eq(Mux(last & row_end, next_row, addr + bus)),
            ]
            with m.If(last & row_end):
                m.d.sync += next_row.eq(next_row + pitch)
        with m.If(free):
            m.d.sync += walking.eq(take)
        with m.If(take):
            m.d.sync += [
                left.eq(burst.payload.request.len),
                last.eq(burst.payload.request.len == 0),
                row_end.eq(burst.payload.row_end),
            ]
        m.d.sync += [
            credit.eq(credit - read + self.write.sent),
            some_credit.eq(self.write.sent | (credit != read)),
        ]

        # What was read arrives in order, ACT_READ_LATENCY cycles later.
        arriving, arriving_last, arriving_tail = read, last, last & row_end
        for i in range(ACT_READ_LATENCY):
            stage = Signal(3, name=f"stage_{i}")
            m.d.sync += stage.eq(Cat(arriving, arriving_last, arriving_tail))
            arriving, arriving_last, arriving_tail = stage
        m.d.comb += [
            self.write.beat_valid.eq(arriving),
            self.write.beat.data.eq(self.act.data.as_value()),
            self.write.beat.strobe.eq(tail | (~arriving_tail).replicate(bus)),
            self.write.beat.last.eq(arriving_last),
        ]

        # Completion.
        unanswered = Signal(range(2 * WRITE_BUFFER_BEATS + 1))
        all_given = Signal()
        m.d.comb += done.eq(self.write.response & all_given & (unanswered == 1))
        m.d.sync += unanswered.eq(unanswered + take - self.write.response)
        with m.If(take & burst.payload.end):
            m.d.sync += all_given.eq(1)
        with m.If(done):
            m.d.sync += busy.eq(0)
        with m.If(start):
            m.d.sync += [busy.eq(1), all_given.eq(0)]
        with m.If(~busy):
            m.d.sync += [
                post.eq(word.post),
                pitch.eq(word.local_pitch),
                addr.eq(word.local),
                next_row.eq(word.local + word.local_pitch),
                tail.eq(Cat(i <= (word.length - 1)[:shift] for i in range(bus))),
            ]
        m.d.comb += [
            unit.done.eq(done),
            unit.post.eq(post & done.replicate(8)),
            unit.busy.eq(busy),
            unit.stall.eq(busy & ~read),
        ]
        return m
