"""Torch models as tests write them, and their quantized graphs against torch's, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from weft.host import frontend, interpreter
from weft.host.ir import Concat, Conv, Graph, Host, MatMul, Pool, Table, sources


class Function(nn.Module):
    """A model of a function over some named layers."""

    def __init__(self, function, **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def conv(*args, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(*args, **kwargs)


def trained_norm(features: int, kind: type[Any] = nn.BatchNorm2d) -> nn.Module:
    """A batch norm whose statistics are not the initial ones."""
    norm = kind(features)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return norm


def record(module: torch.fx.GraphModule, x: torch.Tensor) -> list[dict[str, np.ndarray]]:
    """The value of every node of `module` by name, for each image by itself."""
    values: list[dict[str, np.ndarray]] = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            result = super().run_node(n)
            if isinstance(result, torch.Tensor):
                values[-1][n.name] = result.detach().numpy()
            return result

    with torch.no_grad():
        for image in x.split(1):
            values.append({})
            Recorder(module).run(image)
    return values


#: Levels by which torch's float32 and the interpreter's multipliers may be wrong.
FLOATS = 0.01


@dataclass
class Compared:
    """Layers of the interpreter beside torch's: how many levels, how many differ, and by how much.

    Of `unseen` nodes torch has no value; they are not among the levels.
    """

    nodes: int = 0
    levels: int = 0
    differ: int = 0
    most: int = 0
    unseen: int = 0

    def add(self, other: Compared) -> None:
        """Count another model's as well."""
        self.nodes += other.nodes
        self.levels += other.levels
        self.differ += other.differ
        self.most = max(self.most, other.most)
        self.unseen += other.unseen


def compare(made: frontend.Quantized, x: torch.Tensor) -> Compared:
    """Asserts that each layer, on torch's inputs, differs by at most one level from torch."""
    graph = made.graph
    torchs = record(made.module, x)
    values = {}
    for name, (source, view) in made.sources.items():
        array = np.stack([image[source].reshape(view.size) for image in torchs])
        assert array.dtype == np.int8
        values[name] = view.write(array, graph.tensors[name].shape)
    levels = interpreter.quantize_input(graph, x.numpy()).astype(int)
    assert np.abs(levels - values[graph.input]).max() <= 1  # ties, which float32 breaks elsewhere
    out = Compared(nodes=len(graph.nodes))
    torchs_own = set(values)
    for node in graph.nodes:
        got = interpreter.evaluate(graph, node, values)
        if node.output not in values:
            values[node.output] = got
            out.unseen += 1
            continue
        distance = np.abs(got.astype(int) - values[node.output])
        differ = int(np.count_nonzero(distance))
        assert distance.max() <= 1, f"{node.name}: off by {distance.max()}"
        if isinstance(node, Pool) and node.mode == "max":
            assert not differ, f"{node.name}: {differ} of {got.size} of a maximum differ"
        if isinstance(node, Conv) and torchs_own.issuperset(sources(node)):
            far = from_tie(graph, node, values)[distance > 0]
            assert not far.size or far.max() <= 1, f"{node.name}: differs far from a tie"
        elif not isinstance(node, Host):  # those share torch's ties
            assert differ <= 2 + 0.02 * got.size, (
                f"{node.name}: {differ} of {got.size} levels differ"
            )
        out.add(Compared(0, got.size, differ, int(distance.max())))
    return out


def from_tie(graph: Graph, node: Conv, values: dict[str, np.ndarray]) -> np.ndarray:
    """How far each result of `node` is from halfway between two levels, before it is rounded.

    In units of what may come between the interpreter and torch: half a unit of the sums, since
    torch's bias is no integer, and FLOATS.
    """
    numbers, residual = node.requant, node.residual
    acc = interpreter.accumulate(node, values[node.input], graph.tensors[node.input].zero_point)
    unit = numbers.multiplier / 2.0**numbers.shift
    exact = (acc.astype(np.float64) + numbers.bias) * unit
    if residual is not None:
        other = values[residual.input].astype(np.float64) - residual.zero_point
        exact += other * (residual.multiplier / 2.0**residual.shift)
    return np.abs(exact - np.floor(exact) - 0.5) / (unit / 2 + FLOATS)


def compare_layers(made: frontend.Quantized, x: torch.Tensor) -> int:
    """:func:`compare`; the levels compared."""
    return compare(made, x).levels


def export(model: nn.Module, x: torch.Tensor) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch")}
    return torch.export.export(model.eval(), (x,), dynamic_shapes=(batch,))


def kinds(graph: Graph) -> str:
    """What the nodes of `graph` are, in order."""
    words = []
    for node in graph.nodes:
        match node:
            case Conv(kind=word) | Pool(mode=word):
                words.append(word)
            case Host(operator=word):
                words.append(f"host:{word}")
            case Table(function=word):
                words.append(f"table:{word}")
            case Concat() | MatMul():
                words.append(type(node).__name__.lower())
    return " ".join(words)
