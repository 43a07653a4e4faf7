"""Products of two activations: the second one's rows are loaded as weights, from DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...hdl.isa import Memory, Opcode, Reduce
from ..schedule import Access
from .emit import target_view, window
from .tiling import POINTS, chunks
from .views import Box, View, dram_pitch

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..fuse import Op
    from ..ir import Graph, MatMul
    from .emit import Emitter
    from .plan import OpPlan

#: Cycles that a vector instruction spends beside its elements, about.
_OVERHEAD = 24


@dataclass(frozen=True)
class Head:
    """One head's product of M × K with K × N, for some of its M pixels.

    Attributes
    ----------
    source, target
        The part of the first operand and of the output: one row of a map.
    reduction
        K: channels of `source`.
    first
        Where the second operand's part begins: its pixel and its channel.
    """

    source: Box
    target: Box
    reduction: int
    first: tuple[int, int]


def columns(config: Config) -> int:
    """Columns of a product's tile: as many as are whole bus beats, for rows begin on beats."""
    return config.cols // config.bus_bytes * config.bus_bytes


def supported(node: MatMul, graph: Graph, config: Config) -> bool:
    """Whether the machine can compute `node`: what it loads must lie on bus beats."""
    source, other = graph.tensors[node.input], graph.tensors[node.other]
    if node.transposed:
        reduction = source.channels // node.heads
        aligned = reduction % config.bus_bytes == 0
    else:
        reduction = source.channels
        aligned = other.channels // node.heads % config.bus_bytes == 0
    fits = 2 * (reduction + config.rows) <= config.wgt_rows and other.height == 1
    return columns(config) > 0 and aligned and fits


def heads(node: MatMul, graph: Graph, width: int) -> list[Head]:
    """The products of `node`, at most `width` pixels each."""
    source, out = graph.tensors[node.input], graph.tensors[node.output]
    result = []
    for head in range(node.heads):
        for x in range(0, source.width, width):
            pixels = x, min(x + width, source.width)
            if node.transposed:
                k = source.channels // node.heads
                inner = Box((0, 1), pixels, (head * k, (head + 1) * k))
                outer = Box((head, head + 1), pixels, (0, out.channels))
                result.append(Head(inner, outer, k, (0, head * k)))
            else:
                n = out.channels // node.heads
                inner = Box((head, head + 1), pixels, (0, source.channels))
                outer = Box((0, 1), pixels, (head * n, (head + 1) * n))
                result.append(Head(inner, outer, source.channels, (0, head * n)))
    return result


def emit_matmul(emitter: Emitter, op: Op, plan: OpPlan, graph: Graph) -> None:
    """Emit `op`, a product of two activations, head by head."""
    node = op.matmul
    assert node is not None
    config = emitter.config
    for head in heads(node, graph, plan.width):
        source = window(
            emitter, op.input, plan.source, head.source,
            head.source.width * head.source.depth, head.source.depth,
        )  # fmt: skip
        target = target_view(emitter, op.output, plan.target, head.target)
        first, end = head.target.channels
        for c in range(first, end, columns(config)):
            count = min(columns(config), end - c)
            for piece in chunks(1, head.source.width, POINTS, (1, 1023), config):
                x = head.source.columns[0] + piece.x
                weights = _load(emitter, node, head, c)
                source.need(head.source.rows[1], x + piece.width)
                par = emitter.load_parameters(node.name, node.requant, None, c, c + count)
                _multiply(emitter, source.view, head, x, piece.width, weights)
                _drain(emitter, op, target, head, x, piece.width, c, count, par)
                emitter.half ^= 1
        if plan.target is not None:
            emitter.transfer(Opcode.STORE, emitter.home(op.output), target, head.target)


def _load(emitter: Emitter, node: MatMul, head: Head, channel: int) -> int:
    """The first WGT row of the second operand's columns from output channel `channel` on."""
    config = emitter.config
    home = emitter.home(node.other)
    key = "activations", node.name, emitter.image, head.first, channel
    found = emitter.weights.find(key)
    if found is not None:
        return found
    rows = -(-head.reduction // config.rows) * config.rows
    start, end = emitter.weights.take(key, rows)
    if node.transposed:  # rows are channels, columns are pixels
        offset, pitch = home.address(0, channel, head.first[1]), home.channel_pitch
        channels = home.tensor.width
    else:
        offset, pitch = home.address(0, 0, channel), home.pixel_pitch
        channels = head.target.channels[1]
    length = dram_pitch(min(columns(config), channels - channel), config)
    last = offset + (head.reduction - 1) * pitch + length
    emitter.step(
        Opcode.LOAD,
        {
            "memory": Memory.WGT, "segment": home.segment, "offset": offset, "length": length,
            "rows": head.reduction, "dram_pitch": pitch,
            "local": start * config.wgt_row_bytes, "local_pitch": config.wgt_row_bytes,
        },
        [Access(f"segment {home.segment}", offset, last, False), Access("wgt", start, end, True)],
        head.reduction * (-(-length // config.bus_bytes)),
    )  # fmt: skip
    return start


def _multiply(emitter: Emitter, view: View, head: Head, x: int, width: int, weights: int) -> None:
    config = emitter.config
    y, c = head.source.rows[0], head.source.channels[0]
    tiles = -(-head.reduction // config.rows)
    start, end = view.address(y, x, c), view.address(y, x + width - 1, c) + head.reduction
    emitter.step(
        Opcode.MATMUL,
        {
            "act": start, "wgt": weights, "acc": emitter.half * config.acc_half, "blocks": 1,
            "kc": head.reduction, "ky": 1, "kx": 1, "dy": 1, "dx": 1,
            "row_pitch": view.row_pitch, "pixel_pitch": view.pixel_pitch,
            "sy": 1, "sx": 1, "oy": 1, "ox": width, "height": 1, "width": width,
        },
        [*emitter.act_read(start, end), emitter.accumulators(True)],
        tiles * max(width, config.rows),
        [Access("wgt", weights, weights + tiles * config.rows, False)],
    )  # fmt: skip


def _drain(
    emitter: Emitter,
    op: Op,
    target: View,
    head: Head,
    x: int,
    width: int,
    channel: int,
    count: int,
    par: int,
) -> None:
    config = emitter.config
    y = head.target.rows[0]
    table, reads = emitter.load_table(op.table)
    start = target.address(y, x, channel)
    end = target.address(y, x + width - 1, channel) + count
    emitter.step(
        Opcode.DRAIN,
        {
            "dst": start, "par": par, "dst_row": target.row_pitch,
            "dst_pixel": target.pixel_pitch, "reduce": Reduce.NONE, "ry": 1, "rx": 1,
            "src": emitter.half * config.acc_half, "src_row": width, "channels": count,
            "sy": 1, "sx": 1, "oy": 1, "ox": width, **table,
        },
        [
            emitter.accumulators(False),
            Access("par", par, par + count, False),
            *emitter.act_write(start, end),
            *reads,
        ],
        -(-count // config.vector_lanes) * width + _OVERHEAD,
    )  # fmt: skip
