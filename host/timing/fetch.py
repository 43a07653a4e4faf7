"""When instructions are asked for, decoded and dispatched, and when a program ends.

Cycle 0 is the one in which the write of START executes. All times are of the fetch unit's own
ports: what lies between a request and the bus, and between the bus and a beat, is the read
engine's (``reads.ReadClock``).
"""

from __future__ import annotations

from typing import NamedTuple

from ...hdl.fetch_unit import FETCH_BUFFER, FETCH_BURST
from ...hdl.isa import INSTRUCTION_BYTES

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


class FetchBurst(NamedTuple):
    """A burst of the program: its first instruction, how many, beats, and places in the buffer."""

    first: int
    size: int
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
        self._accepted = FIRST_REQUEST - 1  # the burst before
        self._arrived: list[int] = []
        self._taken: list[int] = []  # entry into the decoder
        self._checked: list[int] = []  # the cycle before an instruction stands before dispatch
        self._next = 0  # to be dispatched
        self._dispatched = 0  # when the one before was

    def request(self, k: int) -> int | None:
        """First cycle in which the request of burst k is valid; None if that is not known yet."""
        cycle = self._accepted + 1
        last = self.needs(k)
        if last is None:
            return cycle
        # Known once instruction `last` − 2 is dispatched.
        return max(cycle, self._taken[last] + 1) if last < len(self._taken) else None

    def needs(self, k: int) -> int | None:
        """The last instruction that must enter the decoder before burst k has places in the buffer.

        None where the buffer has room from the start.
        """
        burst = self.bursts[k]
        last = burst.first + burst.places - FETCH_BUFFER - 1
        return last if last >= 0 else None

    def accept(self, cycle: int) -> None:
        """The read engine takes the next request in `cycle`."""
        self._accepted = cycle

    def arrive(self, cycle: int) -> None:
        """The beat that completes the next instruction comes in `cycle`."""
        self._arrived.append(cycle)
        self._extend()

    @property
    def arrived(self) -> int:
        """Instructions that arrived."""
        return len(self._arrived)

    def earliest(self) -> int:
        """First cycle in which the next instruction, which arrived, stands before dispatch."""
        return self._checked[self._next] + 1

    def dispatch(self, cycle: int) -> None:
        """The next instruction leaves in `cycle`.

        That is the first one, from :meth:`earliest`, in which its queue has room (for MATMUL both
        queues), which is one cycle after `queue_depth` entries before it one left; for END, in
        which the machine is empty (see :func:`end`).
        """
        assert cycle >= self.earliest()
        self._dispatched = cycle
        self._next += 1
        self._extend()

    def _extend(self) -> None:
        """Work out how far instructions have come: up to the next but one to be dispatched."""
        arrived, taken, checked = self._arrived, self._taken, self._checked
        while True:
            i = len(checked)
            if i == len(taken):
                if i == len(arrived):
                    return
                cycle = arrived[i] + BUFFER_LATENCY
                taken.append(max(cycle, taken[-1] + 1, checked[-1]) if i else cycle)
            if i > self._next:
                return
            checked.append(max(taken[i] + 1, self._dispatched))


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
