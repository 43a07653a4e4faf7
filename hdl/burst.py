"""The burst splitter: a two-dimensional transfer becomes AXI bursts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .isa import FORMATS, Opcode
from .ports import PC_BITS, SEGMENT_BITS, BurstRequest, Fault
from .registers import Error

if TYPE_CHECKING:
    from .config import Config

#: AXI bursts must not cross a multiple of this many bytes.
PAGE_BYTES = 4096
#: Widths of a transfer's fields: those of the instructions.
FIELD_BITS = {entry.name: entry.bits for entry in FORMATS[Opcode.LOAD]}


class Transfer(data.StructLayout):
    """Rows of `length` bytes, `pitch` bytes apart, from `offset` in the window (`base`, `size`) of
    a segment.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "base": config.addr_bits,
                "size": FIELD_BITS["offset"],
                "offset": FIELD_BITS["offset"],
                "length": FIELD_BITS["length"],
                "rows": FIELD_BITS["rows"],
                "pitch": FIELD_BITS["dram_pitch"],
                "segment": SEGMENT_BITS,
                "pc": PC_BITS,
            }
        )


class Burst(data.StructLayout):
    """A burst, and whether it ends its row, its transfer."""

    def __init__(self, config: Config):
        super().__init__({"request": BurstRequest(config), "row_end": 1, "end": 1})


