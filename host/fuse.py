"""Fusion: what the machine does in one pass becomes one operation.

A max pool can be taken while the accumulators of its convolution drain: requantization never
decreases, so the maximum of requantized values is the requantized maximum of accumulators. This
costs nothing where windows do not overlap; where they do, the array computes twice what chunks of
accumulators share. Any other pool works on rows of the convolution that stay on chip just long
enough ("staged"). A table follows whatever wrote its input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from .codegen.tiling import MOST_STRIDE, POINTS, Reach, blocks, chunks, most_chunk
from .ir import Concat, Conv, Graph, Host, MatMul, Node, Pool, Table, sources

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .batch import Batch


@dataclass(frozen=True)
class Op:
    """What is emitted as one: a convolution, product of activations or pool, with what follows it
    in the same pass; or an operation of the host.

    `staged` says that the pool reads requantized rows, not accumulators; `on_host` that the host
    computes it; `joint` that it takes all images of a batch at once, its tensors those of
    :attr:`.Batch.stacked`.
    """

    nodes: tuple[Node, ...]
    staged: bool = False
    on_host: bool = False
    joint: bool = False

    @property
    def conv(self) -> Conv | None:
        """The convolution that it begins with."""
        first = self.nodes[0]
        return first if isinstance(first, Conv) and not self.on_host else None

    @property
    def matmul(self) -> MatMul | None:
        """The product of activations that it begins with."""
        first = self.nodes[0]
        return first if isinstance(first, MatMul) and not self.on_host else None

    @property
    def pool(self) -> Pool | None:
        """The pool in it; a table by itself follows a pool of single pixels."""
        first = self.nodes[0]
        if isinstance(first, Table):
            return Pool(first.name, first.input, first.output, "max", (1, 1), (1, 1))
        return cast("Pool | None", next((n for n in self.nodes if isinstance(n, Pool)), None))

    @property
    def table(self) -> Table | None:
        """The table that its results go through."""
        return self.nodes[-1] if isinstance(self.nodes[-1], Table) else None

    @property
    def name(self) -> str:
        """The names of its nodes."""
        return "+".join(node.name for node in self.nodes)

    @property
    def kind(self) -> str:
        """What it is: "conv", "linear", "maxpool", "conv+maxpool", "linear+gelu", "softmax", …"""
        return "+".join(kind(node) for node in self.nodes)

    @property
    def input(self) -> str:
        """Name of the tensor it reads through its windows."""
        return self.inputs[0]

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
        return sources(self.nodes[0])

    @property
    def windows(self) -> tuple[Reach, Reach]:
        """Rows and columns of accumulators that become one output as they drain."""
        if self.conv is None or self.pool is None or self.staged:
            return POINTS
        down, across = zip(self.pool.kernel, self.pool.stride, strict=True)
        return Reach(*down), Reach(*across)


def kind(node: Node) -> str:
    """What a report calls a node."""
    match node:
        case Conv():
            return node.kind
        case Pool():
            return f"{node.mode}pool"
        case Table():
            return node.function
        case Host():
            return node.operator
    return type(node).__name__.lower()


def fuse(batch: Batch, config: Config, host: frozenset[str] = frozenset()) -> tuple[Op, ...]:
    """The operations that compute `batch` on `config`, in order.

    The nodes called `host` are the host's. Other concatenations are no operations: their inputs
    are written where they belong.
    """
    uses: dict[str, int] = {batch.one.output: 1}
    for node in batch.one.nodes:
        for name in sources(node):
            uses[name] = uses.get(name, 0) + 1
    ops: list[Op] = []
    for node in batch.stacked.nodes:
        joint = node.name in batch.joint
        if node.name in host:
            ops.append(Op((node,), on_host=True, joint=joint))
            continue
        if isinstance(node, Concat):
            continue
        last = ops[-1] if ops else None
        if (
            last is not None
            and sources(node) == (last.output,)
            and uses[last.output] == 1
            and not last.on_host
            and last.table is None
            and last.joint == joint
        ):
            longer = replace(last, nodes=(*last.nodes, node))
            if isinstance(node, Table):
                ops[-1] = longer
                continue
            if isinstance(node, Pool) and last.conv is not None and last.pool is None:
                if _drains(last.conv, node, batch.graph(node.name), config):
                    ops[-1] = longer
                    continue
                if _stageable(node, batch.graph(node.name), config):
                    ops[-1] = replace(longer, staged=True)
                    continue
        ops.append(Op((node,), joint=joint))
    return tuple(ops)


def _drains(conv: Conv, pool: Pool, graph: Graph, config: Config) -> bool:
    """Whether a pool can read accumulators, and should."""
    if (
        pool.mode != "max"
        or any(pool.padding)
        or conv.residual is not None
        or max(pool.stride) > MOST_STRIDE
        or pool.kernel[0] * pool.kernel[1] > config.acc_half
    ):
        return False
    return pool.kernel == pool.stride or _draining_pays(conv, pool, graph, config)


def _draining_pays(conv: Conv, pool: Pool, graph: Graph, config: Config) -> bool:
    """Whether to compute twice what overlapping windows share is faster than to requantize all of
    the convolution: where the vector unit has more to do than the array.
    """
    full, out = graph.tensors[pool.input], graph.tensors[pool.output]
    down, across = windows = (
        Reach(pool.kernel[0], pool.stride[0]), Reach(pool.kernel[1], pool.stride[1])
    )  # fmt: skip
    cut = chunks(out.height, out.width, windows, most_chunk(conv), config)
    taps = conv.weight[0, :, :, 0].size
    tiles = sum(-(-taps * part.inner_count // config.rows) for part in blocks(conv, config))
    lanes = -(-full.channels // config.vector_lanes)
    pooling = lanes * out.height * out.width * down.size * across.size
    twice = tiles * sum(down.under(c.height) * across.under(c.width) for c in cut)
    positions = full.height * full.width
    return max(twice, pooling) < max(tiles * positions, lanes * positions + pooling)


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
