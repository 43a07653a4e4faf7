"""`weft compile`: a network, or a model exported elsewhere, to a program file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..hdl.config import PRESETS
from ..hdl.config import load as load_config
from .commands import read_npy, require_place
from .errors import WeftError
from .ir import Host
from .networks import NETWORKS
from .progress import status

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .ir import Graph

_out = Console()


def compile_(
    target: Annotated[
        str,
        typer.Argument(help=f"{', '.join(NETWORKS)}; or an archive of torch.export.save (.pt2)."),
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
) -> None:
    """Compile a network to a program file.

    The file holds instructions, constants and the configuration that they are for;
    it runs without torch, unless torch's operators are among those listed as the
    host's. An archive needs no model source, only inputs to calibrate with.

    \b
    weft compile lenet -o lenet.weft
    weft compile model.pt2 --calibration x.npy -o model.weft
    weft compile lenet --batch 16 -o lenet16.weft
    weft disasm lenet.weft
    weft run lenet.weft --input x.npy --output y.npy
    """
    archive = target.endswith(".pt2")
    if archive and calibration is None:
        raise WeftError(f"{target} needs --calibration X.npy: real inputs [N, …] to take ranges of")
    if not archive and (calibration is not None or asymmetric):
        raise WeftError("--calibration and --asymmetric go with an archive (.pt2)")
    if target != "lenet" and (data is not None or weights is not None):
        raise WeftError("--data and --weights go with lenet")
    if not archive and target not in NETWORKS:
        raise WeftError(
            f"unknown network {target!r}; there are {', '.join(NETWORKS)}, and archives (.pt2)"
        )
    machine = load_config(config)
    require_place(output)
    if calibration is not None:
        graph = _quantize_archive(Path(target), calibration, asymmetric, machine)
    else:
        graph = _network(target, machine, data, weights)
    from . import compiler

    with status("Compiling", False):
        program = compiler.compile(graph, machine, batch=batch)
    program.save(output)
    _out.print(
        f"{output}: {len(program.code) // 32} instructions, {len(program.const):,} constant bytes",
        highlight=False,
    )
    for node in graph.nodes:
        if isinstance(node, Host):
            _out.print(f"on the host: {node.operator} at {node.name!r}", highlight=False)


def _quantize_archive(path: Path, calibration: Path, asymmetric: bool, machine: Config) -> Graph:
    from .frontend import load_exported, quantize_exported

    inputs = read_npy(calibration)
    program = load_exported(path)
    with status(f"Quantizing {path.stem} to INT8", False):
        return quantize_exported(
            program,
            inputs,
            name=path.stem,
            asymmetric=asymmetric,
            multiplier_bits=machine.multiplier_bits,
        )


def _network(name: str, machine: Config, data: Path | None, weights: Path | None) -> Graph:
    from . import lenet, workloads

    with status(f"Quantizing {name} to INT8", False):
        if name == "lenet":
            return lenet.quantized(machine, data, weights).graph
        return workloads.load(name, machine).graph
