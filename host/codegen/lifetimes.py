"""How long tensors live, in which maps, and how much room these take in ACT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..batch import regions
from ..ir import Concat
from .tiling import blocks
from .views import readers, row_pitch

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..batch import Batch
    from ..fuse import Op
    from ..ir import Graph, Tensor


class Lifetimes:
    """Tensors that are concatenated live in the map that they become part of, their root.

    A root is stacked, so that it holds all images of the batch, if it outlives an image's turn: if
    operations of several regions touch it, or one that takes all images at once.

    Attributes
    ----------
    roots
        For every tensor that is written or read: the map that it lives in, and its first channel.
    births, deaths
        For every root: the operations that write it first and read it last; −1 and their number
        for the network's ends.
    stacked
        The roots that hold all images.
    pinned
        The roots that cannot live in DRAM, because their parts do not lie on bus beats.
    transposed
        The tensors that lie in DRAM by channels first.
    """

    def __init__(self, batch: Batch, ops: tuple[Op, ...], config: Config):
        graph = batch.one
        self._batch = batch
        self._graph = graph
        self._ops = ops
        self._config = config
        self._slacks: dict[str, int] = {}
        self.roots = _roots(graph, ops)
        self.transposed = {
            op.matmul.other for op in ops if op.matmul is not None and op.matmul.transposed
        }
        births: dict[str, int] = {graph.input: -1}
        deaths: dict[str, int] = {graph.output: len(ops)}
        for step, op in enumerate(ops):
            births.setdefault(op.output, step)
            for name in op.inputs:
                deaths[name] = step
        self.births: dict[str, int] = {}
        self.deaths: dict[str, int] = {}
        for name, (root, _) in self.roots.items():
            birth = births.get(name, len(ops))
            self.births[root] = min(self.births.get(root, birth), birth)
            death = max(deaths.get(name, -1), birth if name in births else -1)
            self.deaths[root] = max(self.deaths.get(root, -1), death)
        self.stacked = self._stack() if batch.images > 1 else set[str]()
        self.pinned = {root for root in self.births if not self._on_beats(root)}

    def _stack(self) -> set[str]:
        """The stacked roots; they live from the begin of a region to the end of one."""
        ends = {self.roots[name][0] for name in (self._graph.input, self._graph.output)}
        region_of = {step: region for region in regions(self._ops) for step in region}
        touched: dict[str, set[range]] = {root: set() for root in self.births}
        joint = set[str]()
        for step, op in enumerate(self._ops):
            for name in (*op.inputs, op.output):
                root = self.roots[name][0]
                touched[root].add(region_of[step])
                joint |= {root} if op.joint else set()
        stacked = {root for root in self.births if len(touched[root]) > 1} | joint | ends
        for root in stacked:
            if self.births[root] in region_of:
                self.births[root] = region_of[self.births[root]].start
            if self.deaths[root] in region_of:
                self.deaths[root] = region_of[self.deaths[root]].stop - 1
        return stacked

    def stored(self, root: str) -> Tensor:
        """`root` as it lies in ACT."""
        return (self._batch.stacked if root in self.stacked else self._graph).tensors[root]

    def _on_beats(self, root: str) -> bool:
        """Whether the parts of `root`, if it has any, lie on bus beats, so that it can in DRAM."""
        members, bus = self.members(root), self._config.bus_bytes
        return len(members) == 1 or not any(
            channel % bus or self._graph.tensors[name].channels % bus for name, channel in members
        )

    def in_dram(self) -> set[str]:
        """The roots that live in DRAM in any case: the network's ends, what the host or a product
        of activations reads there, what must outlive a run of the machine, what is too large.
        """
        graph = self._graph
        names = {graph.input, graph.output}
        for step, op in enumerate(self._ops):
            if op.matmul is not None:
                names.add(op.matmul.other)
            if op.on_host:
                names |= {*op.inputs, op.output}
                names |= {n for n in self.births if self.births[n] < step < self.deaths[n]}
        half = self._config.act_bytes // 2
        names |= {n for n in self.births if self.size(n) > half}
        return {self.roots[name][0] for name in names} - self.pinned

    def size(self, root: str) -> int:
        """Bytes of a root kept in ACT."""
        tensor = self.stored(root)
        return tensor.height * self.pitch(tensor, tensor.width) + self.slack(root)

    def slack(self, name: str) -> int:
        """Bytes behind a tensor that windows may read besides, where reductions are rounded up."""
        if name not in self._slacks:
            rounded = any(
                part.inner_count % self._config.rows
                for node in readers(name, self._graph)
                if node.weight[0, :, :, 0].size > 1
                for part in blocks(node, self._config)
            )
            self._slacks[name] = self._config.rows if rounded else 0
        return self._slacks[name]

    def pitch(self, tensor: Tensor, width: int) -> int:
        """Row pitch of `width` columns of a tensor in ACT."""
        nodes = readers(tensor.name, self._graph)
        return row_pitch(width * tensor.channels, tensor.channels, nodes, self._config)

    def alive(self, step: int, in_dram: set[str]) -> list[str]:
        """The tensors that live on chip during an operation, largest first."""
        names = [
            name
            for name in self.births
            if self.births[name] <= step <= self.deaths[name] and name not in in_dram | self.pinned
        ]
        return sorted(names, key=lambda name: -self.size(name))

    def members(self, root: str) -> list[tuple[str, int]]:
        """The tensors that live in `root`, itself among them, and their first channels."""
        return [(name, c) for name, (other, c) in self.roots.items() if other == root]


def _roots(graph: Graph, ops: tuple[Op, ...]) -> dict[str, tuple[str, int]]:
    """For every tensor that is written or read: the map that it lives in, and its first channel.

    A concatenation that no operation computes is a map in which its inputs live.
    """
    computed = dict.fromkeys(op.output for op in ops)  # in order: addresses depend on it
    out = {name: (name, 0) for name in (graph.input, *computed)}
    for node in reversed(graph.nodes):
        if isinstance(node, Concat) and node.output not in computed:
            root, channel = out.setdefault(node.output, (node.output, 0))
            for name in node.inputs:
                out[name] = root, channel
                channel += graph.tensors[name].channels
    return out
