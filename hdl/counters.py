"""The performance counters: cycles, beats, vectors, instructions, and the stall account."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import Unit
from .registers import REGISTERS, Cause

#: Counter registers other than the stall account, in the order of their events.
PLAIN = ("CYCLES", "READ_BEATS", "WRITE_BEATS", "VECTORS", "INSTRUCTIONS")


def cause_register(unit: Unit, cause: Cause) -> str:
    """The register that counts `unit`'s cycles of one cause."""
    return f"{unit.name}_{cause.name}"


#: Every counter register.
COUNTERS = (*PLAIN, *(cause_register(unit, cause) for unit in Unit for cause in Cause))


class Counters(wiring.Component):
    """One counter for each register of :data:`COUNTERS`, modulo 2^32.

    An event of cycle t shows from cycle t + 2. Events count only while `run`; `clear`, in the first
    of these cycles, zeroes all.

    Ports
    -----
    clear, run : In(1)
    events : In(len(PLAIN) - 1)
        Events of all of PLAIN but CYCLES, which counts every cycle of `run`.
    causes : list of In(len(Cause)), indexed by Unit
    NAME : Out(32), each register's name in lower case
    """

    def __init__(self):
        super().__init__(
            {
                "clear": In(1),
                "run": In(1),
                "events": In(len(PLAIN) - 1),
                "causes": In(len(Cause)).array(len(Unit)),
                **{name.lower(): Out(REGISTERS[name].bits) for name in COUNTERS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        events = {"CYCLES": 1}
        for i, name in enumerate(PLAIN[1:]):
            events[name] = self.events[i]
        for unit in Unit:
            for cause in Cause:
                events[cause_register(unit, cause)] = self.causes[unit][cause]
        for name, event in events.items():
            counter = getattr(self, name.lower())
            step = Signal(name=f"{name.lower()}_step")
            m.d.sync += step.eq(event & self.run)
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
            with m.Elif(step):
                m.d.sync += counter.eq(counter + 1)
        return m
