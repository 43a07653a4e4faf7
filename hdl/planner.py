"""The planner: what each lane of the next reduction tile reads, worked out a lane a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .isa import Opcode
from .ports import ACT_ADDR_BITS, instruction_layout
from .shift_add import times

if TYPE_CHECKING:
    from .config import Config

#: Width of a lane's coordinate offset: 14 · 15 at most.
OFFSET_BITS = 8


class LanePlan(data.StructLayout):
    """What a lane reads: word jump, coordinate offsets in the window, and whether k < K."""

    def __init__(self, config: Config):
        super().__init__(
            {
                "jump": (config.act_words - 1).bit_length(),
                "row": OFFSET_BITS,
                "col": OFFSET_BITS,
                "valid": 1,
            }
        )


class TilePlan(data.StructLayout):
    """A reduction tile: ACT address of its lane 0 at output (0, 0), its lanes, and its place.

    `first` and `last` say that it is the instruction's first or last tile, `block_first` that it is
    its block's first.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "base": ACT_ADDR_BITS,
                "first": 1,
                "block_first": 1,
                "last": 1,
                "lanes": data.ArrayLayout(LanePlan(config), config.rows),
            }
        )


class Planner(wiring.Component):
    """Walks k → (ky, kx, c), one lane a cycle, tile by tile, block by block.

    An instruction is looked up in the cycle in which it is at the queue's head and the last lane of
    the instruction before has been (or is being) planned. Its first lane is planned from the next
    cycle on, but not before the plan of the tile before is taken; it may be in the same cycle as
    `take`. A plan is ready in the cycle after its last lane, ``rows`` cycles after the first.

    Parameters
    ----------
    config
        `rows` and the size of ACT.

    Ports
    -----
    valid, word : In
        Head of the queue.
    start : In(1)
        The head starts in this cycle (and leaves the queue).
    plan : Out(TilePlan)
        The next tile.
    ready : Out(1)
        It is complete.
    take : In(1)
        It is taken in this cycle; only while `ready`.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "word": In(instruction_layout(Opcode.MATMUL)),
                "start": In(1),
                "plan": Out(TilePlan(config)),
                "ready": Out(1),
                "take": In(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        rows, word_shift = config.rows, (config.act_lanes - 1).bit_length()
        head = self.word

        # The instruction that is being planned.
        job = Signal.like(head)
        col_step = Signal(ACT_ADDR_BITS)
        row_step = Signal(ACT_ADDR_BITS)
        blocks_left = Signal.like(head.blocks)
        looked_up = Signal()  # the head is the instruction that is, or was, planned

        # The lane that is being planned.
        walking = Signal()
        lane = Signal(range(rows))
        lane_first = Signal(init=1)
        lane_last = Signal()
        beyond = Signal()  # k ≥ K
        c_left = Signal.like(head.kc)
        kx_left = Signal.like(head.kx)
        ky_left = Signal.like(head.ky)
        c_last = Signal()  # c_left is 1
        kx_last = Signal()
        ky_last = Signal()
        blocks_last = Signal()
        koff = Signal(ACT_ADDR_BITS)
        at_pixel = Signal(ACT_ADDR_BITS)  # koff where c is 0
        at_row = Signal(ACT_ADDR_BITS)  # koff where c and kx are 0
        linear = Signal(ACT_ADDR_BITS)
        row = Signal(OFFSET_BITS)
        col = Signal(OFFSET_BITS)
        first = Signal()
        block_first = Signal()

        goes = Signal()  # walking, and no plan waits
        waits = Signal()  # walking, and a plan waits
        write = Signal()
        write_last = Signal()
        k_last = Signal()
        block_end = Signal()
        final = Signal()
        lookup = Signal()
        m.d.comb += [
            write.eq(goes | (waits & self.take)),
            # A plan that waits to be taken holds up lane 0 of the next, and no other lane.
            write_last.eq(walking & lane_last),
            k_last.eq(c_last & kx_last & ky_last),
            block_end.eq(k_last | beyond),
            final.eq(block_end & blocks_last),
            lookup.eq(self.valid & ~looked_up & (~walking | (write_last & final))),
        ]

        # Lanes shift in from the top; lane 0 has arrived at the bottom when the last one comes.
        new = Signal(LanePlan(config))
        expected = Mux(lane_first, koff, linear)
        m.d.comb += [
            new.jump.eq((koff - expected)[word_shift:]),
            new.row.eq(row),
            new.col.eq(col),
            new.valid.eq(~beyond),
        ]
        lanes = self.plan.lanes.as_value()
        with m.If(self.take):
            m.d.sync += self.ready.eq(0)
        with m.If(write):
            m.d.sync += [
                lanes.eq(Cat(lanes, new)[len(new.as_value()) :]),
                linear.eq(expected + 1),
                lane.eq(lane + 1),
                lane_first.eq(0),
                lane_last.eq(lane == rows - 2),
            ]
            with m.If(lane_first):
                m.d.sync += [
                    self.plan.base.eq(job.act + koff),
                    self.plan.first.eq(first),
                    self.plan.block_first.eq(block_first),
                ]
            with m.If(~beyond):
                with m.If(~c_last):
                    m.d.sync += [
                        c_left.eq(c_left - 1),
                        c_last.eq(c_left == 2),
                        koff.eq(koff + 1),
                    ]
                with m.Elif(~kx_last):
                    m.d.sync += [
                        c_left.eq(job.kc),
                        c_last.eq(job.kc == 1),
                        kx_left.eq(kx_left - 1),
                        kx_last.eq(kx_left == 2),
                        col.eq(col + job.dx),
                        koff.eq(at_pixel + col_step),
                        at_pixel.eq(at_pixel + col_step),
                    ]
                with m.Elif(~ky_last):
                    m.d.sync += [
                        c_left.eq(job.kc),
                        c_last.eq(job.kc == 1),
                        kx_left.eq(job.kx),
                        kx_last.eq(job.kx == 1),
                        ky_left.eq(ky_left - 1),
                        ky_last.eq(ky_left == 2),
                        col.eq(0),
                        row.eq(row + job.dy),
                        koff.eq(at_row + row_step),
                        at_pixel.eq(at_row + row_step),
                        at_row.eq(at_row + row_step),
                    ]
                with m.Else():
                    m.d.sync += beyond.eq(1)
        with m.If(write_last):
            m.d.sync += [
                self.ready.eq(1),
                self.plan.last.eq(final),
                lane.eq(0),
                lane_first.eq(1),
                lane_last.eq(0),
                first.eq(0),
                block_first.eq(block_end),
            ]
            with m.If(block_end):
                m.d.sync += [blocks_left.eq(blocks_left - 1), blocks_last.eq(blocks_left == 2)]
            with m.If(final):
                m.d.sync += walking.eq(0)

        next_job = Signal.like(head)
        # Without a lane to plan, the head is taken in every cycle; the last time is at its lookup.
        rests = ~walking | (write_last & final)
        m.d.comb += next_job.eq(Mux(rests, head.as_value(), job.as_value()))
        m.d.sync += job.eq(next_job)
        with m.If(rests):
            m.d.sync += [
                blocks_left.eq(head.blocks),
                blocks_last.eq(head.blocks == 1),
                col_step.eq(times(head.pixel_pitch, head.dx)),
                row_step.eq(times(head.row_pitch, head.dy)),
            ]
        with m.If(~walking | (write_last & block_end)):
            m.d.sync += [
                beyond.eq(0),
                c_left.eq(next_job.kc),
                kx_left.eq(next_job.kx),
                ky_left.eq(next_job.ky),
                c_last.eq(Mux(rests, head.kc == 1, job.kc == 1)),
                kx_last.eq(Mux(rests, head.kx == 1, job.kx == 1)),
                ky_last.eq(Mux(rests, head.ky == 1, job.ky == 1)),
                row.eq(0),
                col.eq(0),
                koff.eq(0),
                at_pixel.eq(0),
                at_row.eq(0),
            ]
        with m.If(lookup):
            m.d.sync += [
                walking.eq(1),
                looked_up.eq(1),
                first.eq(1),
                block_first.eq(1),
            ]
        with m.If(self.start):
            m.d.sync += looked_up.eq(0)

        walks_on = lookup | (walking & ~(write_last & final))
        stays_ready = write_last | (self.ready & ~self.take)
        m.d.sync += [goes.eq(walks_on & ~stays_ready), waits.eq(walks_on & stays_ready)]
        return m
