"""Fusion: a convolution and the pool that alone consumes it become one operation.

Requantization never decreases, so the maximum of requantized values is the requantized maximum of
accumulators: a max pool whose windows do not overlap costs nothing while the accumulators drain.
Any other pool works on rows of the convolution that stay on chip just long enough ("staged").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ir import Conv, Graph, Node, Pool

if TYPE_CHECKING:
    from ..hdl.config import Config


@dataclass(frozen=True)
class Op:
    """What is emitted as one: a convolution, a pool, or a convolution and the pool behind it.

    `staged` says that the pool reads requantized rows, not accumulators.
    """

    conv: Conv | None
    pool: Pool | None
    staged: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The IR nodes it computes, in order."""
        return tuple(node for node in (self.conv, self.pool) if node is not None)

    @property
    def name(self) -> str:
        """The names of its nodes."""
        return "+".join(node.name for node in self.nodes)

    @property
    def kind(self) -> str:
        """What it is: "conv", "linear", "maxpool", "conv+maxpool", …"""
        kinds = [n.kind if isinstance(n, Conv) else f"{n.mode}pool" for n in self.nodes]
        return "+".join(kinds)

    @property
    def input(self) -> str:
        """Name of the tensor it reads through its windows."""
        return self.nodes[0].input

    @property
    def output(self) -> str:
        """Name of the tensor it writes."""
        return self.nodes[-1].output

    @property
    def residual(self) -> str | None:
        """Name of the tensor it adds, if any."""
        if self.conv is not None and self.conv.residual is not None:
            return self.conv.residual.input
        return None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every tensor it reads."""
        return (self.input,) if self.residual is None else (self.input, self.residual)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of accumulators that become one output as they drain."""
        return self.pool.kernel if self.conv and self.pool and not self.staged else (1, 1)


def fuse(graph: Graph, config: Config) -> tuple[Op, ...]:
    """The operations that compute `graph` on `config`, in order."""
    uses: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for name in Op(node, None).inputs if isinstance(node, Conv) else (node.input,):
            uses[name] = uses.get(name, 0) + 1
    ops: list[Op] = []
    for node in graph.nodes:
        if isinstance(node, Conv):
            ops.append(Op(node, None))
            continue
        last = ops[-1].conv if ops and ops[-1].pool is None else None
        if last is None or last.output != node.input or uses[node.input] > 1:
            ops.append(Op(None, node))
        elif (
            node.mode == "max"
            and node.kernel == node.stride
            and not any(node.padding)
            and last.residual is None
            and node.kernel[0] * node.kernel[1] <= config.acc_half
        ):
            ops[-1] = Op(last, node)
        elif _stageable(node, graph, config):
            ops[-1] = Op(last, node, staged=True)
        else:
            ops.append(Op(None, node))
    return tuple(ops)


def _stageable(pool: Pool, graph: Graph, config: Config) -> bool:
    """Whether a pool can follow its convolution row by row.

    One accumulator half must hold the rows of a tile, and a tile the rows that the next one shares
    with it; if tiles share rows a quarter of ACT must hold them in all channels.
    """
    source, out = graph.tensors[pool.input], graph.tensors[pool.output]
    kernel, stride = pool.kernel[0], pool.stride[0]
    shared = kernel - stride
    if shared < 0:
        return False
    height = min(max(1, -(-shared // stride)), out.height)
    rows = height * stride + shared
    fits = out.height == height or 4 * rows * source.width * source.channels <= config.act_bytes
    return rows * source.width <= config.acc_half and fits
