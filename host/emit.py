"""From operations to steps: instructions with their memory effects, and the constants they load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import Memory, Opcode, Reduce, Segment
from ..hdl.numerics import PARAMETER_BYTES, Parameter
from .ir import Requant
from .layout import Placement, inner_count
from .schedule import Access, Step
from .tiling import MOST_INPUTS, Chunk, KBox, chunks, k_boxes, most_outputs, require

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .fuse import Op
    from .ir import Conv, Pool, Residual, Tensor

_WRAP = (1 << 20) - 1
#: Rough cycles that a vector instruction spends per channel group beside its positions.
_VECTOR_OVERHEAD = 24


class Emitter:
    """Collects steps and constants, operation by operation.

    Attributes
    ----------
    steps
        What was emitted so far; each load directly before its first user.
    const
        The CONST segment so far.
    """

    def __init__(self, config: Config, places: dict[str, Placement]):
        self.steps: list[Step] = []
        self.const = bytearray()
        self._config = config
        self._places = places
        self._layer = 0
        self._half = 0
        self._wgt_next = 0
        self._par_next = 0
        self._pending_input: tuple[str, int] | None = None  # tensor, rows loaded so far

    # -- public --------------------------------------------------------------------------------

    def input(self, name: str) -> None:
        """Say that `name` comes from the INPUT segment; its rows are loaded when first needed."""
        self._pending_input = (name, 0)

    def op(self, op: Op, layer: int) -> None:
        """Emit one operation; its steps carry `layer`."""
        self._layer = layer
        if op.conv is not None:
            self._conv(op.conv, op.pool)
        elif op.pool is not None:
            self._pool(op.pool)

    def store(self, name: str, segment: Segment, offset: int) -> None:
        """Emit the store of a whole tensor, rows padded to bus beats."""
        place = self._places[name]
        tensor = place.tensor
        length = tensor.width * tensor.channels
        start, end = place.rows(0, tensor.height)
        require("output rows", tensor.height, 4095, name)
        self._step(
            Opcode.STORE,
            {
                "segment": segment, "offset": offset, "length": length, "rows": tensor.height,
                "dram_pitch": self.dram_pitch(length), "local": place.base,
                "local_pitch": place.row_pitch,
            },
            self._act_read(start, end),
            tensor.height * self.dram_pitch(length) // self._config.bus_bytes,
        )  # fmt: skip

    def dram_pitch(self, length: int) -> int:
        """Bytes that a row of `length` bytes takes in DRAM."""
        bus = self._config.bus_bytes
        return -(-length // bus) * bus

    # -- steps ---------------------------------------------------------------------------------

    def _step(
        self,
        opcode: Opcode,
        fields: dict[str, int],
        accesses: list[Access],
        cost: int,
        weights: list[Access] | None = None,
    ) -> None:
        self.steps.append(Step(opcode, fields, accesses, cost, self._layer, weights or []))

    def _banks(self, space: str, start: int, end: int) -> list[Access]:
        size = self._config.act_bank_bytes
        return [Access(space, start // size, (end - 1) // size + 1, True)]

    def _act_read(self, start: int, end: int) -> list[Access]:
        return [Access("act", start, end, False), *self._banks("read bank", start, end)]

    def _act_write(self, start: int, end: int) -> list[Access]:
        return [Access("act", start, end, True), *self._banks("write bank", start, end)]

    def _acc(self, half: int, exclusive: bool) -> Access:
        size = self._config.acc_half
        return Access("acc", half * size, (half + 1) * size, exclusive)

    def _load_rows(self, name: str, last: int) -> None:
        """Load the rows of the network's input up to `last`, as far as they are still missing."""
        if self._pending_input is None or self._pending_input[0] != name:
            return
        place = self._places[name]
        tensor = place.tensor
        first, last = self._pending_input[1], min(last, tensor.height)
        if first >= last:
            return
        length = tensor.width * tensor.channels
        pitch = self.dram_pitch(length)
        start, end = place.rows(first, last)
        require("input rows", last - first, 4095, name)
        self._step(
            Opcode.LOAD,
            {
                "memory": Memory.ACT, "segment": Segment.INPUT, "offset": first * pitch,
                "length": length, "rows": last - first, "dram_pitch": pitch, "local": start,
                "local_pitch": place.row_pitch,
            },
            self._act_write(start, end),
            (last - first) * pitch // self._config.bus_bytes,
        )  # fmt: skip
        self._pending_input = (name, last)

    def _load_const(self, data: bytes, memory: Memory, local: int, access: Access) -> None:
        bus = self._config.bus_bytes
        data += bytes(-len(data) % bus)
        offset = len(self.const)
        self.const += data
        self._step(
            Opcode.LOAD,
            {
                "memory": memory, "segment": Segment.CONST, "offset": offset,
                "length": len(data), "rows": 1, "local": local,
            },
            [access],
            len(data) // bus,
        )  # fmt: skip

    def _span(self, rows: int) -> int:
        """WGT rows that a matrix of `rows` takes, for the next one to start on a bus beat."""
        align = max(1, self._config.bus_bytes // self._config.wgt_row_bytes)
        return -(-rows // align) * align

    def _load_weights(self, matrix: np.ndarray) -> int:
        """Load a matrix of weight rows [rows, cols]; returns the first WGT row it takes."""
        config = self._config
        count = len(matrix)
        span = self._span(count)
        first = self._wgt_next if self._wgt_next + span <= config.wgt_rows else 0
        self._wgt_next = first + span
        padded = np.zeros((count, config.wgt_row_bytes), np.int8)
        padded[:, : matrix.shape[1]] = matrix
        access = Access("wgt", first, first + span, True)
        self._load_const(padded.tobytes(), Memory.WGT, first * config.wgt_row_bytes, access)
        return first

    def _load_parameters(
        self, requant: Requant, residual: Residual | None, first: int, count: int
    ) -> int:
        """Load the parameters of `count` channels; returns the first PAR entry they take."""
        config = self._config
        align = max(1, config.bus_bytes // PARAMETER_BYTES)
        entry = -(-self._par_next // align) * align
        span = -(-count // align) * align
        if entry + span > config.par_entries:
            entry = 0
        self._par_next = entry + count
        data = b"".join(
            _parameter(requant, residual, channel).encode()
            for channel in range(first, first + count)
        )
        access = Access("par", entry, entry + span, True)
        self._load_const(data, Memory.PAR, entry * PARAMETER_BYTES, access)
        return entry

    # -- operations ----------------------------------------------------------------------------

    def _conv(self, conv: Conv, pool: Pool | None) -> None:
        config = self._config
        out = self._places[(pool or conv).output]
        window = pool.kernel if pool is not None else (1, 1)
        total, kernel_h, kernel_w, _ = conv.weight.shape
        for what, value in (
            ("stride", max(conv.stride)), ("dilation", max(conv.dilation)), ("pool", max(window)),
        ):  # fmt: skip
            require(what, value, 15, conv.name)
        per_group = total // conv.groups
        kc = inner_count(conv, self._places[conv.input], config)
        boxes = k_boxes((kernel_h, kernel_w), kc, config)
        most = (
            most_outputs((kernel_h - 1) * conv.dilation[0] + 1, conv.stride[0]),
            most_outputs((kernel_w - 1) * conv.dilation[1] + 1, conv.stride[1]),
        )
        pieces = chunks(out.tensor.height, out.tensor.width, window, most, config)
        blocks = [
            (group, group * per_group + n, min(config.cols, per_group - n))
            for group in range(conv.groups)
            for n in range(0, per_group, config.cols)
        ]
        rows = [self._tiles(box) * config.rows for box in boxes]
        resident = len(blocks) * sum(map(self._span, rows)) <= config.wgt_rows // 2
        par = -1
        par_whole = total <= config.par_entries // 2
        weights: dict[tuple[int, int], int] = {}
        order = (
            [(piece, block) for piece in pieces for block in blocks]
            if resident
            else [(piece, block) for block in blocks for piece in pieces]
        )
        loaded_block = -1
        for piece, (group, first, count) in order:
            for index, box in enumerate(boxes):
                key = (first, index)
                fits = resident or (len(boxes) == 1 and loaded_block == first)
                if not (fits and key in weights):
                    matrix = _weight_rows(conv, box, first, count, config)
                    weights[key] = self._load_weights(matrix)
                self._load_rows(
                    conv.input,
                    (piece.y + piece.height - 1) * window[0] * conv.stride[0]
                    + (window[0] - 1) * conv.stride[0]
                    + (kernel_h - 1) * conv.dilation[0]
                    + 1
                    - conv.padding[0],
                )
                if (par < 0 and index == 0) or (
                    not par_whole and loaded_block != first and index == 0
                ):
                    par_first, par_count = (0, total) if par_whole else (first, count)
                    par = self._load_parameters(conv.requant, conv.residual, par_first, par_count)
                self._matmul(conv, window, piece, box, group, weights[key], index > 0)
            loaded_block = first
            entry = par + (first if par_whole else 0)
            self._drain(conv, pool, piece, first, count, entry)
            self._half ^= 1

    def _tiles(self, box: KBox) -> int:
        return -(-box.size // self._config.rows)

    def _matmul(
        self,
        conv: Conv,
        window: tuple[int, int],
        piece: Chunk,
        box: KBox,
        group: int,
        wgt: int,
        accumulate: bool,
    ) -> None:
        config = self._config
        place = self._places[conv.input]
        tensor = place.tensor
        (sy, sx), (dy, dx) = conv.stride, conv.dilation
        iy0 = piece.y * window[0] * sy - conv.padding[0] + box.ky[0] * dy
        ix0 = piece.x * window[1] * sx - conv.padding[1] + box.kx[0] * dx
        oy, ox = piece.height * window[0], piece.width * window[1]
        ky, kx = box.ky[1] - box.ky[0], box.kx[1] - box.kx[0]
        channel = group * conv.weight.shape[3] + box.kc[0]
        require("inner channels", box.kc[1] - box.kc[0], 65535, conv.name)
        start, end = place.rows(iy0, iy0 + (oy - 1) * sy + (ky - 1) * dy + 1)
        end += config.rows if box.kc[1] > tensor.channels // conv.groups else 0
        tiles = self._tiles(box)
        used = tiles * config.rows
        self._step(
            Opcode.MATMUL,
            {
                "accumulate": accumulate, "act": place.address(iy0, ix0, channel) & _WRAP,
                "wgt": wgt, "acc": self._half * config.acc_half, "blocks": 1,
                "kc": box.kc[1] - box.kc[0], "ky": ky, "kx": kx, "dy": dy, "dx": dx,
                "row_pitch": place.row_pitch, "pixel_pitch": place.pixel_pitch,
                "sy": sy, "sx": sx, "oy": oy, "ox": ox,
                **_coordinates(tensor, iy0, ix0), "fill": tensor.zero_point,
            },
            [*self._act_read(start, min(end, config.act_bytes)), self._acc(self._half, True)],
            tiles * max(oy * ox, config.rows),
            [Access("wgt", wgt, wgt + used, False)],
        )  # fmt: skip

    def _drain(
        self, conv: Conv, pool: Pool | None, piece: Chunk, first: int, count: int, par: int
    ) -> None:
        config = self._config
        out = self._places[(pool or conv).output]
        window = pool.kernel if pool is not None else (1, 1)
        fields = {
            "dst": out.address(piece.y, piece.x, first), "par": par, "dst_row": out.row_pitch,
            "dst_pixel": out.pixel_pitch, "reduce": Reduce.MAX if pool else Reduce.NONE,
            "ry": window[0], "rx": window[1], "src": self._half * config.acc_half,
            "src_row": piece.width * window[1], "channels": count,
            "sy": window[0], "sx": window[1], "oy": piece.height, "ox": piece.width,
        }  # fmt: skip
        start, end = out.rows(piece.y, piece.y + piece.height)
        accesses = [
            self._acc(self._half, False),
            Access("par", par, par + count, False),
            *self._act_write(start, end),
        ]
        if conv.residual is not None:
            source = self._places[conv.residual.input]
            fields |= {
                "residual": 1, "res": source.address(piece.y, piece.x, first),
                "res_row": source.row_pitch, "res_pixel": source.pixel_pitch,
            }  # fmt: skip
            accesses += self._act_read(*source.rows(piece.y, piece.y + piece.height))
            self._load_rows(conv.residual.input, piece.y + piece.height)
        self._step(Opcode.DRAIN, fields, accesses, self._vector_cost(piece, window, count))

    def _vector_cost(self, piece: Chunk, window: tuple[int, int], channels: int) -> int:
        lanes = self._config.vector_lanes
        positions = piece.height * piece.width * window[0] * window[1]
        return -(-channels // lanes) * (positions + lanes + _VECTOR_OVERHEAD)

    def _pool(self, pool: Pool) -> None:
        config = self._config
        source, out = self._places[pool.input], self._places[pool.output]
        require("pool window", max(pool.kernel), 15, pool.name)
        require("pool stride", max(pool.stride), 15, pool.name)
        requant = pool.requant or _identity(out.tensor.channels, config.multiplier_bits)
        most_channels = config.par_entries // 2
        most = (
            most_outputs(pool.kernel[0], pool.stride[0]),
            most_outputs(pool.kernel[1], pool.stride[1]),
        )
        pieces = chunks(out.tensor.height, out.tensor.width, (1, 1), most, config)
        fill = -128 if pool.mode == "max" else source.tensor.zero_point
        for first in range(0, out.tensor.channels, most_channels):
            count = min(most_channels, out.tensor.channels - first)
            par = self._load_parameters(requant, None, first, count)
            for piece in pieces:
                iy0 = piece.y * pool.stride[0] - pool.padding[0]
                ix0 = piece.x * pool.stride[1] - pool.padding[1]
                last = iy0 + (piece.height - 1) * pool.stride[0] + pool.kernel[0]
                self._load_rows(pool.input, last)
                self._step(
                    Opcode.POOL,
                    {
                        "dst": out.address(piece.y, piece.x, first), "par": par,
                        "dst_row": out.row_pitch, "dst_pixel": out.pixel_pitch,
                        "reduce": Reduce.MAX if pool.mode == "max" else Reduce.SUM,
                        "ry": pool.kernel[0], "rx": pool.kernel[1],
                        "src": source.address(iy0, ix0, first) & _WRAP,
                        "src_row": source.row_pitch, "src_pixel": source.pixel_pitch,
                        "channels": count, "sy": pool.stride[0], "sx": pool.stride[1],
                        "oy": piece.height, "ox": piece.width,
                        **_coordinates(source.tensor, iy0, ix0), "fill": fill,
                    },
                    [
                        *self._act_read(*source.rows(iy0, last)),
                        *self._act_write(*out.rows(piece.y, piece.y + piece.height)),
                        Access("par", par, par + count, False),
                    ],
                    self._vector_cost(piece, pool.kernel, count),
                )  # fmt: skip


def _coordinates(tensor: Tensor, y: int, x: int) -> dict[str, int]:
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


def _weight_rows(conv: Conv, box: KBox, first: int, count: int, config: Config) -> np.ndarray:
    """The weight rows [tiles · rows, count] of output channels first … for one reduction box."""
    (y0, y1), (x0, x1), (c0, c1) = box.ky, box.kx, box.kc
    part = conv.weight[first : first + count, y0:y1, x0:x1, c0:c1]
    missing = (c1 - c0) - part.shape[3]
    part = np.pad(part, ((0, 0), (0, 0), (0, 0), (0, missing)))
    matrix = part.reshape(count, -1).T
    return np.pad(matrix, ((0, -len(matrix) % config.rows), (0, 0)))


def _identity(channels: int, multiplier_bits: int) -> Requant:
    shift = multiplier_bits - 2
    full = np.full(channels, 1, np.int64)
    return Requant(bias=full * 0, multiplier=full << shift, shift=full * shift)


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
