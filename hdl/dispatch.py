"""Dispatch: decoded instructions into the queues of their units, in order, and the END."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .decoder import DECODED, QUEUED, fields_of
from .isa import FORMATS, Opcode, Unit
from .ports import ERROR_BITS, PC_BITS, Fault
from .queue import entry_layout
from .registers import Error

TAG_BITS = next(entry.bits for entry in FORMATS[Opcode.END] if entry.name == "tag")


class Dispatch(wiring.Component):
    """Moves one instruction a cycle; combinational but for the counter of instructions.

    A legal instruction leaves in the cycle in which every queue that takes it has room: MATMUL
    enters those of WEIGHT and MATMUL at once. END stays, and ends the program in the first cycle in
    which the machine is `empty`: with `finish` if every semaphore is zero, else with fault
    SEMAPHORE_LEFT. An illegal instruction (and the end of the program) stays and reports its fault
    in the first such cycle, so that everything before it has happened, and nothing of it. After
    either, nothing more leaves or is reported until reset.

    Ports
    -----
    i : stream of DECODED
    queues : list of streams, indexed by Unit
    empty : In(1)
        No unit is busy, nothing waits in a queue, and no transfer is under way.
    zero : In(1)
        Every semaphore is zero.
    ending : Out(1)
        END, or an illegal instruction, is next.
    finish : Out(1)
        The program has ended.
    tag : Out(16)
        The tag of END, in the cycle of `finish`.
    dispatched : Out(1)
        An instruction leaves, or END ends the program.
    fault : Fault
    pc : Out(PC_BITS)
        Number of instructions that left, END included: the program counter of the next one.
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(DECODED)),
                "empty": In(1),
                "zero": In(1),
                "ending": Out(1),
                "finish": Out(1),
                "tag": Out(TAG_BITS),
                "dispatched": Out(1),
                "fault": Out(Fault()),
                "pc": Out(PC_BITS),
                **{
                    unit.name.lower(): Out(stream.Signature(entry_layout(*QUEUED[unit])))
                    for unit in Unit
                },
            }
        )

    def queue(self, unit: Unit):
        """The stream that feeds `unit`'s queue."""
        return getattr(self, unit.name.lower())

    def elaborate(self, platform):
        m = Module()
        word = self.i.payload.word
        over = Signal()
        present = Signal()
        legal = Signal()
        m.d.comb += [
            present.eq(self.i.valid & ~over),
            legal.eq(present & self.i.payload.legal),
            self.tag.eq(fields_of(word, Opcode.END)["tag"]),
            self.fault.pc.eq(self.i.payload.pc),
            self.dispatched.eq((self.i.valid & self.i.ready) | self.finish),
        ]
        is_end = Signal()
        m.d.comb += [
            is_end.eq(present & self.i.payload.ends),
            self.ending.eq(is_end | (present & ~legal)),
        ]
        with m.If(is_end):
            m.d.comb += [
                self.finish.eq(self.empty & self.zero),
                self.fault.valid.eq(self.empty & ~self.zero),
                self.fault.code.eq(Const(Error.SEMAPHORE_LEFT, ERROR_BITS)),
            ]
        with m.Else():
            m.d.comb += [
                self.fault.valid.eq(present & ~legal & self.empty),
                self.fault.code.eq(self.i.payload.error),
            ]

        leaves = []
        for unit in Unit:
            queue = self.queue(unit)
            wanted = Signal(name=f"{unit.name.lower()}_wanted")
            others = [
                self.queue(other).ready
                for other in Unit
                if other != unit and set(QUEUED[other]) & set(QUEUED[unit])
            ]
            room = Signal(name=f"{unit.name.lower()}_room")
            ready = queue.ready
            for other in others:
                ready = ready & other
            m.d.comb += [
                wanted.eq(present & self.i.payload.units[unit]),
                room.eq(ready),
                queue.valid.eq(wanted & room),
                queue.payload.word.as_value().eq(word),
                queue.payload.pc.eq(self.i.payload.pc),
            ]
            leaves.append(self.i.payload.units[unit] & room)
        m.d.comb += self.i.ready.eq(Cat(leaves).any() & ~over)
        with m.If(self.finish | self.fault.valid):
            m.d.sync += over.eq(1)
        with m.If(self.dispatched):
            m.d.sync += self.pc.eq(self.pc + 1)
        return m
