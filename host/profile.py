"""What a network asks of the machine, layer by layer, by the timing model alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..hdl.isa import Unit
from . import compiler, workloads
from .bench import layer_nodes, stalls
from .ir import Conv, sources
from .run import Report

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .ir import Graph
    from .program import Layer
    from .timing.prediction import Account


@dataclass(frozen=True)
class LayerProfile:
    """One layer.

    Attributes
    ----------
    on_host
        Whether the host computes it.
    input_bytes, weight_bytes, output_bytes
        Its working set: all maps that it reads, its weights, the map that it writes.
    cycles
        From the end of the layer before to its own.
    stalls
        Cycles of these in which the array waited, by what for.
    """

    name: str
    kind: str
    on_host: bool
    macs: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    cycles: int
    stalls: dict[str, int]


@dataclass(frozen=True)
class Profile:
    """A network on a configuration; `report` has the timing model's predictions."""

    network: str
    report: Report
    layers: tuple[LayerProfile, ...]

    @property
    def cycles(self) -> int:
        """Of the whole network."""
        return sum(layer.cycles for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """This as plain data."""
        config = self.report.program.config
        return {
            "network": self.network,
            "config": config.name,
            "rows": config.rows,
            "cols": config.cols,
            "latency": self.report.latency,
            "beat_interval": self.report.beat_interval,
            "bus_bytes": config.bus_bytes,
            "macs": self.report.program.macs,
            "cycles": self.cycles,
            "layers": [asdict(layer) for layer in self.layers],
        }


def profile(name: str, config: Config, *, latency: int = 50, beat_interval: int = 1) -> Profile:
    """Compile a network or a single layer and predict its time.

    Parameters
    ----------
    name
        As :func:`.workloads.load` takes it.
    config
        The machine.
    latency, beat_interval
        Of the memory.

    Raises
    ------
    WeftError
        The network cannot be had, or does not fit the machine.
    """
    workload = workloads.load(name, config)
    graph, batch = workload.graph, workload.batch
    report = Report(compiler.compile(graph, config, batch=batch), latency, beat_interval)
    layers = [
        _layer(layer, account, graph, batch)
        for layer, account in zip(report.program.layers, report.accounts, strict=True)
    ]
    return Profile(name, report, tuple(layers))


def _layer(layer: Layer, account: Account | None, graph: Graph, batch: int) -> LayerProfile:
    nodes = layer_nodes(layer, graph)
    made = {node.output for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in sources(node) if name not in made)
    array = account[Unit.MATMUL] if account else None
    return LayerProfile(
        name=layer.name,
        kind=layer.kind,
        on_host=layer.on_host,
        macs=layer.macs,
        input_bytes=batch * sum(_bytes(graph, name) for name in read),
        weight_bytes=sum(node.weight.size for node in nodes if isinstance(node, Conv)),
        output_bytes=batch * _bytes(graph, nodes[-1].output) if nodes else 0,
        cycles=array.cycles if array else 0,
        stalls=stalls(array) if array else {},
    )


def _bytes(graph: Graph, name: str) -> int:
    height, width, channels = graph.tensors[name].shape
    return height * width * channels
