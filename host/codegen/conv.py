"""Convolutions, fully connected layers, and the pools and residuals fused with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.isa import Opcode, Reduce
from ..schedule import Access
from .cost import VECTOR_OVERHEAD
from .emit import ADDRESS_MASK, coordinates, target_view, transposed, window
from .geometry import stage_depth, tiles
from .pool import emit_windows
from .tiling import (
    MOST_STRIDE,
    POINTS,
    Block,
    Chunk,
    KBox,
    block_weights,
    blocks,
    chunks,
    k_boxes,
    most_chunk,
    require,
)
from .views import Box, View, inner_count, window_pitch

if TYPE_CHECKING:
    from ..fuse import Op
    from ..ir import Conv, Graph
    from .emit import Emitter, Window
    from .geometry import Tile
    from .plan import OpPlan


#: The first column blocks of a run load so many weight tiles at once, for the array to begin early.
_FIRST_BLOCKS, _FIRST_TILES = 6, 2


def emit_conv(emitter: Emitter, op: Op, plan: OpPlan, graph: Graph) -> None:
    """Emit `op`, whose first node is a convolution, tile by tile."""
    assert op.conv is not None
    require("dilation", max(op.conv.dilation), 15, op.conv.name)
    require("pool window", max(reach.size for reach in op.windows), 15, op.name)
    cuts = tiles(op, graph, plan.height, plan.width, emitter.config.bus_bytes)
    depth = stage_depth(cuts, emitter.config) if op.staged else 0
    for index, tile in enumerate(cuts):
        following = cuts[index + 1] if index + 1 < len(cuts) else None
        _Tile(emitter, op, plan, graph, tile, following, depth).emit()


@dataclass(frozen=True)
class _Group:
    """Column blocks whose outputs share a tile in ACT, and where results and residuals lie."""

    blocks: list[Block]
    box: Box
    target: View
    residual: Window | None


class _Tile:
    """Emits one tile of a convolution."""

    def __init__(
        self,
        emitter: Emitter,
        op: Op,
        plan: OpPlan,
        graph: Graph,
        tile: Tile,
        following: Tile | None,
        stage_depth: int,
    ):
        assert op.conv is not None
        self._emitter = emitter
        self._config = emitter.config
        self._op = op
        self._conv: Conv = op.conv
        self._plan = plan
        self._graph = graph
        self._tile = tile
        self._following = following
        self._stage_depth = stage_depth
        channels = graph.tensors[op.input].channels
        pitch = window_pitch(op, graph, tile.source.width, self._config)
        self._source = window(emitter, op.input, plan.source, tile.source, pitch, channels)

    def emit(self) -> None:
        parts = blocks(self._conv, self._config)
        depth = self._plan.depth
        self._early = [] if self._emitter.steps else parts[:_FIRST_BLOCKS]
        for start in range(0, self._graph.tensors[self._op.output].channels, depth):
            end = start + depth
            group = self._group([b for b in parts if start <= b.first < end])
            self._emit_group(group)
            if self._plan.target is not None:
                home = self._emitter.home(self._op.output)
                self._emitter.transfer(Opcode.STORE, home, group.target, group.box)

    def _group(self, parts: list[Block]) -> _Group:
        emitter, op, tile = self._emitter, self._op, self._tile
        channels = parts[0].first, parts[-1].first + parts[-1].count
        box = Box(tile.out.rows, tile.out.columns, channels)
        target = target_view(emitter, op.output, self._plan.target, box)
        residual = None
        if op.residual is not None:
            inner = Box(tile.conv.rows, tile.conv.columns, channels)
            residual = window(
                emitter, op.residual, self._plan.residual, inner,
                inner.width * inner.depth, inner.depth,
            )  # fmt: skip
        return _Group(parts, box, target, residual)

    def _emit_group(self, group: _Group) -> None:
        """Blocks outermost, so that weights are loaded once, unless all of them stay on chip."""
        config, conv, op = self._config, self._conv, self._op
        down, across = op.windows
        cut = chunks(
            down.fit(self._tile.conv.height), across.fit(self._tile.conv.width), op.windows,
            most_chunk(conv), config, whole=op.staged,
        )  # fmt: skip
        boxes = self._boxes(group.blocks[0])
        ring = self._emitter.weights
        every = len(blocks(conv, config))
        resident = every * sum(ring.span(self._rows(b)) for b in boxes) <= config.wgt_rows * 3 // 4
        order = (
            [(piece, block) for piece in cut for block in group.blocks]
            if resident
            else [(piece, block) for block in group.blocks for piece in cut]
        )
        for piece, block in order:
            few = config.rows * _FIRST_TILES if block in self._early else None
            boxes = self._boxes(block, few)
            for index, box in enumerate(boxes):
                weights = self._load_weights(block, index, box)
                self._source.need(self._last_row(piece), self._last_column(piece))
                self._matmul(piece, block, box, weights, index > 0)
            par = self._emitter.load_parameters(
                conv.name, conv.requant, conv.residual, block.first, block.first + block.count
            )
            self._drain(group, piece, block, par)

    def _boxes(self, block: Block, limit: int | None = None) -> list[KBox]:
        _, height, width, _ = self._conv.weight.shape
        kc = inner_count(self._conv, block.inner_count, self._source.view, self._config)
        boxes = k_boxes((height, width), kc, self._config)
        if limit is not None:
            small = k_boxes((height, width), kc, self._config, limit)
            if sum(map(self._rows, small)) == sum(map(self._rows, boxes)):
                return small
        return boxes

    def _rows(self, box: KBox) -> int:
        """Weight rows of a reduction box, in whole tiles."""
        return -(-box.size // self._config.rows) * self._config.rows

    def _load_weights(self, block: Block, index: int, box: KBox) -> int:
        config = self._config

        def make() -> bytes:
            matrix = block_weights(self._conv, block, box, config)
            padded = np.zeros((len(matrix), config.wgt_row_bytes), np.int8)
            padded[:, : matrix.shape[1]] = matrix
            return padded.tobytes()

        key = "weights", self._conv.name, block.first, index, box
        return self._emitter.load_weights(key, self._rows(box), make)

    def _origin(self, piece: Chunk) -> tuple[int, int]:
        """The convolution output at which a chunk starts."""
        down, across = self._op.windows
        return (
            self._tile.conv.rows[0] + piece.y * down.step,
            self._tile.conv.columns[0] + piece.x * across.step,
        )

    def _last_row(self, piece: Chunk) -> int:
        """The input row after the last one that a chunk reads."""
        conv = self._conv
        y, _ = self._origin(piece)
        last = (y + self._op.windows[0].under(piece.height) - 1) * conv.stride[0] - conv.padding[0]
        return last + (conv.weight.shape[1] - 1) * conv.dilation[0] + 1

    def _last_column(self, piece: Chunk) -> int:
        """The input column after the last one that a chunk reads."""
        conv = self._conv
        _, x = self._origin(piece)
        last = (x + self._op.windows[1].under(piece.width) - 1) * conv.stride[1] - conv.padding[1]
        return last + (conv.weight.shape[2] - 1) * conv.dilation[1] + 1

    def _matmul(
        self, piece: Chunk, block: Block, box: KBox, weights: int, accumulate: bool
    ) -> None:
        config, conv, emitter = self._config, self._conv, self._emitter
        view = self._source.view
        (sy, sx), (dy, dx) = conv.stride, conv.dilation
        y, x = self._origin(piece)
        iy0 = y * sy - conv.padding[0] + box.ky[0] * dy
        ix0 = x * sx - conv.padding[1] + box.kx[0] * dx
        down, across = self._op.windows
        oy, ox = down.under(piece.height), across.under(piece.width)
        ky, kx = box.ky[1] - box.ky[0], box.kx[1] - box.kx[0]
        kc = box.kc[1] - box.kc[0]
        require("inner channels", kc, 65535, conv.name)
        start, end = view.span(
            (iy0, iy0 + (oy - 1) * sy + (ky - 1) * dy + 1),
            (ix0, ix0 + (ox - 1) * sx + (kx - 1) * dx + 1),
        )
        end += config.rows if box.kc[1] > block.inner_count else 0
        tiles_ = self._rows(box) // config.rows
        emitter.step(
            Opcode.MATMUL,
            {
                "accumulate": accumulate,
                "act": view.address(iy0, ix0, block.inner_first + box.kc[0]) & ADDRESS_MASK,
                "wgt": weights, "acc": emitter.half * config.acc_half, "blocks": 1,
                "kc": kc, "ky": ky, "kx": kx, "dy": dy, "dx": dx,
                "row_pitch": view.row_pitch, "pixel_pitch": view.pixel_pitch,
                "sy": sy if sy <= MOST_STRIDE else 1, "sx": sx if sx <= MOST_STRIDE else 1,
                "oy": oy, "ox": ox,
                **coordinates(view.tensor, iy0, ix0), "fill": view.tensor.zero_point,
            },
            [*emitter.act_read(start, end), emitter.accumulators(True)],
            tiles_ * max(oy * ox, config.rows),
            [Access("wgt", weights, weights + self._rows(box), False)],
        )  # fmt: skip

    # -- results -------------------------------------------------------------------------------

    def _drain(self, group: _Group, piece: Chunk, block: Block, par: int) -> None:
        """Drain a chunk; with a staged pool, pool it and keep the rows that the next tile needs."""
        emitter, op, tile = self._emitter, self._op, self._tile
        if not op.staged:
            y, x = tile.out.rows[0] + piece.y, tile.out.columns[0] + piece.x
            area = Box((y, y + piece.height), (x, x + piece.width), (0, 0))
            self._drain_rows(group, group.target, area, 0, piece.width, block, par)
            emitter.half ^= 1
            return
        assert op.pool is not None
        stage = self._stage(tile, block)
        self._drain_rows(group, stage, tile.conv, 0, piece.width, block, par)
        area = Box(tile.out.rows, tile.out.columns, (block.first, block.first + block.count))
        emit_windows(emitter, op.pool, op.table, stage, group.target, area)
        if self._following is not None:
            keep = (
                self._following.stage.rows[0],
                min(tile.conv.rows[1], self._following.conv.rows[0]),
            )
            if keep[0] < keep[1]:
                area = Box(keep, tile.conv.columns, (0, 0))
                skipped = keep[0] - tile.conv.rows[0]
                self._drain_rows(
                    group,
                    self._stage(self._following, block),
                    area,
                    skipped,
                    piece.width,
                    block,
                    par,
                )
        emitter.half ^= 1

    def _stage(self, tile: Tile, block: Block) -> View:
        """Where the rows of `tile` wait to be pooled."""
        tensor = self._graph.tensors[self._conv.output]
        pixel = self._stage_depth
        box = tile.stage
        if pixel < tensor.channels:
            box = Box(box.rows, box.columns, (block.first, block.first + block.count))
        return View.at(self._plan.stage, tensor, box, box.width * pixel, pixel)

    def _drain_rows(
        self,
        group: _Group,
        target: View,
        area: Box,
        skipped: int,
        width: int,
        block: Block,
        par: int,
    ) -> None:
        """Drain the accumulators of `area` (rows and columns of `target`'s map), which follow
        `skipped` rows of `width` in the current half.
        """
        emitter, config = self._emitter, self._config
        down, across = self._op.windows
        table, reads = emitter.load_table(None if self._op.staged else self._op.table)
        (y, y1), (x, x1) = area_span = area.rows, area.columns
        fields = {
            "dst": target.address(y, x, block.first), "par": par, "dst_row": target.row_pitch,
            "dst_pixel": target.pixel_pitch,
            "reduce": Reduce.NONE if self._op.windows == POINTS else Reduce.MAX,
            "ry": down.size, "rx": across.size,
            "src": emitter.half * config.acc_half + skipped * across.under(width),
            "src_row": across.under(width), "channels": block.count,
            "sy": down.step, "sx": across.step, "oy": area.height, "ox": area.width,
            **transposed(target, config), **table,
        }  # fmt: skip
        accesses = [
            emitter.accumulators(False),
            Access("par", par, par + block.count, False),
            *emitter.act_write(*target.span(*area_span)),
            *reads,
        ]
        if group.residual is not None:
            group.residual.need(y1, x1)
            source = group.residual.view
            fields |= {
                "residual": 1, "res": source.address(y, x, block.first),
                "res_row": source.row_pitch, "res_pixel": source.pixel_pitch,
            }  # fmt: skip
            accesses += emitter.act_read(*source.span(*area_span))
        positions = area.height * area.width * down.size * across.size
        lanes = -(-block.count // config.vector_lanes)
        emitter.step(Opcode.DRAIN, fields, accesses, lanes * positions + VECTOR_OVERHEAD)
