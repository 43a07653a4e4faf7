"""Synthesis and place-and-route of a machine, or a part of it, on a Lattice ECP5.

``python -m weft.boards.ecp5 --config small --seeds 3`` prints fmax, area and the longest path of
each seed as JSON. It runs out of context: pins stay internal (no I/O buffers). As `whole` (the
default) the machine has a register at each pin, so that paths from and to pins count as well.
``--seeds 0`` stops after synthesis and prints the netlist's cells.
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

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ..hdl.array import SystolicArray
from ..hdl.config import Config, ConfigError, load
from ..hdl.gemm import GemmCore
from ..hdl.requantizer import Requantizer
from ..hdl.top import Weft
from ..hdl.vector_unit import VectorUnit
from ..hdl.verilog import convert
from .ecp5_cells import Ecp5Cells
from .tools import ToolError, run_tool

#: What synthesis takes a wire for, in ps. Its own 300 makes a way through many lookup tables look
#: shorter than a memory's read, and so not worth shortening.
WIRE_PS = 1000
#: The default mapping of synthesis, but for the wire.
_MAPPING = f"+&scorr; &sweep; &dc2; &dch -f -r; &ps; &if -W {WIRE_PS} {{D}} {{R}} -v; &mfs"


class Registered(wiring.Component):
    """A component with a register at every pin, whose paths then count like those inside."""

    def __init__(self, inner: wiring.Component):
        self._inner = inner
        super().__init__(inner.signature)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.registered = inner = self._inner
        for (name, *_), member, _ in self.signature.flatten(self):
            outside, inside = getattr(self, name), getattr(inner, str(name))
            m.d.sync += outside.eq(inside) if member.flow == Out else inside.eq(outside)
        return m


#: What can be placed: the whole machine (with memories, DMA and control), or parts of it.
PARTS = {
    "whole": lambda config: Registered(Weft(config)),
    "machine": Weft,
    "array": SystolicArray,
    "gemm": GemmCore,
    "vector": VectorUnit,
    "requantizer": lambda config: Requantizer(multiplier_bits=config.multiplier_bits),
}


def synthesize(config: Config, directory: Path, part: str = "machine") -> Path:
    """The ECP5 netlist (JSON) of `config`'s machine, or of one of PARTS."""
    (directory / "weft.v").write_text(convert(PARTS[part](config), "weft", Ecp5Cells()))
    script = (
        "read_verilog weft.v",
        f'scratchpad -set abc9.script "{_MAPPING}"',
        "synth_ecp5 -top weft -json weft.json",
    )
    run_tool("yosys", "-q", *(f"-p{line}" for line in script), log=directory / "yosys.log")
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
        ``fmax_mhz``, ``critical_path`` (see :func:`path_in_words`), and ``cells``, the used count
        of each kind.
    """
    log = netlist.with_name(f"nextpnr-{seed}.log")
    report = netlist.with_name(f"report-{seed}.json")
    run_tool(
        "nextpnr-ecp5", f"--{device}", "--speed", "6", "--out-of-context", "--seed",
        str(seed), "--freq", str(target_mhz), "--timing-allow-fail", "--json", netlist.name,
        "--report", report.name, log=log,
    )  # fmt: skip
    found = json.loads(report.read_text())
    if not found["fmax"]:
        raise ToolError(f"nextpnr reported no frequency, see {log}")
    paths = [path["path"] for path in found["critical_paths"] if path["from"] == path["to"]]
    slowest = max(paths, key=lambda path: sum(step["delay"] for step in path))
    return {
        "seed": seed,
        "fmax_mhz": round(min(clock["achieved"] for clock in found["fmax"].values()), 2),
        "critical_path": path_in_words(slowest),
        "cells": {kind: n["used"] for kind, n in found["utilization"].items() if n["used"]},
    }


def path_in_words(path: list[dict]) -> dict:
    """A path of nextpnr's report: its ends, what it passes, and where its time goes.

    Returns
    -------
    dict
        ``from`` and ``to``, names of registers (or memories, multipliers) in the hierarchy; ``by``,
        named nets between them, in order; ``logic_ns`` and ``routing_ns``; ``levels`` of logic.
    """
    wires = [step for step in path if step["type"] == "routing"]
    routing = sum(step["delay"] for step in wires)

    def plain(name: str) -> str:
        """The name without what synthesis appended for the cells of its logic."""
        cut = r"_(?:TRELLIS_|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD|MULT18)|\$|\["
        return re.split(cut, name)[0].replace("registered.", "", 1)

    by = dict.fromkeys(plain(step["net"]) for step in wires)
    return {
        "from": plain(path[0]["from"]["cell"]),
        "to": f"{plain(path[-1]['to']['cell'])} {path[-1]['to']['port']}",
        "by": [name for name in by if name],
        "logic_ns": round(sum(step["delay"] for step in path) - routing, 2),
        "routing_ns": round(routing, 2),
        "levels": sum(step["type"] == "logic" for step in path),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", default="small", help="preset or TOML file")
    parser.add_argument("--part", default="whole", choices=PARTS, help="what to place")
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
