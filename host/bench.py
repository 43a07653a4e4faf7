"""Measuring a network or a layer: cycles beside bounds and peers, where they went, bytes moved."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.isa import Unit
from . import compiler, interpreter, peers, workloads
from .bound import bound_cycles, compulsory_bytes, product
from .device import open_device
from .errors import WeftError
from .progress import Count, status
from .run import LayerReport, Report, run
from .timing.machine import predict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..hdl.config import Config
    from .device import Device
    from .ir import Graph, Node
    from .program import Layer, Program
    from .timing.account import UnitAccount
    from .timing.prediction import Account

#: Backends that count cycles.
BACKENDS = ("verilator", "model", "icarus")
#: Backends that compute the bytes of every layer for those that are slow to, or to build.
_CHECKERS = {"model": "golden", "icarus": "golden"}
#: What `weft bench --json` tells of a network.
JSON_KEYS = (
    *(
        "network",
        "config",
        "latency",
        "batch",
        "bus_bytes",
        "macs",
        "bound_cycles",
        "cycles",
        "ratio",
    ),
    *("utilization", "mismatches", "seconds", "layers"),
)
#: How often the host's part, and the timing model, are timed.
_TRIES = 3
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
    on_host
        Whether the host computes it; then all numbers are 0.
    ideal_cycles
        Of an array that does a useful multiply-accumulate in every cell in every cycle.
    bound_cycles
        See :mod:`.bound`.
    cycles
        From the end of the layer before to its own.
    ratio
        Cycles over bound; None where nothing bounds them.
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
    on_host: bool
    macs: int
    ideal_cycles: int
    bound_cycles: int
    cycles: int
    ratio: float | None
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
    batch
        Inputs that were run at once; all numbers are those of all of them.
    as_predicted
        Whether every counter of the device was what the timing model says.
    seconds
        That the backend ran.
    processor_seconds
        The same, of all processors together: unlike `seconds` they do not depend on what else the
        computer does.
    device_seconds
        Of a processor, that the backend spent on the network itself; nothing where it is a process
        of its own.
    model_seconds
        Of a processor, that the timing model needs for all counters.
    host_seconds
        That the host needs for what it computes between runs of the machine.
    """

    network: str
    config: str
    rows: int
    cols: int
    backend: str
    latency: int
    beat_interval: int
    batch: int
    bus_bytes: int
    macs: int
    ideal_cycles: int
    bound_cycles: int
    cycles: int
    ratio: float | None
    utilization: float
    stalls: dict[str, int]
    moved_bytes: int
    compulsory_bytes: int
    mismatches: int
    as_predicted: bool
    seconds: float
    processor_seconds: float
    device_seconds: float
    model_seconds: float
    host_seconds: float
    peers: tuple[PeerCycles, ...]
    layers: tuple[LayerResult, ...]

    def to_json(self) -> dict[str, Any]:
        """What `weft bench --json` prints: plain data under the keys of JSON_KEYS."""
        everything = asdict(self)
        return {key: everything[key] for key in JSON_KEYS}

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
        As :func:`.workloads.load` takes it.
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
        workload = workloads.load(name, config)
    with status(f"{name}: compiling", quiet):
        program = compiler.compile(workload.graph, config, batch=workload.batch)
        inspect = compiler.compile(workload.graph, config, batch=workload.batch, inspect=True)
    with status(f"{name}: computing the reference", quiet):
        reference = interpreter.run_all(workload.graph, workload.inputs)
    with status(f"{name}: preparing {backend}", quiet):
        other = _CHECKERS.get(backend, backend)
        device, checker = (
            open_device(which, config, latency=latency, beat_interval=beat_interval)
            for which in (backend, other)
        )
    before = time.process_time()
    pool = ThreadPoolExecutor(1)
    future = pool.submit(
        run,
        program,
        device,
        workload.inputs,
        reference=reference,
        inspect=inspect,
        checker=checker,
        latency=latency,
        beat_interval=beat_interval,
    )
    try:
        _follow(f"{name}: running on {backend}", future, device, quiet)
        report = future.result()
    finally:
        pool.shutdown(wait=False)
        if future.done():  # not when interrupted: the simulator runs on
            device.close()
            checker.close()
    worked = time.process_time() - before
    return _result(name, backend, workload.graph, report, worked)


def predict_cycles(
    name: str, config: Config, latencies: Sequence[int]
) -> tuple[int, dict[int, int]]:
    """The bound of a network or a layer, and the timing model's cycles at each of `latencies`.

    Nothing is run; raises what :func:`measure` does.
    """
    workload = workloads.load(name, config)
    graph, batch = workload.graph, workload.batch
    program = compiler.compile(graph, config, batch=batch)
    bound = sum(
        bound_cycles(layer_nodes(layer, graph), graph, config, batch=batch)
        for layer in program.layers
    )
    return bound, {
        latency: sum(predict(config, code, latency=latency).cycles for code in program.runs)
        for latency in latencies
    }


def _follow(text: str, future: Future, device: Device, quiet: bool) -> None:
    """Show that a run goes on until it ends, and where the device knows it, its cycles."""
    if not hasattr(device, "cycle"):
        with status(text, quiet):
            wait([future])
        return
    with Count(text, "cycles", quiet) as show:
        while not wait([future], _POLL).done:
            show(device.cycle)  # pyright: ignore[reportAttributeAccessIssue]


