"""The accumulator memory under the array: read-modify-write for it, plain reads for VECTOR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .parity import protect
from .ports import AccRead
from .ram import Ram

if TYPE_CHECKING:
    from .config import Config

#: Cycles from the read of an entry to the first read that sees it written again.
RMW_LATENCY = 4
#: Cycles from an entry's address to the column sum that is added to it.
ADD_STAGE = 2
#: Cycles from an entry's address to its write.
WRITE_STAGE = 3


class AccControl(data.StructLayout):
    """What a vector does to the accumulators: which entry, overwrite or add, instruction's last."""

    def __init__(self, config: Config):
        super().__init__(
            {"valid": 1, "last": 1, "overwrite": 1, "entry": (config.acc_depth - 1).bit_length()}
        )


class AccumulatorColumn(wiring.Component):
    """The accumulators of one column, in two halves of one write and one read port each.

    An entry read in cycle x is added to the `psum` of cycle x + 2 (or replaced by it) and written
    in cycle x + 3; a read in cycle x + 4 sees it. The array's reads have priority over VECTOR's
    within a half.

    Ports
    -----
    read, read_entry : In
        The array reads an entry.
    overwrite, add_half, psum : In
        Two cycles later: the sum replaces the entry; half that was read; column sum.
    write, write_entry : In
        Three cycles later: write it back.
    vector, vector_entry : In
        VECTOR reads an entry.
    vector_half : In(1)
        Two cycles later: the half it read.
    vector_data : Out(32)
        Two cycles later: the entry.
    wrong : Out(1)
        Three cycles after the read of an entry that is not replaced: it has the wrong parity.
    """

    def __init__(self, config: Config):
        self._half = config.acc_half
        self._parity = config.parity
        entry = (config.acc_depth - 1).bit_length()
        super().__init__(
            {
                "read": In(1),
                "read_entry": In(entry),
                "overwrite": In(1),
                "add_half": In(1),
                "psum": In(signed(config.psum_bits)),
                "write": In(1),
                "write_entry": In(entry),
                "vector": In(1),
                "vector_entry": In(entry),
                "vector_half": In(1),
                "vector_data": Out(32),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        total = Signal(32, reset_less=True)
        found, odd = [], []
        for half in (0, 1):
            ram = Ram(width=32 + self._parity, depth=self._half, output_register=True)
            m.submodules[f"half_{half}"] = ram
            mine = self.read & (self.read_entry[-1] == half)
            m.d.comb += [
                ram.r_en.eq(mine | (self.vector & (self.vector_entry[-1] == half))),
                ram.r_addr.eq(Mux(mine, self.read_entry[:-1], self.vector_entry[:-1])),
                ram.w_en.eq(self.write & (self.write_entry[-1] == half)),
                ram.w_addr.eq(self.write_entry[:-1]),
                ram.w_data.eq(protect(total, 32) if self._parity else total),
            ]
            found.append(ram.r_data[:32])
            odd.append(ram.r_data.xor())
        before = Mux(self.overwrite, 0, Mux(self.add_half, found[1], found[0]))
        m.d.sync += total.eq(before.as_signed() + self.psum)
        m.d.comb += self.vector_data.eq(Mux(self.vector_half, found[1], found[0]))
        if self._parity:
            add = delay(m, self.read, ADD_STAGE, name="add") & ~self.overwrite
            drain = delay(m, self.vector, ADD_STAGE, name="drain")
            m.d.sync += self.wrong.eq(
                (add & Mux(self.add_half, odd[1], odd[0]))
                | (drain & Mux(self.vector_half, odd[1], odd[0]))
            )
        return m


class Accumulator(wiring.Component):
    """Accumulators of all columns, two halves of `acc_half` INT32 entries in each.

    `control` in cycle x is for the vector whose sum of column 0 is on `psum` in cycle x + 2 (column
    c: c cycles later). The entry of column c is read in cycle x + c and written in cycle x + c + 3;
    additions wrap around. The same entry may come again after RMW_LATENCY cycles, not earlier,
    unless it overwrites. `done` is up in the cycle of the last column's write of the vector tagged
    `last`, so reads in the next cycle see all of the instruction's results.

    VECTOR's reads answer ACC_READ_LATENCY = 3 cycles later. A read of a half in which some column's
    read-modify-write is in flight (from the array's read to the write, both included) raises
    `conflict` in the next cycle; its data are then undefined, those of the array correct.

    Parameters
    ----------
    config
        `cols`, `vector_lanes`, `acc_depth`, `psum_bits`.

    Ports
    -----
    psum : In(ArrayLayout(signed(psum_bits), cols))
        From the array.
    control : In(AccControl)
        From the streamer.
    done : Out(1)
        An instruction's last sum is written in this cycle.
    read : In(AccRead)
        VECTOR's read port.
    conflict : Out(1)
        VECTOR read a half that the array was using, in the cycle before.
    wrong : Out(1)
        An entry that the array added to three cycles after its read, or VECTOR's answer in this
        cycle, has the wrong parity.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "psum": In(data.ArrayLayout(signed(config.psum_bits), config.cols)),
                "control": In(AccControl(config)),
                "done": Out(1),
                "read": In(AccRead(config)),
                "conflict": Out(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        cols, lanes = config.cols, config.vector_lanes

        stages = [self.control]
        for k in range(1, cols + WRITE_STAGE):
            stage = Signal(AccControl(config), name=f"control_{k}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        m.d.comb += self.done.eq(stages[-1].valid & stages[-1].last)

        read_half = self.read.addr[-1]
        using = [Cat(s.valid & (s.entry[-1] == half) for s in stages).any() for half in (0, 1)]
        m.d.sync += self.conflict.eq(self.read.en & Mux(read_half, using[1], using[0]))

        half_1 = Signal()
        half_2 = Signal()
        group_1 = Signal.like(self.read.group)
        group_2 = Signal.like(self.read.group)
        m.d.sync += [
            half_1.eq(read_half),
            half_2.eq(half_1),
            group_1.eq(self.read.group),
            group_2.eq(group_1),
        ]
        found, wrongs = [], []
        for c in range(cols):
            column = AccumulatorColumn(config)
            m.submodules[f"column_{c}"] = column
            at, add, write = stages[c], stages[c + ADD_STAGE], stages[c + WRITE_STAGE]
            m.d.comb += [
                column.read.eq(at.valid),
                column.read_entry.eq(at.entry),
                column.overwrite.eq(add.overwrite),
                column.add_half.eq(add.entry[-1]),
                column.psum.eq(self.psum[c]),
                column.write.eq(write.valid),
                column.write_entry.eq(write.entry),
                column.vector.eq(self.read.en & (self.read.group == c // lanes)),
                column.vector_entry.eq(self.read.addr),
                column.vector_half.eq(half_2),
            ]
            found.append(column.vector_data)
            wrongs.append(column.wrong)
        groups = data.ArrayLayout(32 * lanes, cols // lanes)
        out = Signal(32 * lanes, reset_less=True)
        m.d.sync += out.eq(data.View(groups, Cat(found))[group_2])
        m.d.comb += [self.read.data.eq(out), self.wrong.eq(Cat(wrongs).any())]
        return m
