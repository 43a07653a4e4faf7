"""WGT, PAR and TBL: written by the bus beat, read by the row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .parity import protect, strip, wrong
from .ports import ROW_READ_LATENCY, BeatWrite, RowRead
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
    parity
        Whether every byte has a parity bit.

    Ports
    -----
    write : BeatWrite
        From the memory's side.
    read : RowRead
        From the memory's side.
    wrong : Out(1)
        A byte of the row that came in the cycle before has the wrong parity.
    """

    def __init__(self, *, rows: int, row_bytes: int, bus_bytes: int, parity: bool = False):
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
        self._parity = parity
        super().__init__(
            {
                "write": In(BeatWrite(size // bus_bytes, bus_bytes)),
                "read": In(RowRead(rows, row_bytes)),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        byte = 8 + self._parity
        m.submodules.ram = ram = Ram(width=byte * self._wide, depth=self._depth, granularity=byte)
        write, read = self.write, self.read

        beats = self._wide // self._bus_bytes
        part_bits = (beats - 1).bit_length()
        part = write.addr[:part_bits]
        chosen = Cat(write.en & (part == k) for k in range(beats)) if beats > 1 else write.en
        m.d.comb += [
            ram.w_addr.eq(write.addr[part_bits:]),
            ram.w_data.eq(
                (protect(write.data, 8) if self._parity else write.data).replicate(beats)
            ),
            ram.w_en.eq(
                Cat(write.strobe & chosen[k].replicate(self._bus_bytes) for k in range(beats))
            ),
        ]

        rows = self._wide // self._row_bytes
        row_bits = (rows - 1).bit_length()
        m.d.comb += [ram.r_en.eq(read.en), ram.r_addr.eq(read.addr[row_bits:])]
        row = Signal(byte * self._row_bytes, reset_less=True)
        if rows > 1:
            place = Signal(row_bits, reset_less=True)
            m.d.sync += [
                place.eq(read.addr[:row_bits]),
                row.eq(ram.r_data.word_select(place, byte * self._row_bytes)),
            ]
        else:
            m.d.sync += row.eq(ram.r_data)
        m.d.comb += read.data.eq(strip(row, 8) if self._parity else row)
        if self._parity:
            came = delay(m, read.en, ROW_READ_LATENCY, name="came")
            m.d.sync += self.wrong.eq(came & wrong(row, 8).any())
        return m
