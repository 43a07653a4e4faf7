"""Runs that go wrong, and what must hold after each of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    Opcode,
    Segment,
    Unit,
    post_bit,
    wait_bit,
)
from weft.hdl.registers import ERRORS, REGISTERS, Cause, Error
from weft.host.device import Job, Result
from weft.host.golden import GoldenDevice
from weft.host.timing.machine import predict
from weft.host.timing.prediction import Prediction
from weft.tb import fast
from weft.tb.devices import machine_verilog
from weft.tb.memory_model import Channel, Options
from weft.tb.session import (
    BUSY,
    COUNTERS,
    DONE,
    FAILED,
    OPEN,
    SOFT_RESET,
    START,
    STATE,
    Session,
    prepare,
)

from .gemm import Gemm, encode
from .placement import scattered

#: Cycles within which any run of these tests ends, watchdog and drained bus included.
LIMIT = 60_000
#: Cycles within which whatever was asked is answered by a memory that behaves.
DRAINED = 2000
#: Cycles that a soft reset may take on top of WATCHDOG.
RESET_LIMIT = 100
#: IRQ_STATUS after an error.
INTERRUPT_ERROR = 2
#: From the cycle of an error to the last one in which an effective write may begin.
LAST_WRITE = 1


class Hang(AssertionError):
    """A machine that neither ends nor stops."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its result, STATUS, the units' program counters in bytes, and the bus.

    `written` is the cycle in which the last write beat with strobes was first offered, -1 if none
    was. `traffic` has a row (cycle, channel, value) per handshake.
    """

    result: Result
    status: int
    pcs: dict[Unit, int]
    written: int
    traffic: np.ndarray

    @property
    def error(self) -> tuple[Error, int]:
        """Error and its program counter in bytes."""
        return self.result.error, self.result.error_pc

    def on(self, channel: Channel) -> np.ndarray:
        """The rows of `traffic` on a channel."""
        return self.traffic[self.traffic[:, 1] == channel]


class Bench:
    """A machine in Verilator that is driven register by register.

    Parameters
    ----------
    config
        The machine.
    latency, stalls
        Of the memory, as for ``VerilatorDevice``.
    machine
        One to drive instead of a new one of its own.
    """

    def __init__(
        self,
        config: Config,
        *,
        latency: int = 20,
        stalls: int = 0,
        machine: fast.FastMachine | None = None,
    ):
        self.config = config
        self.gemm = Gemm(config)
        self._library = None
        if machine is None:
            self._library = fast.build(machine_verilog(config), config.bus_bytes)
            machine = fast.FastMachine(self._library)
        self.machine = machine
        self._memory = Options(latency=latency, stall_seed=stalls, log_traffic=True)
        job = self.gemm.job()
        self._expected = golden_result(config, job)
        self._prediction = predicted(config, job.code, latency)
        self._session: Session | None = None
        self._watchdog = 0

    def close(self) -> None:
        """Free the simulator."""
        self.machine.close()

    def renew(self) -> None:
        """Take a new machine, whose memories hold zeros; not if the bench was given one."""
        assert self._library is not None
        self.machine.close()
        self.machine = fast.FastMachine(self._library)

    def read(self, name: str) -> int:
        """A register."""
        return self.machine.read(REGISTERS[name].address)

    def write(self, name: str, value: int, *, start: bool = False) -> None:
        """Write a register."""
        self.machine.write(REGISTERS[name].address, value, start=start)

    # -- a run ---------------------------------------------------------------------------------

    def memory(self, **changes: int) -> None:
        """Change the memory's behaviour: fields of ``Options``; without any, it behaves."""
        self.machine.set_options(replace(self._memory, **changes))

    def prepare(
        self, job: Job, *, watchdog: int = 0, place: int = 0, tight: int = False, **memory: int
    ) -> None:
        """Place `job` in memory and set the registers; the machine must be idle.

        `place`, if not 0, is the seed of :func:`~.placement.scattered`, which `tight` goes to.
        """
        self.memory(**memory)
        self._watchdog = watchdog
        session = prepare(self.config, job, watchdog=watchdog)
        if place:
            session = scattered(self.config, job, place, watchdog=watchdog, tight=tight)
        self._session = session
        self.machine.map(*session.regions)
        self._expect(session)
        for name, value in session.setup:
            self.write(name, value)

    def place_program(self, base: int, size: int, code: bytes, offset: int = 0) -> None:
        """Place another program for the prepared one: the window, and `code` in the memory there.

        `base`, `size` in bytes; of the window there is memory only for `code`, at `offset`.
        """
        session = self._session
        assert session is not None
        self.machine.map(*session.regions, (base + offset, bytearray(code)))
        self._expect(session)
        self.machine.window(base, size, writable=False)
        self.write("PROGRAM_LO", base & 0xFFFF_FFFF)
        self.write("PROGRAM_HI", base >> 32)
        self.write("PROGRAM_SIZE", size)

    def _expect(self, session: Session) -> None:
        """Tell the memory where bursts may go."""
        values = dict(session.setup)
        for name in ("PROGRAM", *(segment.name for segment in Segment)):
            base = values[f"{name}_HI"] << 32 | values[f"{name}_LO"]
            self.machine.window(base, values[f"{name}_SIZE"], writable=name != "PROGRAM")

    def go(self) -> None:
        """Start what is prepared."""
        self.write("CONTROL", START, start=True)

    def finish(self, limit: int = LIMIT) -> Outcome:
        """Wait for the end; Hang if it does not come within `limit` cycles."""
        if not self.machine.run(limit):
            raise Hang(f"no end within {limit} cycles")
        return self.outcome()

    def run(
        self, job: Job, *, watchdog: int = 0, place: int = 0, tight: int = False, **memory: int
    ) -> Outcome:
        """All of it."""
        self.prepare(job, watchdog=watchdog, place=place, tight=tight, **memory)
        self.go()
        return self.finish()

    def outcome(self) -> Outcome:
        """What there is to see now."""
        machine, session = self.machine, self._session
        assert session is not None
        session.values = {name: self.read(name) for name in (*STATE, *COUNTERS)}
        return Outcome(
            session.result(machine.retired()),
            session.values["STATUS"],
            {unit: self.read(f"{unit.name}_PC") for unit in Unit},
            machine.written,
            machine.traffic(),
        )

    # -- afterwards ----------------------------------------------------------------------------

    def check_stopped(self, outcome: Outcome, *, answered: bool = True) -> None:
        """The machine stopped with an error and is quiet, its account is in order: nothing was
        completed after the error, the interrupt is up, and the program counters stay.

        With `answered` every transfer has been; else some are open, and stay so.
        """
        assert outcome.status == (FAILED if answered else FAILED | OPEN), bin(outcome.status)
        assert self.machine.answered == answered
        self.check_account(outcome)
        stop = outcome.result.counters["CYCLES"]
        assert outcome.written <= stop + LAST_WRITE, "a write began after the error"
        check_addresses(outcome.traffic, stop + LAST_WRITE)
        pc = outcome.result.error_pc
        assert not pc % INSTRUCTION_BYTES
        if ERRORS[outcome.result.error].in_turn:
            assert pc == min(outcome.pcs.values())
        assert (outcome.result.retired[:, 0] <= stop).all(), "a unit did not stand still"
        assert self._session is not None
        assert self._session.values["IRQ_STATUS"] == INTERRUPT_ERROR
        before = len(self.machine.traffic())
        self.machine.idle(100)
        assert len(self.machine.traffic()) == before, "the bus is not quiet"
        assert {unit: self.read(f"{unit.name}_PC") for unit in Unit} == outcome.pcs

    def check_account(self, outcome: Outcome) -> None:
        """The counters fit each other and what was seen."""
        counters, traffic = outcome.result.counters, outcome.traffic
        cycles = counters["CYCLES"]
        for unit in Unit:
            assert sum(counters[f"{unit.name}_{cause.name}"] for cause in Cause) == cycles
        # A beat counts in the cycle after its handshake.
        for name, channel in (("READ_BEATS", Channel.R), ("WRITE_BEATS", Channel.W)):
            seen = (traffic[:, 1] == channel) & (traffic[:, 0].astype(np.int64) < cycles)
            assert counters[name] == np.count_nonzero(seen), name
        for pc in outcome.pcs.values():
            assert pc <= counters["INSTRUCTIONS"] * INSTRUCTION_BYTES

    def check_late_answers(self, outcome: Outcome) -> None:
        """The memory begins to answer: everything is drained, and nothing is written but the one
        beat that may have been on the bus.
        """
        stop = outcome.result.counters["CYCLES"]
        self.memory()
        self.machine.idle(DRAINED)
        assert self.machine.answered
        assert self.machine.written <= stop + LAST_WRITE
        assert self.read("STATUS") == FAILED
        traffic = self.machine.traffic()
        check_addresses(traffic, stop + LAST_WRITE)
        for address, answer in ((Channel.AR, Channel.R), (Channel.AW, Channel.B)):
            assert bool((traffic[:, 1] == address).sum()) == bool((traffic[:, 1] == answer).sum())

    def reset(self, *, hard: bool = False) -> int:
        """Reset; returns STATUS. Hang if it takes longer than the watchdog allows."""
        if hard:
            self.machine.reset()
            return self.read("STATUS")
        self.write("CONTROL", SOFT_RESET)
        begin = self.machine.cycle
        while (status := self.read("STATUS")) & BUSY:
            if self.machine.cycle - begin > (self._watchdog or DRAINED) + RESET_LIMIT:
                raise Hang("SOFT_RESET does not end")
        return status

    def check_known(self) -> None:
        """The known program runs to the bit and to the cycle, on a memory that behaves."""
        outcome = self.run(self.gemm.job())
        result, prediction = outcome.result, self._prediction
        assert outcome.status == DONE
        assert result.error == Error.NONE
        assert result.tag == self._expected.tag
        assert result.segments == self._expected.segments
        if not self._memory.stall_seed:
            retired = result.retired[np.lexsort((result.retired[:, 1], result.retired[:, 0]))]
            assert retired.tolist() == prediction.retired.tolist()
            assert result.counters == prediction.counters
        assert self.machine.answered

    def check_recovery(self, *, hard: bool = False) -> None:
        """After a reset on a memory that behaves, all is well again."""
        self.memory()
        assert self.reset(hard=hard) == 0
        assert self.read("ERROR") == self.read("ERROR_PC") == 0
        self.check_known()


