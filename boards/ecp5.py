"""Synthesis and place-and-route of a machine, or a part of it, on a Lattice ECP5.

``python -m weft.boards.ecp5 --config small --seeds 3`` prints area and fmax as JSON. It runs out of
context: pins stay internal (no I/O buffers), so the result is the part's own. ``--seeds 0`` stops
after synthesis and prints the netlist's cells.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ..hdl.array import SystolicArray
from ..hdl.config import Config, ConfigError, load
from ..hdl.gemm import GemmCore
from ..hdl.requantizer import Requantizer
from ..hdl.top import Weft
from ..hdl.vector_unit import VectorUnit
from ..hdl.verilog import convert
from .ecp5_cells import Ecp5Cells
from .tools import ToolError, run_tool

#: Parts that can be placed by themselves.
PARTS = {
    "machine": Weft,
    "array": SystolicArray,
    "gemm": GemmCore,
    "vector": VectorUnit,
    "requantizer": lambda config: Requantizer(multiplier_bits=config.multiplier_bits),
}


def synthesize(config: Config, directory: Path, part: str = "machine") -> Path:
    """The ECP5 netlist (JSON) of `config`'s machine, or of one of PARTS."""
    (directory / "weft.v").write_text(convert(PARTS[part](config), "weft", Ecp5Cells()))
    script = "read_verilog weft.v; synth_ecp5 -top weft -json weft.json"
    run_tool("yosys", "-q", "-p", script, log=directory / "yosys.log")
    return directory / "weft.json"


def cells(netlist: Path) -> dict[str, int]:
    """How many of each kind of cell a netlist has, the most frequent first."""
    modules = json.loads(netlist.read_text())["modules"]
    kinds = Counter(cell["type"] for cell in modules["weft"]["cells"].values())
    return {kind: count for kind, count in kinds.most_common() if not kind.startswith("$")}


def place_and_route(
    netlist: Path, seed: int, *, device: str = "85k", target_mhz: int = 100
) -> dict:
    """Area and fmax of one run.

    Returns
    -------
    dict
        ``fmax_mhz`` and the used count of each kind of cell.
    """
    log = netlist.with_name(f"nextpnr-{seed}.log")
    text = run_tool(
        "nextpnr-ecp5", f"--{device}", "--speed", "6", "--out-of-context", "--seed",
        str(seed), "--freq", str(target_mhz), "--timing-allow-fail", "--json", netlist.name,
        log=log,
    )  # fmt: skip
    fmax = re.findall(r"Max frequency for clock.*?: ([\d.]+) MHz", text)
    if not fmax:
        raise ToolError(f"nextpnr reported no frequency, see {log}")
    cells = {
        name.lower(): int(count)
        for name, count in re.findall(r"Info:\s+(TRELLIS_\w+|DP16KD|MULT18X18D):\s+(\d+)/", text)
    }
    return {"seed": seed, "fmax_mhz": float(fmax[-1]), **cells}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", default="small", help="preset or TOML file")
    parser.add_argument("--part", default="machine", choices=PARTS, help="what to place")
    parser.add_argument("--device", default="85k", choices=["25k", "45k", "85k"])
    parser.add_argument("--seeds", type=int, default=1, help="place-and-route runs; 0: none")
    parser.add_argument("--output", type=Path, help="keep netlist and logs here")
    options = parser.parse_args()
    try:
        config = load(options.config)
        with tempfile.TemporaryDirectory() as scratch:
            directory = options.output or Path(scratch)
            directory.mkdir(parents=True, exist_ok=True)
            netlist = synthesize(config, directory, options.part)
            found = cells(netlist)
            runs = [
                place_and_route(netlist, seed + 1, device=options.device)
                for seed in range(options.seeds)
            ]
    except (ToolError, ConfigError) as error:
        sys.exit(f"weft: {error}")
    if not runs:
        print(json.dumps({"config": config.name, "part": options.part, "cells": found}, indent=2))
        return
    median = statistics.median(run["fmax_mhz"] for run in runs)
    print(
        json.dumps(
            {"config": config.name, "part": options.part, "fmax_mhz": median, "runs": runs},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
