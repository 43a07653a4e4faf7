"""The whole machine's clock: when each instruction of a program starts and completes, and why.

It composes the exact contracts of the components (``fetch``, ``dma``, ``matmul``, ``vector``) under
the memory of docs/architecture.md. One event per instruction and unit, per weight tile and per read
burst; nothing is stepped cycle by cycle.

The order of evaluation: every time depends only on earlier ones, so whatever can be computed is;
when nothing is left but read bursts, whoever asked first is served (FETCH before LOAD), because all
that is still unknown must happen later than the burst that it waits for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.isa import INSTRUCTION_BYTES, PEERS, Instruction, Opcode, Unit
from ...hdl.registers import Cause
from .dma import (
    LOADS_IN_FLIGHT,
    OUTPUT_BURSTS,
    READ_TO_WRITE,
    ReadClock,
    Rows,
    SplitterClock,
    StoreClock,
    split,
)
from .fetch import QUEUE_LATENCY, Frontend
from .matmul import MatmulTiming
from .vector import duration

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


class Deadlock(RuntimeError):
    """A program that waits for a semaphore that nobody posts."""


@dataclass
class Prediction:
    """What the model says of a run.

    Attributes
    ----------
    cycles
        From START to the end, as the CYCLES register.
    retired
        One row (cycle since START, unit) per completed instruction, by cycle, then unit.
    counters
        Every counter register by name.
    waits
        Cycles that each unit waited, by the semaphore (producer, consumer, k) that came last.
    """

    cycles: int
    retired: np.ndarray
    counters: dict[str, int]
    waits: dict[tuple[Unit, Unit, int], int]


@dataclass
class _Lane:
    """One unit's queue and history."""

    unit: Unit
    waiting: deque[tuple[int, Instruction]] = field(default_factory=deque)  # (head time, what)
    entered: int = 0
    starts: list[int] = field(default_factory=list)
    dones: list[int] = field(default_factory=list)
    taken: dict[int, int] = field(default_factory=dict)  # wait bit → tokens taken so far
    busy: int = 0  # cycles in which an instruction starts or is in flight
    late: list[tuple[int, int, int, tuple[Unit, Unit, int]]] = field(default_factory=list)
    semaphore: int = 0
    memory: int = 0
    working: int = 0


