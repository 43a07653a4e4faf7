"""How rows are split into bursts; the RTL twin is ``hdl/burst.py``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...hdl.burst import PAGE_BYTES


@dataclass(frozen=True)
class Rows:
    """What a LOAD or STORE moves: `rows` rows of `length` bytes from `addr`, `pitch` apart.

    `addr` and `pitch` are multiples of the bus width; only `addr` modulo a page matters for time.
    """

    addr: int
    length: int
    rows: int = 1
    pitch: int = 0


@lru_cache(1 << 14)
def row_beats(start: int, beats: int, page_beats: int, burst_beats: int) -> tuple[int, ...]:
    """Beats of each burst of a row of `beats` that begins `start` beats into a page."""
    out = []
    while beats:
        count = min(beats, burst_beats, page_beats - start % page_beats)
        out.append(count)
        start += count
        beats -= count
    return tuple(out)


def beats_of(job: Rows, bus_bytes: int, burst_beats: int) -> tuple[list[int], int]:
    """Beats of each burst of `job`, and the index of its last row's first burst."""
    page = PAGE_BYTES // bus_bytes
    beats = -(-job.length // bus_bytes)
    start, step = job.addr // bus_bytes % page, job.pitch // bus_bytes % page
    row = row_beats(start, beats, page, burst_beats)
    if not step or job.rows == 1:
        return list(row) * job.rows, len(row) * (job.rows - 1)
    out: list[int] = []
    last = 0
    for _ in range(job.rows):
        last = len(out)
        out += row_beats(start, beats, page, burst_beats)
        start = (start + step) % page
    return out, last


def split(job: Rows, bus_bytes: int, burst_beats: int) -> list[tuple[int, int]]:
    """(address, beats) of each burst of `job`."""
    page = PAGE_BYTES // bus_bytes
    beats = -(-job.length // bus_bytes)
    out = []
    for i in range(job.rows):
        addr = job.addr + i * job.pitch
        for count in row_beats(addr // bus_bytes % page, beats, page, burst_beats):
            out.append((addr, count))
            addr += count * bus_bytes
    return out
