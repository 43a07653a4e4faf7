"""When LOAD and STORE move what: exact cycles under the reference memory.

The memory is that of docs/architecture.md ("The memory that cycle counts refer to"). One event per
read burst, so that whole programs can be timed; the constants are those of the components named
beside them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...hdl.config import Config

PAGE_BYTES = 4096
#: Read bursts open at once (``ReadEngine``).
READ_BURSTS = 32
#: Cycles after its handshake until a beat, or a burst's end, no longer counts (both engines).
RETIRE = 2
#: Cycles from a read beat on the bus to its write on chip (``ReadEngine``, ``LoadUnit``).
READ_TO_WRITE = 1
#: Bursts in the output of ``BurstSplitter``.
OUTPUT_BURSTS = 2
#: LOADs in flight at once (``LoadUnit``).
LOADS_IN_FLIGHT = 8
#: Longest write burst, beats buffered, and write bursts open at once (``WriteEngine``).
WRITE_BURST_BEATS = 16
WRITE_BUFFER_BEATS = 32
WRITE_BURSTS = 32
#: Cycles from an ACT read to the beat's arrival in the write engine (``hdl/ports.py``).
ACT_READ_LATENCY = 5
#: Cycles from a burst's last beat in the write engine to AWVALID; also any beat's to WVALID.
WRITE_LATENCY = 2


@dataclass(frozen=True)
class Rows:
    """What a LOAD or STORE moves: `rows` rows of `length` bytes from `addr`, `pitch` apart."""

    addr: int
    length: int
    rows: int = 1
    pitch: int = 0


def split_row(addr: int, length: int, bus_bytes: int, burst_beats: int) -> list[tuple[int, int]]:
    """(address, beats) of the bursts of one row that starts at a multiple of `bus_bytes`."""
    beats = -(-length // bus_bytes)
    out = []
    while beats:
        count = min(beats, burst_beats, (PAGE_BYTES - addr % PAGE_BYTES) // bus_bytes)
        out.append((addr, count))
        addr += count * bus_bytes
        beats -= count
    return out


def split(job: Rows, bus_bytes: int, burst_beats: int) -> list[list[tuple[int, int]]]:
    """The bursts of each row of `job`."""
    return [
        split_row(job.addr + i * job.pitch, job.length, bus_bytes, burst_beats)
        for i in range(job.rows)
    ]


class SplitterClock:
    """When ``BurstSplitter`` offers each burst.

    For each transfer call :meth:`start`; for each of its rows :meth:`enter_row`, then for each of
    the row's bursts :meth:`emit` and, in order too, :meth:`taken`. The splitter works ahead of what
    is taken: so do these calls, and a row may be entered once the row before is emitted.
    """

    def __init__(self) -> None:
        self.ready = 0  #: first cycle in which it accepts a transfer, once the last row is entered
        self._row_valid = 0
        self._next_valid = 0
        self._emitted = -1
        self._taken = (-1, -1)  # of the two last bursts that were
        self._output: deque[int] = deque()  # emission of those that are not

    def start(self, cycle: int) -> None:
        """A transfer is accepted in `cycle`."""
        self._row_valid = cycle + 1

    def enter_row(self) -> int:
        """The next row enters the burst stage; that cycle. A WINDOW fault comes one later."""
        cycle = max(self._row_valid, self._emitted)
        self._row_valid = self.ready = self._next_valid = cycle + 1
        return cycle

    @property
    def emitted(self) -> int:
        """Bursts that are emitted and not taken: 0 to OUTPUT_BURSTS."""
        return len(self._output)

    def emit(self) -> None:
        """The row's next burst leaves for the output, which has room for it."""
        self._emitted = max(self._next_valid, self._taken[len(self._output)] + 1)
        self._next_valid = self._emitted + 1
        self._output.append(self._emitted)

    @property
    def offered(self) -> int:
        """First cycle in which the oldest of the emitted bursts is offered."""
        return max(self._output[0], self._taken[1]) + 1

    def offer(self, *, row_start: bool) -> int:
        """Enter the row if this is its start, emit its next burst, and say when it is offered."""
        if row_start:
            self.enter_row()
        self.emit()
        return self.offered

    def taken(self, cycle: int) -> None:
        """The burst that is offered is taken in `cycle`."""
        self._output.popleft()
        self._taken = (self._taken[1], cycle)


