"""The `weft` command."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..hdl.config import PRESETS, Config, ConfigError
from ..hdl.config import load as load_config
from .device import DeviceError, backends, open_device
from .errors import WeftError

app = typer.Typer(
    name="weft",
    help="INT8 neural-network accelerators: Python in, proven RTL out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Machine configurations.", no_args_is_help=True)
app.add_typer(config_app, name="config")

_out = Console()
_err = Console(stderr=True)

ConfigOption = Annotated[
    str, typer.Option("--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
]

#: Test images that a run takes by default: as many as finish in seconds.
_IMAGES = {"golden": 360, "model": 360, "verilator": 16, "icarus": 1}


def main() -> None:
    """Entry point: run the command; turn our errors into one sentence and exit code 1."""
    try:
        app()
    except (WeftError, ConfigError, DeviceError) as error:
        print(f"weft: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


# -- run ---------------------------------------------------------------------------------------


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="`lenet`, or a program file (.weft).")],
    backend: Annotated[str, typer.Option(help="golden, model, verilator or icarus.")] = "verilator",
    config: ConfigOption = "default",
    images: Annotated[int | None, typer.Option(help="Test images to run.", min=1)] = None,
    latency: Annotated[
        int, typer.Option(help="Cycles from a read address to its data.", min=0)
    ] = 50,
    data: Annotated[
        Path | None, typer.Option(help="Directory of MNIST IDX files instead of the digits.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="LeNet weights (.safetensors) instead of the embedded ones.")
    ] = None,
    input: Annotated[
        Path | None, typer.Option(help="Input of a program: int8 .npy [N, H, W, C] or [H, W, C].")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write outputs (.npy).")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write an FST waveform of the run.")] = None,
    json: JsonOption = False,
) -> None:
    """Run a network on the accelerator and compare every byte with the reference.

    `weft run lenet` quantizes the trained LeNet-5 with torch, compiles it, and runs it; a .weft
    program needs neither torch nor a network, only inputs.
    """
    if backend not in backends():
        raise DeviceError(f"unknown backend {backend!r}; there are {', '.join(backends())}")
    if target == "lenet":
        if input is not None or output is not None:
            raise WeftError("--input and --output go with a program file, lenet has its own data")
        machine = load_config(config)
        _run_lenet(backend, machine, images, latency, data, weights, trace, json)
    else:
        if data is not None or weights is not None:
            raise WeftError("--data and --weights go with lenet; a program file takes --input")
        _run_program(Path(target), backend, config, images, latency, input, output, trace, json)


def _run_lenet(
    backend: str,
    config: Config,
    images: int | None,
    latency: int,
    data: Path | None,
    weights: Path | None,
    trace: Path | None,
    json: bool,
) -> None:
    from . import compiler, interpreter, lenet
    from .report import layer_table, summary
    from .run import run as run_program

    with _status("Quantizing LeNet-5 to INT8", json):
        network = lenet.quantized(config, data, weights)
    with _status("Compiling", json):
        program = compiler.compile(network.graph, config)
        inspect = compiler.compile(network.graph, config, inspect=True)
    count = min(images or _IMAGES[backend], len(network.inputs))
    inputs = network.inputs[:count]
    with _status("Computing the reference", json):
        reference = interpreter.run_all(network.graph, inputs)
    with _status(f"Preparing {backend} (the first time builds the simulator)", json):
        device = open_device(backend, config, latency=latency, trace=trace)
    try:
        with _progress(f"Running on {backend}", count, json) as step:
            report = run_program(
                program,
                device,
                inputs,
                reference=reference,
                inspect=inspect,
                latency=latency,
                progress=step,
            )
    finally:
        device.close()
    predicted = np.array([out.reshape(-1).argmax() for out in report.outputs])
    correct = int(np.count_nonzero(predicted == network.labels[:count]))
    float_correct = int(
        np.count_nonzero(network.float_predictions[:count] == network.labels[:count])
    )
    values = summary(
        report, backend=backend, latency=latency, correct=correct, float_correct=float_correct
    )
    if json:
        print(jsonlib.dumps(values))
    else:
        _out.print(layer_table(report))
        _out.print(
            f"{count} image{'s' * (count != 1)} in {report.seconds:.1f} s on {backend}, "
            f"memory latency {latency}: {report.mismatches} mismatching bytes; accuracy "
            f"float {float_correct / count:.2%}, INT8 {correct / count:.2%}",
            highlight=False,
        )
    if report.mismatches:
        raise WeftError(f"{report.mismatches} bytes differ from the reference")


def _run_program(
    path: Path,
    backend: str,
    config: str,
    images: int | None,
    latency: int,
    input: Path | None,
    output: Path | None,
    trace: Path | None,
    json: bool,
) -> None:
    from .program import load
    from .report import layer_table, summary
    from .run import run as run_program

    explicit = config if config != "default" else None
    program = load(path, load_config(explicit) if explicit else None)
    shape = program.input.shape
    if input is None:
        raise WeftError(f"{path} needs --input X.npy: int8 {list(shape)} or [N, …]")
    inputs = _read_npy(input)
    inputs = inputs[None] if inputs.ndim == 3 else inputs
    if inputs.dtype != np.int8 or inputs.ndim != 4 or inputs.shape[1:] != shape:
        raise WeftError(
            f"{input} must be int8 [N, {', '.join(map(str, shape))}], "
            f"not {inputs.dtype} {list(inputs.shape)}"
        )
    inputs = inputs[:images]
    with _status(f"Preparing {backend} (the first time builds the simulator)", json):
        device = open_device(backend, program.config, latency=latency, trace=trace)
    try:
        with _progress(f"Running on {backend}", len(inputs), json) as step:
            report = run_program(program, device, inputs, latency=latency, progress=step)
    finally:
        device.close()
    if output is not None:
        _write_npy(output, np.stack(report.outputs))
    if json:
        print(jsonlib.dumps(summary(report, backend=backend, latency=latency)))
    else:
        _out.print(layer_table(report))


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WeftError(f"cannot read {path} as a .npy array: {error}") from error


def _write_npy(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.tmp.npy")
    try:
        np.save(temporary, array)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WeftError(f"cannot write {path}: {error.strerror}") from error


# -- compile, disassemble ----------------------------------------------------------------------


@app.command("compile")
def compile_(
    target: Annotated[str, typer.Argument(help="`lenet`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Program file to write.")],
    config: ConfigOption = "default",
    data: Annotated[
        Path | None, typer.Option(help="Directory of MNIST IDX files instead of the digits.")
    ] = None,
) -> None:
    """Compile a network to a program file, which runs without torch."""
    if target != "lenet":
        raise WeftError(f"unknown network {target!r}; there is: lenet")
    from . import compiler, lenet

    machine = load_config(config)
    with _status("Quantizing LeNet-5 to INT8", False):
        network = lenet.quantized(machine, data)
    program = compiler.compile(network.graph, machine)
    program.save(output)
    _out.print(
        f"{output}: {len(program.code) // 32} instructions, {len(program.const):,} constant bytes",
        highlight=False,
    )


@app.command()
def disasm(program: Annotated[Path, typer.Argument(help="Program file.")]) -> None:
    """List a program's instructions."""
    from .disasm import listing
    from .program import load

    print(listing(load(program)))


