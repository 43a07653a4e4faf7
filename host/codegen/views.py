"""Maps in the activation scratchpad and in DRAM: where the byte (y, x, c) lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..ir import Conv, Graph, Tensor

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ...hdl.isa import Segment
    from ..fuse import Op


@dataclass(frozen=True)
class Box:
    """A part of a map: rows, columns and channels, each [start, end)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    channels: tuple[int, int]

    @property
    def height(self) -> int:
        """Rows."""
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.columns[1] - self.columns[0]

    @property
    def depth(self) -> int:
        """Channels."""
        return self.channels[1] - self.channels[0]


def whole(tensor: Tensor) -> Box:
    """All of a map."""
    return Box((0, tensor.height), (0, tensor.width), (0, tensor.channels))


@dataclass(frozen=True)
class View:
    """A part of a map in ACT: its byte (y, x, c) lies at
    origin + y·row_pitch + x·pixel_pitch + c·channel_pitch.

    Coordinates are those of the whole map, so `origin` may lie outside the memory.
    """

    tensor: Tensor
    box: Box
    origin: int
    row_pitch: int
    pixel_pitch: int
    channel_pitch: int = 1

    @classmethod
    def at(
        cls,
        base: int,
        tensor: Tensor,
        box: Box,
        row_pitch: int,
        pixel_pitch: int,
        channel_pitch: int = 1,
    ) -> View:
        """The view whose first byte lies at `base`."""
        view = cls(tensor, box, 0, row_pitch, pixel_pitch, channel_pitch)
        origin = base - view.address(box.rows[0], box.columns[0], box.channels[0])
        return replace(view, origin=origin)

    def address(self, y: int, x: int, c: int) -> int:
        """ACT byte address of an element; may lie outside the part (padding)."""
        pitches = y * self.row_pitch + x * self.pixel_pitch + c * self.channel_pitch
        return self.origin + pitches

    def span(
        self, rows: tuple[int, int], columns: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Byte range [start, end) from the first of these pixels to the last, in all channels, as
        far as they are here.
        """
        (y0, y1), (x0, x1) = _clip(rows, self.box.rows), _clip(columns, self.box.columns)
        c0, c1 = self.box.channels
        return self.address(y0, x0, c0), self.address(y1 - 1, x1 - 1, c1 - 1) + 1


def _clip(part: tuple[int, int] | None, bounds: tuple[int, int]) -> tuple[int, int]:
    """The interval `part` within `bounds`: never empty, at least the nearest element."""
    if part is None:
        return bounds
    first = min(max(part[0], bounds[0]), bounds[1] - 1)
    return first, max(min(part[1], bounds[1]), first + 1)


@dataclass(frozen=True)
class Home:
    """A whole map in DRAM: its byte (y, x, c) lies at
    offset + y·row_pitch + x·pixel_pitch + c·channel_pitch.

    Either pixels are contiguous (channel_pitch 1), or, in maps of one row that the machine reads
    transposed, channels are (pixel_pitch 1). What lies apart does so at multiples of the bus width.
    """

    tensor: Tensor
    segment: Segment
    offset: int
    row_pitch: int
    pixel_pitch: int
    channel_pitch: int = 1

    def address(self, y: int, x: int, c: int) -> int:
        """Offset of an element in the segment."""
        pitches = y * self.row_pitch + x * self.pixel_pitch + c * self.channel_pitch
        return self.offset + pitches

    @property
    def bytes(self) -> int:
        """Bytes that it takes, with the padding behind its rows."""
        return self.tensor.height * self.row_pitch


def dram_pitch(length: int, config: Config) -> int:
    """Bytes that a row of `length` bytes takes in DRAM."""
    return -(-length // config.bus_bytes) * config.bus_bytes


def row_pitch(least: int, channels: int, nodes: list[Conv], config: Config) -> int:
    """The row pitch, at least `least`, that lets every consumer pack its reduction without gaps,
    where one exists.

    A window row is a run of kernel_width · channels bytes; a vector that straddles two runs needs
    the next run to continue in the next byte lane, so dy · row_pitch ≡ run (mod act_lanes).
    """
    lanes = config.act_lanes
    demands = [
        (node.dilation[0], node.weight.shape[2] * channels)
        for node in nodes
        if node.weight.shape[1] > 1
        and node.groups == 1
        and node.dilation[1] == 1
        and (node.weight.shape[2] * channels) % config.rows
    ]
    for pitch in range(least, least + lanes):
        if all((dy * pitch - run) % lanes == 0 for dy, run in demands):
            return pitch
    return least


def window_pitch(op: Op, graph: Graph, width: int, config: Config) -> int:
    """Row pitch in ACT of a tile of `width` columns of `op`'s input."""
    channels = graph.tensors[op.input].channels
    nodes = [op.conv] if op.conv is not None else []
    return row_pitch(width * channels, channels, nodes, config)


def readers(name: str, graph: Graph) -> list[Conv]:
    """The convolutions that read tensor `name` through their windows."""
    return [node for node in graph.nodes if isinstance(node, Conv) and node.input == name]


def inner_count(node: Conv, channels: int, view: View, config: Config) -> int:
    """`kc` of a MATMUL over `channels` input channels of `node`: rounded up to a multiple of rows
    where a vector would otherwise straddle runs that do not continue in the next byte lane.
    """
    _, height, width, _ = node.weight.shape
    if channels % config.rows == 0 or height * width == 1:
        return channels
    pixel_jump = node.dilation[1] * view.pixel_pitch - channels
    run = (width - 1) * node.dilation[1] * view.pixel_pitch + channels
    row_jump = node.dilation[0] * view.row_pitch - run
    pixels_fit = width == 1 or pixel_jump % config.act_lanes == 0
    rows_fit = (
        height == 1 or (width * channels) % config.rows == 0 or row_jump % config.act_lanes == 0
    )
    if pixels_fit and rows_fit:
        return channels
    return -(-channels // config.rows) * config.rows
