"""The reference bound on a layer's cycles, and what goes into it.

``max(T, bytes / D)`` with ``T = ⌈K/rows⌉ · ⌈N/cols⌉ · max(M, rows) + (rows + cols − 1)``: the time
of a weight-stationary array that never idles, or of the bus that moves weights, inputs and outputs
once, at D = bus_bytes a cycle. Depthwise weights lie on the diagonals of tiles; residual operands
are left out; a pool fused into its convolution costs nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ir import Conv, MatMul, sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..hdl.config import Config
    from .ir import Graph, Node


@dataclass(frozen=True)
class Product:
    """What an array computes for a node: `count` products of an m×k by a k×n matrix.

    A convolution is one after im2col, in each of its groups; of a depthwise one each channel.
    """

    count: int
    m: int
    k: int
    n: int
    depthwise: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.count * self.m * self.k * self.n

    def cycles(self, rows: int, cols: int) -> int:
        """Cycles of a weight-stationary array of this size that never idles."""
        if self.depthwise:
            tiles = self.k * -(-self.count // cols)
        else:
            tiles = self.count * -(-self.k // rows) * -(-self.n // cols)
        return tiles * max(self.m, rows) + rows + cols - 1


def product(node: Node, graph: Graph, *, batch: int = 1) -> Product | None:
    """The matrix products of a node for `batch` images; None of a node without any."""
    out = graph.tensors[node.output]
    match node:
        case Conv():
            channels, height, width, inner = node.weight.shape
            return Product(
                node.groups,
                batch * out.height * out.width,
                height * width * inner,
                channels // node.groups,
                depthwise=node.groups == channels and node.groups > 1 and inner == 1,
            )
        case MatMul(transposed=True):
            source = graph.tensors[node.input]
            count = batch * node.heads
            return Product(count, out.width, source.channels // node.heads, out.channels)
        case MatMul():
            source = graph.tensors[node.input]
            count = batch * node.heads
            return Product(count, out.width, source.channels, out.channels // node.heads)
        case _:
            return None


def macs(node: Node, graph: Graph) -> int:
    """Multiply-accumulates of a node for one image."""
    found = product(node, graph)
    return found.macs if found else 0


def compulsory_bytes(nodes: Sequence[Node], graph: Graph, *, batch: int = 1) -> int:
    """Bytes of weights, inputs (but for residuals) and output of nodes that run as one, once;
    inputs and output of `batch` images.
    """
    if not nodes:
        return 0
    made = {node.output for node in nodes}
    read = [
        name
        for node in nodes
        for name in ((node.input,) if isinstance(node, Conv) else sources(node))
        if name not in made
    ]
    shapes = [graph.tensors[name].shape for name in dict.fromkeys((*read, nodes[-1].output))]
    weights = sum(node.weight.size for node in nodes if isinstance(node, Conv))
    return weights + batch * sum(height * width * channels for height, width, channels in shapes)


def bound_cycles(
    nodes: Sequence[Node],
    graph: Graph,
    config: Config,
    *,
    beat_interval: int = 1,
    batch: int = 1,
) -> int:
    """The reference bound of nodes that run as one, in cycles, for `batch` images; a beat takes
    `beat_interval`.
    """
    products = [found for node in nodes if (found := product(node, graph, batch=batch))]
    time = sum(found.cycles(config.rows, config.cols) for found in products)
    beats = -(-compulsory_bytes(nodes, graph, batch=batch) // config.bus_bytes)
    return max(time, beats * beat_interval)
