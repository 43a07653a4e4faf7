"""From steps with memory effects to an instruction stream with semaphores.

The emitter lists steps in a sensible order and says what each one reads and writes. Here loads are
moved ahead of their use as far as buffers allow, and every hazard between units (data, accumulator
halves, scratchpad banks) becomes one post and one wait. Because a hazard always points forward in
program order, every post precedes the wait that takes it: the stream cannot deadlock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..hdl.isa import (
    SEMAPHORE_MAX,
    UNIT_OF,
    Instruction,
    Opcode,
    Unit,
    post_bit,
    wait_bit,
)
from .errors import CompileError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Half of a semaphore's tokens: as many loads may be moved ahead of a step, and from there on
#: several waits share a token.
_MANY = SEMAPHORE_MAX // 2


class Access(NamedTuple):
    """An effect on [start, end) of a memory; two conflict if they overlap and one is exclusive.

    `space` is a memory ("act", "wgt", "par", "acc", "dram"), or a shared port: "read bank" and
    "write bank", which only one unit may use at a time and whose accesses are all exclusive.
    """

    space: str
    start: int
    end: int
    exclusive: bool


@dataclass
class Step:
    """One instruction to be: its fields, what it touches, and about how many cycles it takes."""

    opcode: Opcode
    fields: dict[str, int]
    accesses: list[Access]
    cost: int
    layer: int
    weight_accesses: list[Access] = field(default_factory=list)

    @property
    def unit(self) -> Unit:
        """The unit that executes it."""
        return UNIT_OF[self.opcode]


def hoist_loads(steps: list[Step]) -> list[Step]:
    """Move each LOAD ahead to where it would start by estimated time, if no hazard forbids it.

    Loads keep their order among themselves. A load goes before the first step that is estimated to
    start after the load could, but never before a step that its target still conflicts with.
    """
    loads = [i for i, s in enumerate(steps) if s.opcode == Opcode.LOAD]
    floor = {i: _last_conflict(steps, i) for i in loads}
    finish: dict[int, int] = {-1: 0}
    unit_free: dict[Unit, int] = defaultdict(int)
    order: list[Step] = []
    ready = 0  # when the loads that precede the current step in the given order have finished
    emitted = previous = -1
    queue = loads[:]

    def load_start() -> int:
        return max(unit_free[Unit.LOAD], finish[floor[queue[0]]])

    def emit_load() -> None:
        index = queue.pop(0)
        start = max(unit_free[Unit.LOAD], finish[floor[index]])
        unit_free[Unit.LOAD] = finish[index] = start + steps[index].cost
        order.append(steps[index])

    for i, step in enumerate(steps):
        if step.opcode == Opcode.LOAD:
            while queue and queue[0] <= i:
                emit_load()
            ready = max(ready, finish[i])
            continue
        unit = step.unit
        start = max(unit_free[unit], ready if unit == Unit.MATMUL else finish[previous])
        while queue and floor[queue[0]] <= emitted and load_start() <= start:
            if len(loads) - len(queue) - bisect_right(loads, i) >= _MANY:
                break
            emit_load()
        unit_free[unit] = finish[i] = start + step.cost
        order.append(step)
        emitted = previous = i
    return order


def _last_conflict(steps: list[Step], index: int) -> int:
    mine = steps[index].accesses
    for i in range(index - 1, -1, -1):
        if steps[i].opcode != Opcode.LOAD and any(
            _conflict(a, b) for a in mine for b in steps[i].accesses + steps[i].weight_accesses
        ):
            return i
    return -1


def _conflict(a: Access, b: Access) -> bool:
    return (
        a.space == b.space
        and (a.exclusive or b.exclusive)
        and a.start < b.end
        and b.start < a.end
        and not a.space.endswith("bank")
    )


@dataclass
class _Node:
    """One unit's part of a step, while semaphores are being placed."""

    unit: Unit
    index: int
    start: dict[Unit, int]  # per unit the last node known complete when this one starts
    end: dict[Unit, int] = field(default_factory=dict)  # … when this one completes
    dispatched: dict[Unit, int] = field(default_factory=dict)  # nodes before it in the program
    wait: int = 0
    post: int = 0


