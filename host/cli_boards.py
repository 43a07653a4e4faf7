"""`weft build` and `weft flash`: a machine for a board, and onto it."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..hdl.config import PRESETS, load
from .cli_ip import ASIC, AXI_IP, build_asic, build_axi_ip
from .errors import WeftError
from .progress import status

_out = Console()

BoardArgument = Annotated[str, typer.Argument(help="Board, such as ulx3s.")]
TargetArgument = Annotated[str, typer.Argument(help=f"Board, such as ulx3s; or {AXI_IP}, {ASIC}.")]


def build(
    board: TargetArgument,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file; else the board's."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of place-and-route; 0: none.", min=0)] = 1,
    clock_mhz: Annotated[
        float | None, typer.Option(help="Clock of the machine; else the board's.", min=1)
    ] = None,
    liberty: Annotated[
        Path | None, typer.Option(help=f"Cell library (Liberty) to measure {ASIC} on.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; else out/BOARD-CONFIG.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Build the bitstream of a machine for a board, or what other tools build on.

    Bitstream, report and configuration lie in one folder. Takes minutes, and
    with tools from Python packages some more: native yosys, nextpnr and packers
    are taken where they are on PATH. axi-ip takes no tools: it writes
    Verilog, IP-XACT, scripts for Vivado and Quartus, and a driver for PYNQ. asic
    writes Verilog whose memories are macros, and configurations of OpenROAD and
    LibreLane; with --liberty, yosys finds area and delay on a library's cells.

    \b
    weft build ulx3s
    weft build ulx3s --config small --seeds 3
    weft build axi-ip --config small -o ip
    weft build asic --config small --liberty cells.lib
    """
    if board in (AXI_IP, ASIC) and (seeds != 1 or clock_mhz is not None):
        raise WeftError("--seeds and --clock-mhz go with a board")
    if liberty is not None and board != ASIC:
        raise WeftError(f"--liberty goes with {ASIC}")
    if board == AXI_IP:
        build_axi_ip(config, output, json)
        return
    if board == ASIC:
        build_asic(config, output, liberty, json)
        return
    from ..boards import board as boards
    from ..boards import build as builder

    wanted = boards.find(board)
    if clock_mhz is not None:
        wanted = dataclasses.replace(wanted, clock_mhz=clock_mhz)
    machine = load(config or wanted.config)
    folder = output or builder.folder(wanted, machine)

    report = builder.build(
        wanted, machine, folder, seeds=seeds, progress=lambda what: status(what, json)
    )
    if json:
        print(jsonlib.dumps(report))
        return
    reached = f" of {report['fmax_mhz']:.1f}" if seeds else ""
    _out.print(
        f"{report['bitstream'] or 'netlist'}: {machine.name} at {wanted.clock_mhz:g} MHz{reached}; "
        f"{report['luts']:,} LUTs, {report['ffs']:,} flip-flops, {report['dsps']} multipliers, "
        f"{report['brams']} block RAMs; {report['seconds']:.0f} s",
        highlight=False,
    )


def flash(
    board: BoardArgument,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="What was built; else the board's.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder that weft build wrote.")] = None,
) -> None:
    """Load what `weft build` made onto a board, with openFPGALoader.

    \b
    weft flash ulx3s
    """
    from ..boards import board as boards
    from ..boards import build as builder

    wanted = boards.find(board)
    place = folder or builder.folder(wanted, load(config or wanted.config))
    with status(f"Loading {place}", False):
        builder.flash(wanted, place)
