"""Tiles of an operation: which outputs, which convolution rows, which inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING

from .views import Box

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..fuse import Op
    from ..ir import Conv, Graph, Pool


@dataclass(frozen=True)
class Tile:
    """A rectangle of an operation's outputs, worked on as one.

    Attributes
    ----------
    out
        Output rows and columns, all channels.
    conv
        What the convolution computes for it: the same without a pool; with one, the rows and
        columns under its windows, without those that the tile above has left behind.
    stage
        With a staged pool, all convolution rows under its windows.
    source
        The input rows and columns that it reads, from a column on whose bytes start a bus beat.
    """

    out: Box
    conv: Box
    stage: Box
    source: Box


def reach(first: int, last: int, size: int, stride: int, kernel: int, pad: int) -> tuple[int, int]:
    """The coordinates in [0, size) that the windows of outputs first … last − 1 reach over.

    `kernel` is a window's extent. Never empty: at least the nearest coordinate.
    """
    start = min(max(first * stride - pad, 0), size - 1)
    return start, min(max((last - 1) * stride - pad + kernel, start + 1), size)


def extent(conv: Conv) -> tuple[int, int]:
    """Rows and columns that one window of a convolution reaches over."""
    _, height, width, _ = conv.weight.shape
    return (height - 1) * conv.dilation[0] + 1, (width - 1) * conv.dilation[1] + 1


def source_box(node: Conv | Pool, box: Box, graph: Graph, kernel: tuple[int, int]) -> Box:
    """The inputs that `node`, with windows of `kernel`, reads for its outputs in `box`."""
    tensor = graph.tensors[node.input]
    top, left = node.padding[:2]
    return Box(
        reach(*box.rows, tensor.height, node.stride[0], kernel[0], top),
        reach(*box.columns, tensor.width, node.stride[1], kernel[1], left),
        (0, tensor.channels),
    )


def tiles(op: Op, graph: Graph, height: int, width: int, bus_bytes: int) -> list[Tile]:
    """Cut `op`'s output into tiles of at most `height` × `width`, row by row."""
    out = graph.tensors[op.output]
    align = bus_bytes // gcd(bus_bytes, graph.tensors[op.input].channels)
    result = []
    done = 0
    for y in range(0, out.height, height):
        for x in range(0, out.width, width):
            box = Box(
                (y, min(y + height, out.height)), (x, min(x + width, out.width)), (0, out.channels)
            )
            tile = _tile(op, graph, box, done)
            start, end = tile.source.columns
            columns = start // align * align, end
            tile = replace(tile, source=replace(tile.source, columns=columns))
            result.append(tile)
        done = result[-1].stage.rows[1]
    return result


def _tile(op: Op, graph: Graph, box: Box, done: int) -> Tile:
    if op.conv is None:
        assert op.pool is not None
        return Tile(box, box, box, source_box(op.pool, box, graph, op.pool.kernel))
    conv, stage = box, box
    if op.staged:
        assert op.pool is not None
        stage = source_box(op.pool, box, graph, op.pool.kernel)
        top = max(stage.rows[0], min(done, stage.rows[1] - 1))
        conv = Box((top, stage.rows[1]), stage.columns, stage.channels)
    elif op.pool is not None:
        conv = stage = source_box(op.pool, box, graph, op.pool.kernel)
    return Tile(box, conv, stage, source_box(op.conv, conv, graph, extent(op.conv)))


def stage_depth(cuts: list[Tile], config: Config) -> int:
    """Channels that a staged pool keeps: one column block, or all if tiles share rows."""
    shared = any(a.stage.rows[1] > b.stage.rows[0] for a, b in pairwise(cuts))
    return cuts[0].stage.depth if shared else min(cuts[0].stage.depth, config.cols)