def golden(bench: Bench, job: Job) -> tuple[Error, int]:
    """Error and program counter that the golden machine ends `job` with."""
    result = golden_result(bench.config, job)
    return result.error, result.error_pc


@lru_cache(4096)
def golden_result(config: Config, job: Job) -> Result:
    """What a new golden machine makes of `job`."""
    return GoldenDevice(config).run(job)


@lru_cache(4096)
def predicted(config: Config, code: bytes, latency: int) -> Prediction:
    """How a program runs on a memory that behaves."""
    return predict(config, code, latency=latency)


def check_same(
    bench: Bench, job: Job, outcome: Outcome, *, memory: bool = True
) -> tuple[Error, int]:
    """The golden machine ends `job` alike, and leaves the same `memory`; returns its error."""
    result = golden_result(bench.config, job)
    if memory:
        assert outcome.result.segments == result.segments
    return result.error, result.error_pc


def check_addresses(traffic: np.ndarray, last: int) -> None:
    """No address is offered after cycle `last`: at most one a channel, held up until then, goes."""
    late = traffic[traffic[:, 0].astype(np.int64) > last, 1]
    count = Counter(late.tolist())
    assert count[Channel.AR] <= 1
    assert count[Channel.AW] <= 1


def oldest(program: list[Instruction], outcome: Outcome) -> int:
    """Byte offset of the first instruction that had not completed before the cycle of the error,
    from the units' retire pins.
    """
    retired = outcome.result.retired
    in_time = retired[:, 0] < outcome.result.counters["CYCLES"]
    done = Counter(retired[in_time, 1].tolist())
    for index, instruction in enumerate(program):
        units = [instruction.unit]
        if instruction.opcode == Opcode.MATMUL:
            units.append(Unit.WEIGHT)
        if instruction.opcode == Opcode.END or any(not done[unit] for unit in units):
            return index * INSTRUCTION_BYTES
        done.subtract(units)
    raise AssertionError("the program has no END")


