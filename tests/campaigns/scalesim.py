"""The closed form of SCALE-Sim's cycles against the package itself, in its own environment."""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from weft.host import shapes
from weft.host.bound import product
from weft.host.ir import Conv, Graph
from weft.host.peers import scale_sim_cycles
from weft.tb import cache

PACKAGES = ("scalesim==3.0.0", "numpy<2.4")
ARRAYS = ((16, 16), (8, 8), (4, 32))
#: Layers of published networks, and corners.
LAYERS = (
    *("conv:32x32x1,k=5,n=6", "conv:14x14x6,k=5,n=16", "gemm:1x400x120", "gemm:1x84x10"),
    *("conv:14x14x64,k=3,p=1,n=64", "conv:14x14x128,k=3,s=2,p=1,n=96", "conv:14x14x64,s=2,n=40"),
    *("conv:14x14x24,k=3,p=1,g=24,n=24", "conv:9x20x3,k=2x7,n=17", "gemm:128x256x256"),
    *("gemm:1x1x1", "gemm:16x16x16", "gemm:17x33x5"),
)
CONFIG = """\
[general]
run_name = check
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 4096
FilterSramSzkB = 4096
OfmapSramSzkB = 4096
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = ws
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
RUN = """\
from scalesim.scale_sim import scalesim
scalesim(save_disk_space=True, verbose=False, config="scale.cfg", topology="topology.csv",
         layout="layout.csv").run_scale(top_path="out")
"""


def environment() -> Path:
    """The Python of a virtual environment with the package, made when first asked for."""

    def make(folder: Path) -> None:
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES]
        subprocess.run(pip, check=True)

    return cache.cached("environments", cache.key(*PACKAGES), make) / "bin" / "python"


def simulate(graphs: Sequence[Graph], rows: int, cols: int) -> list[int]:
    """The cycles that the package reports for the layer in each graph, its groups together."""
    lines = [_topology(f"L{i}_", graph) for i, graph in enumerate(graphs)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scale.cfg").write_text(CONFIG.format(rows=rows, cols=cols))
        (folder / "layout.csv").write_text("layer,\n")
        (folder / "topology.csv").write_text("layer,\n" + "".join(lines))
        command = [environment(), "-c", RUN]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        report = folder / "out" / "check" / "COMPUTE_REPORT.csv"
        found = [int(row[2]) for row in list(csv.reader(report.open()))[1:]]
    counts = [_runs(graph) for graph in graphs]
    ends = np.cumsum(counts)
    assert ends[-1] == len(found)
    return [sum(found[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _node(graph: Graph) -> Conv:
    (node,) = graph.nodes
    assert isinstance(node, Conv)
    return node


def _runs(graph: Graph) -> int:
    """Layers that the package makes of one: each channel of a depthwise one by itself."""
    return _node(graph).groups


def _topology(name: str, graph: Graph) -> str:
    """A line of a topology: the input, the kernel, channels, filters, stride.

    The input is what the windows cover, padding included: the package would make another output of
    a window that lies partly outside.
    """
    node, source, out = _node(graph), graph.tensors[graph.input], graph.tensors[graph.output]
    channels, height, width, _ = node.weight.shape
    stride, depthwise = node.stride[0], node.groups > 1
    assert node.stride == (stride, stride)
    assert not depthwise or node.groups == channels == source.channels
    values = (
        *((out.height - 1) * stride + height, (out.width - 1) * stride + width, height, width),
        *(source.channels, 1 if depthwise else channels, stride),
    )
    return f"{'DP' if depthwise else ''}{name},{','.join(map(str, values))},\n"


def differences(layers: Sequence[str], rows: int, cols: int) -> Iterator[str]:
    """A sentence for each layer of which the closed form is wrong."""
    graphs = [shapes.graph(text) for text in layers]
    for graph, found in zip(graphs, simulate(graphs, rows, cols), strict=True):
        work = product(graph.nodes[0], graph)
        assert work is not None
        form = scale_sim_cycles([work], rows, cols)
        if form != found:
            yield f"{graph.name} on {rows}×{cols}: closed form {form}, package {found}"


def random_layers(count: int, seed: int) -> list[str]:
    """Random matrix products that are quick to simulate."""
    sizes = np.random.default_rng(seed).integers(1, 100, (count, 3))
    return [f"gemm:{m}x{k}x{n}" for m, k, n in sizes]


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many layers differ."""
    parser = argparse.ArgumentParser(prog="scalesim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of random layers (%(default)s)")
    parser.add_argument("--count", type=int, default=20, help="random layers (%(default)s)")
    options = parser.parse_args(args)
    layers = [*LAYERS, *random_layers(options.count, options.seed)]
    found = [text for rows, cols in ARRAYS for text in differences(layers, rows, cols)]
    for text in found:
        print(text, flush=True)
    print(f"{len(layers)} layers on {len(ARRAYS)} arrays")
    return len(found)
