"""`weft area`: what machines take of FPGAs, and frames a second."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..hdl.config import PRESETS, load
from .cli_bench import wide_console

if TYPE_CHECKING:
    from ..boards.area import Area, Cycles


def area(
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file; else all."
        ),
    ] = None,
    board: Annotated[str | None, typer.Option(help="Board, such as ulx3s; else all.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Show what machines take of FPGAs, how fast they are, and frames a second.

    Of place-and-route as it was measured with the open tools; nothing is run.
    Frames a second are at the clock that the machine reaches, with the cycles of
    the timing model behind the board's memory.

    \b
    weft area
    weft area --config tiny --board ulx3s
    """
    from ..boards import area as measured

    areas, cycles = measured.load()
    found = measured.chosen(areas, load(config) if config else None, board)
    if json:
        rows = [{**asdict(a), "fmax_median_mhz": a.fmax, "frames": a.frames(cycles)} for a in found]
        print(jsonlib.dumps(rows))
        return
    out = wide_console()
    out.print(_area_table(found))
    on_boards = [a for a in found if a.frames(cycles)]
    if on_boards:
        out.print(_frame_table(on_boards, cycles))
    for text in dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in a.tools.items()) for a in found
    ):
        out.print(f"Measured with {text}", highlight=False)


def _area_table(areas: list[Area]) -> Table:
    table = Table(title="after place and route")
    for head in ("machine", "version", "on"):
        table.add_column(head)
    for head in ("LUTs", "flip-flops", "multipliers", "block RAMs", "fmax, MHz", "runs"):
        table.add_column(head, justify="right")
    for a in areas:
        numbers = (f"{n:,}" for n in (a.luts, a.ffs, a.dsps, a.brams))
        table.add_row(
            a.name, a.machine[:6], a.place, *numbers, f"{a.fmax:.1f}", str(len(a.fmax_mhz))
        )
    return table


def _frame_table(areas: list[Area], cycles: Cycles) -> Table:
    table = Table(title="inputs a second")
    table.add_column("network")
    for a in areas:
        table.add_column(f"{a.name} on {a.place}\n{a.clock_mhz:.1f} MHz", justify="right")
    for name in cycles:
        table.add_row(name, *(frames_text(a, cycles, name) for a in areas))
    return table


def frames_text(area: Area, cycles: Cycles, name: str) -> str:
    """A network's frames a second to three digits, or why there are none."""
    found = area.frames(cycles)
    if name not in found:
        return "–"
    frames = found[name]
    if frames is None:
        return "does not fit"
    return f"{frames:,.0f}" if frames >= 100 else f"{frames:.3g}"
