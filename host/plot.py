"""A picture of where a network's time goes: what each unit does, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import Unit
from .bench_report import memory
from .errors import WeftError

if TYPE_CHECKING:
    from pathlib import Path

    from .profile import Profile

#: Spans closer than this share of the whole are drawn as one, and layers narrower get no name.
_BLUR, _NAMED = 1 / 2000, 1 / 60
#: Forms of picture that can be written.
FORMS = (".svg", ".png", ".pdf")


def save(profile: Profile, path: Path) -> None:
    """Draw the units' busy cycles over time, the layers behind them, and write it to `path`.

    Raises
    ------
    WeftError
        matplotlib is not installed, or `path` is no picture that can be written.
    """
    if path.suffix not in FORMS:
        raise WeftError(f"{path} must end in {', '.join(FORMS)}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise WeftError("pictures need matplotlib: pip install -e '.[plot]'") from error
    config = profile.report.program.config
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    axes = figure.subplots()
    total = max(1, profile.cycles)
    begin = 0
    for number, layer in enumerate(layer for layer in profile.layers if layer.cycles):
        end = begin + layer.cycles
        axes.axvspan(begin, end, color="0.95" if number % 2 else "0.88", lw=0)
        if layer.cycles >= _NAMED * total:
            axes.text((begin + end) / 2, -0.62, layer.name, rotation=90, size=7, ha="center")
        begin = end
    for unit, spans in busy(profile).items():
        axes.broken_barh(
            merge(spans, _BLUR * total), (unit - 0.35, 0.7), color=f"C{int(unit)}", lw=0
        )
    axes.set_yticks(range(len(Unit)), [unit.name for unit in Unit])
    axes.set(xlim=(0, total), ylim=(len(Unit) - 0.4, -2), xlabel="cycles")
    where = memory(profile.report.latency, config.bus_bytes, profile.report.beat_interval)
    shape = f"{config.name} ({config.rows}×{config.cols})"
    axes.set_title(f"{profile.network} on {shape}: {total:,} cycles, {where}")
    try:
        figure.savefig(path)
    except OSError as error:
        raise WeftError(f"cannot write {path}: {error.strerror}") from error


def busy(profile: Profile) -> dict[Unit, np.ndarray]:
    """For each unit the (first cycle, cycles) in which it has an instruction in flight, [n, 2].

    Runs of the machine follow each other without the host's time between.
    """
    out: dict[Unit, list[np.ndarray]] = {unit: [] for unit in Unit}
    begin = 0
    for prediction in profile.report.predictions:
        for unit, timeline in prediction.timeline.items():
            _, starts, dones = timeline.T
            first = starts.copy()
            first[1:] = np.maximum(first[1:], dones[:-1] + 1)
            out[unit].append(np.stack([begin + first, dones + 1 - first], axis=1))
        begin += prediction.cycles
    return {unit: np.concatenate(spans) for unit, spans in out.items()}


def merge(spans: np.ndarray, gap: float) -> list[tuple[int, int]]:
    """Ascending spans, those at most `gap` apart as one."""
    out: list[list[int]] = []
    for first, length in spans.tolist():
        if out and first - sum(out[-1]) <= gap:
            out[-1][1] = first + length - out[-1][0]
        else:
            out.append([first, length])
    return [(first, length) for first, length in out]
