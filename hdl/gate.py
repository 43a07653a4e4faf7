"""Between a unit's queue and the semaphores: when it may start, and what it does each cycle."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .ports import PC_BITS
from .registers import Cause


class Gate(wiring.Component):
    """Combinational, but for the program counters of the instructions in progress.

    Each cycle has exactly one cause, so that the causes of any stretch of cycles sum to its length:
    the cycle of a start is BUSY; else while `busy`, MEMORY where `stall` and BUSY where not; else
    SEMAPHORE where an instruction waits for one; else EMPTY.

    Parameters
    ----------
    overlap
        Most instructions of the unit that are started and not completed, a power of two.

    Ports
    -----
    valid, wait, pc : In
        The queue's head: that there is one, its wait set and its program counter.
    next_pc : In(PC_BITS)
        Program counter of the next instruction to be dispatched.
    ready, done, busy, stall : In
        From the unit, see ``ports.UnitPort``.
    available : In(8)
        From the semaphores.
    go : Out(1)
        To the unit: there is a head, and the semaphores of its wait set are not zero.
    take : Out(8)
        To the semaphores: the wait set, in the cycle of `ready`.
    cause : Out(len(Cause))
        One bit per Cause.
    active : Out(PC_BITS)
        Program counter of the oldest instruction started and not completed; while there is none, of
        the last one.
    oldest : Out(PC_BITS)
        Program counter of the oldest instruction that the unit has not completed; where it has
        none, `next_pc`. Never falls.
    """

    def __init__(self, *, overlap: int = 4):
        if not isinstance(overlap, int) or overlap < 1 or overlap & (overlap - 1):
            raise ValueError(f"overlap must be a power of two, not {overlap!r}")
        self._overlap = overlap
        super().__init__(
            {
                "valid": In(1),
                "wait": In(8),
                "pc": In(PC_BITS),
                "next_pc": In(PC_BITS),
                "ready": In(1),
                "done": In(1),
                "busy": In(1),
                "stall": In(1),
                "available": In(8),
                "go": Out(1),
                "take": Out(8),
                "cause": Out(len(Cause)),
                "active": Out(PC_BITS),
                "oldest": Out(PC_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.go.eq(self.valid & ~(self.wait & ~self.available).any())
        with m.If(self.ready):
            m.d.comb += self.take.eq(self.wait)

        with m.If(self.ready | (self.busy & ~self.stall)):
            m.d.comb += self.cause[Cause.BUSY].eq(1)
        with m.Elif(self.busy):
            m.d.comb += self.cause[Cause.MEMORY].eq(1)
        with m.Elif(self.valid & ~self.go):
            m.d.comb += self.cause[Cause.SEMAPHORE].eq(1)
        with m.Else():
            m.d.comb += self.cause[Cause.EMPTY].eq(1)

        started = Signal(max((self._overlap - 1).bit_length(), 1))
        completed = Signal.like(started)
        pcs = [Signal(PC_BITS, name=f"pc_{i}") for i in range(self._overlap)]
        last = Signal(PC_BITS)
        with m.If(self.ready):
            m.d.sync += started.eq((started + 1) % self._overlap)
        with m.If(self.done):
            m.d.sync += [completed.eq((completed + 1) % self._overlap), last.eq(self.active)]
        for i, pc in enumerate(pcs):
            with m.If(self.ready & (started == i)):
                m.d.sync += pc.eq(self.pc)
        if self._overlap == 1:
            m.d.comb += self.active.eq(pcs[0])  # which stays until the next start
        else:
            m.d.comb += self.active.eq(Mux(self.busy, Array(pcs)[completed], last))
        waiting = Mux(self.valid, self.pc, self.next_pc)
        m.d.comb += self.oldest.eq(Mux(self.busy, self.active, waiting))
        return m
