"""The whole machine's clock: when each instruction of a program starts and completes, and why.

It composes the exact contracts of the components (``fetch``, ``reads``, ``writes``, ``matmul``,
``vector``) under the memory of docs/architecture.md. One step per instruction and unit, and per
burst; nothing is stepped cycle by cycle.

The order of evaluation: every time depends only on earlier ones, so whatever can be computed is;
when nothing is left but read bursts, whoever asked first is served (FETCH before LOAD), because all
that is still unknown must happen later than the burst that it waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from ...hdl.isa import PEERS, SEMAPHORES, Instruction, Opcode, Unit
from .account import TransferHistory, UnitHistory
from .bursts import Rows
from .decode import decode
from .fetch import QUEUE_LATENCY, Frontend, end
from .matmul import MatmulTimes, MatmulTiming, matmul_history, weight_history
from .prediction import Prediction
from .reads import READ_TO_WRITE, ReadClock
from .vector import duration
from .writes import StoreClock

if TYPE_CHECKING:
    from ...hdl.config import Config

#: The units whose queues an instruction enters.
_UNITS = {
    Opcode.LOAD: (Unit.LOAD,),
    Opcode.MATMUL: (Unit.WEIGHT, Unit.MATMUL),
    Opcode.DRAIN: (Unit.VECTOR,),
    Opcode.POOL: (Unit.VECTOR,),
    Opcode.STORE: (Unit.STORE,),
}
#: Who may have something to do: dispatch, or a unit (a MATMUL starts in both of its at once).
_DISPATCH = 1
_AWAKE = {unit: 2 << (Unit.MATMUL if unit == Unit.WEIGHT else unit) for unit in Unit}
_NUMBER = {semaphore: number for number, semaphore in enumerate(SEMAPHORES)}


class Deadlock(RuntimeError):
    """A program that waits for a semaphore that nobody posts."""


@cache
def _waits(unit: Unit, mask: int) -> tuple[int, ...]:
    """Indices in SEMAPHORES of a wait set."""
    return tuple(
        _NUMBER[peer, unit, k]
        for i, peer in enumerate(PEERS[unit])
        for k in (0, 1)
        if mask >> (2 * i + k) & 1
    )


@cache
def _posts(unit: Unit, mask: int) -> tuple[int, ...]:
    """Indices in SEMAPHORES of a post set."""
    return tuple(
        _NUMBER[unit, peer, k]
        for i, peer in enumerate(PEERS[unit])
        for k in (0, 1)
        if mask >> (2 * i + k) & 1
    )


@dataclass(slots=True)
class _Lane:
    """One unit's queue and history; see ``account.UnitHistory`` for the latter."""

    unit: Unit
    wait: str  # name of the field with its wait set
    post: str
    instructions: list[int] = field(default_factory=list)  # that entered the queue
    heads: list[int] = field(default_factory=list)  # when each stands at the head at the earliest
    starts: list[int] = field(default_factory=list)
    dones: list[int] = field(default_factory=list)
    late: list[tuple[int, int, int, int]] = field(default_factory=list)
    # The head cannot start before this semaphore has been posted so many times.
    missing: list[int] = field(default_factory=list)
    wanted: int = -1
    # Once the head can start: from which cycle, for the sake of which semaphore.
    go: int = 0
    last: int = -1


