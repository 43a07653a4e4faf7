"""How an operation is cut to fit accumulators and weight scratchpad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CompileError

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..ir import Conv


#: Most kernel rows, and columns, that one instruction walks.
MOST_TAPS = 15
#: Most output rows, and columns, before pooling.
MOST_OUTPUTS = 1023
#: Longest stride that an instruction has.
MOST_STRIDE = 15
#: Most input rows, and columns, that the windows of one instruction reach over.
MOST_INPUTS = 2047


@dataclass(frozen=True)
class Chunk:
    """A rectangle of outputs: rows y … y + height − 1, columns x … x + width − 1."""

    y: int
    height: int
    x: int
    width: int


@dataclass(frozen=True)
class KBox:
    """A box of the reduction: kernel rows, kernel columns and channels [start, end)."""

    ky: tuple[int, int]
    kx: tuple[int, int]
    kc: tuple[int, int]

    @property
    def size(self) -> int:
        """Reduction elements in the box."""
        return (self.ky[1] - self.ky[0]) * (self.kx[1] - self.kx[0]) * (self.kc[1] - self.kc[0])


@dataclass(frozen=True)
class Block:
    """Output channels that share the array's columns, and the input channels they depend on."""

    first: int
    count: int
    inner_first: int
    inner_count: int


def blocks(conv: Conv, config: Config) -> list[Block]:
    """Cut a convolution's output channels to the array's columns.

    Groups narrower than the array share it, with zeros where an output does not depend on an
    input: a depthwise convolution becomes diagonal tiles.
    """
    total, _, _, inner = conv.weight.shape
    per_group = total // conv.groups
    if per_group >= config.cols:
        return [
            Block(group * per_group + n, min(config.cols, per_group - n), group * inner, inner)
            for group in range(conv.groups)
            for n in range(0, per_group, config.cols)
        ]
    together = max(1, min(config.cols // per_group, max(1, config.rows // inner)))
    return [
        Block(
            group * per_group,
            min(together, conv.groups - group) * per_group,
            group * inner,
            min(together, conv.groups - group) * inner,
        )
        for group in range(0, conv.groups, together)
    ]


def block_weights(conv: Conv, block: Block, box: KBox, config: Config) -> np.ndarray:
    """The weight rows int8 [tiles · rows, block.count] of one block and reduction box."""
    (y0, y1), (x0, x1), (c0, c1) = box.ky, box.kx, box.kc
    _, _, _, inner = conv.weight.shape
    out = np.zeros((y1 - y0, x1 - x0, block.inner_count, block.count), np.int8)
    per_group = conv.weight.shape[0] // conv.groups
    for n in range(0, block.count, per_group):
        width = min(per_group, block.count - n)
        part = conv.weight[block.first + n : block.first + n + width, y0:y1, x0:x1]
        at = (block.first + n) // per_group * inner - block.inner_first
        out[:, :, at : at + inner, n : n + width] = part.transpose(1, 2, 3, 0)
    out = out[:, :, c0 : min(c1, block.inner_count)]
    out = np.pad(out, ((0, 0), (0, 0), (0, c1 - c0 - out.shape[2]), (0, 0)))
    matrix = out.reshape(-1, block.count)
    return np.pad(matrix, ((0, -len(matrix) % config.rows), (0, 0)))


def most_chunk(conv: Conv) -> tuple[int, int]:
    """Most output rows and columns of `conv` that one instruction computes."""
    _, kernel_h, kernel_w, _ = conv.weight.shape
    return (
        most_outputs((kernel_h - 1) * conv.dilation[0] + 1, conv.stride[0]),
        most_outputs((kernel_w - 1) * conv.dilation[1] + 1, conv.stride[1]),
    )


def most_outputs(kernel: int, stride: int) -> int:
    """Most outputs along an axis of one instruction; `kernel` is what a window reaches over."""
    if stride > MOST_STRIDE:
        return 1
    return min(MOST_OUTPUTS, max(1, (MOST_INPUTS - kernel) // stride + 1))


@dataclass(frozen=True)
class Reach:
    """Windows over an axis: how many elements one covers, and from one to the next."""

    size: int = 1
    step: int = 1

    def under(self, outputs: int) -> int:
        """Elements under so many windows."""
        return (outputs - 1) * self.step + self.size

    def fit(self, elements: int) -> int:
        """Windows on so many elements."""
        return max(0, (elements - self.size) // self.step + 1)


#: Windows of one element, which are none.
POINTS = Reach(), Reach()


def chunks(
    height: int,
    width: int,
    windows: tuple[Reach, Reach],
    most: tuple[int, int],
    config: Config,
    *,
    whole: bool = False,
) -> list[Chunk]:
    """Cut a `height` × `width` output, with accumulators under its windows, to accumulator halves
    of `most` rows and columns.

    A chunk holds at least four array heights of positions where the map allows, so that streaming
    hides the next weights; an eighth of the map where that is more, so that draining one chunk
    overlaps streaming the next; and never more than a half. With `whole`, or where windows overlap
    and chunks compute the same twice, as many rows as fit.
    """
    down, across = windows
    columns = min(width, across.fit(config.acc_half // down.size), max(1, across.fit(most[1])))
    per_row = across.under(columns) * down.step
    rows = min(
        height, down.fit(config.acc_half // across.under(columns)), max(1, down.fit(most[0]))
    )
    if not whole and down.size <= down.step:
        area = height * width * down.step * across.step
        target = max(4 * config.rows, -(-area // 8))
        rows = max(1, min(rows, -(-target // per_row)))
    return [
        Chunk(y, min(rows, height - y), x, min(columns, width - x))
        for y in range(0, height, rows)
        for x in range(0, width, columns)
    ]


def k_boxes(
    kernel: tuple[int, int], channels: int, config: Config, limit: int | None = None
) -> list[KBox]:
    """Cut a reduction into boxes that an instruction can walk (MOST_TAPS by MOST_TAPS positions),
    of at most `limit` elements: by default what fills a quarter of the weight scratchpad.
    """
    if limit is None:
        limit = max(1, config.wgt_rows // 4 // config.rows) * config.rows
    inner = min(channels, limit)
    columns = min(kernel[1], MOST_TAPS, max(1, limit // channels))
    whole_rows = columns == kernel[1] and channels * columns <= limit
    rows = min(kernel[0], MOST_TAPS, limit // (channels * columns)) if whole_rows else 1
    return [
        KBox(
            (y, min(y + rows, kernel[0])),
            (x, min(x + columns, kernel[1])),
            (c, min(c + inner, channels)),
        )
        for y in range(0, kernel[0], rows)
        for x in range(0, kernel[1], columns)
        for c in range(0, channels, inner)
    ]


def require(what: str, value: int, most: int, where: str) -> None:
    """Refuse a quantity that no instruction field can hold."""
    if value > most:
        raise CompileError(f"{where}: {what} is {value}, the machine handles at most {most}")
