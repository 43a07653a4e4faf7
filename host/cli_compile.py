"""`weft compile`: a network, or a model exported elsewhere, to a program file."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..hdl.config import PRESETS
from ..hdl.config import load as load_config
from ..hdl.isa import INSTRUCTION_BYTES
from .commands import read_npy, require_place
from .errors import WeftError
from .networks import NETWORKS
from .progress import status

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .ir import Graph

_out = Console()


def compile_(
    target: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(NETWORKS)}; an archive of torch.export.save (.pt2); or a quantized "
            "ONNX model (.onnx)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Program file to write.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file.")
    ] = "default",
    batch: Annotated[int, typer.Option(help="Images that the program takes at a time.", min=1)] = 1,
    calibration: Annotated[
        Path | None,
        typer.Option(help="An archive's real inputs, .npy [N, …], that show ranges."),
    ] = None,
    asymmetric: Annotated[
        bool, typer.Option("--asymmetric", help="An archive's activations get zero points.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Directory of MNIST IDX files instead of the digits.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="LeNet weights (.safetensors) instead of the embedded ones."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Compile a network to a program file.

    The file holds instructions, constants and the configuration that they are for;
    it runs without torch, unless torch's operators are among those listed as the
    host's. An archive needs no model source, only inputs to calibrate with. An ONNX
    model has its scales in it, as QuantizeLinear and DequantizeLinear.

    What the host computes is listed with the bytes that the accelerator moves for
    it, and the cycles in which it rests meanwhile (at a memory latency of 50).

    \b
    weft compile lenet -o lenet.weft
    weft compile model.pt2 --calibration x.npy -o model.weft
    weft compile lenet --batch 16 -o lenet16.weft
    weft compile model.onnx --config small -o model.weft
    weft disasm lenet.weft
    weft run lenet.weft --input x.npy --output y.npy
    """
    archive, foreign = target.endswith(".pt2"), target.endswith(".onnx")
    if archive and calibration is None:
        raise WeftError(f"{target} needs --calibration X.npy: real inputs [N, …] to take ranges of")
    if not archive and (calibration is not None or asymmetric):
        raise WeftError("--calibration and --asymmetric go with an archive (.pt2)")
    if target != "lenet" and (data is not None or weights is not None):
        raise WeftError("--data and --weights go with lenet")
    if not (archive or foreign) and target not in NETWORKS:
        raise WeftError(
            f"unknown network {target!r}; there are {', '.join(NETWORKS)}, archives (.pt2), and "
            "quantized ONNX models (.onnx)"
        )
    machine = load_config(config)
    require_place(output)
    if calibration is not None:
        graph = _quantize_archive(Path(target), calibration, asymmetric, machine, json)
    elif foreign:
        graph = _import_onnx(Path(target), machine, json)
    else:
        graph = _network(target, machine, data, weights, json)
    from . import compiler
    from .report import host_table
    from .run import Report

    with status("Compiling", json):
        program = compiler.compile(graph, machine, batch=batch)
    program.save(output)
    report = Report(program)
    cycles = sum(prediction.cycles for prediction in report.predictions)
    if json:
        values = {
            "program": str(output),
            "config": machine.name,
            "instructions": len(program.code) // INSTRUCTION_BYTES,
            "constant_bytes": len(program.const),
            "latency": report.latency,
            "predicted_cycles": cycles,
            "host": [asdict(call) for call in report.host_calls],
        }
        print(jsonlib.dumps(values))
        return
    _out.print(
        f"{output}: {len(program.code) // INSTRUCTION_BYTES:,} instructions, "
        f"{len(program.const):,} constant bytes, {cycles:,} cycles at latency {report.latency}",
        highlight=False,
    )
    if report.host_calls:
        _out.print(host_table(report.host_calls))


def _quantize_archive(
    path: Path, calibration: Path, asymmetric: bool, machine: Config, json: bool
) -> Graph:
    from .frontend import load_exported, quantize_exported

    inputs = read_npy(calibration)
    program = load_exported(path)
    with status(f"Quantizing {path.stem} to INT8", json):
        return quantize_exported(
            program,
            inputs,
            name=path.stem,
            asymmetric=asymmetric,
            multiplier_bits=machine.multiplier_bits,
        )


def _import_onnx(path: Path, machine: Config, json: bool) -> Graph:
    from .frontend import import_onnx
    from .qdq.model import read

    model = read(path)
    with status(f"Importing {path.name}", json):
        return import_onnx(model, name=path.stem, multiplier_bits=machine.multiplier_bits)


def _network(
    name: str, machine: Config, data: Path | None, weights: Path | None, json: bool
) -> Graph:
    from . import lenet, workloads

    with status(f"Quantizing {name} to INT8", json):
        if name == "lenet":
            return lenet.quantized(machine, data, weights).graph
        return workloads.load(name, machine).graph
