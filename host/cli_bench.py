"""The commands that measure: `weft bench`, `weft profile`."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..hdl.config import PRESETS
from ..hdl.config import load as load_config
from .device import DeviceError
from .errors import WeftError
from .networks import NETWORKS
from .progress import status

#: Columns of a terminal that a table needs; where there is none, it gets them.
_WIDTH = 130

_TargetsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NETWORK]...",
        help=f"{', '.join(NETWORKS)}; or a layer: gemm:MxKxN, "
        "conv:HxWxC,k=KHxKW,s=S,p=P,n=N. Each may end in ,batch=N: so many inputs at once. "
        "All networks if none is given.",
        show_default=False,
    ),
]

_ConfigOption = Annotated[
    str, typer.Option("--config", "-c", help=f"Preset ({', '.join(PRESETS)}) or TOML file.")
]
_LatencyOption = Annotated[int, typer.Option(help="Cycles from a read address to its data.", min=0)]
_IntervalOption = Annotated[
    int, typer.Option(help="Cycles from a beat of the memory to the next.", min=1)
]


def bench(
    targets: _TargetsArgument = None,
    config: _ConfigOption = "default",
    latency: _LatencyOption = 50,
    beat_interval: _IntervalOption = 1,
    batch: Annotated[
        int | None,
        typer.Option(help="Inputs at once, for every NETWORK: like ,batch=N behind it.", min=1),
    ] = None,
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
    weft bench lenet --batch 16
    weft bench mlp,batch=4 mlp,batch=16
    """
    from .bench import measure
    from .bench_report import sentences, table

    machine = load_config(config)
    out = wide_console()
    failed = False
    suffix = f",batch={batch}" if batch else ""
    for name in (f"{target}{suffix}" for target in targets or NETWORKS):
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
        except KeyboardInterrupt:
            os._exit(130)  # a simulator in a thread of its own does not listen
        if failure:
            print(f"weft: {failure}", file=sys.stderr)
            failed = True
    if failed:
        raise typer.Exit(1)


def profile(
    target: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A network or a layer, as for weft bench.")
    ],
    config: _ConfigOption = "default",
    latency: _LatencyOption = 50,
    beat_interval: _IntervalOption = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the units' time to this .svg, .png or .pdf.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Show what each layer of a network asks of the machine.

    Operations, working set in bytes (inputs, weights, outputs) and cycles, by
    the timing model: nothing is run. A picture shows what each unit does when.

    \b
    weft profile resnet18
    weft profile lenet --config small --plot lenet.svg
    """
    from .bench_report import profile_table
    from .commands import require_place
    from .plot import save
    from .profile import profile as profiled

    machine = load_config(config)
    if plot is not None:
        require_place(plot)
    with status(f"Compiling {target}", json):
        found = profiled(target, machine, latency=latency, beat_interval=beat_interval)
    if plot is not None:
        save(found, plot)
    if json:
        print(jsonlib.dumps(found.to_json()))
    else:
        wide_console().print(profile_table(found))


def wide_console() -> Console:
    """Standard output, wide enough for a table where it is no terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=max(out.width, _WIDTH))
