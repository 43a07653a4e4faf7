"""VECTOR: executes DRAIN and POOL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .isa import Opcode, Reduce
from .numerics import PARAMETER_BYTES
from .parameter_fetch import ParameterFetch
from .ports import (
    ACC_READ_LATENCY,
    ACT_ADDR_BITS,
    ACT_READ_LATENCY,
    JUMP_LEAD,
    JUMP_SETUP,
    ROW_READ_LATENCY,
    AccRead,
    ActRead,
    ActWrite,
    BeatWrite,
    RowRead,
    UnitPort,
    instruction_layout,
)
from .requantizer import PARAMETER_HOLD
from .shift_add import times
from .table_lookup import TABLE_LATENCY, TableLookup
from .vector_lane import LANE_LATENCY, VectorLane
from .window_walk import Affine, Loops

if TYPE_CHECKING:
    from .config import Config

#: Cycles from `load` of a group to the fetch of the next group's first parameter entry.
RELEASE = PARAMETER_HOLD - ROW_READ_LATENCY

#: The fields that the loops over source elements count, outermost first.
LOOPS = ("channels", "oy", "ox", "ry", "rx")

# A residual is read together with its window's last ACC entry and arrives when a lane wants it.
assert ACT_READ_LATENCY == ACC_READ_LATENCY + 2
# `dst_jump` is known two cycles after the start, the first result an ACC read and a lane later.
assert ACC_READ_LATENCY + LANE_LATENCY - JUMP_LEAD >= JUMP_SETUP


def result_latency(config: Config) -> int:
    """Cycles from the arrival of a window's last element to the write of its result."""
    return LANE_LATENCY + (TABLE_LATENCY if config.tables else 0)