# -- programs and their bursts ------------------------------------------------------------------


def change(instruction: Instruction, **values: int) -> Instruction:
    """The instruction with other fields."""
    return replace(instruction, fields={**instruction.fields, **values})


def story(gemm: Gemm) -> tuple[list[Instruction], Job]:
    """The product, then a LOAD and a STORE of two rows of several bursts each."""
    config = gemm.config
    bus, local = config.bus_bytes, 2 * config.act_bank_bytes
    beats = config.burst_beats + 6
    fields = {"rows": 2, "local": local, "local_pitch": beats * bus}
    incoming = Instruction(
        Opcode.LOAD,
        {
            **fields, "segment": Segment.INPUT, "offset": 512, "length": beats * bus - 3,
            "dram_pitch": 1024, "post": post_bit(Unit.LOAD, Unit.STORE, 0),
        },
    )  # fmt: skip
    outgoing = Instruction(
        Opcode.STORE,
        {
            **fields, "segment": Segment.SCRATCH, "length": 20 * bus + 1, "dram_pitch": 512,
            "wait": wait_bit(Unit.STORE, Unit.LOAD, 0),
        },
    )  # fmt: skip
    program = [*gemm.program[:-1], incoming, outgoing, gemm.program[-1]]
    const, act, output, _ = gemm.job().segments
    image = bytes((7 * i + 3) & 0xFF for i in range(4096))
    return program, Job(encode(*program), (const, act + image, output, bytes(2048)))