@dataclass
class _Burst:
    """A read burst of a LOAD; the last one knows the LOAD, and when that started."""

    beats: int
    row_start: bool
    ends: tuple[Instruction, int] | None = None


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
    """

    def __init__(self, config: Config, code: bytes, *, latency: int = 50):
        self._config = config
        self._program = [
            Instruction.decode(code[at : at + INSTRUCTION_BYTES])
            for at in range(0, len(code), INSTRUCTION_BYTES)
        ]
        self._front = Frontend(len(self._program), config.bus_bytes)
        self._bus = ReadClock(config, latency)
        self._splitter = SplitterClock()
        self._store = StoreClock(config, latency)
        self._matmul = MatmulTiming(config)
        self._lanes = {unit: _Lane(unit) for unit in Unit}
        self._posts: dict[tuple[Unit, Unit, int], list[int]] = {}
        self._arrived = 0
        self._next = 0  # instruction to dispatch
        self._end: int | None = None
        self._fetched = 0  # bursts of the program accepted
        self._load: deque[_Burst] = deque()  # bursts of LOADs that started
        self._rows_to_enter = 0  # rows of the youngest of them that the splitter has not entered
        self._load_beats: list[tuple[int, int]] = []  # write intervals, first and last cycle
        self._entered = False  # the row of the first that is not emitted has entered the splitter
        self._last_decision = -self._config.rows  # of WEIGHT's last tile
        self._last_stalled = False
        self._count = {"READ_BEATS": 0, "WRITE_BEATS": 0, "VECTORS": 0}

    def run(self) -> Prediction:
        """Evaluate to the end.

        Raises
        ------
        Deadlock
            The program never ends.
        """
        while True:
            while self._advance():
                pass
            if self._end is not None:
                return self._result(self._end)
            if not self._serve():
                raise Deadlock(
                    f"instruction {self._next} cannot be dispatched: a semaphore is never posted"
                )

    # -- instructions --------------------------------------------------------------------------

    def _advance(self) -> bool:
        moved = self._dispatch()
        for unit in (Unit.LOAD, Unit.MATMUL, Unit.VECTOR, Unit.STORE):
            lane = self._lanes[unit]
            while lane.waiting and self._start(lane):
                moved = True
        return moved

    def _dispatch(self) -> bool:
        """Dispatch what has arrived and finds room; END when all is known."""
        moved = False
        depth = self._config.queue_depth
        while self._next < self._arrived and self._end is None:
            instruction = self._program[self._next]
            cycle = self._front.earliest()
            if instruction.opcode == Opcode.END:
                if any(lane.waiting for lane in self._lanes.values()) or self._load:
                    return moved
                last = max(
                    (lane.dones[-1] for lane in self._lanes.values() if lane.dones), default=0
                )
                self._end = max(cycle, last + 1)
                return True
            lanes = [self._lanes[unit] for unit in _UNITS[instruction.opcode]]
            for lane in lanes:
                if lane.entered >= depth:
                    if len(lane.starts) <= lane.entered - depth:
                        return moved
                    cycle = max(cycle, lane.starts[lane.entered - depth] + 1)
            self._front.dispatch(cycle)
            for lane in lanes:
                lane.waiting.append((cycle + QUEUE_LATENCY, instruction))
                lane.entered += 1
            self._next += 1
            moved = True
        return moved

    def _go(self, lane: _Lane, mask: int) -> tuple[int, tuple[Unit, Unit, int] | None] | None:
        """When the semaphores of `mask` are all there, and which is the last; None if unknown."""
        go, last = 0, None
        for index, peer in enumerate(PEERS[lane.unit]):
            for k in (0, 1):
                if mask >> (2 * index + k) & 1:
                    key = peer, lane.unit, k
                    posts = self._posts.get(key, ())
                    number = lane.taken.get(2 * index + k, 0)
                    if number >= len(posts):
                        return None
                    if posts[number] + 1 > go:
                        go, last = posts[number] + 1, key
        return go, last

    def _take(self, lane: _Lane, mask: int, head: int, go: int, last, start: int) -> None:
        """The head of `lane` starts: take its tokens, and account for its wait."""
        for bit in range(8):
            if mask >> bit & 1:
                lane.taken[bit] = lane.taken.get(bit, 0) + 1
        if lane.starts:
            head = max(head, lane.starts[-1] + 1)
        if go > head:
            lane.late.append((len(lane.starts), head, go, last))
        lane.starts.append(start)
        lane.waiting.popleft()

    def _finish(self, lane: _Lane, start: int, done: int, post: int) -> None:
        """An instruction of `lane` started in `start` completes in `done`."""
        previous = lane.dones[-1] if lane.dones else -1
        lane.busy += done - max(start - 1, previous)
        lane.dones.append(done)
        for index, peer in enumerate(PEERS[lane.unit]):
            for k in (0, 1):
                if post >> (2 * index + k) & 1:
                    self._posts.setdefault((lane.unit, peer, k), []).append(done)

    def _start(self, lane: _Lane) -> bool:
        """Start the head of `lane` if its times are known."""
        head, instruction = lane.waiting[0]
        if lane.unit == Unit.MATMUL:
            return self._start_matmul(lane, head, instruction)
        found = self._go(lane, instruction.wait)
        if found is None:
            return False
        go, last = found
        if lane.unit == Unit.LOAD:
            return self._start_load(lane, head, instruction, go, last)
        start = max(head, go)
        if lane.dones:
            start = max(start, lane.dones[-1] + 1)
        if lane.unit == Unit.VECTOR:
            self._take(lane, instruction.wait, head, go, last, start)
            done = start + duration(instruction, self._config)
            lane.working += done - start + 1
        else:
            times = self._store.store(start, _rows(instruction))
            assert times.start == start
            self._take(lane, instruction.wait, head, go, last, start)
            done = times.done
            self._count["WRITE_BEATS"] += len(times.beats)
            lane.working += len(times.reads) + (start not in times.reads)
        self._finish(lane, start, done, instruction.post)
        return True

    def _start_matmul(self, lane: _Lane, head: int, instruction: Instruction) -> bool:
        weights = self._lanes[Unit.WEIGHT]
        weight_head = weights.waiting[0][0]
        found = self._go(lane, instruction.wait)
        weight_found = self._go(weights, instruction.weight_wait)
        if found is None or weight_found is None:
            return False
        times = self._matmul.step(
            instruction,
            weight_valid=weight_head,
            weight_go=weight_found[0],
            valid=head,
            go=found[0],
        )
        self._take(weights, instruction.weight_wait, weight_head, *weight_found, times.weight_start)
        self._take(lane, instruction.wait, head, *found, times.start)
        self._finish(weights, times.weight_start, times.weight_done, instruction.weight_post)
        self._finish(lane, times.start, times.done, instruction.post)
        # The cycle of a start counts as busy, even while the tile before waits for the array.
        decisions = times.decisions
        weights.memory += times.weight_stalls
        weights.memory -= self._last_stalled and times.weight_start == self._last_decision
        before = int(decisions[-2]) if len(decisions) > 1 else self._last_decision
        since = max(before + self._config.rows, times.weight_start)
        self._last_decision = int(decisions[-1])
        self._last_stalled = self._last_decision > since
        lane.memory += times.stalls
        self._count["VECTORS"] += len(times.launches) * times.vectors
        return True

    # -- read bursts ---------------------------------------------------------------------------

    def _start_load(self, lane: _Lane, head: int, instruction: Instruction, go: int, last) -> bool:
        if self._rows_to_enter:
            return False  # the splitter is not free, and it is not known when it will be
        n = len(lane.starts)
        if n >= LOADS_IN_FLIGHT and len(lane.dones) <= n - LOADS_IN_FLIGHT:
            return False
        start = max(head, go, self._splitter.ready)
        if n:
            start = max(start, lane.starts[-1] + 1)
        if n >= LOADS_IN_FLIGHT:
            start = max(start, lane.dones[n - LOADS_IN_FLIGHT] + 1)
        self._splitter.start(start)
        rows = split(_rows(instruction), self._config.bus_bytes, self._config.burst_beats)
        self._rows_to_enter = len(rows)
        bursts = [_Burst(beats, k == 0) for row in rows for k, (_, beats) in enumerate(row)]
        bursts[-1].ends = instruction, start
        self._load.extend(bursts)
        self._take(lane, instruction.wait, head, go, last, start)
        self._split()
        return True

    def _split(self) -> None:
        """What the splitter does without another burst being taken.

        Bursts move to its output while that has room, and the row behind the last of them enters.
        """
        while (at := self._splitter.emitted) < len(self._load):
            if self._load[at].row_start and not self._entered:
                self._splitter.enter_row()
                self._rows_to_enter -= 1
                self._entered = True
            if at == OUTPUT_BURSTS:
                return
            self._splitter.emit()
            self._entered = False

    def _serve(self) -> bool:
        """Accept the next read bursts: FETCH's if it was asked for first, else LOAD's.

        Stops where something else may have become known: at the end of a LOAD, and where the
        splitter becomes free for the next.
        """
        fetch = self._fetch_offer()
        if not self._load:
            if fetch is None:
                return False
            self._accept_fetch(fetch)
            return True
        while self._load:
            burst = self._load[0]
            cycle = self._bus.earliest(self._splitter.offered, burst.beats, load=True)
            if fetch is not None and fetch <= cycle:
                self._accept_fetch(fetch)
                return True
            self._load.popleft()
            self._splitter.taken(cycle)
            times = self._bus.accept(cycle, burst.beats)
            self._count["READ_BEATS"] += burst.beats
            self._load_beats.append((times.first + READ_TO_WRITE, times.last + READ_TO_WRITE))
            if burst.ends is not None:
                instruction, start = burst.ends
                done = times.last + READ_TO_WRITE
                self._finish(self._lanes[Unit.LOAD], start, done, instruction.post)
            waiting = self._rows_to_enter
            self._split()
            if burst.ends is not None or (waiting and not self._rows_to_enter):
                return True
        return True

    def _fetch_offer(self) -> int | None:
        """When the next burst of the program is offered, if that is known and there is one."""
        k = self._fetched
        if k >= len(self._front.bursts):
            return None
        return self._front.request(k)

    def _accept_fetch(self, offered: int) -> None:
        k = self._fetched
        burst = self._front.bursts[k]
        cycle = self._bus.earliest(offered, burst.beats, load=False)
        self._front.accept(k, cycle)
        times = self._bus.accept(cycle, burst.beats)
        self._count["READ_BEATS"] += burst.beats
        for i in range(burst.first, burst.first + burst.count):
            beat = burst.completing_beat(i, self._config.bus_bytes)
            self._front.arrive(times.first + beat + READ_TO_FETCH)
        self._arrived = burst.first + burst.count
        self._fetched += 1

    # -- account -------------------------------------------------------------------------------

    def _result(self, end: int) -> Prediction:
        retired = sorted(
            (done, int(unit)) for unit, lane in self._lanes.items() for done in lane.dones
        )
        waits: dict[tuple[Unit, Unit, int], int] = {}
        for lane in self._lanes.values():
            for n, head, go, last in lane.late:
                waited = max(0, go - max(head, lane.dones[n - 1] + 1 if n else 0))
                lane.semaphore += waited
                waits[last] = waits.get(last, 0) + waited
        load = self._lanes[Unit.LOAD]
        load.working = _covered(load.starts, self._load_beats)
        for unit in (Unit.WEIGHT, Unit.MATMUL):
            lane = self._lanes[unit]
            lane.working = lane.busy - lane.memory
        counters = {"CYCLES": end, **self._count, "INSTRUCTIONS": len(self._program)}
        for unit, lane in self._lanes.items():
            causes = {
                Cause.BUSY: lane.working,
                Cause.SEMAPHORE: lane.semaphore,
                Cause.MEMORY: lane.busy - lane.working,
                Cause.EMPTY: end - lane.busy - lane.semaphore,
            }
            for cause, value in causes.items():
                counters[f"{unit.name}_{cause.name}"] = value
        array = np.array(retired, np.int64).reshape(-1, 2)
        return Prediction(end, array, counters, waits)


#: Cycles from a beat on the bus to the fetch unit's port.
READ_TO_FETCH = READ_TO_WRITE


def predict(config: Config, code: bytes, *, latency: int = 50) -> Prediction:
    """Predict the run of `code` on `config` under a memory of `latency`.

    Raises
    ------
    Deadlock
        The program never ends.
    IsaError
        The program is not legal.
    """
    return MachineTiming(config, code, latency=latency).run()


def _rows(instruction: Instruction) -> Rows:
    return Rows(instruction.offset, instruction.length, instruction.rows, instruction.dram_pitch)


def _covered(points: list[int], intervals: list[tuple[int, int]]) -> int:
    """How many cycles lie in `intervals` (disjoint, ascending) or are one of `points`."""
    total = sum(last - first + 1 for first, last in intervals)
    firsts = np.array([first for first, _ in intervals], np.int64)
    lasts = np.array([last for _, last in intervals], np.int64)
    index = np.searchsorted(firsts, points, side="right") - 1
    inside = (index >= 0) & (np.asarray(points) <= lasts[np.maximum(index, 0)]) if intervals else []
    return total + len(points) - int(np.count_nonzero(inside))
