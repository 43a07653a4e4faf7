"""The WEIGHT unit: reads tiles from the weight scratchpad into the array's shadow weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .isa import Opcode
from .ports import ACT_READ_LATENCY, ROW_READ_LATENCY, RowRead, UnitPort
from .shift_add import times

if TYPE_CHECKING:
    from .config import Config

#: Cycles from a tile's decision to its first read.
DECIDE_STAGES = 1
#: Cycles from a vector's launch to its ACT read.
LAUNCH_STAGES = 1
#: Cycles from a tile's first launch to the decision on the next tile, which may not be earlier; and
#: by how much a tile's first launch may precede ``decision + rows``. It makes up for the different
#: latencies of activations and weights on their way to the array.
OFFSET = LAUNCH_STAGES + ACT_READ_LATENCY - DECIDE_STAGES - ROW_READ_LATENCY


class WeightUnit(wiring.Component):
    """Loads the tiles of MATMUL instructions, in order, one at a time, each ahead of its vectors.

    Let h be the first cycle in which an instruction is at the queue's head. It starts (`ready`) in
    the first cycle from h + 2 on in which `go` is up and every tile of the instruction before has
    been decided. The decision to load a tile falls in the cycle after the start or after the tile
    before, but not before OFFSET cycles after the first launch of the tile before. Decided in cycle
    c, its rows, the last one first, are read in cycles ``c + 1`` to ``c + rows``; its first vector
    may be launched in cycle ``c + rows − OFFSET`` or later. The instruction is done in the cycle in
    which its last row is read. `stall` is up while a tile waits for the array.

    Parameters
    ----------
    config
        `rows`, `cols`, and the size of the weight scratchpad.

    Ports
    -----
    unit : Out(UnitPort)
        Queue and semaphores. `post` is `weight_post`.
    wgt : Out(RowRead)
        Read port of the weight scratchpad.
    weights, load, load_first : Out
        To the array.
    loaded : Out(1)
        The next tile's first vector may be launched.
    launch : In(1)
        A tile's first vector is launched in this cycle; only while `loaded`.
    """

    def __init__(self, config: Config):
        self._rows = config.rows
        self._addr_bits = (config.wgt_rows - 1).bit_length()
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.MATMUL)),
                "wgt": Out(RowRead(config.wgt_rows, config.wgt_row_bytes)),
                "weights": Out(data.ArrayLayout(signed(8), config.cols)),
                "load": Out(1),
                "load_first": Out(1),
                "loaded": Out(1),
                "launch": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self._rows
        head = self.unit.instr.payload.word

        # Reduction length of the head, two cycles after it came.
        window = Signal(20)
        length = Signal(24)
        age = Signal(range(3))
        m.d.sync += [window.eq(times(head.kc, head.kx)), length.eq(times(window, head.ky))]
        with m.If(self.unit.instr.ready | ~self.unit.instr.valid):
            m.d.sync += age.eq(0)
        with m.Elif(age != 2):
            m.d.sync += age.eq(age + 1)

        waiting = Signal()  # there are tiles to decide on
        free = Signal(init=1)  # the shadow weights may be overwritten
        decide = Signal()
        final = Signal()  # the tile to decide on is the instruction's last
        over = Signal()  # the next instruction may start
        k_length = Signal.like(length)
        k_left = Signal.like(length)
        block_end = Signal()  # k_left ≤ rows
        blocks_last = Signal()  # blocks_left is 1
        blocks_left = Signal.like(head.blocks)
        post = Signal(2)
        addr = Signal(self._addr_bits)  # first row of the tile to decide on
        m.d.comb += [
            decide.eq(waiting & free),
            final.eq(block_end & blocks_last),
            over.eq(~waiting | (free & final)),
            self.unit.instr.ready.eq(self.unit.instr.valid & self.unit.go & (age == 2) & over),
        ]
        with m.If(decide):
            m.d.sync += addr.eq(addr + rows)
            with m.If(block_end):
                m.d.sync += [
                    k_left.eq(k_length),
                    block_end.eq(k_length <= rows),
                    blocks_left.eq(blocks_left - 1),
                    blocks_last.eq(blocks_left == 2),
                ]
            with m.Else():
                m.d.sync += [k_left.eq(k_left - rows), block_end.eq(k_left <= 2 * rows)]
            with m.If(final):
                m.d.sync += waiting.eq(0)
        with m.If(self.unit.instr.ready):
            m.d.sync += waiting.eq(1)
        with m.If(over):
            m.d.sync += [
                k_length.eq(length),
                k_left.eq(length),
                block_end.eq(length <= rows),
                blocks_left.eq(head.blocks),
                blocks_last.eq(head.blocks == 1),
                post.eq(head.weight_post),
                addr.eq(head.wgt),
            ]

        reading = Signal()
        first = Signal()
        left = Signal(range(rows))  # rows to read after this one
        row = Signal(self._addr_bits)
        last_tile = Signal()
        done_post = Signal(2)
        with m.If(reading):
            m.d.sync += [first.eq(0), left.eq(left - 1), row.eq(row - 1)]
            with m.If(left == 0):
                m.d.sync += reading.eq(0)
        with m.If(decide):
            m.d.sync += [
                reading.eq(1),
                first.eq(1),
                left.eq(rows - 1),
                row.eq(addr + (rows - 1)),
                last_tile.eq(final),
                done_post.eq(post),
            ]

        # The tile may be used OFFSET cycles before the cycle after its last read.
        reached = decide if rows == OFFSET + 1 else reading & (left == OFFSET + 1)
        with m.If(self.launch):
            m.d.sync += self.loaded.eq(0)
        with m.If(reached):
            m.d.sync += self.loaded.eq(1)
        with m.If(decide):
            m.d.sync += free.eq(0)
        with m.If(delay(m, self.launch, OFFSET - 1, name="launch")):
            m.d.sync += free.eq(1)

        m.d.comb += [
            self.wgt.en.eq(reading),
            self.wgt.addr.eq(row),
            self.load.eq(delay(m, reading, ROW_READ_LATENCY, name="load")),
            self.load_first.eq(delay(m, first, ROW_READ_LATENCY, name="load_first")),
            self.weights.as_value().eq(self.wgt.data),
            self.unit.done.eq(reading & (left == 0) & last_tile),
            self.unit.post.eq(Mux(self.unit.done, done_post, 0)),
            self.unit.busy.eq(waiting | reading),
            self.unit.stall.eq(waiting & ~reading),
        ]
        return m
