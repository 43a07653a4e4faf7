"""Where every cycle of every unit went, up to any moment of a run.

Each question is answered by counting: how many cycles up to and including cycle t had a cause. The
account of a stretch is a difference of two such counts, so the accounts of adjoining stretches sum
to that of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...hdl.isa import SEMAPHORES, Unit
from ...hdl.registers import Cause


@dataclass(frozen=True)
class UnitAccount:
    """What a unit did in each cycle of a stretch.

    Attributes
    ----------
    busy
        Cycles in which it worked, or started an instruction.
    memory
        Cycles in which an instruction waited for the bus, or in WEIGHT and MATMUL for the array,
        weights, a plan or an accumulator.
    empty
        Cycles without an instruction, or in which the next one was being looked at.
    semaphores
        Cycles in which the next instruction waited for a semaphore, by (producer, k) of the one
        that came last.
    """

    busy: int
    memory: int
    empty: int
    semaphores: dict[tuple[Unit, int], int]

    @property
    def semaphore(self) -> int:
        """Cycles in which the next instruction waited for any semaphore."""
        return sum(self.semaphores.values())

    @property
    def cycles(self) -> int:
        """Length of the stretch."""
        return self.busy + self.memory + self.empty + self.semaphore

    @property
    def causes(self) -> dict[Cause, int]:
        """Cycles by cause, as the counter registers have them."""
        return {
            Cause.BUSY: self.busy,
            Cause.SEMAPHORE: self.semaphore,
            Cause.MEMORY: self.memory,
            Cause.EMPTY: self.empty,
        }


def total(accounts: Iterable[UnitAccount]) -> UnitAccount:
    """The account of several stretches together."""
    accounts = list(accounts)
    semaphores = Counter[tuple[Unit, int]]()
    for account in accounts:
        semaphores.update(account.semaphores)
    return UnitAccount(
        busy=sum(a.busy for a in accounts),
        memory=sum(a.memory for a in accounts),
        empty=sum(a.empty for a in accounts),
        semaphores=dict(semaphores),
    )


class Spans:
    """Disjoint, ascending spans of events at even distances.

    Parameters
    ----------
    first, count
        First event of each span, and how many; int64.
    interval
        Cycles from an event to the next.
    """

    def __init__(self, first: np.ndarray, count: np.ndarray, interval: int = 1):
        self._first, self._count, self._interval = first, count, interval
        self._before = np.concatenate([[0], np.cumsum(count)])

    def until(self, times: np.ndarray) -> np.ndarray:
        """Events up to and including each of `times`."""
        index = np.searchsorted(self._first, times, side="right") - 1
        at = np.maximum(index, 0)
        if not self._first.size:
            return np.zeros_like(times)
        inside = (times - self._first[at]) // self._interval + 1
        return np.where(index < 0, 0, self._before[at] + np.minimum(self._count[at], inside))


@dataclass(frozen=True, eq=False)
class UnitHistory:
    """What one unit did; by itself of a unit that never waits for memory.

    Parameters
    ----------
    instructions, starts, dones
        Of each of its instructions, in program order: index in the program, cycle of the start,
        cycle of completion.
    late
        (n, first cycle at the queue's head, cycle from which all semaphores are there, index in
        SEMAPHORES of the last of them) of each instruction n that came to the head before that.
    """

    instructions: Sequence[int]
    starts: Sequence[int]
    dones: Sequence[int]
    late: Sequence[tuple[int, int, int, int]]

    @cached_property
    def flight(self) -> Spans:
        """Cycles in which an instruction starts or is in flight."""
        first, dones = np.array(self.starts, np.int64), np.array(self.dones, np.int64)
        first[1:] = np.maximum(first[1:], dones[:-1] + 1)
        return Spans(first, dones - first + 1)

    @cached_property
    def waits(self) -> dict[tuple[Unit, int], Spans]:
        """Cycles in which the next instruction waited for a semaphore and none was in flight."""
        number, first, go, semaphore = np.array(self.late, np.int64).reshape(-1, 4).T
        done = np.array([-1, *self.dones], np.int64)[number]  # of the one before
        first = np.maximum(first, done + 1)
        out = {}
        for index in np.unique(semaphore[go > first]):
            mine = (semaphore == index) & (go > first)
            producer, _, k = SEMAPHORES[index]
            out[producer, k] = Spans(first[mine], (go - first)[mine])
        return out

    def memory(self, times: np.ndarray) -> np.ndarray:
        """Cycles with cause MEMORY up to and including each of `times`."""
        return np.zeros_like(times)

    def accounts(self, times: np.ndarray) -> list[UnitAccount]:
        """The account of each stretch between two of `times`, the later one included."""
        memory = np.diff(self.memory(times))
        flight = np.diff(self.flight.until(times))
        waits = {key: np.diff(spans.until(times)) for key, spans in self.waits.items()}
        out = []
        for i, cycles in enumerate(np.diff(times)):
            semaphores = {key: int(waited[i]) for key, waited in waits.items() if waited[i]}
            empty = int(cycles - flight[i]) - sum(semaphores.values())
            busy = int(flight[i] - memory[i])
            out.append(UnitAccount(busy, int(memory[i]), empty, semaphores))
        return out


@dataclass(frozen=True, eq=False)
class TransferHistory(UnitHistory):
    """LOAD or STORE: in flight it works where it moves a beat, or starts an instruction.

    Parameters
    ----------
    moved
        Beats moved up to and including each of some cycles.
    """

    moved: Callable[[np.ndarray], np.ndarray]

    def memory(self, times: np.ndarray) -> np.ndarray:
        """Cycles with cause MEMORY up to and including each of `times`."""
        starts = np.array(self.starts, np.int64)
        only = starts[self.moved(starts) == self.moved(starts - 1)]
        return (
            self.flight.until(times)
            - self.moved(times)
            - np.searchsorted(only, times, side="right")
        )


@dataclass(frozen=True, eq=False)
class TileHistory(UnitHistory):
    """WEIGHT or MATMUL: in flight it waits for memory where it stalls.

    Parameters
    ----------
    stalls, ends
        For each instruction the cycles in which it stalls, and the last cycle that may be one.
    spans
        Of an instruction n: for each tile the cycle after which, and the one up to which, it
        stalls.
    """

    stalls: Sequence[int]
    ends: Sequence[int]
    spans: Callable[[int], tuple[np.ndarray, np.ndarray]]

    def memory(self, times: np.ndarray) -> np.ndarray:
        """Cycles with cause MEMORY up to and including each of `times`."""
        before = np.concatenate([[0], np.cumsum(np.array(self.stalls, np.int64))])
        number = np.searchsorted(np.array(self.ends, np.int64), times)
        out = before[number]
        for i, n in enumerate(number):
            if n < len(self.ends) and times[i] > self.starts[n]:
                since, until = self.spans(int(n))
                out[i] += np.maximum(np.minimum(until, times[i]) - since, 0).sum()
        return out
