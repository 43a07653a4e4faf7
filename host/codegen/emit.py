"""Steps and constants: instructions with their memory effects, as operations ask for them."""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.config import TABLE_BYTES
from ...hdl.isa import Memory, Opcode
from ...hdl.numerics import PARAMETER_BYTES, Parameter
from ..schedule import Access, Step
from .rings import Ring
from .tiling import MOST_INPUTS
from .views import Box, Home, View, dram_pitch, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ...hdl.config import Config
    from ...hdl.isa import Segment
    from ..ir import Requant, Residual, Table, Tensor
    from .plan import Buffers, Plan

#: ACT addresses of windows are modulo this.
ADDRESS_MASK = (1 << 20) - 1
_MOST_LENGTH = (1 << 20) - 1
_PARAMETER_BLOCKS = 4


class Emitter:
    """Collects steps and constants, operation by operation.

    Attributes
    ----------
    steps
        What was emitted so far; each load directly before its first user.
    const
        The CONST segment so far.
    layer
        The operation that steps belong to.
    image
        The image of the batch that is worked on; None for all of them.
    half
        The accumulator half for the next chunk.
    """

    def __init__(self, config: Config, plan: Plan):
        self.const = bytearray()
        self.layer = 0
        self.image: int | None = None
        self.config = config
        self._plan = plan
        self._offsets: dict[Hashable, tuple[int, int]] = {}
        self.begin()

    def begin(self) -> None:
        """Start a run of the machine: no steps, and nothing on chip."""
        config = self.config
        self.steps: list[Step] = []
        self.half = 0
        row, bus = config.wgt_row_bytes, config.bus_bytes
        self.weights = Ring(config.wgt_rows, max(1, bus // row))
        self._tables = Ring(config.tables, 1)
        self._parameters = Ring(config.par_entries, max(1, bus // PARAMETER_BYTES))
        self._turns: dict[int, int] = {}

    def home(self, name: str) -> Home:
        """Where a tensor lies in DRAM."""
        return self._plan.home(name, self.image)

    def view(self, name: str) -> View:
        """Where a tensor lies in ACT."""
        return self._plan.view(name, self.image)

    # -- steps and their effects ---------------------------------------------------------------

    def step(
        self,
        opcode: Opcode,
        fields: dict[str, int],
        accesses: list[Access],
        cost: int,
        weights: list[Access] | None = None,
    ) -> None:
        """Append one instruction of about `cost` cycles."""
        self.steps.append(Step(opcode, fields, accesses, cost, self.layer, weights or []))

    def _banks(self, space: str, start: int, end: int) -> list[Access]:
        size = self.config.act_bank_bytes
        return [Access(space, start // size, (end - 1) // size + 1, True)]

    def act_read(self, start: int, end: int) -> list[Access]:
        """Effects of reading ACT bytes [start, end)."""
        end = min(end, self.config.act_bytes)
        return [Access("act", start, end, False), *self._banks("read bank", start, end)]

    def act_write(self, start: int, end: int) -> list[Access]:
        """Effects of writing ACT bytes [start, end)."""
        return [Access("act", start, end, True), *self._banks("write bank", start, end)]

    def accumulators(self, exclusive: bool) -> Access:
        """The effect on the current accumulator half."""
        size = self.config.acc_half
        return Access("acc", self.half * size, (self.half + 1) * size, exclusive)

    # -- constants -----------------------------------------------------------------------------

    def _constant(self, key: Hashable, make: Callable[[], bytes]) -> tuple[int, int]:
        """Offset and length of constant `key`, made when it is first asked for."""
        if key not in self._offsets:
            data = make()
            data += bytes(-len(data) % self.config.bus_bytes)
            self._offsets[key] = len(self.const), len(data)
            self.const += data
        return self._offsets[key]

    def _load_constant(
        self, key: Hashable, make: Callable[[], bytes], memory: Memory, local: int, access: Access
    ) -> None:
        offset, length = self._constant(key, make)
        fields = {"memory": memory, "offset": offset, "length": length, "rows": 1, "local": local}
        self.step(Opcode.LOAD, fields, [access], length // self.config.bus_bytes)

    def load_weights(self, key: Hashable, rows: int, make: Callable[[], bytes]) -> int:
        """The first WGT row of weight matrix `key` of `rows` rows, loaded unless still there."""
        found = self.weights.find(key)
        if found is not None:
            return found
        start, end = self.weights.take(key, rows)
        local = start * self.config.wgt_row_bytes
        self._load_constant(key, make, Memory.WGT, local, Access("wgt", start, end, True))
        return start

    @property
    def most_parameters(self) -> int:
        """Channels whose parameters are loaded together: a few column blocks, at most a quarter of
        PAR.
        """
        cols = self.config.cols
        return max(min(self.config.par_entries // 4 // cols, _PARAMETER_BLOCKS), 1) * cols

    def load_parameters(
        self, name: str, requant: Requant, residual: Residual | None, first: int, end: int
    ) -> int:
        """The first PAR entry for channels [first, end) of `name`, at most `most_parameters`;
        loaded with their neighbours, unless still there.
        """
        start = first // self.most_parameters * self.most_parameters
        stop = min(start + self.most_parameters, len(requant.shift))
        if end > stop:
            start, stop = first, end
        key = "parameters", name, start, stop
        entry = self._parameters.find(key)
        if entry is None:
            entry, after = self._parameters.take(key, stop - start)
            self._load_constant(
                key,
                lambda: b"".join(
                    _parameter(requant, residual, c).encode() for c in range(start, stop)
                ),
                Memory.PAR,
                entry * PARAMETER_BYTES,
                Access("par", entry, after, True),
            )
        return entry + first - start

    def load_table(self, table: Table | None) -> tuple[dict[str, int], list[Access]]:
        """The field that sends results through `table`, and what reading it touches; the table is
        loaded unless still there.
        """
        if table is None:
            return {}, []
        key = "table", table.table.tobytes()
        start = self._tables.find(key)
        if start is None:
            start, end = self._tables.take(key, 1)
            access = Access("tbl", start, end, True)
            data = table.table.astype(np.int8).tobytes()
            self._load_constant(key, lambda: data, Memory.TBL, start * TABLE_BYTES, access)
        return {"table": start + 1}, [Access("tbl", start, start + 1, False)]

    # -- tensors that pass through ACT ---------------------------------------------------------

    def store(self, name: str, home: Home) -> None:
        """Store a tensor that lives in ACT."""
        self.transfer(Opcode.STORE, home, self.view(name), whole(home.tensor))

    def buffer(self, buffers: Buffers) -> int:
        """Address of the next of `buffers`, in turn."""
        turn = self._turns[buffers.base] = self._turns.get(buffers.base, -1) + 1
        return buffers.base + turn % buffers.count * buffers.size

    def transfer(self, opcode: Opcode, home: Home, view: View, box: Box) -> None:
        """Move `box` of a tensor between its home in DRAM and `view`: LOAD or STORE."""
        bus = self.config.bus_bytes
        (y0, y1), (x0, _), (c0, _) = box.rows, box.columns, box.channels
        across, pixels = box.width * home.pixel_pitch, box.width * view.pixel_pitch
        if home.channel_pitch > 1:
            rows = [(y0, box.depth, box.width, home.channel_pitch, view.channel_pitch)]
        elif home.pixel_pitch == view.pixel_pitch == box.depth:
            rows = [(y0, y1 - y0, across, home.row_pitch, view.row_pitch)]
        elif box.height == 1 or (home.row_pitch == across and view.row_pitch == pixels):
            rows = [(y0, box.height * box.width, box.depth, home.pixel_pitch, view.pixel_pitch)]
        else:
            rows = [
                (y, box.width, box.depth, home.pixel_pitch, view.pixel_pitch) for y in range(y0, y1)
            ]
        for y, count, length, pitch, local_pitch in rows:
            offset, local = home.address(y, x0, c0), view.address(y, x0, c0)
            assert offset % bus == 0
            if count > 1 and pitch == local_pitch == length and count * length <= _MOST_LENGTH:
                count, length = 1, count * length
            for first in range(0, count, _MOST_ROWS):
                part = min(_MOST_ROWS, count - first)
                self._transfer_rows(
                    opcode, home.segment, offset + first * pitch, local + first * local_pitch,
                    length, part, pitch, local_pitch,
                )  # fmt: skip

    def _transfer_rows(
        self,
        opcode: Opcode,
        segment: Segment,
        offset: int,
        local: int,
        length: int,
        rows: int,
        pitch: int,
        local_pitch: int,
    ) -> None:
        fields = {
            "segment": segment, "offset": offset, "length": length, "rows": rows,
            "dram_pitch": pitch if rows > 1 else 0, "local": local,
            "local_pitch": local_pitch if rows > 1 else 0,
        }  # fmt: skip
        end = local + (rows - 1) * local_pitch + length
        store = opcode == Opcode.STORE
        dram = Access(f"segment {segment}", offset, offset + (rows - 1) * pitch + length, store)
        if store:
            accesses = [dram, *self.act_read(local, end)]
        else:
            fields["memory"] = Memory.ACT
            accesses = [dram, *self.act_write(local, end)]
        self.step(opcode, fields, accesses, rows * (-(-length // self.config.bus_bytes)))


_MOST_ROWS = 4095


class Window:
    """A tensor, or the tile of it in ACT, from which an operation reads rows.

    Rows that pass through ACT are loaded when they are first asked for, a map of one row column by
    column.
    """

    def __init__(self, emitter: Emitter, view: View, home: Home | None):
        self.view = view
        self._emitter = emitter
        self._home = home
        self._flat = view.box.height == 1
        self._loaded = view.box.columns[0] if self._flat else view.box.rows[0]

    def need(self, row: int, column: int) -> None:
        """Have all rows before `row` loaded, and of a single row all columns before `column`, as
        far as the view has them.
        """
        box = self.view.box
        bounds = box.columns if self._flat else box.rows
        end = min(column if self._flat else row, bounds[1])
        if self._flat:
            beat = self._emitter.config.bus_bytes
            align = beat // gcd(beat, box.depth)
            end = min(-(-end // align) * align, bounds[1])
        if self._home is None or end <= self._loaded:
            return
        span = self._loaded, end
        part = replace(box, columns=span) if self._flat else replace(box, rows=span)
        self._emitter.transfer(Opcode.LOAD, self._home, self.view, part)
        self._loaded = end


def window(
    emitter: Emitter, name: str, buffers: Buffers | None, box: Box, pitch: int, pixel_pitch: int
) -> Window:
    """The window of `box` of tensor `name`: its view in ACT, or a new tile with these pitches."""
    if buffers is None:
        return Window(emitter, emitter.view(name), None)
    home = emitter.home(name)
    view = View.at(emitter.buffer(buffers), home.tensor, box, pitch, pixel_pitch)
    return Window(emitter, view, home)


def target_view(emitter: Emitter, name: str, buffers: Buffers | None, box: Box) -> View:
    """Where `box` of tensor `name` is written: its view in ACT, or a new tile.

    A tile of a map that lies transposed in DRAM lies transposed in ACT: the channels of a pixel on
    byte lanes that follow each other, far enough apart for a row of the tile.
    """
    if buffers is None:
        return emitter.view(name)
    home = emitter.home(name)
    base = emitter.buffer(buffers)
    if home.channel_pitch == 1:
        return View.at(base, home.tensor, box, box.width * box.depth, box.depth)
    pitch = transposed_pitch(box.width, emitter.config)
    return View.at(base, home.tensor, box, box.width, 1, pitch)


def transposed_pitch(width: int, config: Config) -> int:
    """ACT bytes from channel to channel of a transposed row of `width` pixels."""
    return 1 + config.act_lanes * -(-(width - 1) // config.act_lanes)


def transposed(view: View, config: Config) -> dict[str, int]:
    """The field that makes DRAIN write `view` transposed, if it lies so."""
    return {"dst_jump": view.channel_pitch // config.act_lanes} if view.channel_pitch > 1 else {}


def coordinates(tensor: Tensor, y: int, x: int) -> dict[str, int]:
    """Where a window at (y, x) lies in `tensor`: the fields `iy0`, `ix0`, `height` and `width`.

    They count from the window's own corner if that lies inside, for the fields are narrow.
    """
    row, column = min(max(y, 0), tensor.height - 1), min(max(x, 0), tensor.width - 1)
    return {
        "iy0": y - row,
        "ix0": x - column,
        "height": min(tensor.height - row, MOST_INPUTS),
        "width": min(tensor.width - column, MOST_INPUTS),
    }


def _parameter(requant: Requant, residual: Residual | None, channel: int) -> Parameter:
    return Parameter(
        bias=int(requant.bias[channel]),
        multiplier=int(requant.multiplier[channel]),
        shift=int(requant.shift[channel]),
        residual_shift=residual.shift if residual else 0,
        residual_multiplier=residual.multiplier if residual else 0,
        zero_point=requant.zero_point,
        residual_zero=residual.zero_point if residual else 0,
        low=requant.low,
        high=requant.high,
    )


__all__ = ["ADDRESS_MASK", "Emitter", "Window", "coordinates", "dram_pitch", "window"]