class BurstSplitter(wiring.Component):
    """Splits transfers into bursts at `burst_beats` (counted from the row's start) and at 4 KiB.

    A transfer accepted in cycle s offers its first burst in cycle s + 3. From then on it offers a
    burst in every cycle in which the last one was taken, across rows too. The next transfer is
    accepted from the cycle after the one in which the last row entered the burst stage: transfers
    of one burst each follow every second cycle.

    Three stages: the row stage holds one row's address and end, the burst stage what is left of a
    row, and the output two bursts. A row enters the burst stage in the cycle after it entered the
    row stage at the earliest, and in the very cycle in which its predecessor's last burst leaves.
    A burst leaves for the output in the first cycle in which the output, as it was before that
    cycle, holds fewer than two; it is offered in the next.

    A row whose own bytes leave the window (offset + i·pitch + length > size) yields no burst;
    `fault` rises in the cycle after it entered the burst stage and stays, and nothing more is
    issued, until reset. Bursts of earlier rows are not affected. The same happens where a row
    leaves the address space, at its first burst beyond.

    Parameters
    ----------
    config
        The machine.
    burst_beats
        Longest burst, a power of two of at most 4096 bytes.

    Ports
    -----
    transfer : In(stream of Transfer)
        `base + offset` and `pitch` are multiples of bus_bytes, `length` and `rows` at least 1;
        `ready` depends on registers only.
    burst : Out(stream of Burst)
        From a register; may be held by `ready`.
    fault : Out(Fault)
        WINDOW; stays until reset.
    """

    def __init__(self, config: Config, *, burst_beats: int):
        most = PAGE_BYTES // config.bus_bytes
        if burst_beats < 2 or burst_beats & (burst_beats - 1) or burst_beats > min(most, 256):
            raise ValueError(
                f"burst_beats must be a power of two from 2 to {min(most, 256)}, "
                f"not {burst_beats!r}"
            )
        self._config = config
        self._burst_beats = burst_beats
        super().__init__(
            {
                "transfer": In(stream.Signature(Transfer(config))),
                "burst": Out(stream.Signature(Burst(config))),
                "fault": Out(Fault()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        shift = (config.bus_bytes - 1).bit_length()
        page_bits = (PAGE_BYTES // config.bus_bytes - 1).bit_length()
        burst_bits = (self._burst_beats - 1).bit_length()

        # Row stage: the next row to split.
        new = self.transfer.payload
        row_valid = Signal()
        vacant = Signal(init=1)  # not row_valid
        row_addr = Signal(config.addr_bits + 1)  # the highest bit: beyond the address space
        # A legal offset, pitch and length add to less than two more bits.
        row_end = Signal(len(new.offset) + 2)
        row_beats = Signal(len(new.length) - shift)
        rows_left = Signal.like(new.rows)
        pitch = Signal.like(new.pitch)
        size = Signal.like(new.size)
        row_segment = Signal(SEGMENT_BITS)
        row_pc = Signal(PC_BITS)
        load = Signal()
        take = Signal()
        m.d.comb += [
            self.transfer.ready.eq(vacant),
            load.eq(self.transfer.valid & self.transfer.ready),
        ]
        with m.If(load):
            m.d.sync += [row_valid.eq(1), vacant.eq(0)]
        with m.Elif(take):
            m.d.sync += [row_valid.eq(rows_left != 0), vacant.eq(rows_left == 0)]
        # An empty stage takes what is offered, whether or not it is valid.
        with m.If(~row_valid):
            m.d.sync += [
                row_beats.eq((new.length - 1)[shift : len(new.length)]),
                rows_left.eq(new.rows - 1),
                pitch.eq(new.pitch),
                size.eq(new.size),
                row_segment.eq(new.segment),
                row_pc.eq(new.pc),
            ]
        with m.Elif(take):
            m.d.sync += rows_left.eq(rows_left - 1)
        with m.If(~row_valid | take):
            m.d.sync += [
                row_addr.eq(Mux(row_valid, row_addr, new.base) + Mux(row_valid, pitch, new.offset)),
                row_end.eq(Mux(row_valid, row_end, new.offset) + Mux(row_valid, pitch, new.length)),
            ]

        # Burst stage: what is left of a row.
        valid = Signal()
        in_window = Signal()
        legal = Signal()
        addr = Signal(config.addr_bits + 1)
        left = Signal.like(row_beats)
        final_row = Signal()
        segment = Signal(SEGMENT_BITS)
        pc = Signal(PC_BITS)
        to_page = Signal(page_bits)  # beats minus one to the page's end
        room = Signal(burst_bits)  # beats minus one of a burst that is not the last
        last = Signal()  # left ≤ room
        emit = Signal()
        spare_valid = Signal()
        m.d.comb += [
            legal.eq(in_window & ~addr[-1]),
            emit.eq(valid & legal & ~spare_valid),
            take.eq(row_valid & (~valid | (emit & last))),
            self.fault.valid.eq(valid & ~legal),
            self.fault.code.eq(Error.WINDOW),
            self.fault.pc.eq(pc),
        ]
        # A full burst within a page leaves the lower bits of `to_page` as they are; any other that
        # is not the last ends at the page's end, and a whole page follows.
        full = self._burst_beats
        low, pages = to_page[:burst_bits], to_page[burst_bits:]
        row_to_page = Signal(page_bits)
        row_room = Signal(burst_bits)
        next_room = Signal(burst_bits)
        next_last = Signal()
        m.d.comb += [
            row_to_page.eq(~row_addr[shift : shift + page_bits]),
            row_room.eq(
                row_to_page[:burst_bits] | row_to_page[burst_bits:].any().replicate(burst_bits)
            ),
            next_room.eq(low | (pages != 1).replicate(burst_bits)),
            next_last.eq(left <= Mux(pages <= 1, low + full, 2 * full - 1)),
        ]
        with m.If(take):
            m.d.sync += [to_page.eq(row_to_page), room.eq(row_room), last.eq(row_beats <= row_room)]
        with m.Elif(emit):
            ended = ~pages.any()
            m.d.sync += [
                to_page.eq(Cat(low | ended.replicate(burst_bits), pages - 1)),
                room.eq(next_room),
                last.eq(next_last),
            ]
        with m.If(take):
            m.d.sync += [
                valid.eq(1),
                in_window.eq(row_end <= size),
                addr.eq(row_addr),
                left.eq(row_beats),
                final_row.eq(rows_left == 0),
                segment.eq(row_segment),
                pc.eq(row_pc),
            ]
        with m.Elif(emit):
            m.d.sync += [
                valid.eq(~last),
                addr[shift:].eq(addr[shift:] + room + 1),
                left.eq(left - room - 1),
            ]

        # Output register, and a spare one so that nothing above waits for `burst.ready`.
        new_burst = Signal(Burst(config))
        spare = Signal(Burst(config))
        m.d.comb += [
            new_burst.request.addr.eq(addr),
            new_burst.request.len.eq(Mux(last, left, room)),
            new_burst.request.segment.eq(segment),
            new_burst.request.pc.eq(pc),
            new_burst.row_end.eq(last),
            new_burst.end.eq(last & final_row),
        ]
        with m.If(~self.burst.valid | self.burst.ready):
            m.d.sync += [
                self.burst.valid.eq(spare_valid | emit),
                self.burst.payload.eq(Mux(spare_valid, spare, new_burst)),
                spare_valid.eq(0),
            ]
        with m.Elif(emit):
            m.d.sync += [spare.eq(new_burst), spare_valid.eq(1)]
        return m
