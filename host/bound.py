"""The reference bound on a layer's cycles.

``max(T, bytes / D)`` with ``T = ⌈K/rows⌉ · ⌈N/cols⌉ · max(M, rows) + (rows + cols − 1)``: the time
of a weight-stationary array that never idles, or of the bus that moves weights, inputs and outputs
once, at D = bus_bytes a cycle. A pool fused into its convolution costs nothing of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ir import Conv, Graph, MatMul, Node, sources

if TYPE_CHECKING:
    from ..hdl.config import Config


def macs(node: Node, graph: Graph) -> int:
    """Multiply-accumulates of a node for one image."""
    out = graph.tensors[node.output]
    if isinstance(node, MatMul):
        source = graph.tensors[node.input]
        return (
            out.height
            * out.width
            * out.channels
            * source.channels
            // (node.heads if node.transposed else 1)
        )
    if not isinstance(node, Conv):
        return 0
    return out.height * out.width * node.weight.size


def bound_cycles(node: Node, graph: Graph, config: Config) -> int:
    """The reference bound of one node, in cycles."""
    out = graph.tensors[node.output]
    names = (node.input,) if isinstance(node, Conv) else sources(node)
    moved = [*(graph.tensors[name] for name in names), out]
    sizes = [t.height * t.width * t.channels for t in moved]
    if not isinstance(node, Conv):
        return -(-sum(sizes) // config.bus_bytes)
    channels, height, width, inner = node.weight.shape
    groups = node.groups
    tiles = -(-height * width * inner // config.rows) * -(-channels // groups // config.cols)
    if groups > 1 and inner == 1 and channels == groups:
        tiles, groups = height * width * -(-channels // config.cols), 1
    vectors = max(out.height * out.width, config.rows)
    time = groups * tiles * vectors + config.rows + config.cols - 1
    return max(time, -(-(sum(sizes) + node.weight.size) // config.bus_bytes))
