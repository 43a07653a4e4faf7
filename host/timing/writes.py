"""When STORE writes what: exact cycles of the write side under the reference memory.

The RTL twins are ``hdl/store_unit.py`` and ``hdl/write_engine.py``. One step per write burst:

- Only the first burst of a STORE waits for the splitter. The reads of the next begin right after
  those of the one before, and each waits until the buffer has room: read g of all is in cycle
  max(a(g), s(g − WRITE_BUFFER_BEATS) + RETIRE), with s the W handshakes and a counting up from the
  burst's start. Both rise with g, so a burst's last read follows from a and s of that one alone.
- AWVALID rises when all beats of a burst are buffered, so its W beats follow each other at the
  memory's rate.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.ports import ACT_READ_LATENCY
from ...hdl.write_engine import WRITE_BUFFER_BEATS, WRITE_BURSTS, write_burst_beats
from .account import Spans
from .bursts import Rows, beats_of
from .reads import RETIRE

if TYPE_CHECKING:
    from ...hdl.config import Config

#: Cycles from a STORE's start to its first ACT read.
FIRST_READ = 4
#: Cycles from a burst's last beat in the write engine to AWVALID.
WRITE_LATENCY = 2


class StoreClock:
    """When STOREs do what, one after the other.

    Parameters
    ----------
    config
        The machine.
    latency
        L of the memory; 0 counts as 1.
    beat_interval
        Cycles from a write beat to the next.

    Attributes
    ----------
    reads, addresses, beats, responses
        For each burst: the cycle from which its ACT reads begin, the AW handshake, the first W
        handshake, and the B handshake.
    before
        For each burst the number of beats before it, and at the end the number of all.
    """

    def __init__(self, config: Config, latency: int, beat_interval: int = 1):
        self._bus_bytes = config.bus_bytes
        self._burst_beats = write_burst_beats(config)
        self._latency = max(1, latency)
        self._interval = beat_interval
        self.reads: list[int] = []
        self.addresses: list[int] = []
        self.beats: list[int] = []
        self.responses: list[int] = []
        self.before = [0]
        self._done = self._address = self._response = -1
        self._bus_free = 0
        self._leaving = 0  # the burst that holds the beat whose sending makes room

    def store(self, go: int, job: Rows) -> tuple[int, int]:
        """Start and completion of the next STORE, whose semaphores are there from cycle `go` on."""
        start = max(go, self._done + 1)
        counts, _ = beats_of(job, self._bus_bytes, self._burst_beats)
        interval = self._interval
        before, sent, total = self.before, self.beats, self.before[-1]
        read = start + FIRST_READ
        for count in counts:
            self.reads.append(read)
            read += count - 1  # the last
            total += count
            room = total - WRITE_BUFFER_BEATS
            if room > 0:
                while before[self._leaving + 1] < room:
                    self._leaving += 1
                behind = room - before[self._leaving] - 1
                read = max(read, sent[self._leaving] + behind * interval + RETIRE)
            address = max(read + ACT_READ_LATENCY + WRITE_LATENCY, self._address + 1)
            n = len(self.responses)
            if n >= WRITE_BURSTS:
                address = max(address, self.responses[n - WRITE_BURSTS] + RETIRE + 1)
            first = max(address, self._bus_free)
            self._bus_free = first + count * interval
            last = self._bus_free - interval
            self._address = address
            self._response = max(last + self._latency, self._response + 1)
            self.addresses.append(address)
            sent.append(first)
            self.responses.append(self._response)
            before.append(total)
            read += 1
        self._done = self._response + 1
        return start, self._done

    def read(self, times: np.ndarray) -> np.ndarray:
        """ACT reads up to and including each of `times`, in the end."""
        wanted, sent = self._spans
        return np.minimum(wanted.until(times), sent.until(times - RETIRE) + WRITE_BUFFER_BEATS)

    @cached_property
    def _spans(self) -> tuple[Spans, Spans]:
        counts = np.diff(np.array(self.before, np.int64))
        wanted = Spans(np.array(self.reads, np.int64), counts)
        return wanted, Spans(np.array(self.beats, np.int64), counts, self._interval)