class VectorUnit(wiring.Component):
    """Reads windows of ACC or ACT, reduces, requantizes and writes them, `vector_lanes` at a time.

    One instruction at a time. Started in cycle 0, it requests parameter entries from cycle 1 on,
    one a cycle. A group's first source element is requested in the cycle of its last entry, at
    the earliest in cycle 2 and right after the group before; then follows one element a cycle.
    The entries of the next group are requested from the seventh cycle after that on in which the
    first window's last element arrived. A result is written :func:`result_latency` cycles after
    its window's last element arrived, through a table or not; `done` comes with the last write.
    `weft.host.timing.vector.duration` is this in numbers.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    unit : UnitPort(DRAIN, POOL)
        Instructions; `stall` is never set.
    acc : AccRead
        Sources of DRAIN.
    act : ActRead
        Sources of POOL, residuals of DRAIN.
    par : RowRead
        Parameters.
    tbl : BeatWrite
        LOAD's writes to the tables, from their side; only where there are tables.
    out : ActWrite
        Results; with jumps.
    wrong : Out(1)
        A table's entry that was used has the wrong parity.
    """

    def __init__(self, config: Config):
        self._config = config
        bus = config.bus_bytes
        tables = {"tbl": In(BeatWrite(config.tbl_bytes // bus, bus))} if config.tables else {}
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.DRAIN, Opcode.POOL)),
                "acc": Out(AccRead(config)),
                "act": Out(ActRead(config, config.vector_lanes)),
                "par": Out(RowRead(config.par_entries, PARAMETER_BYTES)),
                "out": Out(ActWrite(config, config.vector_lanes, jumps=True)),
                "wrong": Out(1),
                **tables,
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes = self._config.vector_lanes
        unit = self.unit

        # The instruction, and what DRAIN and POOL have in common of it.
        word = Signal(instruction_layout(Opcode.DRAIN, Opcode.POOL))
        pool = Signal()
        busy = Signal()
        idle = Signal(init=1)  # not busy, for the many that wait for an instruction
        setup = Signal()  # the first cycle
        head = unit.instr.payload.word
        head_pool = head.pool.opcode == Opcode.POOL
        m.d.comb += [
            unit.instr.ready.eq(unit.instr.valid & unit.go & idle),
            unit.busy.eq(busy),
        ]
        m.d.sync += setup.eq(unit.instr.ready)
        with m.If(unit.instr.ready):
            m.d.sync += [busy.eq(1), idle.eq(0)]
        # What follows from the instruction is worked out as it is taken.
        once = Signal(5)  # loops over the source elements with one iteration
        single = [
            Mux(head_pool, head.pool[name], head.drain[name]) <= stride
            for name, stride in zip(LOOPS, (lanes, 1, 1, 1, 1), strict=True)
        ]
        with m.If(idle):
            m.d.sync += [word.eq(head), pool.eq(head_pool), once.eq(Cat(single))]

        def field(name: str):
            return Mux(pool, word.pool[name], word.drain[name])

        # Parameters, and how many groups have theirs requested and are not issued.
        m.submodules.fetch = fetch = ParameterFetch(self._config)
        wiring.connect(m, wiring.flipped(self.par), fetch.par)
        m.d.comb += [
            fetch.start.eq(unit.instr.ready),
            fetch.base.eq(head.pool.par),
            fetch.channels.eq(Mux(head_pool, head.pool.channels, head.drain.channels)),
        ]
        step = Signal()
        group_end = Signal()
        credits = Signal(2)
        m.d.sync += credits.eq(credits + fetch.granted - group_end)
        m.d.comb += step.eq((credits.any() | fetch.granted) & ~setup)

        # Source elements: group, y, x, j, i.
        m.submodules.loops = loops = Loops(widths=(12, 10, 10, 4, 4), strides=(lanes, 1, 1, 1, 1))
        m.d.comb += [loops.start.eq(setup), loops.step.eq(step), loops.once.eq(once)]
        for k, name in enumerate(LOOPS):
            m.d.comb += getattr(loops, f"count_{k}").eq(field(name))
        window_end = loops.last[3:].all()
        m.d.comb += group_end.eq(step & loops.last[1:].all())

        def walk(name: str, width: int, init, strides: dict, count: int = 5) -> Signal:
            """The value of a new walk along the source loops (5) or the output loops (3)."""
            m.submodules[name] = affine = Affine(width=width, loops=count, moving=tuple(strides))
            for k, stride in strides.items():
                m.d.comb += getattr(affine, f"stride_{k}").eq(stride)
            around = loops if count == 5 else outputs
            m.d.comb += [
                affine.start.eq(setup),
                affine.step.eq(around.step),
                affine.advance.eq(around.advance),
                affine.init.eq(init),
            ]
            return affine.value

        column_group = Signal.like(self.acc.group)
        column_last = column_group == self._config.cols // lanes - 1
        with m.If(setup):
            m.d.sync += column_group.eq(0)
        with m.Elif(group_end):
            m.d.sync += column_group.eq(Mux(column_last, 0, column_group + 1))
        pixel = Mux(pool, word.pool.src_pixel, 1)
        row = Mux(pool, word.pool.src_row, word.drain.src_row)
        window_column = Signal(ACT_ADDR_BITS)
        window_row = Signal(ACT_ADDR_BITS)
        m.d.sync += [
            window_column.eq(times(pixel, field("sx"))),
            window_row.eq(times(row, field("sy"))),
        ]
        group = Mux(pool, lanes, Mux(column_last, word.drain.src_block, 0))
        source = walk(
            "source",
            ACT_ADDR_BITS,
            field("src"),
            {0: group, 1: window_row, 2: window_column, 3: row, 4: pixel},
        )
        residual = walk(
            "residual",
            ACT_ADDR_BITS,
            word.drain.res,
            {0: lanes, 1: word.drain.res_row, 2: word.drain.res_pixel},
        )
        iy = walk("iy", 16, word.pool.iy0, {1: word.pool.sy, 3: 1})
        ix = walk("ix", 16, word.pool.ix0, {2: word.pool.sx, 4: 1})
        inside = (iy < word.pool.height) & (ix < word.pool.width)
        m.d.comb += [
            self.acc.en.eq(step & ~pool),
            self.acc.addr.eq(source),
            self.acc.group.eq(column_group),
            self.act.en.eq(step & (pool | (window_end & word.drain.residual))),
            self.act.base.eq(Mux(pool, source, residual)),
            self.act.mask.eq(
                _channel_mask(loops.left_0, lanes) & (inside | ~pool).replicate(lanes)
            ),
            self.act.fill.eq(word.pool.fill),
        ]

        # What an element is, from its request to its arrival.
        token = data.StructLayout({"valid": 1, "first": 1, "last": 1, "load": 1})
        issued = Signal(token)
        first = Signal()  # of its window
        fresh = Signal()  # no window of this group has ended yet
        with m.If(setup):
            m.d.sync += [first.eq(1), fresh.eq(1)]
        with m.Elif(step):
            m.d.sync += [first.eq(window_end), fresh.eq(group_end | (fresh & ~window_end))]
        m.d.comb += [
            issued.valid.eq(step),
            issued.first.eq(first),
            issued.last.eq(step & window_end),
            issued.load.eq(step & window_end & fresh),
        ]
        tokens = [issued]
        for k in range(1, ACT_READ_LATENCY):
            tokens.append(Signal(token, name=f"token_{k}"))
            m.d.sync += tokens[k].eq(tokens[k - 1])
        arrived = Signal(token)
        m.d.sync += arrived.eq(Mux(pool, tokens[-1], tokens[ACC_READ_LATENCY - 1]))
        release = Signal(RELEASE - 1)
        results = Signal(result_latency(self._config))
        m.d.sync += [
            release.eq(Cat(arrived.load, release)),
            results.eq(Cat(arrived.last, results)),
        ]
        m.d.comb += fetch.release.eq(release[-1])

        # The lanes have flip-flops of their own for what holds for the whole instruction.
        from_act, maximum, add = Signal(), Signal(), Signal()
        m.d.sync += [
            from_act.eq(pool),
            maximum.eq(word.pool.reduce == Reduce.MAX),
            add.eq(~pool & word.drain.residual),
        ]
        wrongs = []
        for k in range(lanes):
            m.submodules[f"lane_{k}"] = lane = VectorLane(
                multiplier_bits=self._config.multiplier_bits
            )
            m.d.comb += [
                lane.fill.eq(fetch.arrives[k]),
                lane.parameter.eq(self.par.data),
                lane.take.eq(arrived.valid),
                lane.first.eq(arrived.first),
                lane.maximum.eq(maximum),
                lane.load.eq(arrived.load),
                lane.pool.eq(from_act),
                lane.add.eq(add),
                lane.acc.eq(self.acc.data[k]),
                lane.byte.eq(self.act.data[k]),
            ]
            result = lane.result
            if self._config.tables:
                m.submodules[f"lookup_{k}"] = lookup = TableLookup(self._config)
                wiring.connect(m, wiring.flipped(self.tbl), lookup.write)
                m.d.comb += [lookup.table.eq(word.pool.table), lookup.value.eq(lane.result)]
                result = lookup.result
                wrongs.append(lookup.wrong)
            m.d.comb += self.out.data[k].eq(result)
        # The tables are read in every cycle; only what becomes a byte of a result counts.
        wrong = Cat(wrongs)
        if self._config.parity and wrongs:
            bytes_ = self.out.mask & self.out.en.replicate(lanes)
            wrong &= delay(m, bytes_, JUMP_LEAD + 1, name="used")
        m.d.comb += self.wrong.eq(wrong.any())

        # Results: group, y, x. Addresses go ahead of them.
        m.submodules.outputs = outputs = Loops(widths=(12, 10, 10), strides=(lanes, 1, 1))
        address = results[-1 - JUMP_LEAD]
        m.d.comb += [
            outputs.start.eq(setup),
            outputs.step.eq(address),
            outputs.once.eq(once[:3]),
        ]
        for k, name in enumerate(LOOPS[:3]):
            m.d.comb += getattr(outputs, f"count_{k}").eq(field(name))
        jump = Signal(16)
        group_words = Signal(16 + lanes.bit_length())
        m.d.sync += [jump.eq(Mux(pool, 0, word.drain.dst_jump)), group_words.eq(lanes * jump)]
        group_bytes = lanes + (group_words << (self._config.act_lanes - 1).bit_length())
        strides = {0: group_bytes, 1: word.pool.dst_row, 2: word.pool.dst_pixel}
        ending = Signal(JUMP_LEAD)  # the last address is this many cycles ahead of its result
        m.d.sync += ending.eq(Cat(address & outputs.last.all(), ending))
        m.d.comb += [
            self.out.base.eq(walk("destination", ACT_ADDR_BITS, word.pool.dst, strides, 3)),
            self.out.en.eq(address),
            self.out.jump.eq(jump),
            self.out.mask.eq(_channel_mask(outputs.left_0, lanes)),
            unit.done.eq(ending[-1]),
            unit.post.eq(Mux(unit.done, word.pool.post, 0)),
        ]
        with m.If(unit.done):
            m.d.sync += [busy.eq(0), idle.eq(1)]
        return m


def _channel_mask(left: Signal, lanes: int) -> Cat:
    """Which lanes have a channel where `left` channels are left."""
    return Cat(left > k for k in range(lanes))