@dataclass(frozen=True)
class ReadBurst:
    """Cycles of a read burst: acceptance by the engine, AR handshake, first and last beat."""

    accept: int
    address: int
    first: int
    last: int


class ReadClock:
    """When ``ReadEngine`` accepts each burst, and when its beats come; call in order of acceptance.

    Parameters
    ----------
    config
        The machine.
    latency
        L of the memory; 0 counts as 1.
    """

    def __init__(self, config: Config, latency: int):
        self._latency = max(1, latency)
        self._read_beats = config.read_beats
        self._accepted = -1
        self._last = -1
        self._beats = 0
        self._lasts: deque[int] = deque(maxlen=READ_BURSTS)
        self._open: deque[tuple[int, int, int]] = deque()  # beats before, beats, first beat's cycle

    def earliest(self, offered: int, beats: int, *, load: bool) -> int:
        """First cycle in which a burst offered since `offered` is accepted, if nothing else is."""
        cycle = max(offered, self._accepted + 1)
        if len(self._lasts) == READ_BURSTS:
            cycle = max(cycle, self._lasts[0] + RETIRE)
        needed = self._beats + beats - self._read_beats
        if load and needed > 0:
            while self._open[0][0] + self._open[0][1] < needed:
                self._open.popleft()
            before, _, first = self._open[0]
            if before < needed:
                cycle = max(cycle, first + needed - before - 1 + RETIRE)
        return cycle

    def accept(self, cycle: int, beats: int) -> ReadBurst:
        """A burst is accepted in `cycle`."""
        address = cycle + 1
        first = max(address + self._latency, self._last + 1)
        self._last = first + beats - 1
        self._accepted = cycle
        self._lasts.append(self._last)
        self._open.append((self._beats, beats, first))
        self._beats += beats
        return ReadBurst(cycle, address, first, self._last)


@dataclass(frozen=True)
class LoadTimes:
    """Cycles of one LOAD: its start, its bursts, the write of each beat, and `done`."""

    start: int
    bursts: tuple[ReadBurst, ...]

    @property
    def writes(self) -> list[int]:
        """Cycle of each beat's write on chip."""
        return [t + READ_TO_WRITE for b in self.bursts for t in range(b.first, b.last + 1)]

    @property
    def done(self) -> int:
        """Cycle of `done` and `post`."""
        return self.bursts[-1].last + READ_TO_WRITE


def load_times(
    config: Config,
    latency: int,
    jobs: Sequence[tuple[int, Rows]],
    fetches: Sequence[tuple[int, int]] = (),
) -> tuple[list[LoadTimes], list[ReadBurst]]:
    """Times of a sequence of LOADs, and of the FETCH bursts between them.

    Parameters
    ----------
    config, latency
        Machine and memory.
    jobs
        For each LOAD the cycle from which its semaphores are there, and what it moves. It stands
        at the head of the queue one cycle after its predecessor started.
    fetches
        For each FETCH burst the cycle from which it is offered (one cycle after the previous one
        was accepted, at the earliest), and its beats.

    Returns
    -------
    tuple
        One entry per LOAD, one per FETCH burst.
    """
    splitter, bus = SplitterClock(), ReadClock(config, latency)
    pending = deque(fetches)
    fetched: list[ReadBurst] = []

    def fetch_until(cycle: int | None) -> None:
        """Accept every FETCH burst that is offered in `cycle` or before."""
        while pending:
            offered, beats = pending[0]
            if fetched:
                offered = max(offered, fetched[-1].accept + 1)
            if cycle is not None and offered > cycle:
                return
            pending.popleft()
            fetched.append(bus.accept(bus.earliest(offered, beats, load=False), beats))
            if cycle is not None:
                return

    out: list[LoadTimes] = []
    for i, (go, job) in enumerate(jobs):
        start = max(go, splitter.ready)
        if i:
            start = max(start, out[-1].start + 1)
        if i >= LOADS_IN_FLIGHT:
            start = max(start, out[i - LOADS_IN_FLIGHT].done + 1)
        splitter.start(start)
        bursts = []
        for row in split(job, config.bus_bytes, config.burst_beats):
            for k, (_, beats) in enumerate(row):
                offered = splitter.offer(row_start=k == 0)
                while True:
                    cycle = bus.earliest(offered, beats, load=True)
                    before = len(fetched)
                    fetch_until(cycle)
                    if len(fetched) == before:
                        break
                splitter.taken(cycle)
                bursts.append(bus.accept(cycle, beats))
        out.append(LoadTimes(start, tuple(bursts)))
    fetch_until(None)
    return out, fetched


