"""Fusion: a convolution and the max pool that alone consumes it become one operation.

Requantization never decreases, so the maximum of requantized values is the requantized maximum of
accumulators: the pool costs nothing while the accumulators drain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ir import Conv, Graph, Node, Pool

if TYPE_CHECKING:
    from ..hdl.config import Config


@dataclass(frozen=True)
class Op:
    """What is emitted as one: a convolution, a pool, or a convolution that pools as it drains."""

    conv: Conv | None
    pool: Pool | None

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
        """Name of the tensor it reads."""
        return self.nodes[0].input

    @property
    def output(self) -> str:
        """Name of the tensor it writes."""
        return self.nodes[-1].output

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every tensor it reads."""
        if self.conv is not None and self.conv.residual is not None:
            return self.input, self.conv.residual.input
        return (self.input,)


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
        if (
            last is not None
            and last.output == node.input
            and uses[node.input] == 1
            and node.mode == "max"
            and node.requant is None
            and node.kernel == node.stride
            and not any(node.padding)
            and last.residual is None
            and node.kernel[0] * node.kernel[1] <= config.acc_half
        ):
            ops[-1] = Op(last, node)
        else:
            ops.append(Op(None, node))
    return tuple(ops)
