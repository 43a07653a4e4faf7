"""The commands that measure: `weft bench`."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated

import typer
from rich.console import Console

from ..hdl.config import PRESETS
from ..hdl.config import load as load_config
from .device import DeviceError
from .errors import WeftError
from .networks import NETWORKS

#: Columns of a terminal that a table needs; where there is none, it gets them.
_WIDTH = 130

_TargetsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NETWORK]...",
        help=f"{', '.join(NETWORKS)}; or a layer: gemm:MxKxN, "
        "conv:HxWxC,k=KHxKW,s=S,p=P,n=N. All networks if none is given.",
        show_default=False,
    ),
]


def bench(
    targets: _TargetsArgument = None,
    config: Annotated[
        str, typer.Option("--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file.")
    ] = "default",
    latency: Annotated[
        int, typer.Option(help="Cycles from a read address to its data.", min=0)
    ] = 50,
    beat_interval: Annotated[
        int, typer.Option(help="Cycles from a beat of the memory to the next.", min=1)
    ] = 1,
    backend: Annotated[
        str,
        typer.Option("--backend", "-b", help="verilator (the RTL), model (the same cycles)."),
    ] = "verilator",
    json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each network, on a line of its own.")
    ] = False,
) -> None:
    """Measure networks, layer by layer, beside their bounds and other accelerators.

    Runs each network once, compares every layer's bytes with the integer
    reference, and says for each layer: multiply-accumulates; the cycles of an
    ideal array, the reference bound, the cycles taken and their ratio to the
    bound; what the array waited for; bytes moved and the least possible. Peers'
    cycles stand beside the memory that they refer to.

    \b
    weft bench lenet
    weft bench resnet18 --backend model --latency 100
    weft bench gemm:128x256x256 conv:56x56x64,k=3x3,s=1,p=1,n=64
    weft bench lenet mlp --config small --json
    """
    from .bench import measure
    from .bench_report import sentences, table

    machine = load_config(config)
    out = Console()
    if not out.is_terminal:
        out = Console(width=max(out.width, _WIDTH))
    failed = False
    for name in targets or list(NETWORKS):
        try:
            result = measure(
                name, machine, backend=backend, latency=latency, beat_interval=beat_interval,
                quiet=json,
            )  # fmt: skip
            failure = result.failure
            if json:
                print(jsonlib.dumps(result.to_json()), flush=True)
            else:
                out.print(table(result))
                out.print(sentences(result), highlight=False, soft_wrap=True)
        except (WeftError, DeviceError) as error:
            failure = str(error)
        if failure:
            print(f"weft: {failure}", file=sys.stderr)
            failed = True
    if failed:
        raise typer.Exit(1)
