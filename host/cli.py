"""The `weft` command."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..hdl.config import PRESETS, ConfigError
from ..hdl.config import load as load_config
from .cli_area import area
from .cli_bench import bench, profile
from .cli_boards import build, flash
from .cli_compile import compile_
from .commands import SIGNALLESS, require_place, run_lenet, run_program
from .device import WATCHDOG, DeviceError, backends
from .errors import WeftError
from .progress import status

app = typer.Typer(
    name="weft",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(no_args_is_help=True)
app.add_typer(config_app, name="config")

_out = Console()

ConfigOption = Annotated[
    str, typer.Option("--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
]
DataOption = Annotated[
    Path | None, typer.Option(help="Directory of MNIST IDX files instead of the digits.")
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="LeNet weights (.safetensors) instead of the embedded ones.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command (sys.argv's by default) and exit; our errors are one sentence and code 1."""
    try:
        app(arguments, prog_name="weft")
    except (WeftError, ConfigError, DeviceError) as error:
        print(f"weft: {error}", file=sys.stderr)
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"weft {version('weft')}")
        raise typer.Exit


@app.callback()
def _weft(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """INT8 neural-network accelerators: Python in, proven RTL out.

    \b
    weft run lenet                         torch to RTL, every byte compared
    weft run lenet --backend golden        without a simulator
    weft bench resnet18                    cycles by layer, bounds, peers
    weft config show small > mine.toml     start a configuration of your own
    weft run lenet --config mine.toml      run on it
    weft verilog --config mine.toml -o out take its Verilog

    Exit code 1: the sentence on stderr says what is wrong. Exit code 2: usage.
    """


@config_app.callback()
def _config() -> None:
    """List and show machine configurations."""


# -- run ---------------------------------------------------------------------------------------


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="`lenet`, or a program file (.weft).")],
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            "-b",
            help="golden (NumPy, no cycles), model (golden at predicted cycles), verilator or "
            "icarus (the RTL), board (with --board).",
        ),
    ] = "verilator",
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            help=f"Preset ({', '.join(PRESETS)}) or TOML file; by default `default` or the "
            "board's, and for a program file the one it was compiled for.",
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            help="Test images to run; by default 360, on verilator 16, on icarus and boards 1.",
            min=1,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images that the machine takes at a time, by default 1.", min=1),
    ] = None,
    latency: Annotated[
        int, typer.Option(help="Cycles from a read address to its data.", min=0)
    ] = 50,
    beat_interval: Annotated[
        int, typer.Option(help="Cycles from a beat of the memory to the next.", min=1)
    ] = 1,
    watchdog: Annotated[
        int,
        typer.Option(
            help="Cycles without a completed instruction after which the machine stops; 0: never."
        ),
    ] = WATCHDOG,
    data: DataOption = None,
    weights: WeightsOption = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="A program's input, .npy: int8 levels [N, H, W, C], or real numbers as the model "
            "takes them.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write a program's output, .npy [N, H, W, C]: levels, or real numbers "
            "for real inputs.",
        ),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write an FST waveform of the run.")] = None,
    board: Annotated[
        str | None,
        typer.Option(help="Board to run on, such as ulx3s; ulx3s-sim is its whole top, simulated."),
    ] = None,
    port: Annotated[
        str | None, typer.Option(help="Serial port of the board, such as /dev/ttyUSB0.")
    ] = None,
    netlist: Annotated[
        bool,
        typer.Option("--netlist", help="Simulate what synthesis makes of the machine for an ECP5."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run a network on the accelerator and compare every byte.

    `lenet` is quantized with torch, compiled, run, and compared layer by layer
    with the integer reference. A program file needs neither torch nor a network,
    only an input: levels, or real numbers, which it quantizes. What the host
    computes is listed with the bytes that the accelerator moves for it, and the
    cycles in which it rests meanwhile.

    \b
    weft run lenet
    weft run lenet --batch 16
    weft run lenet --backend icarus --config small --latency 100
    weft run lenet --backend model --beat-interval 4
    weft run lenet --images 1 --trace lenet.fst
    weft run lenet --images 1 --config tiny --netlist
    weft run lenet.weft --input x.npy --output y.npy
    weft run lenet --backend board --board ulx3s --port /dev/ttyUSB0
    """
    if backend not in backends():
        raise DeviceError(f"unknown backend {backend!r}; there are {', '.join(backends())}")
    if backend != "board" and (board is not None or port is not None):
        raise WeftError("--board and --port go with --backend board")
    options: dict[str, Any] = {"board": board, "port": port, "netlist": netlist or None}
    options = {name: value for name, value in options.items() if value is not None}
    if netlist and backend not in ("verilator", "icarus"):
        raise WeftError(f"{backend} simulates no --netlist; take verilator or icarus")
    if trace is not None:
        if backend in SIGNALLESS:
            raise WeftError(f"{backend} gives no signals to --trace; take verilator or icarus")
        require_place(trace)
    if target == "lenet":
        if input is not None or output is not None:
            raise WeftError("--input and --output go with a program file, lenet has its own data")
        machine = load_config(config or _usual_config(board))
        timing = latency, beat_interval, watchdog
        given = data, weights, trace, json, options
        run_lenet(backend, machine, images, batch or 1, *timing, *given)
    else:
        if not target.endswith(".weft") and not Path(target).is_file():
            raise WeftError(f"unknown target {target!r}: neither lenet nor a program file")
        if data is not None or weights is not None:
            raise WeftError("--data and --weights go with lenet; a program file takes --input")
        if batch is not None:
            raise WeftError("--batch goes with lenet; give it to weft compile for a program file")
        machine = None if config is None else load_config(config)
        timing = latency, beat_interval, watchdog
        given = input, output, trace, json, options
        run_program(Path(target), backend, machine, images, *timing, *given)


def _usual_config(board: str | None) -> str:
    """Name of the configuration where none is asked for."""
    if board is None:
        return "default"
    from ..boards.board import usual_config

    return usual_config(board)


app.command()(bench)
app.command()(profile)


# -- compile, disassemble ----------------------------------------------------------------------


app.command("compile")(compile_)


@app.command()
def disasm(program: Annotated[Path, typer.Argument(help="Program file.")]) -> None:
    """List a program's instructions.

    One line an instruction: its index, name, and the fields that differ from
    their defaults; wait= and post= name the units it meets at semaphores.

    \b
    weft compile lenet -o lenet.weft && weft disasm lenet.weft
    """
    from .disasm import listing
    from .program import load

    print(listing(load(program)))


@app.command()
def isa() -> None:
    """Show the instruction set as tables.

    docs/isa.md is the same with more words.
    """
    from .docgen import isa_tables

    for table in isa_tables():
        _out.print(table)


# -- hardware ----------------------------------------------------------------------------------


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")],
    config: ConfigOption = "default",
    json: JsonOption = False,
) -> None:
    """Write the Verilog of a configuration.

    \b
    weft.v     the machine, top module `weft`, AXI4 and AXI-Lite pins
    weft.toml  its configuration, for --config
    weft.vlt   waivers for verilator --lint-only -Wall

    \b
    weft verilog --config small -o out
    """
    machine = load_config(config)
    place = next((p for p in (output, *output.parents) if p.exists()), Path())
    if not place.is_dir():
        raise WeftError(f"cannot write Verilog to {output}: {place} is not a directory")
    from ..hdl.verilog import ExportError, write

    try:
        with status(f"Generating Verilog for {machine.name}", json):
            files = write(machine, output)
    except ExportError as error:
        raise WeftError(str(error)) from error
    if json:
        print(
            jsonlib.dumps(
                {
                    "config": machine.name,
                    "fingerprint": f"{machine.fingerprint:016x}",
                    "top": "weft",
                    "files": [str(path) for path in files],
                }
            )
        )
    else:
        for path in files:
            _out.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False)


app.command()(build)
app.command()(flash)
app.command()(area)


@config_app.command("list")
def config_list(json: JsonOption = False) -> None:
    """List the presets.

    \b
    weft config list
    weft config list --json
    """
    if json:
        print(jsonlib.dumps({name: dataclasses.asdict(c) for name, c in PRESETS.items()}))
        return
    table = Table()
    for column in ("preset", "array", "bus", "ACT", "WGT", "ACC", "lanes", "multiplier"):
        table.add_column(column)
    for name, c in PRESETS.items():
        table.add_row(
            name, f"{c.rows}×{c.cols}", f"{c.bus_bits} bit", f"{c.act_bytes >> 10} KiB",
            f"{c.wgt_bytes >> 10} KiB", f"{c.acc_depth}", f"{c.vector_lanes}",
            f"{c.multiplier_bits} bit",
        )  # fmt: skip
    _out.print(table)


@config_app.command("show")
def config_show(
    config: Annotated[str, typer.Argument(help="Preset or TOML file.")] = "default",
    json: JsonOption = False,
) -> None:
    """Show a configuration as the TOML file that makes it.

    \b
    weft config show small > mine.toml
    weft config show mine.toml
    """
    machine = load_config(config)
    if json:
        values = {**dataclasses.asdict(machine), "fingerprint": f"{machine.fingerprint:016x}"}
        print(jsonlib.dumps(values))
    else:
        print(machine.to_toml(), end="")


if __name__ == "__main__":
    main()
