"""Pools that read their input from ACT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...hdl.isa import Opcode, Reduce
from ..ir import Requant
from ..schedule import Access
from .emit import ADDRESS_MASK, coordinates, target_view, window
from .geometry import tiles
from .tiling import MOST_STRIDE, POINTS, chunks, most_outputs, require
from .views import Box

if TYPE_CHECKING:
    from ..fuse import Op
    from ..ir import Graph, Pool, Table
    from .emit import Emitter
    from .plan import OpPlan
    from .views import View

#: Cycles that a vector instruction spends beside its elements, about.
_OVERHEAD = 24


def emit_pool(emitter: Emitter, op: Op, plan: OpPlan, graph: Graph) -> None:
    """Emit `op`, a pool alone, tile by tile."""
    pool = op.pool
    assert pool is not None
    config = emitter.config
    out = graph.tensors[op.output]
    for tile in tiles(op, graph, plan.height, plan.width, config.bus_bytes):
        channels = graph.tensors[op.input].channels
        pitch = tile.source.width * channels
        source = window(emitter, op.input, plan.source, tile.source, pitch, channels)
        target = target_view(emitter, op.output, plan.target, tile.out)
        most = (
            most_outputs(pool.kernel[0], pool.stride[0]),
            most_outputs(pool.kernel[1], pool.stride[1]),
        )
        for piece in chunks(tile.out.height, tile.out.width, POINTS, most, config):
            y, x = tile.out.rows[0] + piece.y, tile.out.columns[0] + piece.x
            last = (y + piece.height - 1) * pool.stride[0] - pool.padding[0] + pool.kernel[0]
            across = (x + piece.width - 1) * pool.stride[1] - pool.padding[1] + pool.kernel[1]
            source.need(last, across)
            area = Box((y, y + piece.height), (x, x + piece.width), (0, out.channels))
            emit_windows(emitter, pool, op.table, source.view, target, area)
        if plan.target is not None:
            emitter.transfer(Opcode.STORE, emitter.home(op.output), target, tile.out)


def emit_windows(
    emitter: Emitter, pool: Pool, table: Table | None, source: View, target: View, area: Box
) -> None:
    """Emit the POOL instructions for the outputs in `area`."""
    require("pool window", max(pool.kernel), 15, pool.name)
    config = emitter.config
    channels = target.tensor.channels
    (sy, sx), (ky, kx) = pool.stride, pool.kernel
    requant, name = pool.requant, pool.name
    if requant is None:
        requant, name = _identity(channels, config.multiplier_bits), f"identity {channels}"
    fill = -128 if pool.mode == "max" else source.tensor.zero_point
    y0, x0 = area.rows[0], area.columns[0]
    iy0, ix0 = y0 * sy - pool.padding[0], x0 * sx - pool.padding[1]
    last = iy0 + (area.height - 1) * sy + ky
    start, end = area.channels
    for first in range(start, end, emitter.most_parameters):
        count = min(emitter.most_parameters, end - first)
        lookup, reads = emitter.load_table(table)
        par = emitter.load_parameters(name, requant, None, first, first + count)
        emitter.step(
            Opcode.POOL,
            {
                "dst": target.address(y0, x0, first), "par": par,
                "dst_row": target.row_pitch, "dst_pixel": target.pixel_pitch,
                "reduce": Reduce.MAX if pool.mode == "max" else Reduce.SUM,
                "ry": ky, "rx": kx, "src": source.address(iy0, ix0, first) & ADDRESS_MASK,
                "src_row": source.row_pitch, "src_pixel": source.pixel_pitch,
                "channels": count, "sy": min(sy, MOST_STRIDE), "sx": min(sx, MOST_STRIDE),
                "oy": area.height, "ox": area.width,
                **coordinates(source.tensor, iy0, ix0), "fill": fill, **lookup,
            },
            [
                *emitter.act_read(*source.span((iy0, last))),
                *emitter.act_write(*target.span(area.rows, area.columns)),
                Access("par", par, par + count, False),
                *reads,
            ],
            -(-count // config.vector_lanes) * area.height * area.width * ky * kx + _OVERHEAD,
        )  # fmt: skip


def _identity(channels: int, multiplier_bits: int) -> Requant:
    shift = multiplier_bits - 2
    full = np.full(channels, 1, np.int64)
    return Requant(bias=full * 0, multiplier=full << shift, shift=full * shift)