def _result(name: str, backend: str, graph: Graph, report: Report, worked: float) -> Result:
    program = report.program
    config = program.config
    rows = [
        _layer(layer, row, account, graph, report)
        for layer, row, account in zip(program.layers, report.layers, report.accounts, strict=True)
    ]
    assert report.cycles is not None
    cells = config.rows * config.cols
    bound = sum(row.bound_cycles for row in rows)
    return Result(
        network=name,
        config=config.name,
        rows=config.rows,
        cols=config.cols,
        backend=backend,
        latency=report.latency,
        beat_interval=report.beat_interval,
        batch=program.batch,
        bus_bytes=config.bus_bytes,
        macs=program.macs,
        ideal_cycles=-(-program.macs // cells),
        bound_cycles=bound,
        cycles=report.cycles,
        ratio=report.cycles / bound if bound else None,
        utilization=program.macs / (report.cycles * cells),
        stalls=_sum(row.stalls for row in rows),
        moved_bytes=sum(row.moved_bytes for row in rows),
        compulsory_bytes=sum(row.compulsory_bytes for row in rows),
        mismatches=report.mismatches or 0,
        as_predicted=bool(report.as_predicted),
        seconds=round(report.seconds, 3),
        processor_seconds=round(worked, 3),
        device_seconds=round(report.device_seconds, 6),
        model_seconds=round(_model_seconds(report), 6),
        host_seconds=round(_host_seconds(report.program), 6),
        peers=_peers(name, rows, config),
        layers=tuple(rows),
    )


def _model_seconds(report: Report) -> float:
    """Median processor seconds, of some tries, in which the timing model predicts a network."""
    memory = {"latency": report.latency, "beat_interval": report.beat_interval}
    tries = []
    for _ in range(_TRIES):
        start = time.thread_time()
        for code in report.program.runs:
            assert predict(report.program.config, code, **memory).counters
        tries.append(time.thread_time() - start)
    return median(tries)


def _host_seconds(program: Program) -> float:
    """Least seconds, of some tries, in which the host does what it does for one input."""
    if not program.calls:
        return 0.0
    empty = program.segments(np.zeros((program.batch, *program.input_shape), np.int8))
    tries = []
    for _ in range(_TRIES):
        segments, start = empty, time.perf_counter()
        for call in program.calls:
            segments = call.apply(segments)
        tries.append(time.perf_counter() - start)
    return min(tries)


def layer_nodes(layer: Layer, graph: Graph) -> list[Node]:
    """The nodes of `graph` that the machine computes in a compiled layer."""
    names = () if layer.on_host else layer.name.split("+")
    return [node for node in graph.nodes if node.name in names]


def stalls(account: UnitAccount) -> dict[str, int]:
    """The cycles in which the array waited, by what for, most first."""
    causes = [{"weights": account.memory}, {"instructions": account.empty}]
    causes += [{unit.name: cycles} for (unit, _), cycles in account.semaphores.items()]
    return _sum(causes)


def _sum(causes: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of accounts, most first."""
    total = Counter[str]()
    for entry in causes:
        total.update(entry)
    return {name: cycles for name, cycles in total.most_common() if cycles}


def _layer(
    layer: Layer, row: LayerReport, account: Account | None, graph: Graph, report: Report
) -> LayerResult:
    config, batch = report.program.config, report.program.batch
    nodes = layer_nodes(layer, graph)
    bound = bound_cycles(nodes, graph, config, beat_interval=report.beat_interval, batch=batch)
    products = [found for node in nodes if (found := product(node, graph, batch=batch))]
    cycles = row.cycles or 0
    return LayerResult(
        name=layer.name,
        kind=layer.kind,
        on_host=layer.on_host,
        macs=layer.macs,
        ideal_cycles=-(-layer.macs // (config.rows * config.cols)),
        bound_cycles=bound,
        cycles=cycles,
        ratio=cycles / bound if bound else None,
        stalls=stalls(account[Unit.MATMUL]) if account else {},
        moved_bytes=layer.moved_bytes,
        compulsory_bytes=compulsory_bytes(nodes, graph, batch=batch),
        scale_sim_cycles=(
            peers.scale_sim_cycles(products, config.rows, config.cols) if products else None
        ),
        mismatches=row.mismatches or 0,
    )


def _peers(name: str, rows: list[LayerResult], config: Config) -> tuple[PeerCycles, ...]:
    """SCALE-Sim on the layers that it can model, and what others published for this network."""
    modelled = [row for row in rows if row.scale_sim_cycles is not None]
    out = [
        PeerCycles(
            name=peers.SCALE_SIM.name,
            memory=peers.SCALE_SIM.memory,
            scope="matrix products alone",
            source=peers.SCALE_SIM.source,
            cycles=sum(row.scale_sim_cycles or 0 for row in modelled),
            ours=sum(row.cycles for row in modelled),
        )
    ]
    for entry in peers.published(name, config.rows, config.cols):
        first, last = entry.skipped
        out.append(
            PeerCycles(
                name=entry.peer.name,
                memory=entry.peer.memory,
                scope=entry.scope,
                source=entry.peer.source,
                cycles=entry.cycles,
                ours=sum(row.cycles for row in rows[first : len(rows) - last]),
            )
        )
    return tuple(out)