class MachineTiming:
    """Predicts one program.

    Parameters
    ----------
    config
        The machine.
    code
        A legal program.
    latency
        Cycles from a read address to its first beat; 0 counts as 1.
    beat_interval
        Cycles from a beat to the next, read or written.
    """

    def __init__(self, config: Config, code: bytes, *, latency: int = 50, beat_interval: int = 1):
        self._config = config
        self._interval = beat_interval
        self._program = decode(code)
        self._front = Frontend(len(self._program), config.bus_bytes)
        self._reads = ReadClock(config, latency, beat_interval)
        self._writes = StoreClock(config, latency, beat_interval)
        self._matmul = MatmulTiming(config)
        self._matmuls: list[MatmulTimes] = []
        self._lanes = {
            unit: _Lane(unit, "wait", "post")
            if unit != Unit.WEIGHT
            else _Lane(unit, "weight_wait", "weight_post")
            for unit in Unit
        }
        self._posted: list[list[int]] = [[] for _ in SEMAPHORES]
        self._taken = [0] * len(SEMAPHORES)
        self._next = 0  # instruction to dispatch
        self._end: int | None = None
        self._fetched = 0  # bursts of the program accepted
        self._awake = 0
        self._starters = [
            (_AWAKE[unit], start, self._lanes[unit])
            for unit, start in (
                (Unit.LOAD, self._start_load),
                (Unit.MATMUL, self._start_matmul),
                (Unit.VECTOR, self._start_vector),
                (Unit.STORE, self._start_store),
            )
        ]

    def run(self) -> Prediction:
        """Evaluate to the end.

        Raises
        ------
        Deadlock
            The program never ends.
        """
        while True:
            self._advance()
            if self._end is not None:
                return self._result(self._end)
            if not self._serve():
                raise Deadlock(
                    f"instruction {self._next} cannot be dispatched: a semaphore is never posted"
                )

    @property
    def read_bursts(self) -> int:
        """Read bursts so far, of LOAD and FETCH."""
        return len(self._reads.firsts)

    def _advance(self) -> None:
        """Dispatch and start what can be."""
        while self._awake:
            if self._awake & _DISPATCH:
                self._awake &= ~_DISPATCH
                self._dispatch()
            for bit, start, lane in self._starters:
                if self._awake & bit:
                    self._awake &= ~bit
                    while start(lane):
                        pass

    # -- instructions --------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Dispatch what has arrived and finds room; END when all is known."""
        depth = self._config.queue_depth
        front = self._front
        while self._next < front.arrived:
            cycle = front.earliest()
            opcode = self._program[self._next].opcode
            if opcode == Opcode.END:
                lanes = self._lanes.values()
                if all(len(lane.dones) == len(lane.instructions) for lane in lanes):
                    done = max((lane.dones[-1] for lane in lanes if lane.dones), default=0)
                    self._end = end(cycle, done, self._reads.last_beat)
                return
            for unit in _UNITS[opcode]:
                lane = self._lanes[unit]
                leaving = len(lane.instructions) - depth
                if leaving >= 0:
                    if leaving >= len(lane.starts):
                        return
                    cycle = max(cycle, lane.starts[leaving] + 1)
            front.dispatch(cycle)
            for unit in _UNITS[opcode]:
                lane = self._lanes[unit]
                lane.instructions.append(self._next)
                lane.heads.append(cycle + QUEUE_LATENCY)
                self._awake |= _AWAKE[unit]
            self._next += 1

    def _head(self, lane: _Lane) -> Instruction | None:
        """The instruction that `lane` starts next; None if there is none, or if it is not known
        when its semaphores will be there.
        """
        if len(lane.missing) <= lane.wanted:
            return None
        n = len(lane.starts)
        if n == len(lane.instructions):
            return None
        instruction = self._program[lane.instructions[n]]
        lane.go, lane.last = 0, -1
        for semaphore in _waits(lane.unit, instruction.fields[lane.wait]):
            posted, number = self._posted[semaphore], self._taken[semaphore]
            if number >= len(posted):
                lane.missing, lane.wanted = posted, number
                return None
            if posted[number] >= lane.go:
                lane.go, lane.last = posted[number] + 1, semaphore
        lane.wanted = -1
        return instruction

    def _take(self, lane: _Lane, instruction: Instruction, start: int) -> None:
        """The head of `lane` starts: take its tokens, and account for its wait."""
        for semaphore in _waits(lane.unit, instruction.fields[lane.wait]):
            self._taken[semaphore] += 1
        n = len(lane.starts)
        head = lane.heads[n]
        if n:
            head = max(head, lane.starts[-1] + 1)
        if lane.go > head:
            lane.late.append((n, head, lane.go, lane.last))
        lane.starts.append(start)
        self._awake |= _DISPATCH

    def _finish(self, lane: _Lane, instruction: Instruction, done: int) -> None:
        """An instruction of `lane` completes in `done`."""
        lane.dones.append(done)
        for semaphore in _posts(lane.unit, instruction.fields[lane.post]):
            self._posted[semaphore].append(done)
            self._awake |= _AWAKE[SEMAPHORES[semaphore][1]]

    def _start_vector(self, lane: _Lane) -> bool:
        instruction = self._head(lane)
        if instruction is None:
            return False
        start = max(lane.heads[len(lane.starts)], lane.go)
        if lane.dones:
            start = max(start, lane.dones[-1] + 1)
        self._take(lane, instruction, start)
        self._finish(lane, instruction, start + duration(instruction, self._config))
        return True

    def _start_store(self, lane: _Lane) -> bool:
        instruction = self._head(lane)
        if instruction is None:
            return False
        go = max(lane.heads[len(lane.starts)], lane.go)
        start, done = self._writes.store(go, _rows(instruction))
        self._take(lane, instruction, start)
        self._finish(lane, instruction, done)
        return True

    def _start_matmul(self, lane: _Lane) -> bool:
        weight = self._lanes[Unit.WEIGHT]
        instruction = self._head(lane)
        if instruction is None or self._head(weight) is None:
            return False
        n = len(lane.starts)
        times = self._matmul.step(
            instruction,
            weight_valid=weight.heads[n],
            weight_go=weight.go,
            valid=lane.heads[n],
            go=lane.go,
        )
        self._matmuls.append(times)
        self._take(weight, instruction, times.weight_start)
        self._take(lane, instruction, times.start)
        self._finish(weight, instruction, times.weight_done)
        self._finish(lane, instruction, times.done)
        return True

    def _start_load(self, lane: _Lane) -> bool:
        instruction = self._head(lane)
        if instruction is None:
            return False
        n = len(lane.starts)
        go = max(lane.heads[n], lane.go)
        if n:
            go = max(go, lane.starts[-1] + 1)
        start = self._reads.start(go, _rows(instruction))
        if start is None:
            return False
        self._take(lane, instruction, start)
        return True

    # -- read bursts ---------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Let read bursts pass until something else may have become known."""
        k = self._fetched
        offered = self._front.request(k) if k < len(self._front.bursts) else None
        if self._reads.serve(offered):
            self._awake |= _DISPATCH | _AWAKE[Unit.LOAD]
            lane = self._lanes[Unit.LOAD]
            n = len(lane.dones)
            if n < len(self._reads.dones):
                instruction = self._program[lane.instructions[n]]
                self._finish(lane, instruction, self._reads.dones[n])
            return True
        if offered is None:
            return False
        burst = self._front.bursts[k]
        cycle, first = self._reads.fetch(offered, burst.beats)
        self._front.accept(cycle)
        for i in range(burst.first, burst.first + burst.size):
            beat = burst.completing_beat(i, self._config.bus_bytes)
            self._front.arrive(first + beat * self._interval + READ_TO_WRITE)
        self._fetched += 1
        self._awake |= _DISPATCH
        return True

    # -- result --------------------------------------------------------------------------------

    def _result(self, cycles: int) -> Prediction:
        counts = {
            "READ_BEATS": self._reads.before[-1],
            "WRITE_BEATS": self._writes.before[-1],
            "VECTORS": sum(times.streamed for times in self._matmuls),
            "INSTRUCTIONS": len(self._program),
        }
        lanes = {
            unit: (lane.instructions, lane.starts, lane.dones, lane.late)
            for unit, lane in self._lanes.items()
        }
        histories = {
            Unit.LOAD: TransferHistory(*lanes[Unit.LOAD], self._reads.written),
            Unit.WEIGHT: weight_history(*lanes[Unit.WEIGHT], self._matmuls, self._config.rows),
            Unit.MATMUL: matmul_history(*lanes[Unit.MATMUL], self._matmuls),
            Unit.VECTOR: UnitHistory(*lanes[Unit.VECTOR]),
            Unit.STORE: TransferHistory(*lanes[Unit.STORE], self._writes.read),
        }
        return Prediction(cycles, counts, histories)


def predict(
    config: Config, code: bytes, *, latency: int = 50, beat_interval: int = 1
) -> Prediction:
    """Predict the run of `code` on `config` under a memory of `latency` and `beat_interval`.

    Raises
    ------
    Deadlock
        The program never ends.
    IsaError
        The program is not legal.
    """
    return MachineTiming(config, code, latency=latency, beat_interval=beat_interval).run()


def _rows(instruction: Instruction) -> Rows:
    fields = instruction.fields
    return Rows(fields["offset"], fields["length"], fields["rows"], fields["dram_pitch"])
