"""The MATMUL unit: streams the activations of every tile into the array, a vector a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from .accumulator import RMW_LATENCY, AccControl
from .config import pow2_ceil
from .delay import delay
from .isa import Opcode
from .planner import LanePlan, Planner
from .ports import ACT_ADDR_BITS, ACT_READ_LATENCY, ActRead, UnitPort
from .shift_add import times
from .weight_unit import LAUNCH_STAGES

if TYPE_CHECKING:
    from .config import Config

#: Width of input coordinates.
COORDINATE_BITS = 16


def instructions_in_flight(config: Config) -> int:
    """Most MATMUL instructions that are started and not done, as a power of two."""
    # Those whose last vector is between launch and the last column's write, at least `rows` cycles
    # apart, and one that has not launched its last.
    pipeline = LAUNCH_STAGES + ACT_READ_LATENCY + config.rows + config.cols + 2
    return pow2_ceil(-(-pipeline // config.rows) + 1)


class MatmulUnit(wiring.Component):
    """Planner and streamer.

    An instruction starts (`ready`) in the cycle in which its first tile's plan is taken: the plan
    is ready, `go` is up, and the tile before launches its last vector or has done so. Further tiles
    are taken likewise. A tile's vectors are launched in consecutive cycles, y outermost: the first
    in the cycle after the tile was taken, but not before `loaded`, nor, if it reads its accumulator
    entry, before RMW_LATENCY cycles after the launch of the last vector into this entry. A vector
    launched in cycle g reads ACT in cycle g + 1 and enters the array in cycle g + 6; its `control`
    comes `rows` cycles later, and if it is the instruction's last, `retired` is due
    ``g + rows + cols + 8``, when the instruction is done. `stall` is up while an instruction has
    vectors to launch and launches none: it waits for weights, a plan or an accumulator.

    Parameters
    ----------
    config
        Sizes of array and memories.

    Ports
    -----
    unit : Out(UnitPort)
        Queue and semaphores.
    act : Out(ActRead)
        Read port of the activation scratchpad.
    vector : Out(ArrayLayout(signed(8), rows))
        Activations for the array, zero in lanes beyond the reduction length.
    swap : Out(1)
        `vector` is its tile's first.
    control : Out(AccControl)
        For the accumulators.
    retired : In(1)
        From the accumulators: the oldest instruction's results are written.
    loaded : In(1)
        The next tile's weights will be in time.
    launch : Out(1)
        A tile's first vector is launched in this cycle.
    vectors : Out(1)
        ACT is read for a vector in this cycle.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.MATMUL)),
                "act": Out(ActRead(config, config.rows, jumps=True)),
                "vector": Out(data.ArrayLayout(signed(8), config.rows)),
                "swap": Out(1),
                "control": Out(AccControl(config)),
                "retired": In(1),
                "loaded": In(1),
                "launch": Out(1),
                "vectors": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        rows = config.rows
        head = self.unit.instr.payload.word
        m.submodules.planner = planner = Planner(config)
        plan = planner.plan

        # The instruction that is streaming, and what it is once a tile is taken.
        job = Signal.like(head)
        row_step = Signal(ACT_ADDR_BITS)
        pixel_step = Signal(ACT_ADDR_BITS)
        active = Signal()  # it has vectors to launch
        over = Signal()  # it has none after this cycle
        next_job = Signal.like(head)

        # The tile that is streaming, and its next vector.
        streaming = Signal()
        lanes = Signal(data.ArrayLayout(LanePlan(config), rows))
        first = Signal()
        last_tile = Signal()
        reads = Signal()
        y_left = Signal.like(head.oy)
        x_left = Signal.like(head.ox)
        y_last = Signal()  # y_left is 1
        x_last = Signal()
        y_start = Signal(ACT_ADDR_BITS)
        base = Signal(ACT_ADDR_BITS)
        row = Signal(signed(COORDINATE_BITS))
        col = Signal(signed(COORDINATE_BITS))
        entry_bits = (config.acc_depth - 1).bit_length()
        entry = Signal(entry_bits)
        block_entry = Signal(entry_bits)

        launch = Signal(name="launching")
        tile_end = Signal()
        free = Signal()  # no tile streams after this cycle, unless one is taken
        freeing = Signal(init=1)  # so it is, whether or not a vector is launched in this cycle
        alone = Signal()  # so it is if a vector is launched: the tile's first and last one
        take = Signal()
        start = Signal()
        held = Signal()
        tile_reads = Signal()  # the tile to be taken adds to the accumulators
        m.d.comb += [
            launch.eq(streaming & ~(first & (~self.loaded | held))),
            free.eq(freeing | (alone & self.loaded & ~held)),
            tile_end.eq(streaming & free),
            start.eq(take & plan.first),
            take.eq(planner.ready & free & (~plan.first | (self.unit.instr.valid & self.unit.go))),
            planner.valid.eq(self.unit.instr.valid),
            planner.word.eq(head),
            planner.start.eq(start),
            planner.take.eq(take),
            self.unit.instr.ready.eq(start),
            self.unit.stall.eq(active & ~launch),
            self.launch.eq(launch & first),
            next_job.eq(Mux(over, head.as_value(), job.as_value())),
            over.eq(~active | (last_tile & tile_end)),
            tile_reads.eq(~plan.block_first | Mux(plan.first, head.accumulate, job.accumulate)),
        ]
        m.d.sync += job.eq(next_job)

        after_entry = Signal(entry_bits)
        next_entry = Signal(entry_bits)
        m.d.comb += [
            after_entry.eq(entry + 1),
            next_entry.eq(Mux(launch, after_entry, entry)),
        ]
        m.d.sync += entry.eq(next_entry)
        with m.If(launch):
            m.d.sync += first.eq(0)
            with m.If(~x_last):
                m.d.sync += [
                    x_left.eq(x_left - 1),
                    x_last.eq(x_left == 2),
                    base.eq(base + pixel_step),
                    col.eq(col + job.sx),
                ]
            with m.Else():
                m.d.sync += [
                    x_left.eq(job.ox),
                    x_last.eq(job.ox == 1),
                    y_left.eq(y_left - 1),
                    y_last.eq(y_left == 2),
                    y_start.eq(y_start + row_step),
                    base.eq(y_start + row_step),
                    col.eq(job.ix0),
                    row.eq(row + job.sy),
                ]
            # With y_last and x_last as they come.
            final_x = Mux(x_last, job.ox == 1, x_left == 2)
            final_y = Mux(x_last, y_left == 2, y_last)
            m.d.sync += [freeing.eq(free | (final_x & final_y)), alone.eq(0)]
        with m.If(tile_end):
            m.d.sync += streaming.eq(0)
            with m.If(last_tile):
                m.d.sync += active.eq(0)

        one_row = Mux(plan.first, head.oy == 1, job.oy == 1)
        one_col = Mux(plan.first, head.ox == 1, job.ox == 1)
        # Between tiles these take what the planner offers, the last time with `take`.
        with m.If(free):
            m.d.sync += [
                lanes.eq(plan.lanes),
                y_left.eq(Mux(plan.first, head.oy, job.oy)),
                x_left.eq(Mux(plan.first, head.ox, job.ox)),
                y_last.eq(one_row),
                x_last.eq(one_col),
                y_start.eq(plan.base),
                base.eq(plan.base),
                row.eq(Mux(plan.first, head.iy0, job.iy0)),
                col.eq(Mux(plan.first, head.ix0, job.ix0)),
            ]
        with m.If(take):
            tile_entry = Mux(start, head.acc, Mux(plan.block_first, next_entry, block_entry))
            m.d.sync += [
                streaming.eq(1),
                freeing.eq(0),
                alone.eq(one_row & one_col),
                first.eq(1),
                last_tile.eq(plan.last),
                reads.eq(tile_reads),
                entry.eq(tile_entry),
                block_entry.eq(tile_entry),
            ]
        with m.If(start):
            m.d.sync += active.eq(1)
        with m.If(over):
            m.d.sync += [
                row_step.eq(times(head.row_pitch, head.sy)),
                pixel_step.eq(times(head.pixel_pitch, head.sx)),
            ]

        # An entry that a tile reads first may be in flight from the end of the tile before: held is
        # whether the next vector's entry is one of those launched last. It is worked out a cycle
        # ahead for each entry that may come next.
        in_flight = [(launch, entry)]
        past = []  # those of cycles before, and what comes before them
        for k in range(1, RMW_LATENCY - 1):
            before, before_at = Signal(name=f"launched_{k}"), Signal(entry_bits, name=f"entry_{k}")
            under = Signal(entry_bits, init=-1, name=f"under_{k}")
            m.d.sync += [
                before.eq(in_flight[-1][0]),
                before_at.eq(in_flight[-1][1]),
                under.eq(past[-1][1] if past else entry - 1),
            ]
            in_flight.append((before, before_at))
            past.append((before, under))

        def clashes(value, entries=in_flight):
            return Cat(launched & (at == value) for launched, at in entries).any()

        ahead = Mux(launch, clashes(entry, past), clashes(entry, in_flight[1:]))
        at_start = clashes(head.acc[:entry_bits])
        at_tile = Mux(plan.first, at_start, Mux(plan.block_first, ahead, clashes(block_entry)))
        m.d.sync += held.eq(Mux(take, tile_reads & at_tile, reads & ahead))

        self._read(m, launch, lanes, base, row, col, job)

        array_stages = LAUNCH_STAGES + ACT_READ_LATENCY
        valid = delay(m, Cat(lane.valid for lane in lanes), array_stages, name="lanes")
        control = Signal(AccControl(config))
        m.d.comb += [
            control.valid.eq(launch),
            control.last.eq(last_tile & tile_end),
            control.overwrite.eq(~reads),
            control.entry.eq(entry),
            self.swap.eq(delay(m, self.launch, array_stages, name="swap")),
            self.control.as_value().eq(
                delay(m, control.as_value(), array_stages + rows, name="control")
            ),
        ]
        for i in range(rows):
            m.d.comb += self.vector[i].eq(Mux(valid[i], self.act.data[i].as_signed(), 0))

        m.submodules.posts = posts = fifo.SyncFIFO(width=8, depth=instructions_in_flight(config))
        posted = Signal()  # there are some
        m.d.sync += posted.eq(posts.w_en | (posts.level != posts.r_en))
        m.d.comb += [
            posts.w_en.eq(control.last),
            posts.w_data.eq(job.post),
            posts.r_en.eq(self.retired),
            self.unit.done.eq(self.retired),
            self.unit.post.eq(Mux(self.retired, posts.r_data, 0)),
            self.unit.busy.eq(active | posted),
        ]
        return m

    def _read(self, m: Module, launch, lanes, base, row, col, job) -> None:
        """The ACT read of the vector that is launched, one cycle later."""
        act = self.act
        m.d.sync += act.en.eq(launch)
        m.d.sync += [act.base.eq(base), act.fill.eq(job.fill)]
        for i in range(self._config.rows):
            lane = lanes[i]
            lane_row = Signal(COORDINATE_BITS, name=f"row_{i}")
            lane_col = Signal(COORDINATE_BITS, name=f"col_{i}")
            # Negative coordinates are large ones without sign.
            m.d.comb += [lane_row.eq(row + lane.row), lane_col.eq(col + lane.col)]
            m.d.sync += [
                act.mask[i].eq(lane.valid & (lane_row < job.height) & (lane_col < job.width)),
                act.jump[i].eq(lane.jump),
            ]
        m.d.comb += self.vectors.eq(act.en)
