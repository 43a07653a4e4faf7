"""Torch models as tests write them, and their quantized graphs against torch's, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from weft.host import frontend, interpreter
from weft.host.ir import Concat, Conv, Graph, Host, MatMul, Pool, Table


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


def compare_layers(made: frontend.Quantized, x: torch.Tensor) -> int:
    """Asserts that each layer differs by at most one level from torch; the levels compared."""
    graph = made.graph
    torchs = record(made.module, x)
    values = {}
    for name, (source, view) in made.sources.items():
        array = np.stack([image[source].reshape(view.size) for image in torchs])
        assert array.dtype == np.int8
        values[name] = view.write(array, graph.tensors[name].shape)
    levels = interpreter.quantize_input(graph, x.numpy()).astype(int)
    assert np.abs(levels - values[graph.input]).max() <= 1  # ties, which float32 breaks elsewhere
    count = 0
    for node in graph.nodes:
        got = interpreter.evaluate(graph, node, values)
        want = values.setdefault(node.output, got).astype(int)
        assert np.abs(got - want).max() <= 1, node.name
        if isinstance(node, Pool) and node.mode == "max":
            assert np.array_equal(got, want), node.name
        if not isinstance(node, Host):  # those share torch's ties
            assert (got != want).sum() <= 2 + 0.02 * got.size, node.name
        count += got.size
    return count


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
