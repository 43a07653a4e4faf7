"""Measuring a network or a layer: cycles beside bounds and peers, where they went, bytes moved."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..hdl.isa import Unit
from . import compiler, interpreter, peers, targets
from .bound import Product, bound_cycles, compulsory_bytes, product
from .device import open_device
from .errors import WeftError
from .progress import Bar, status
from .run import Report, run
from .timing.machine import predict

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .device import Device
    from .ir import Graph, Node
    from .program import Layer, Program
    from .targets import Target
    from .timing.account import UnitAccount
    from .timing.prediction import Prediction

#: Backends that count cycles.
BACKENDS = ("verilator", "model", "icarus")
#: Backends that compute the bytes of every layer for those that are slow to, or to build.
_CHECKERS = {"model": "golden", "icarus": "golden"}
#: Seconds between two looks at how far a run is.
_POLL = 0.2


@dataclass(frozen=True)
class PeerCycles:
    """What a peer needs for the same work, and under which memory.

    `cycles` are the peer's, `ours` those of the layers that it counts.
    """

    name: str
    memory: str
    scope: str
    source: str
    cycles: int
    ours: int


@dataclass(frozen=True)
class LayerResult:
    """One layer.

    Attributes
    ----------
    ideal_cycles
        Of an array that does a useful multiply-accumulate in every cell in every cycle.
    bound_cycles
        See :mod:`.bound`.
    cycles
        From the end of the layer before to its own.
    ratio
        Cycles over bound.
    stalls
        Cycles of these in which the array waited, by what for: "weights", a unit's data or room
        ("LOAD", "VECTOR"), or "instructions".
    moved_bytes, compulsory_bytes
        Over the bus, instructions included; weights, input and output once.
    scale_sim_cycles
        Of :data:`.peers.SCALE_SIM`, which has an ideal memory; None without a matrix product.
    mismatches
        Bytes that differ from the integer reference.
    """

    name: str
    kind: str
    macs: int
    ideal_cycles: int
    bound_cycles: int
    cycles: int
    ratio: float
    stalls: dict[str, int]
    moved_bytes: int
    compulsory_bytes: int
    scale_sim_cycles: int | None
    mismatches: int


@dataclass(frozen=True)
class Result:
    """A network on a configuration; see :class:`LayerResult` for what the numbers are.

    Attributes
    ----------
    as_predicted
        Whether every counter of the device was what the timing model says.
    seconds
        That the backend ran.
    """

    network: str
    config: str
    rows: int
    cols: int
    backend: str
    latency: int
    beat_interval: int
    bus_bytes: int
    macs: int
    ideal_cycles: int
    bound_cycles: int
    cycles: int
    ratio: float
    utilization: float
    stalls: dict[str, int]
    moved_bytes: int
    compulsory_bytes: int
    mismatches: int
    as_predicted: bool
    seconds: float
    peers: tuple[PeerCycles, ...]
    layers: tuple[LayerResult, ...]

    def to_json(self) -> dict[str, Any]:
        """This as plain data."""
        return asdict(self)

    @property
    def failure(self) -> str:
        """What is wrong with bytes or cycles; empty if nothing is."""
        where = f"{self.network} on {self.config}"
        if self.mismatches:
            return f"{where}: {self.mismatches} bytes differ from the reference"
        return "" if self.as_predicted else f"{where}: counters differ from the timing model's"


def measure(
    name: str,
    config: Config,
    *,
    backend: str = "verilator",
    latency: int = 50,
    beat_interval: int = 1,
    quiet: bool = True,
) -> Result:
    """Run a network or a single layer once, compare every layer's bytes, and account for its time.

    Parameters
    ----------
    name
        As :func:`.targets.load` takes it.
    config
        The machine.
    backend
        One of BACKENDS.
    latency, beat_interval
        Of the memory.
    quiet
        Without progress on stderr.

    Raises
    ------
    WeftError, DeviceError
        The network cannot be had, does not fit the machine, or the backend cannot run it.
    """
    if backend not in BACKENDS:
        raise WeftError(f"{backend} does not count cycles; take {', '.join(BACKENDS)}")
    with status(f"{name}: quantizing", quiet):
        target = targets.load(name, config)
    with status(f"{name}: compiling", quiet):
        program = compiler.compile(target.graph, config)
        inspect = compiler.compile(target.graph, config, inspect=True)
    with status(f"{name}: computing the reference", quiet):
        prediction = predict(config, program.code, latency=latency, beat_interval=beat_interval)
        reference = interpreter.run_all(target.graph, target.inputs)
    memory = {"latency": latency, "beat_interval": beat_interval}
    with status(f"{name}: preparing {backend}", quiet):
        device = open_device(backend, config, **memory)
        checker = open_device(_CHECKERS.get(backend, backend), config, **memory)
    try:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(
                run, program, device, target.inputs,
                reference=reference, inspect=inspect, checker=checker, **memory,
            )  # fmt: skip
            _follow(f"{name}: running on {backend}", future, device, prediction, quiet)
            report = future.result()
    finally:
        device.close()
        checker.close()
    return _result(name, backend, target, report, prediction)


def _follow(text: str, future: Future, device: Device, prediction: Prediction, quiet: bool) -> None:
    """Show how far a run is, in thousands of cycles, until it ends."""
    if not hasattr(device, "cycle"):
        with status(text, quiet):
            wait([future])
        return
    with Bar(text, prediction.cycles // 1000, quiet) as step:
        while not wait([future], _POLL).done:
            step(device.cycle // 1000)  # pyright: ignore[reportAttributeAccessIssue]
        step(prediction.cycles // 1000)


def _result(
    name: str, backend: str, target: Target, report: Report, prediction: Prediction
) -> Result:
    program = report.program
    config, layers = program.config, program.layers
    accounts = [units[Unit.MATMUL] for units in prediction.by_layer(layers)]
    rows = [
        _layer(layer, row.cycles or 0, row.mismatches or 0, account, target.graph, report)
        for layer, row, account in zip(layers, report.layers, accounts, strict=True)
    ]
    assert report.cycles is not None
    cells = config.rows * config.cols
    bound = sum(row.bound_cycles for row in rows)
    whole = prediction.account()[Unit.MATMUL]
    return Result(
        network=name,
        config=config.name,
        rows=config.rows,
        cols=config.cols,
        backend=backend,
        latency=report.latency,
        beat_interval=report.beat_interval,
        bus_bytes=config.bus_bytes,
        macs=program.macs,
        ideal_cycles=-(-program.macs // cells),
        bound_cycles=bound,
        cycles=report.cycles,
        ratio=report.cycles / bound,
        utilization=program.macs / (report.cycles * cells),
        stalls=stalls(whole),
        moved_bytes=sum(row.moved_bytes for row in rows),
        compulsory_bytes=sum(row.compulsory_bytes for row in rows),
        mismatches=report.mismatches or 0,
        as_predicted=bool(report.as_predicted),
        seconds=round(report.seconds, 3),
        peers=_peers(name, rows, program),
        layers=tuple(rows),
    )


def layer_nodes(layer: Layer, graph: Graph) -> list[Node]:
    """The nodes of `graph` that a compiled layer computes."""
    names = layer.name.split("+")
    return [node for node in graph.nodes if node.name in names]


def stalls(account: UnitAccount) -> dict[str, int]:
    """The cycles in which the array waited, by what for, most first."""
    causes = {"weights": account.memory, "instructions": account.empty}
    for (unit, _), cycles in account.semaphores.items():
        causes[unit.name] = causes.get(unit.name, 0) + cycles
    return {k: v for k, v in sorted(causes.items(), key=lambda item: -item[1]) if v}


def _layer(
    layer: Layer, cycles: int, wrong: int, account: UnitAccount, graph: Graph, report: Report
) -> LayerResult:
    config = report.program.config
    nodes = layer_nodes(layer, graph)
    bound = bound_cycles(nodes, graph, config, beat_interval=report.beat_interval)
    products: list[Product] = [p for node in nodes if (p := product(node, graph))]
    return LayerResult(
        name=layer.name,
        kind=layer.kind,
        macs=layer.macs,
        ideal_cycles=-(-layer.macs // (config.rows * config.cols)),
        bound_cycles=bound,
        cycles=cycles,
        ratio=cycles / bound,
        stalls=stalls(account),
        moved_bytes=layer.moved_bytes,
        compulsory_bytes=compulsory_bytes(nodes, graph),
        scale_sim_cycles=(
            peers.scale_sim_cycles(products, config.rows, config.cols) if products else None
        ),
        mismatches=wrong,
    )


def _peers(name: str, rows: list[LayerResult], program: Program) -> tuple[PeerCycles, ...]:
    """SCALE-Sim on the layers that it can model, and what others published for this network."""
    modelled = [row for row in rows if row.scale_sim_cycles is not None]
    out = [
        PeerCycles(
            peers.SCALE_SIM.name,
            peers.SCALE_SIM.memory,
            "matrix products alone",
            peers.SCALE_SIM.source,
            sum(row.scale_sim_cycles or 0 for row in modelled),
            sum(row.cycles for row in modelled),
        )
    ]
    config = program.config
    for entry in peers.published(name, config.rows, config.cols):
        first, last = entry.skipped
        counted = rows[first : len(rows) - last]
        out.append(
            PeerCycles(
                entry.peer.name, entry.peer.memory, entry.scope, entry.peer.source,
                entry.cycles, sum(row.cycles for row in counted),
            )
        )  # fmt: skip
    return tuple(out)