@dataclass(frozen=True)
class StoreTimes:
    """Cycles of one STORE: start, ACT reads, AW, W and B handshakes, `done`."""

    start: int
    reads: tuple[int, ...]
    addresses: tuple[int, ...]
    beats: tuple[int, ...]
    responses: tuple[int, ...]

    @property
    def done(self) -> int:
        """Cycle of `done` and `post`."""
        return self.responses[-1] + 1


class StoreClock:
    """When ``StoreUnit`` and ``WriteEngine`` do what, one STORE after the other.

    Parameters
    ----------
    config
        The machine.
    latency
        L of the memory; 0 counts as 1.
    """

    def __init__(self, config: Config, latency: int):
        self._bus_bytes = config.bus_bytes
        self._burst_beats = min(config.burst_beats, WRITE_BURST_BEATS)
        self._latency = max(1, latency)
        self._splitter = SplitterClock()
        self._done = self._read = self._beat = self._issue = self._response = -1
        self._sent: deque[int] = deque(maxlen=WRITE_BUFFER_BEATS)
        self._answered: deque[int] = deque(maxlen=WRITE_BURSTS)

    def store(self, go: int, job: Rows) -> StoreTimes:
        """Times of the next STORE, whose semaphores are there from cycle `go` on."""
        start = max(go, self._done + 1)
        self._splitter.start(start)
        reads: list[int] = []
        addresses: list[int] = []
        sent: list[int] = []
        responses: list[int] = []
        for row in split(job, self._bus_bytes, self._burst_beats):
            for k, (_, count) in enumerate(row):
                offered = self._splitter.offer(row_start=k == 0)
                taken = max(offered, self._read)
                self._splitter.taken(taken)
                burst = self._reads(taken + 1, count)
                reads += burst
                address, beats, response = self._write(burst)
                addresses.append(address)
                sent += beats
                responses.append(response)
        self._done = responses[-1] + 1
        return StoreTimes(start, tuple(reads), tuple(addresses), tuple(sent), tuple(responses))

    def _reads(self, earliest: int, count: int) -> list[int]:
        """ACT reads of one burst: one a cycle, while the buffer has room."""
        out = []
        for i in range(count):
            cycle = max(earliest, self._read + 1)
            # Beats of this burst are not sent before all are read: the buffer holds two bursts.
            if len(self._sent) + i >= WRITE_BUFFER_BEATS:
                cycle = max(cycle, self._sent[len(self._sent) + i - WRITE_BUFFER_BEATS] + RETIRE)
            self._read = cycle
            out.append(cycle)
        return out

    def _write(self, reads: list[int]) -> tuple[int, list[int], int]:
        """AW, W and B handshakes of a burst that was read in cycles `reads`."""
        issue = max(reads[-1] + ACT_READ_LATENCY + 1, self._issue + 1)
        if len(self._answered) == WRITE_BURSTS:
            issue = max(issue, self._answered[0] + RETIRE)
        self._issue = issue
        address = issue + WRITE_LATENCY - 1
        beats = []
        for read in reads:
            given = read + ACT_READ_LATENCY
            self._beat = max(address, self._beat + 1, given + WRITE_LATENCY)
            beats.append(self._beat)
            self._sent.append(self._beat)
        self._response = max(self._beat + self._latency, self._response + 1)
        self._answered.append(self._response)
        return address, beats, self._response


def store_times(config: Config, latency: int, jobs: Sequence[tuple[int, Rows]]) -> list[StoreTimes]:
    """Times of a sequence of STOREs: for each the cycle of its semaphores, and what it moves."""
    clock = StoreClock(config, latency)
    return [clock.store(go, job) for go, job in jobs]
