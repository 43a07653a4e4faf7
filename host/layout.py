"""Where tensors live in the activation scratchpad, and how their rows are pitched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import CompileError
from .ir import Conv, Graph, Tensor

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .fuse import Op


@dataclass(frozen=True)
class Placement:
    """A tensor in ACT: byte (y, x, c) lies at base + y·row_pitch + x·pixel_pitch + c."""

    tensor: Tensor
    base: int
    row_pitch: int
    pixel_pitch: int

    @property
    def bytes(self) -> int:
        """Bytes from the first to the last byte of the map, inclusive."""
        t = self.tensor
        return (t.height - 1) * self.row_pitch + (t.width - 1) * self.pixel_pitch + t.channels

    def address(self, y: int, x: int = 0, c: int = 0) -> int:
        """ACT byte address of element (y, x, c); may lie outside the map (padding)."""
        return self.base + y * self.row_pitch + x * self.pixel_pitch + c

    def rows(self, first: int, last: int) -> tuple[int, int]:
        """Byte range [start, end) of rows first … last − 1, clipped to the map."""
        first, last = max(first, 0), min(last, self.tensor.height)
        width = (self.tensor.width - 1) * self.pixel_pitch + self.tensor.channels
        return self.address(first), self.address(max(last, first + 1) - 1) + width


def row_pitch(tensor: Tensor, graph: Graph, config: Config) -> int:
    """The row pitch that lets every consumer pack its reduction without gaps, where one exists.

    A window row is a run of kernel_width · channels bytes; a vector that straddles two runs needs
    the next run to continue in the next byte lane, so dy · row_pitch ≡ run (mod act_lanes).
    """
    lanes = config.act_lanes
    least = tensor.width * tensor.channels
    demands = [
        (node.dilation[0], node.weight.shape[2] * tensor.channels)
        for node in graph.nodes
        if isinstance(node, Conv)
        and node.input == tensor.name
        and node.weight.shape[1] > 1
        and node.groups == 1
        and node.dilation[1] == 1
        and (node.weight.shape[2] * tensor.channels) % config.rows
    ]
    for pitch in range(least, least + lanes):
        if all((dy * pitch - run) % lanes == 0 for dy, run in demands):
            return pitch
    return least


def inner_count(node: Conv, place: Placement, config: Config) -> int:
    """`kc` of the node's MATMUL: channels of a group, rounded up to a multiple of rows where a
    vector would otherwise straddle runs that do not continue in the next byte lane.
    """
    _, height, width, channels = node.weight.shape
    if channels % config.rows == 0 or height * width == 1:
        return channels
    pixel_jump = node.dilation[1] * place.pixel_pitch - channels
    run = (width - 1) * node.dilation[1] * place.pixel_pitch + channels
    row_jump = node.dilation[0] * place.row_pitch - run
    pixels_fit = width == 1 or pixel_jump % config.act_lanes == 0
    rows_fit = (
        height == 1 or (width * channels) % config.rows == 0 or row_jump % config.act_lanes == 0
    )
    if pixels_fit and rows_fit:
        return channels
    return -(-channels // config.rows) * config.rows


def place(graph: Graph, ops: tuple[Op, ...], config: Config) -> dict[str, Placement]:
    """Give every tensor that `ops` read or write an address in ACT, for as long as it lives.

    Tensors that live at the same time do not overlap; where there is room each starts in a bank
    of its own, so that units seldom meet in a bank.

    Raises
    ------
    CompileError
        A tensor does not fit beside those that live with it.
    """
    births: dict[str, int] = {graph.input: -1}
    deaths: dict[str, int] = {graph.output: len(ops)}
    for step, op in enumerate(ops):
        births[op.output] = step
        for name in op.inputs:
            deaths[name] = max(deaths.get(name, -1), step)
    placed: dict[str, Placement] = {}
    slack = config.rows
    for name in sorted(births, key=lambda n: births[n]):
        tensor = graph.tensors[name]
        pitch = row_pitch(tensor, graph, config)
        trial = Placement(tensor, 0, pitch, tensor.channels)
        size = trial.bytes + slack
        alive = sorted(
            (p.base, p.base + p.bytes + slack)
            for other, p in placed.items()
            if deaths.get(other, births[other]) >= births[name]
        )
        base = _find(alive, size, config)
        if base is None:
            need = size + sum(end - start for start, end in alive)
            raise CompileError(
                f"tensor {name!r} ({'×'.join(map(str, tensor.shape))}) does not fit the activation "
                f"scratchpad beside the tensors in use: {need} bytes wanted, act_bytes is "
                f"{config.act_bytes}; choose a larger act_bytes"
            )
        placed[name] = Placement(tensor, base, pitch, tensor.channels)
    return placed


def _find(alive: list[tuple[int, int]], size: int, config: Config) -> int | None:
    """First free address for `size` bytes: an unused bank's start if there is one, else any."""
    lanes = config.act_lanes
    bank = config.act_bank_bytes
    ends = [-(-end // lanes) * lanes for _, end in alive]

    def free(base: int) -> bool:
        return base + size <= config.act_bytes and all(
            base + size <= start or base >= end for start, end in alive
        )

    def fresh(base: int) -> bool:
        banks = range(base // bank, (base + size - 1) // bank + 1)
        return all(not (s // bank <= b <= (e - 1) // bank) for s, e in alive for b in banks)

    starts = range(0, config.act_bytes, bank)
    for base in starts:
        if free(base) and fresh(base):
            return base
    return next((base for base in (0, *ends, *starts) if free(base)), None)