def windows(config: Config, job: Job) -> dict[str, int]:
    """Base address of the program and of each segment."""
    setup = dict(prepare(config, job).setup)
    names = ["PROGRAM", *(segment.name for segment in Segment)]
    return {name: setup[f"{name}_LO"] | setup[f"{name}_HI"] << 32 for name in names}


def read_owners(
    config: Config, program: list[Instruction], base: dict[str, int], addresses: list[int]
) -> list[tuple[str, int]]:
    """(FETCH or memory, byte offset of the instruction) of each beat that `addresses` ask for.

    The program's LOADs must not begin a burst at the same address.
    """
    bus = config.bus_bytes
    size = len(program) * INSTRUCTION_BYTES
    bursts: dict[int, list[tuple[str, int]]] = {}
    for at in range(0, size, 4 * INSTRUCTION_BYTES):
        bursts[base["PROGRAM"] + at] = [
            ("FETCH", byte // INSTRUCTION_BYTES * INSTRUCTION_BYTES)
            for byte in range(at, min(at + 4 * INSTRUCTION_BYTES, size), bus)
        ]
    for index, i in enumerate(program):
        if i.opcode != Opcode.LOAD:
            continue
        owner = (i.memory, index * INSTRUCTION_BYTES)
        for row in range(i.rows):
            at = base[Segment(i.segment).name] + i.offset + row * i.dram_pitch
            left = -(-i.length // bus)
            while left:
                beats = min(left, config.burst_beats, (4096 - at % 4096) // bus)
                assert at not in bursts
                bursts[at] = [(f"LOAD {owner[0]}", owner[1])] * beats
                at += beats * bus
                left -= beats
    return [owner for address in addresses for owner in bursts[address]]
