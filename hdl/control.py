"""The control block: registers, counters, faults, and when the machine runs or rests."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiLite
from .config import Config
from .counters import COUNTERS, PLAIN, Counters
from .dispatch import TAG_BITS
from .isa import INSTRUCTION_BYTES, Segment, Unit
from .ports import ERROR_BITS, PC_BITS, Fault, Segments
from .register_file import WORD_BITS, RegisterFile
from .registers import REGISTER_ADDR_BITS, Cause, Error

#: Cycles from `kill` until the engines' `idle` and `oldest` are believed: what left the core
#: meanwhile has arrived by then.
SETTLE = 4


class State(enum.Enum, shape=3):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """What the machine is doing."""

    IDLE = 0
    RUN = 1
    HALT = 2
    FAILED = 3
    CLEAR = 4
    RESET = 5


class Control(wiring.Component):
    """Registers, and a state machine: idle, running, halting after a fault, failed, resetting.

    Cycle 0 is the one in which the write of START executes: the cycle after the later of its AW and
    W handshakes (see ``register_file.RegisterFile``). `run` and `start` rise in cycle 1; `start` is
    one cycle long. `finish` in cycle t ends the run: STATUS shows DONE from cycle t + 1, `run` is
    high in cycles 1 … t, and CYCLES is t.

    A fault in cycle t is latched (of several at once, the first in the list), `kill` rises and
    `run` falls in cycle t + 1, and STATUS turns from BUSY to ERROR when the engines are idle, at
    least SETTLE cycles later. SOFT_RESET raises `kill`, waits in the same way, and then pulses
    `reset` for one cycle. START counts only in the idle state; neither a write to CONTROL while
    busy nor after an error starts anything.

    The watchdog's fault comes in cycle d + WATCHDOG + 1 if no instruction completed since cycle d
    (or since START, with d = 0), with the program counter of the oldest instruction that has not
    completed before. WATCHDOG also bounds the wait for the engines: if they are not idle
    SETTLE + WATCHDOG cycles after `kill`, a fault turns STATUS to ERROR even so, and a SOFT_RESET
    ends with the error BUS_STUCK. `kill` stays; once the engines are idle a SOFT_RESET succeeds.
    STATUS has OPEN while they are not.

    A bit of this block or of the windows that flips stops a run with CORRUPT: the windows are
    checked in the register file and at the bus, the state here. What stops the engines at once is
    `kill`, which is up in every cycle in which a window is wrong since the cycle before.

    Parameters
    ----------
    config
        The machine.
    sources
        Number of fault inputs.

    Ports
    -----
    bus : AxiLite, slave
    irq : Out(1)
        Level: a bit of IRQ_STATUS is set and enabled.
    segments : Segments
    base, count : Out
        Byte address of the program and number of its instructions, without those beyond the
        address space; the number a cycle after the registers.
    start, run : Out(1)
        The core is to be held in reset while `run` is low.
    kill, reset : Out(1)
        To the engines.
    oldest : Out(PC_BITS)
        The least of `pcs`, three cycles later.
    refused, wrong : In(1)
        An engine was asked for a burst outside its window; a memory's parity is wrong.
    idle : In(1)
        Both engines are idle.
    finish, tag : In
        From dispatch.
    done : In(5)
        Units that complete an instruction.
    pcs : list of In(PC_BITS), indexed by Unit
        Oldest instructions that the units have not completed; never fall while `run`.
    events : In, causes : list of In
        See ``counters.Counters``.
    faults : list of Fault
    """

    def __init__(self, config: Config, *, sources: int):
        self._config = config
        super().__init__(
            {
                "bus": In(AxiLite(REGISTER_ADDR_BITS)),
                "irq": Out(1),
                "segments": Out(Segments(config)),
                "base": Out(config.addr_bits),
                "count": Out(PC_BITS),
                "start": Out(1),
                "run": Out(1),
                "kill": Out(1),
                "reset": Out(1),
                "refused": In(1),
                "wrong": In(1),
                "idle": In(1),
                "finish": In(1),
                "tag": In(TAG_BITS),
                "oldest": Out(PC_BITS),
                "done": In(len(Unit)),
                "pcs": In(PC_BITS).array(len(Unit)),
                "events": In(len(PLAIN) - 1),
                "causes": In(len(Cause)).array(len(Unit)),
                "faults": In(Fault()).array(sources),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterFile(self._config)
        m.submodules.counters = counters = Counters()
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        self._windows(m, registers)
        self._program_counters(m, registers)
        code, pc, failing = self._fault(m)

        state = Signal(State)
        check = Signal()  # parity of `state`
        torn = Signal()
        killing = Signal()
        alarm = Signal()
        hung = Signal()
        expired = Signal()
        waiting = Signal()
        done = Signal()
        error = Signal()
        locked = Signal()
        error_code = Signal(ERROR_BITS)
        error_pc = Signal(PC_BITS)
        tag = Signal(TAG_BITS)
        settle = Signal(range(SETTLE + 1))
        settled = Signal()
        begin = Signal()
        ended = Signal()
        failed = Signal()
        start_bit, reset_bit, lock_bit = registers.control
        m.d.comb += [
            registers.locked.eq(locked),
            registers.error.eq(error_code),
            registers.error_pc.eq(error_pc * INSTRUCTION_BYTES),
            registers.tag.eq(tag),
            registers.irq_status_set.eq(Cat(ended, failed)),
            self.irq.eq((registers.irq_status & registers.irq_enable).any()),
            counters.clear.eq(self.start),
            counters.run.eq(self.run),
            counters.events.eq(self.events),
        ]
        for name in COUNTERS:
            m.d.comb += getattr(registers, name.lower()).eq(getattr(counters, name.lower()))
        for unit in Unit:
            m.d.comb += counters.causes[unit].eq(self.causes[unit])
        m.d.comb += [
            torn.eq((state.as_value().xor() != check) | (self.run != (state == State.RUN))),
            alarm.eq(registers.corrupt | self.refused | self.wrong),
            self.kill.eq(killing | alarm),
        ]

        def enter(new: Any) -> list:
            return [state.eq(new), check.eq(new.value.bit_count() & 1)]

        with m.If(lock_bit):
            m.d.sync += locked.eq(1)

        m.d.sync += [self.start.eq(begin), self.reset.eq(0)]
        with m.If(settle != 0):
            m.d.sync += settle.eq(settle - 1)
        m.d.comb += [
            settled.eq(settle == 0),
            waiting.eq(settled & ((state == State.HALT) | (state == State.CLEAR))),
        ]
        self._watch(m, registers, waiting, expired)
        other = Mux(self.wrong, Error.PARITY, Mux(alarm, Error.CORRUPT, Error.WATCHDOG))
        quiet = settled & self.idle
        late = settled & expired & ~self.idle
        with m.Switch(state):
            with m.Case(State.IDLE), m.If(start_bit & ~reset_bit):
                m.d.comb += begin.eq(1)
                m.d.sync += [self.run.eq(1), done.eq(0)]
                m.d.sync += enter(State.RUN)
            with m.Case(State.RUN):
                with m.If(failing | expired | alarm):
                    m.d.sync += [
                        self.run.eq(0),
                        killing.eq(1),
                        hung.eq(~failing),
                        error_code.eq(Mux(failing, code, other)),
                        error_pc.eq(pc),
                        settle.eq(SETTLE),
                    ]
                    m.d.sync += enter(State.HALT)
                with m.Elif(self.finish):
                    m.d.comb += ended.eq(1)
                    m.d.sync += [self.run.eq(0), done.eq(1), tag.eq(self.tag)]
                    m.d.sync += enter(State.IDLE)
            with m.Case(State.HALT):
                with m.If(hung):
                    m.d.sync += error_pc.eq(self.oldest)
                with m.If(quiet | late):
                    m.d.comb += failed.eq(1)
                    m.d.sync += error.eq(1)
                    m.d.sync += enter(State.FAILED)
            with m.Case(State.CLEAR):
                with m.If(quiet):
                    m.d.sync += self.reset.eq(1)
                    m.d.sync += enter(State.RESET)
                with m.Elif(late):
                    m.d.comb += failed.eq(1)
                    m.d.sync += [error.eq(1), error_code.eq(Error.BUS_STUCK)]
                    m.d.sync += enter(State.FAILED)
            with m.Case(State.RESET):
                m.d.sync += killing.eq(0)
                m.d.sync += enter(State.IDLE)
        with m.If(torn):
            m.d.comb += [ended.eq(0), failed.eq(0)]
            m.d.sync += [
                self.run.eq(0),
                self.reset.eq(0),
                killing.eq(1),
                done.eq(0),
                hung.eq(1),
                error_code.eq(Error.CORRUPT),
                settle.eq(SETTLE),
            ]
            m.d.sync += enter(State.HALT)
        # From any state; the write that asks for it may come while a fault or END does.
        with m.If(reset_bit):
            m.d.comb += [ended.eq(0), failed.eq(0)]
            m.d.sync += [
                self.run.eq(0),
                killing.eq(1),
                self.reset.eq(0),
                settle.eq(SETTLE),
                done.eq(0),
                error.eq(0),
                error_code.eq(Error.NONE),
                error_pc.eq(0),
            ]
            m.d.sync += enter(State.CLEAR)
        resting = ((state == State.IDLE) | (state == State.FAILED)) & ~torn
        m.d.comb += registers.status.eq(Cat(~resting, done, error, locked, ~self.idle))
        return m

    def _windows(self, m: Module, registers: RegisterFile):
        """The program's and the segments' addresses out of their registers."""
        high = self._config.addr_bits - WORD_BITS

        def address(name: str):
            low = getattr(registers, f"{name}_lo")
            return Cat(low, getattr(registers, f"{name}_hi")[:high])

        size = registers.program_size
        end = Signal(self._config.addr_bits + 1)
        beyond = Mux(end[-1], end[:-1], 0)
        m.d.comb += [
            self.base.eq(address("program")),
            end.eq(self.base + size),
        ]
        m.d.sync += self.count.eq((size - beyond) // INSTRUCTION_BYTES)
        for segment in Segment:
            name = segment.name.lower()
            m.d.comb += [
                self.segments.base[segment].eq(address(name)),
                self.segments.size[segment].eq(getattr(registers, f"{name}_size")),
            ]

    def _program_counters(self, m: Module, registers: RegisterFile):
        """The units' program counters, kept when a run ends, and the least of them."""
        kept = [getattr(registers, f"{unit.name.lower()}_pc") for unit in Unit]
        pcs = [Signal(PC_BITS, name=f"{unit.name.lower()}_pc") for unit in Unit]
        with m.If(self.run):
            m.d.sync += [pc.eq(self.pcs[unit]) for unit, pc in zip(Unit, pcs, strict=True)]
        m.d.comb += [
            register.eq(pc * INSTRUCTION_BYTES) for register, pc in zip(kept, pcs, strict=True)
        ]

        def least(name: str, a: Signal, b: Signal) -> Signal:
            out = Signal(PC_BITS, name=name)
            m.d.sync += out.eq(Mux(a < b, a, b))
            return out

        # WEIGHT is never behind MATMUL.
        loads = least("loads", pcs[Unit.LOAD], pcs[Unit.MATMUL])
        stores = least("stores", pcs[Unit.VECTOR], pcs[Unit.STORE])
        m.d.sync += self.oldest.eq(Mux(loads < stores, loads, stores))

    def _watch(self, m: Module, registers: RegisterFile, waiting: Signal, expired: Signal):
        """The timer of runs, and of waits for the engines."""
        watched = Signal(WORD_BITS)
        m.d.comb += expired.eq((registers.watchdog != 0) & (watched >= registers.watchdog))
        with m.If((self.run & ~self.done.any()) | waiting):
            m.d.sync += watched.eq(watched + 1)
        with m.Else():
            m.d.sync += watched.eq(0)

    def _fault(self, m: Module):
        """Code, program counter and presence of a fault in this cycle."""
        code, pc, failing = Const(0, ERROR_BITS), Const(0, PC_BITS), Const(0)
        for fault in reversed(self.faults):
            code = Mux(fault.valid, fault.code, code)
            pc = Mux(fault.valid, fault.pc, pc)
            failing = failing | fault.valid
        return code, pc, failing
