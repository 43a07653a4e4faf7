"""WGT, PAR and TBL: written by the bus beat, read by the row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .ports import BeatWrite, RowRead
from .ram import Ram


class RowMemory(wiring.Component):
    """A memory of rows that is filled in bus beats, one of either a cycle.

    Row r holds the bytes from ``r · row_bytes`` on, beat b those from ``b · bus_bytes`` on. A row
    comes ROW_READ_LATENCY = 2 cycles after its request; a read requested in the cycle after a
    write, or later, sees it.

    Parameters
    ----------
    rows
        Number of rows; rows · row_bytes is a multiple of bus_bytes, and at least two of both.
    row_bytes, bus_bytes
        Bytes in a row and in a beat; powers of two.

    Ports
    -----
    write : BeatWrite
        From the memory's side.
    read : RowRead
        From the memory's side.
    """

    def __init__(self, *, rows: int, row_bytes: int, bus_bytes: int):
        for name, value in (("row_bytes", row_bytes), ("bus_bytes", bus_bytes)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value!r}")
        self._wide = max(row_bytes, bus_bytes)
        size = rows * row_bytes
        if size % self._wide or size < 2 * self._wide:
            raise ValueError(f"rows must fill at least two words of {self._wide} bytes: {rows!r}")
        self._depth = size // self._wide
        self._row_bytes = row_bytes
        self._bus_bytes = bus_bytes
        super().__init__(
            {
                "write": In(BeatWrite(size // bus_bytes, bus_bytes)),
                "read": In(RowRead(rows, row_bytes)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.ram = ram = Ram(width=8 * self._wide, depth=self._depth, granularity=8)
        write, read = self.write, self.read

        beats = self._wide // self._bus_bytes
        part_bits = (beats - 1).bit_length()
        part = write.addr[:part_bits]
        chosen = Cat(write.en & (part == k) for k in range(beats)) if beats > 1 else write.en
        m.d.comb += [
            ram.w_addr.eq(write.addr[part_bits:]),
            ram.w_data.eq(write.data.replicate(beats)),
            ram.w_en.eq(
                Cat(write.strobe & chosen[k].replicate(self._bus_bytes) for k in range(beats))
            ),
        ]

        rows = self._wide // self._row_bytes
        row_bits = (rows - 1).bit_length()
        m.d.comb += [ram.r_en.eq(read.en), ram.r_addr.eq(read.addr[row_bits:])]
        if rows > 1:
            place = Signal(row_bits, reset_less=True)
            m.d.sync += [
                place.eq(read.addr[:row_bits]),
                read.data.eq(ram.r_data.word_select(place, 8 * self._row_bytes)),
            ]
        else:
            m.d.sync += read.data.eq(ram.r_data)
        return m