class _Tracker:
    """Finds, for each node, the youngest node of every other unit that it must follow."""

    def __init__(self, queue_depth: int, pick: Callable[[], int]) -> None:
        self._queue_depth = queue_depth
        self._pick = pick
        self._nodes: dict[Unit, list[_Node]] = {unit: [] for unit in Unit}
        self._log: dict[tuple[str, Unit], list[tuple[int, Access]]] = defaultdict(list)
        self._waits: dict[tuple[Unit, Unit], list[int]] = defaultdict(list)

    def add(self, unit: Unit, accesses: list[Access]) -> _Node:
        mine = self._nodes[unit]
        # In-order completion: when this one ends its predecessors have, but not when it starts.
        start = dict(mine[-1].start) if mine else dict.fromkeys(Unit, -1)
        dispatched = {peer: len(nodes) for peer, nodes in self._nodes.items()}
        node = _Node(unit, len(mine), start, dispatched=dispatched)
        needed = {
            peer: need
            for peer in Unit
            if peer != unit and (need := self._need(peer, accesses, start[peer])) > start[peer]
        }
        for peer, need in needed.items():
            ends = [self._nodes[q][n].end for q, n in needed.items() if q != peer]
            known = self._nodes[peer][need]
            if not any(end[peer] >= need for end in ends):
                known = self._producer(peer, need, unit)
                self._link(known, node)
            for key, value in known.end.items():
                node.start[key] = max(node.start[key], value)
        node.end = {**node.start, unit: node.index}
        if mine:
            for key, value in mine[-1].end.items():
                node.end[key] = max(node.end[key], value)
        mine.append(node)
        for access in accesses:
            self._log[access.space, unit].append((node.index, access))
        return node

    def join(self, node: _Node, other: _Node) -> None:
        """Completion of `node` implies completion of `other`."""
        for key, value in other.end.items():
            node.end[key] = max(node.end[key], value)

    def _need(self, peer: Unit, accesses: list[Access], known: int) -> int:
        need = known
        for access in accesses:
            for index, other in reversed(self._log[access.space, peer]):
                if index <= need:
                    break
                if (access.exclusive or other.exclusive) and (
                    access.start < other.end and other.start < access.end
                ):
                    need = index
                    break
        return need

    def _producer(self, peer: Unit, need: int, consumer: Unit) -> _Node:
        """The first of `peer`'s nodes from `need` on whose tokens leave room for more, or the last.

        One that comes later than needed spares the tokens between.
        """
        nodes = self._nodes[peer][need:]
        node = next((n for n in nodes if self._tokens(n, consumer) < _MANY), nodes[-1])
        if self._tokens(node, consumer) >= SEMAPHORE_MAX:
            raise CompileError(
                f"more than {SEMAPHORE_MAX} tokens from {peer.name} to {consumer.name} at once: "
                f"choose a smaller queue_depth than {self._queue_depth}"
            )
        return node

    def _tokens(self, producer: _Node, consumer: Unit) -> int:
        """Most tokens to `consumer` that nobody may have taken when `producer` completes."""
        pair = producer.unit, consumer
        # Dispatch is in order and queues are short: most of what precedes the producer has started.
        started = producer.dispatched[consumer] - 1 - self._queue_depth
        started = max(started, producer.start[consumer])
        return len(self._waits[pair]) - bisect_right(self._waits[pair], started)

    def _link(self, producer: _Node, consumer: _Node) -> None:
        k = self._pick()
        try:
            consumer.wait |= wait_bit(consumer.unit, producer.unit, k)
            producer.post |= post_bit(producer.unit, consumer.unit, k)
        except ValueError:
            raise CompileError(f"{producer.unit.name} cannot signal {consumer.unit.name}") from None
        self._waits[producer.unit, consumer.unit].append(consumer.index)


def synchronise(
    steps: list[Step], queue_depth: int, *, tag: int = 0, pick: Callable[[], int] = lambda: 0
) -> list[Instruction]:
    """Put semaphores into the steps, in this order, and append END.

    Every ordered pair of units needs only its semaphore 0 (`pick` chooses another): units run in
    order, so the hazards of a pair, once those implied by earlier ones are dropped, pair up first
    to first, second to second. `queue_depth` is the machine's: it bounds how far units run ahead.
    """
    tracker = _Tracker(queue_depth, pick)
    parts: list[tuple[Step, _Node, _Node | None]] = []
    for step in steps:
        weight = None
        if step.opcode == Opcode.MATMUL:
            weight = tracker.add(Unit.WEIGHT, step.weight_accesses)
        node = tracker.add(step.unit, step.accesses)
        if weight is not None:
            tracker.join(node, weight)
        parts.append((step, node, weight))
    out = []
    for step, node, weight in parts:
        fields = dict(step.fields, wait=node.wait, post=node.post)
        if weight is not None:
            fields |= {"weight_wait": weight.wait, "weight_post": weight.post}
        out.append(Instruction(step.opcode, fields))
    return [*out, Instruction(Opcode.END, {"tag": tag})]
