"""Batches: which operations take a batch's images one after the other, and which all at once.

In memory the maps of a batch lie one below the other: a *stacked* tensor of N images is N · height
rows. An operation whose windows never reach over the border of two images is the same operation on
that taller map, so the machine can do it for all images at once (*jointly*). That pays where
weights take longer to load than an image needs to pass through them: in fully connected layers.
Everything else is done image by image, by the operations between two joint ones in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ..hdl.brief import brief
from .errors import CompileError
from .ir import Conv, Graph, Host, MatMul, Node, Pool, sources

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .fuse import Op

#: Images in a batch; a program grows with them.
MOST_IMAGES = 9999


@dataclass(frozen=True, eq=False)
class Batch:
    """A graph that is to be computed for several images at a time.

    Attributes
    ----------
    images
        How many.
    one
        The graph of one image.
    stacked
        The same with all images' maps in each tensor; joint nodes are as they work on those.
    joint
        The names of the nodes that take all images at once.
    """

    images: int
    one: Graph
    stacked: Graph
    joint: frozenset[str]

    def graph(self, node: str) -> Graph:
        """The graph that holds the tensors which the node called `node` works on."""
        return self.stacked if node in self.joint else self.one


def batched(graph: Graph, host: frozenset[str], config: Config, images: int) -> Batch:
    """`graph`, whose nodes called `host` the host computes, for `images` at a time.

    Raises
    ------
    CompileError
        There is no such number of images.
    """
    if not 1 <= images <= MOST_IMAGES:
        raise CompileError(
            f"{graph.name}: a batch has 1 to {MOST_IMAGES} images, not {brief(images)}"
        )
    if images == 1:
        return Batch(1, graph, graph, host)
    joint = set(host)
    alive = _alive_bytes(graph)
    for node, waiting in zip(graph.nodes, alive, strict=True):
        if node.name not in host and _joint(node, graph, config, images, waiting, joint - host):
            joint.add(node.name)
    tensors = {n: replace(t, height=images * t.height) for n, t in graph.tensors.items()}
    nodes = tuple(_stack(node, graph) if node.name in joint else node for node in graph.nodes)
    stacked = replace(graph, tensors=tensors, nodes=nodes)
    return Batch(images, graph, stacked, frozenset(joint))


def regions(ops: tuple[Op, ...]) -> list[range]:
    """The operations in stretches that are done image by image; a joint one is by itself."""
    groups = groupby(range(len(ops)), lambda step: step if ops[step].joint else -1)
    steps = [list(group) for _, group in groups]
    return [range(part[0], part[-1] + 1) for part in steps]


def _joint(
    node: Node, graph: Graph, config: Config, images: int, waiting: int, joint: set[str]
) -> bool:
    """Whether `node` is done for all images at once.

    A convolution is if its weights bound its time, and are more than what the images must keep in
    DRAM, in the worst case, until the last has come so far: `waiting` bytes each. Another node
    follows those that made its inputs.
    """
    out = graph.tensors[node.output]
    match node:
        case Host() | MatMul():
            return False
        case Conv():
            load = config.rows * config.wgt_row_bytes // config.bus_bytes
            few = out.height * out.width <= max(load, config.rows)
            worth = (images - 1) * node.weight.size > 2 * images * waiting
            operand = any(isinstance(n, MatMul) and n.other == out.name for n in graph.nodes)
            return few and worth and not operand and _stacks(node, graph)
    made = {n.output for n in graph.nodes if n.name in joint}
    return made >= {*sources(node)} and (not isinstance(node, Pool) or _stacks(node, graph))


def _stacks(node: Conv | Pool, graph: Graph) -> bool:
    """Whether the windows of stacked images are those of each."""
    source, out = graph.tensors[node.input], graph.tensors[node.output]
    fits = out.height == 1 or out.height * node.stride[0] == source.height
    return fits and not node.padding[0] and not node.padding[2]


def _stack(node: Node, graph: Graph) -> Node:
    """A joint node on stacked maps: from window to window of a column is from image to image."""
    if isinstance(node, Conv | Pool) and graph.tensors[node.output].height == 1:
        return replace(node, stride=(graph.tensors[node.input].height, node.stride[1]))
    return node


def _alive_bytes(graph: Graph) -> list[int]:
    """Bytes of the tensors that wait for each node or a later one, but for the graph's input."""
    last = {name: step for step, node in enumerate(graph.nodes) for name in sources(node)}
    out = []
    alive: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        out.append(sum(alive.values()))
        height, width, channels = graph.tensors[node.output].shape
        alive[node.output] = height * width * channels
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > step}
    return out
