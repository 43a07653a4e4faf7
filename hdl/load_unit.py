"""LOAD: rows from DRAM into ACT, WGT, PAR or TBL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .burst import BurstSplitter
from .isa import Memory, Opcode
from .ports import (
    ACT_ADDR_BITS,
    ActWrite,
    BeatReturn,
    BeatWrite,
    BurstRequest,
    Fault,
    Segments,
    UnitPort,
)

if TYPE_CHECKING:
    from .config import Config

#: Most LOAD instructions that are in flight at once.
LOADS_IN_FLIGHT = 8
assert LOADS_IN_FLIGHT & (LOADS_IN_FLIGHT - 1) == 0  # so many are where the top bit is set


class LoadUnit(wiring.Component):
    """Executes LOAD with an address half and a data half that run apart.

    Address half: an instruction starts in the first cycle s in which it is valid and all its
    semaphores are there, fewer than LOADS_IN_FLIGHT are in flight (one that is done in cycle d
    still counts in cycle d), and the splitter's row stage is empty, see
    :class:`~.burst.BurstSplitter`. Its first burst is requested in cycle s + 3.

    Data half: a beat returned in cycle w is written in that very cycle; no beat is ever refused.
    The last beat's write cycle is the cycle of `done` and `post`. A unit that sees the semaphore
    starts in cycle w + 1 or later, when the memories show the data.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    unit : Out(UnitPort(LOAD))
        `stall`: an instruction is in flight, and no beat is written in this cycle.
    segments : In(Segments)
        Must not change while an instruction starts.
    request : Out(stream of BurstRequest)
        From a register.
    data : In(BeatReturn)
        Beats in the order of the requests; `error` and `last` are not looked at.
    act : Out(ActWrite(bus_bytes))
    wgt, par, tbl : Out(BeatWrite)
        `tbl` only where there are tables.
    fault : Out(Fault)
        WINDOW; stays, and no burst of that row or later is issued, until reset.
    """

    def __init__(self, config: Config):
        self._config = config
        bus = config.bus_bytes
        self._rows = {Memory.WGT: config.wgt_bytes, Memory.PAR: config.par_bytes}
        if config.tables:
            self._rows[Memory.TBL] = config.tbl_bytes
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.LOAD)),
                "segments": In(Segments(config)),
                "request": Out(stream.Signature(BurstRequest(config))),
                "data": In(BeatReturn(config)),
                "act": Out(ActWrite(config, bus)),
                "fault": Out(Fault()),
                **{
                    memory.name.lower(): Out(BeatWrite(size // bus, bus))
                    for memory, size in self._rows.items()
                },
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        bus = config.bus_bytes
        shift = (bus - 1).bit_length()
        unit = self.unit
        word = unit.instr.payload.word

        # Address half.
        m.submodules.splitter = splitter = BurstSplitter(config, burst_beats=config.burst_beats)
        job = data.StructLayout(
            {
                "memory": 2,
                "local": ACT_ADDR_BITS,
                "pitch": ACT_ADDR_BITS,
                "beats": 20 - shift,  # of a row, minus one
                "tail": shift,  # bytes in the last beat, minus one
                "rows": 12,  # minus one
                "post": 8,
            }
        )
        m.submodules.jobs = jobs = fifo.SyncFIFOBuffered(width=job.size, depth=LOADS_IN_FLIGHT + 1)
        in_flight = Signal(range(LOADS_IN_FLIGHT + 1))
        busy = Signal()  # in_flight is not 0
        room = Signal()
        start = Signal()
        done = Signal()
        new = Signal(job)
        transfer = splitter.transfer.payload
        m.d.comb += [
            room.eq(~in_flight[-1]),
            splitter.transfer.valid.eq(unit.instr.valid & unit.go & room),
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
            self.request.valid.eq(splitter.burst.valid),
            self.request.payload.eq(splitter.burst.payload.request),
            splitter.burst.ready.eq(self.request.ready),
            new.memory.eq(word.memory),
            new.local.eq(word.local),
            new.pitch.eq(word.local_pitch),
            Cat(new.tail, new.beats).eq(word.length - 1),
            new.rows.eq(word.rows - 1),
            new.post.eq(word.post),
            jobs.w_en.eq(start),
            jobs.w_data.eq(new),
        ]
        connect(m, splitter.fault, flipped(self.fault))
        m.d.sync += [
            in_flight.eq(in_flight + start - done),
            busy.eq(start | (in_flight != done)),
        ]

        # Data half: `addr` is where the next beat goes.
        head = data.View(job, jobs.r_data)
        active = Signal()
        now = Signal(job)
        addr = Signal(ACT_ADDR_BITS)
        next_row = Signal(ACT_ADDR_BITS)
        left = Signal(20 - shift)
        tail = Signal(bus)
        row_end = Signal()
        ends = Signal()  # row_end, of the last row
        beat = Signal()
        mask = Signal(bus)
        m.d.comb += [
            beat.eq(self.data.valid & active),
            done.eq(beat & ends),
            jobs.r_en.eq(~active | done),
            mask.eq(tail | (~row_end).replicate(bus)),
        ]
        with m.If(beat):
            with m.If(row_end):
                m.d.sync += [
                    addr.eq(next_row),
                    next_row.eq(next_row + now.pitch),
                    left.eq(now.beats),
                    row_end.eq(now.beats == 0),
                    ends.eq((now.beats == 0) & (now.rows == 1)),
                    now.rows.eq(now.rows - 1),
                ]
            with m.Else():
                m.d.sync += [
                    addr.eq(addr + bus),
                    left.eq(left - 1),
                    row_end.eq(left == 1),
                    ends.eq((left == 1) & (now.rows == 0)),
                ]
        with m.If(jobs.r_en):
            m.d.sync += [
                active.eq(jobs.r_rdy),
                now.eq(head),
                addr.eq(head.local),
                next_row.eq(head.local + head.pitch),
                left.eq(head.beats),
                row_end.eq(head.beats == 0),
                ends.eq((head.beats == 0) & (head.rows == 0)),
                tail.eq(Cat(i <= head.tail for i in range(bus))),
            ]

        m.d.comb += [
            self.act.en.eq(beat & (now.memory == Memory.ACT)),
            self.act.base.eq(addr),
            self.act.mask.eq(mask),
            self.act.data.as_value().eq(self.data.data),
        ]
        for memory in self._rows:
            port = getattr(self, memory.name.lower())
            m.d.comb += [
                port.en.eq(beat & (now.memory == memory)),
                port.addr.eq(addr[shift:]),
                port.strobe.eq(mask),
                port.data.eq(self.data.data),
            ]
        m.d.comb += [
            unit.done.eq(done),
            unit.post.eq(now.post & done.replicate(8)),
            unit.busy.eq(busy),
            unit.stall.eq(unit.busy & ~beat),
        ]
        return m
