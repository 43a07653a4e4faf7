"""When instructions are asked for, decoded and dispatched, and when a program ends.

Cycle 0 is the one in which the write of START executes. All times are of the fetch unit's own
ports: what lies between a request and the bus, and between the bus and a beat, is the read
engine's (``ReadEngine``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Cycle of the first burst's request.
FIRST_REQUEST = 2
#: Cycles from the beat that completes an instruction until the decoder may take it.
BUFFER_LATENCY = 1
#: Cycles from an instruction's entry into the decoder until it may be dispatched.
DECODE_LATENCY = 2
#: Cycles from dispatch until the unit sees the instruction at the head of an empty queue.
QUEUE_LATENCY = 1
#: Cycles from the last read beat on the bus until the read side is idle.
READ_IDLE = 2
#: Instructions in a full burst, and in the buffer.
FETCH_BURST = 4
FETCH_BUFFER = 16
INSTRUCTION_BYTES = 32


@dataclass(frozen=True)
class FetchBurst:
    """A burst of the program: its first instruction, how many, beats, and places in the buffer."""

    first: int
    count: int
    beats: int
    places: int

    @property
    def offset(self) -> int:
        """Bytes from the program's base."""
        return self.first * INSTRUCTION_BYTES

    def completing_beat(self, instruction: int, bus_bytes: int) -> int:
        """Index of the beat with the last byte of `instruction` (numbered in the program)."""
        return ((instruction - self.first + 1) * INSTRUCTION_BYTES - 1) // bus_bytes


def bursts(count: int, bus_bytes: int) -> list[FetchBurst]:
    """The bursts that fetch a program of `count` instructions."""
    out = []
    for first in range(0, count, FETCH_BURST):
        size = min(FETCH_BURST, count - first)
        beats = -(-size * INSTRUCTION_BYTES // bus_bytes)
        places = max(size, beats * bus_bytes // INSTRUCTION_BYTES)
        out.append(FetchBurst(first, size, beats, places))
    return out


class Frontend:
    """The exact times of fetch, decode and dispatch, fed with events in program order.

    For each burst k call :meth:`request` and :meth:`accept`. For each instruction call
    :meth:`arrive` when the beat that completes it is known, then :meth:`earliest` and
    :meth:`dispatch`. The request of a burst needs the times of the instructions whose places in the
    buffer it takes (see :meth:`needs`), and of nothing later.

    Parameters
    ----------
    count
        Instructions in the program.
    bus_bytes
        Bytes in a beat.
    """

    def __init__(self, count: int, bus_bytes: int):
        self.bursts = bursts(count, bus_bytes)
        self._accepted: list[int] = []
        self._arrived: list[int] = []
        self._taken: list[int] = []
        self._checked: list[int] = []
        self._dispatched: list[int] = []

    def request(self, k: int) -> int | None:
        """First cycle in which the request of burst k is valid; None if that is not known yet."""
        cycle = self._accepted[k - 1] + 1 if k else FIRST_REQUEST
        last = self.needs(k)
        if last is None:
            return cycle
        taken = self._when_taken(last)
        return None if taken is None else max(cycle, taken + 1)

    def needs(self, k: int) -> int | None:
        """The last instruction that must enter the decoder before burst k has places in the buffer.

        None where the buffer has room from the start.
        """
        burst = self.bursts[k]
        last = burst.first + burst.places - FETCH_BUFFER - 1
        return last if last >= 0 else None

    def _when_taken(self, i: int) -> int | None:
        """When instruction i enters the decoder: known once instruction i − 2 is dispatched."""
        n = len(self._dispatched)
        if i < n:
            return self._taken[i]
        if i > n + 1 or i >= len(self._arrived):
            return None
        self.earliest()
        if i == n:
            return self._taken[n]
        return max(self._arrived[i] + BUFFER_LATENCY, self._taken[n] + 1, self._checked[n])

    def accept(self, k: int, cycle: int) -> None:
        """The read engine takes the request of burst k in `cycle`."""
        assert k == len(self._accepted)
        self._accepted.append(cycle)

    def arrive(self, cycle: int) -> None:
        """The beat that completes the next instruction comes in `cycle`."""
        self._arrived.append(cycle)

    def earliest(self) -> int:
        """First cycle in which the next instruction stands before dispatch."""
        i = len(self._dispatched)
        taken = self._arrived[i] + BUFFER_LATENCY
        if i:
            taken = max(taken, self._taken[i - 1] + 1, self._checked[i - 1])
        checked = taken + 1
        if i:
            checked = max(checked, self._dispatched[i - 1])
        self._taken[i:] = [taken]
        self._checked[i:] = [checked]
        return checked + 1

    def dispatch(self, cycle: int) -> None:
        """The next instruction leaves in `cycle`.

        That is the first one, from :meth:`earliest`, in which its queue has room (for MATMUL both
        queues; see :func:`queue_room`); for END, in which the machine is empty.
        """
        assert cycle >= self.earliest()
        self._dispatched.append(cycle)


def queue_room(starts: deque[int] | list[int], depth: int) -> int:
    """First cycle in which a queue takes one more entry.

    Parameters
    ----------
    starts
        For every entry that entered the queue so far, the cycle in which its unit started it.
    depth
        ``Config.queue_depth``.
    """
    return starts[-depth] + 1 if len(starts) >= depth else 0


def end(earliest: int, last_done: int, last_beat: int) -> int:
    """The cycle in which END leaves, which is what CYCLES shows; DONE is set one cycle later.

    Parameters
    ----------
    earliest
        First cycle in which END stands before dispatch.
    last_done
        Cycle in which the last instruction of all units completed.
    last_beat
        Cycle in which the last read beat (of FETCH too) was on the bus.
    """
    return max(earliest, last_done + 1, last_beat + READ_IDLE)