@app.command()
def isa() -> None:
    """Show the instruction set as tables."""
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
    """Write the Verilog of a configuration, with its register map and instruction set."""
    from ..hdl.verilog import write

    machine = load_config(config)
    with _status(f"Generating Verilog for {machine.name}", json):
        files = write(machine, output)
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


@config_app.command("list")
def config_list(json: JsonOption = False) -> None:
    """List the presets."""
    import dataclasses

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
    """Show a configuration as the TOML file that would make it."""
    import dataclasses

    machine = load_config(config)
    if json:
        values = {**dataclasses.asdict(machine), "fingerprint": f"{machine.fingerprint:016x}"}
        print(jsonlib.dumps(values))
    else:
        print(machine.to_toml(), end="")


# -- progress ----------------------------------------------------------------------------------


def _status(text: str, quiet: bool):
    from contextlib import nullcontext

    if quiet:
        return nullcontext()
    if not _err.is_terminal:
        _err.print(f"{text} …", highlight=False)
    return _err.status(f"{text} …")


class _progress:
    """A progress bar on stderr; entering gives the callback that moves it."""

    def __init__(self, text: str, total: int, quiet: bool):
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=_err,
            disable=quiet,
        )
        self._text, self._total = text, total

    def __enter__(self):
        self._bar.__enter__()
        task = self._bar.add_task(self._text, total=self._total)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *exc: object) -> None:
        self._bar.__exit__(*exc)  # type: ignore[arg-type]
