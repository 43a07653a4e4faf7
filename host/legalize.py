"""Legalisation: every node becomes something that the machine computes, or goes to the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .codegen.matmul import supported
from .codegen.tiling import MOST_TAPS
from .ir import Concat, Conv, Graph, Host, MatMul, Node, Pool, Table, Tensor, sources

if TYPE_CHECKING:
    from ..hdl.config import Config


def legalize(
    graph: Graph, config: Config, *, most_joined: int | None = None
) -> tuple[Graph, frozenset[str]]:
    """`graph` with nodes that `config` can compute, and the names of those left to the host.

    - An average over a window that no instruction has becomes a convolution with ones.
    - A tensor that a concatenation cannot take as its own part is copied into it.
    - Products of activations whose operands do not lie on bus beats, tables where the machine has
      none, large max pools and concatenations that neither fit on chip (`most_joined` bytes, by
      default a quarter of ACT) nor lie on bus beats are the host's.
    """
    if most_joined is None:
        most_joined = config.act_bytes // 4
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    host = _host_nodes(graph, config, most_joined)
    taken = {graph.input, graph.output}
    taken |= {n.other for n in graph.nodes if isinstance(n, MatMul) and n.transposed}
    for node in graph.nodes:
        if isinstance(node, Pool) and node.mode == "avg" and max(node.kernel) > MOST_TAPS:
            nodes.append(_ones(node, tensors[node.input].channels))
        elif isinstance(node, Concat) and node.name not in host:
            inputs = []
            for index, name in enumerate(node.inputs):
                if name in taken:
                    copy = f"{node.name}.{index}"
                    tensors[copy] = replace(tensors[name], name=copy)
                    nodes.append(Pool(f"copy {copy}", name, copy, "max", (1, 1), (1, 1)))
                    name = copy
                taken.add(name)
                inputs.append(name)
            nodes.append(replace(node, inputs=tuple(inputs)))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), tensors=tensors), frozenset(host)


def aligned(node: Concat, tensors: dict[str, Tensor], config: Config) -> bool:
    """Whether every part of a concatenation begins on a bus beat in every pixel."""
    return all(tensors[name].channels % config.bus_bytes == 0 for name in node.inputs)


def _host_nodes(graph: Graph, config: Config, most_joined: int) -> set[str]:
    """The nodes that the machine cannot compute.

    A concatenation whose parts do not lie on bus beats can only be one on chip, where the host
    and products of activations do not reach.
    """
    host = {node.name for node in graph.nodes if _host(node, graph, config, most_joined)}
    while True:
        outside = {graph.output}
        for node in graph.nodes:
            if node.name in host or isinstance(node, MatMul):
                outside |= {*sources(node), node.output}
        more = {
            node.name
            for node in graph.nodes
            if isinstance(node, Concat)
            and not aligned(node, graph.tensors, config)
            and outside & {*node.inputs, node.output}
        }
        if more <= host:
            return host
        host |= more


def _host(node: Node, graph: Graph, config: Config, most_joined: int) -> bool:
    match node:
        case Host():
            return True
        case Table():
            return config.tables == 0
        case MatMul():
            return not (supported(node, graph, config) and _transposable(node, graph))
        case Pool(mode="max"):
            return max(node.kernel) > MOST_TAPS
        case Concat():
            out = graph.tensors[node.output]
            size = out.height * out.width * out.channels
            return not aligned(node, graph.tensors, config) and size > most_joined
    return False


def _transposable(node: MatMul, graph: Graph) -> bool:
    """Whether the second operand of a transposed product can lie transposed in DRAM: a convolution
    or the host writes it, and nothing else reads it.
    """
    if not node.transposed:
        return True
    writer = next((n for n in graph.nodes if n.output == node.other), None)
    readers = [n for n in graph.nodes if node.other in sources(n)]
    return (
        isinstance(writer, Conv | Host)
        and node.other not in (graph.output, node.input)
        and all(isinstance(n, MatMul) and n.transposed and n.input != node.other for n in readers)
    )


def _ones(pool: Pool, channels: int) -> Conv:
    """The depthwise convolution that sums the windows of an average pool."""
    assert pool.requant is not None
    weight = np.ones((channels, *pool.kernel, 1), np.int8)
    return Conv(
        pool.name, pool.input, pool.output, weight, pool.requant,
        stride=pool.stride, padding=pool.padding, groups=channels, kind="avgpool",
    )  # fmt: skip
