# ruff: noqa: PLR1730  # max() would take a third of the time that a burst takes
"""When LOAD and FETCH read what: exact cycles of the read side under the reference memory.

The memory is that of docs/architecture.md ("The memory that cycle counts refer to"); the RTL twins
are ``hdl/load_unit.py``, ``hdl/burst.py`` and ``hdl/read_engine.py``. One step per read burst.

The splitter's recurrence is simpler than its stages. Let burst j of all LOADs leave for the
splitter's output in cycle E(j), and be accepted by the engine in cycle T(j). Then

    E(j) = max(E(j − 1), T(j − 2)) + 1    within a LOAD,
    E(j) = max(R, T(j − 2)) + 1           for its first burst, with R = max(start + 1, E(j − 1)),

where R is the cycle in which its first row enters the burst stage; a later row enters it in the
cycle in which the burst before it leaves. The engine sees burst j from cycle
max(E(j), T(j − 1)) + 1 on. Within a LOAD that is T(j − 1) + 1 always, so the splitter delays only
the first burst of each, and E is needed only there and where a last row enters.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.load_unit import LOADS_IN_FLIGHT
from ...hdl.read_engine import READ_BURSTS
from .account import Spans
from .bursts import Rows, beats_of

if TYPE_CHECKING:
    from ...hdl.config import Config

#: Cycles from a burst's acceptance by ``ReadEngine`` to its AR handshake.
ADDRESS = 1
#: Cycles after its handshake until a beat, or a burst's end, no longer counts as open.
RETIRE = 2
#: Cycles from a read beat on the bus to its write on chip, or to the port of FETCH.
READ_TO_WRITE = 1
#: Later than anything.
_NEVER = 1 << 62


class _Load:
    """A LOAD: the beats of its bursts, and their numbers among the bursts of all LOADs."""

    __slots__ = ("beats", "emitted", "entered", "first", "last_row", "previous", "start")

    def __init__(
        self, start: int, beats: list[int], first: int, last_row: int, previous: _Load | None
    ):
        self.start = start
        self.beats = beats
        self.first = first
        self.last_row = last_row  # number of its last row's first burst
        self.previous = previous  # until `entered` is known
        self.entered: int | None = None
        self.emitted: int | None = None


class ReadClock:
    """When LOADs start and end and when read beats come.

    Call :meth:`start` for each LOAD in program order, and :meth:`serve` and :meth:`fetch` to let
    bursts pass in the order in which they are asked for.

    Parameters
    ----------
    config
        The machine.
    latency
        L of the memory; 0 counts as 1.
    beat_interval
        Cycles from a read beat to the next.

    Attributes
    ----------
    starts, dones
        Start and completion of each LOAD, as far as known.
    accepts
        For each LOAD burst the cycle of its acceptance; the AR handshake is ADDRESS later.
    firsts, before
        For each burst of LOAD and FETCH the cycle of its first beat, and the number of beats before
        it; `before` has one more entry, of all beats.
    fetches
        Which of those bursts are FETCH's.
    """

    def __init__(self, config: Config, latency: int, beat_interval: int = 1):
        self._bus_bytes = config.bus_bytes
        self._burst_beats = config.burst_beats
        self._credit = config.read_beats
        self._delay = ADDRESS + max(1, latency)
        self._interval = beat_interval
        self.starts: list[int] = []
        self.dones: list[int] = []
        self.accepts: list[int] = []
        self.firsts: list[int] = []
        self.before: list[int] = [0]
        self.fetches: list[int] = []
        self._lasts: list[int] = []  # last beat of each burst
        self._loads: deque[_Load] = deque()  # with bursts to be accepted
        self._newest: _Load | None = None
        self._bursts = 0  # of all LOADs that started
        self._accepted = -1
        self._bus_free = 0
        self._returning = 0  # the burst that holds the beat whose return makes room

    def start(self, go: int, job: Rows) -> int | None:
        """Start the next LOAD in cycle `go` or later; None while it is not known when it can."""
        n = len(self.starts)
        if n >= LOADS_IN_FLIGHT:
            if len(self.dones) <= n - LOADS_IN_FLIGHT:
                return None
            go = max(go, self.dones[n - LOADS_IN_FLIGHT] + 1)
        ready = self._splitter_ready()
        if ready is None:
            return None
        start = max(go, ready)
        beats, last_row = beats_of(job, self._bus_bytes, self._burst_beats)
        load = _Load(start, beats, self._bursts, self._bursts + last_row, self._newest)
        self._bursts += len(beats)
        self._loads.append(load)
        self._newest = load
        self.starts.append(start)
        return start

    def serve(self, fetch: int | None) -> bool:
        """Accept LOAD bursts until a LOAD completes, or until the next one's start becomes known.

        False if there are none, or if FETCH's next burst, which it offers since cycle `fetch`,
        comes first.
        """
        if not self._loads:
            return False
        load = self._loads[0]
        newest = self._newest
        assert newest is not None
        accepts, firsts, before, lasts = self.accepts, self.firsts, self.before, self._lasts
        credit, delay, interval = self._credit, self._delay, self._interval
        done = len(accepts)
        stop = end = load.first + len(load.beats)
        if done < newest.last_row - 2 < end:
            stop = newest.last_row - 2
        limit = _NEVER if fetch is None else fetch
        earliest = self._accepted + 1
        if done == load.first:
            earliest = max(earliest, self._emitted(load, done) + 1)
        free, total, returning, n = self._bus_free, before[-1], self._returning, len(firsts)
        for beats in load.beats[done - load.first : stop - load.first]:
            cycle = earliest
            if n >= READ_BURSTS:
                closed = lasts[n - READ_BURSTS] + RETIRE
                if closed > cycle:
                    cycle = closed
            needed = total + beats - credit  # beats that must have returned
            if needed > 0:
                while before[returning + 1] < needed:
                    returning += 1
                missing = needed - before[returning]
                if missing > 0:
                    returned = firsts[returning] + (missing - 1) * interval + RETIRE
                    if returned > cycle:
                        cycle = returned
            if cycle >= limit:
                break
            first = cycle + delay
            if first < free:
                first = free
            free = first + beats * interval
            total += beats
            accepts.append(cycle)
            firsts.append(first)
            lasts.append(free - interval)
            before.append(total)
            n += 1
            earliest = cycle + 1
        self._returning = returning
        if len(accepts) > done:
            self._accepted, self._bus_free = accepts[-1], free
        if len(accepts) < stop:
            return False
        if stop == end:
            self._loads.popleft()
            self.dones.append(lasts[-1] + READ_TO_WRITE)
        return True

    def fetch(self, offered: int, beats: int) -> tuple[int, int]:
        """Accept a FETCH burst that is offered since `offered`: that cycle, and its first beat's.

        A LOAD that asks in the same cycle waits.
        """
        n = len(self.firsts)
        cycle = max(offered, self._accepted + 1)
        if n >= READ_BURSTS:
            cycle = max(cycle, self._lasts[n - READ_BURSTS] + RETIRE)
        first = max(cycle + self._delay, self._bus_free)
        self._accepted = cycle
        self._bus_free = first + beats * self._interval
        self.fetches.append(n)
        self.firsts.append(first)
        self._lasts.append(self._bus_free - self._interval)
        self.before.append(self.before[-1] + beats)
        return cycle, first

    @property
    def last_beat(self) -> int:
        """Cycle of the last read beat."""
        return self._lasts[-1]

    def written(self, times: np.ndarray) -> np.ndarray:
        """Beats that LOAD wrote on chip up to and including each of `times`, in the end."""
        return self._written.until(times)

    @cached_property
    def _written(self) -> Spans:
        load = np.ones(len(self.firsts), bool)
        load[self.fetches] = False
        first, count = np.array(self.firsts, np.int64), np.diff(np.array(self.before, np.int64))
        return Spans(first[load] + READ_TO_WRITE, count[load], self._interval)

    def _splitter_ready(self) -> int | None:
        """First cycle in which the splitter accepts a transfer: after the last row entered."""
        newest = self._newest
        if newest is None:
            return 0
        if len(self.accepts) < newest.last_row - 2:
            return None
        if newest.last_row == newest.first:
            return self._entered(newest) + 1
        return self._emitted(newest, newest.last_row - 1) + 1

    def _entered(self, load: _Load) -> int:
        """R: when the first row of `load` enters the burst stage."""
        if load.entered is None:
            load.entered = load.start + 1
            if load.previous is not None:
                load.entered = max(load.entered, self._emitted(load.previous, load.first - 1))
                load.previous = None
        return load.entered

    def _emitted(self, load: _Load, burst: int) -> int:
        """E: when a burst of `load` leaves for the splitter's output; T(burst − 2) is known."""
        if load.emitted is None:
            load.emitted = self._entered(load) + 1
            if load.first >= 2:
                load.emitted = max(load.emitted, self.accepts[load.first - 2] + 1)
        if burst == load.first:
            return load.emitted
        cycle = load.emitted + burst - load.first
        return max(cycle, self.accepts[burst - 2] + 1) if burst >= 2 else cycle
