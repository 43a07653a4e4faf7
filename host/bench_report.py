"""The measurements of :mod:`.bench` and :mod:`.profile` as tables and sentences for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from .bench import LayerResult, PeerCycles, Result
    from .profile import LayerProfile, Profile

_COLUMNS = ("MACs", "ideal", "bound", "cycles", "ratio")
_BYTES = ("moved", "least")
#: Causes of stalls shown for a layer, at most, and from which share of its cycles on.
_CAUSES, _SHARE = 2, 0.002


def table(result: Result) -> Table:
    """Per layer and in total: work, bounds, cycles, what the array waited for, bytes, SCALE-Sim."""
    shape = f"{result.config} ({result.rows}×{result.cols})"
    where = memory(result.latency, result.bus_bytes, result.beat_interval)
    out = Table(title=f"{result.network} on {shape}, {where}")
    out.add_column("layer", overflow="fold")
    for name in _COLUMNS:
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("array waits for", overflow="fold")
    for name in _BYTES:
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("SCALE-Sim,\nideal memory", justify="right", no_wrap=True)
    for layer in result.layers:
        out.add_row(layer.name, *_cells(layer, layer.scale_sim_cycles))
    out.add_section()
    out.add_row("total", *_cells(result, result.peers[0].cycles))
    return out


def _cells(row: LayerResult | Result, peer: int | None) -> list[str]:
    return [
        *(f"{n:,}" for n in (row.macs, row.ideal_cycles, row.bound_cycles, row.cycles)),
        "–" if row.ratio is None else f"{row.ratio:.3f}",
        waits(row),
        short(row.moved_bytes),
        short(row.compulsory_bytes),
        "–" if peer is None else f"{peer:,}",
    ]


def waits(row: LayerResult | Result | LayerProfile) -> str:
    """The largest causes of the array's waiting."""
    shown = [(k, v) for k, v in row.stalls.items() if v >= _SHARE * row.cycles][:_CAUSES]
    return ", ".join(f"{name} {cycles:,}" for name, cycles in shown) or "–"


def short(count: int) -> str:
    """`count` with three digits: 964, 12.3 k, 4.71 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:.{2 - (value >= 10) - (value >= 100)}f} {unit}"
    return str(count)


def memory(latency: int, bus_bytes: int, beat_interval: int) -> str:
    """The memory that cycles refer to."""
    pace = "cycle" if beat_interval == 1 else f"{beat_interval} cycles"
    return f"memory: latency {latency}, {bus_bytes} bytes a {pace}"


def profile_table(profile: Profile) -> Table:
    """Per layer and in total: operations, working set, cycles, what the array waited for."""
    report = profile.report
    config = report.program.config
    where = memory(report.latency, config.bus_bytes, report.beat_interval)
    out = Table(title=f"{profile.network} on {config.name} ({config.rows}×{config.cols}), {where}")
    out.add_column("layer", overflow="fold")
    out.add_column("operation", overflow="fold")
    for name in ("MACs", "inputs", "weights", "outputs", "cycles", "array used"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("array waits for", overflow="fold")
    cells = config.rows * config.cols

    def used(macs: int, cycles: int) -> str:
        return f"{macs / (cycles * cells):.1%}" if cycles else "–"

    for row in profile.layers:
        sizes = (row.macs, row.input_bytes, row.weight_bytes, row.output_bytes)
        out.add_row(
            row.name, row.kind, *map(short, sizes), "host" if row.on_host else f"{row.cycles:,}",
            used(row.macs, row.cycles), waits(row),
        )  # fmt: skip
    out.add_section()
    macs, cycles = report.program.macs, profile.cycles
    weights = sum(row.weight_bytes for row in profile.layers)
    out.add_row(
        "total", "", short(macs), "", short(weights), "", f"{cycles:,}", used(macs, cycles), ""
    )
    return out


def sentences(result: Result) -> str:
    """What the table does not say."""
    model = "as" if result.as_predicted else "NOT as"
    lines = [
        f"{result.mismatches} mismatching bytes; cycles {model} the timing model has them; "
        f"{result.utilization:.1%} of the array used; {result.seconds:.1f} s on {result.backend}",
        *([f"{result.cycles / result.batch:,.0f} cycles an input"] if result.batch > 1 else []),
        *([f"besides, {result.host_seconds:.3f} s on the host"] if result.host_seconds else []),
        *(peer_sentence(peer) for peer in result.peers),
    ]
    return "\n".join(lines)


def peer_sentence(peer: PeerCycles) -> str:
    """A peer's cycles with everything that they refer to."""
    return (
        f"{peer.name}: {peer.cycles:,} cycles, {peer.cycles / peer.ours:.2f} × ours "
        f"({peer.scope}; memory: {peer.memory}; {peer.source})"
    )
