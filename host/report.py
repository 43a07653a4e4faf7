"""Tables for people and JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .calls import HostCall
    from .run import Report


def summary(
    report: Report,
    *,
    backend: str,
    correct: int | None = None,
    float_correct: int | None = None,
) -> dict[str, Any]:
    """One run as plain data; counts that a backend does not give are None."""
    config = report.program.config
    return {
        "backend": backend,
        "config": config.name,
        "rows": config.rows,
        "cols": config.cols,
        "bus_bytes": config.bus_bytes,
        "memory": report.memory,
        "latency": report.latency if report.memory is None else None,
        "beat_interval": report.beat_interval if report.memory is None else None,
        "images": report.images,
        "batch": report.program.batch,
        "correct": correct,
        "float_correct": float_correct,
        "mismatches": report.mismatches,
        "cycles": report.cycles,
        "predicted_cycles": report.predicted_cycles,
        "as_predicted": report.as_predicted,
        "cycles_per_image": report.cycles_per_image,
        "macs": report.macs,
        "utilization": report.utilization,
        "bound_cycles": report.bound_cycles,
        "host": [asdict(call) for call in report.host_calls],
        "seconds": round(report.seconds, 3),
    }


def layer_table(report: Report) -> Table:
    """Per layer and in total: cycles of one image, MACs, utilisation, bound, mismatches."""
    config = report.program.config
    batch = report.program.batch
    at_once = f", {batch} images at a time" if batch > 1 else ""
    title = f"{report.program.name} on {config.name} ({config.rows}×{config.cols}){at_once}"
    table = Table(title=title)
    table.add_column("layer", no_wrap=True)
    for name in ("cycles", "bound", "ratio", "MACs", "utilisation", "mismatches"):
        table.add_column(name, justify="right", no_wrap=True)
    images = max(1, report.images)

    def row(name: str, cycles: float | None, bound: float, macs: int, bad: int | None) -> None:
        count = ratio = use = "–"
        if cycles:
            count = f"{cycles:,.0f}"
            ratio = f"{cycles / bound:.2f}" if bound else "–"
            use = f"{macs / (cycles * config.rows * config.cols):.1%}"
        wrong = "–" if bad is None else f"{bad:,}"
        table.add_row(name, count, f"{bound:,.0f}", ratio, f"{macs:,}", use, wrong)

    for layer in report.layers:
        cycles = None if layer.cycles is None else layer.cycles / images
        bound, macs = layer.bound_cycles / batch, layer.macs // batch
        row(layer.name, cycles, bound, macs, layer.mismatches)
    table.add_section()
    row(
        "total",
        report.cycles_per_image,
        report.bound_cycles,
        report.macs,
        report.mismatches,
    )
    return table


def host_table(calls: Sequence[HostCall]) -> Table:
    """What the host computes, and what that costs the accelerator, for one input."""
    table = Table(title="on the host")
    table.add_column("operator", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    for name in ("bytes moved", "cycles lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for call in calls:
        table.add_row(call.operator, call.layer, f"{call.moved_bytes:,}", f"{call.lost_cycles:,}")
    if len(calls) > 1:
        table.add_section()
        moved, lost = (
            sum(values)
            for values in zip(
                *((call.moved_bytes, call.lost_cycles) for call in calls), strict=True
            )
        )
        table.add_row("total", "", f"{moved:,}", f"{lost:,}")
    return table
