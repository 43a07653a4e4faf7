"""Keeps what place-and-route measured: benchmarks/area.json, and the tables made from it.

usage: python tools/area.py --add FOLDER…
       python tools/area.py --add FOLDER… --config NAME [--part NAME]
       python tools/area.py --cycles [NETWORK…]

The first keeps what `weft build BOARD -o FOLDER` left, the second what `python -m weft.boards.ecp5
--config NAME --output FOLDER` left, with --part NAME of a part of the machine; the third the timing
model's cycles behind each board's memory.
Each writes the tables of docs/area.md too.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmark_tables import table
from weft.boards import area as measured
from weft.boards.area import Area, AreaError, Cycles, Memory
from weft.boards.board import find
from weft.boards.build import REPORT
from weft.boards.ecp5 import PARTS
from weft.boards.tools import find_tool
from weft.hdl.config import PRESETS, Config, load
from weft.host import compiler, workloads
from weft.host.cli_area import frames_text
from weft.host.errors import CompileError
from weft.host.networks import NETWORKS
from weft.host.timing.machine import predict
from weft.tb.devices import machine_verilog
from weft.tb.session import PAGE as MEMORY_PAGE

PAGE = Path(__file__).parents[1] / "docs" / "area.md"
#: What nextpnr calls what an ECP5 counts.
_CELLS = {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "dsps": "MULT18X18D", "brams": "DP16KD"}
#: The FPGA where a machine is placed alone.
_FPGA = "LFE5U-85F"


def read(folder: Path, alone: str | None, part: str | None = None) -> Area:
    """What place-and-route left in a folder: of a board, or of a `part` of a machine `alone`."""
    kind = "timing" if alone is None else "report"
    timings = sorted(folder.glob(f"{kind}-*.json"))
    if not timings:
        raise AreaError(f"{folder} has no {kind} of nextpnr")
    runs = [json.loads(path.read_text()) for path in timings]
    used = runs[0]["utilization"]
    counts = {name: used[cell]["used"] for name, cell in _CELLS.items() if cell in used}
    if alone is None:
        report = json.loads((folder / REPORT).read_text())
        config, board = load(folder / "weft.toml"), find(report["board"])
        config = dataclasses.replace(config, name=report["config"])
        counts = counts or {name: report[name] for name in _CELLS}  # of other FPGAs: synthesis
        tools = "yosys", board.family.nextpnr
        where = {
            "board": board.name,
            "fpga": board.fpga,
            "memory": Memory.of(board, config),
            "limit_mhz": board.chip.fastest_mhz if board.chip else None,
            "fmax_mhz": _rounded(report["fmax_per_seed"]),
        }
    else:
        config, tools = load(alone), ("yosys", "nextpnr-ecp5")
        found = (min(clock["achieved"] for clock in run["fmax"].values()) for run in runs)
        where = {"fpga": _FPGA, "part": part, "fmax_mhz": _rounded(found)}
    return Area(
        config=config.name,
        fingerprint=f"{config.fingerprint:016x}",
        machine=hashlib.sha256(machine_verilog(config).encode()).hexdigest()[:12],
        tools={name: _version(name) for name in tools},
        **counts,
        **where,
    )


def _rounded(mhz: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(each, 2) for each in mhz)


def _version(tool: str) -> str:
    """What a tool says of its version."""
    done = subprocess.run(
        [find_tool(tool), "--version"], capture_output=True, text=True, check=True
    )
    text = done.stdout + done.stderr
    found = re.search(r"Yosys (\S+)|Version \S*?-?(\d\S*?)\)", text)
    return next(part for part in found.groups() if part) if found else text.strip()


def cycles_of(name: str, area: Area, config: Config) -> int | None:
    """Cycles of a network behind a board's memory, for one input; None if it does not fit."""
    memory = area.memory
    assert memory is not None
    workload = workloads.load(name, config)
    try:
        program = compiler.compile(workload.graph, config, batch=workload.batch)
    except CompileError:
        return None
    stored = (
        *(program.const, program.code),
        *(bytes(n) for n in (program.input_bytes, program.output_bytes, program.scratch_bytes)),
    )
    pages = sum(
        -(-len(part) // MEMORY_PAGE) + 1 for part in stored
    )  # as they are placed, with gaps
    if pages * MEMORY_PAGE > memory.size:
        return None
    timing = {"latency": memory.latency, "beat_interval": memory.beat_interval}
    total = sum(predict(config, code, **timing).cycles for code in program.runs)
    return -(-total // workload.batch)


def blocks(areas: list[Area], cycles: Cycles) -> dict[str, str]:
    """The tables by marker."""
    head = (
        "machine",
        "version",
        "on",
        "LUTs",
        "flip-flops",
        "multipliers",
        "block RAMs",
        "fmax, MHz",
        "runs",
    )
    rows = [
        (
            f"`{a.config}`" + (f", {a.part}" if a.part else ""),
            f"`{a.machine[:6]}`",
            a.place if a.board is None else f"`{a.board}` ({a.fpga})",
            *(a.luts, a.ffs, a.dsps, a.brams, f"{a.fmax:.1f}", len(a.fmax_mhz)),
        )
        for a in areas
    ]
    on_boards = [a for a in areas if a.frames(cycles)]
    places = (f"`{a.config}` on `{a.board}`, {a.clock_mhz:.1f} MHz" for a in on_boards)
    frames = [(f"`{name}`", *(frames_text(a, cycles, name) for a in on_boards)) for name in cycles]
    versions = {f"{name} {version}" for a in areas for name, version in a.tools.items()}
    return {
        "area": table(head, rows) + f"\nTools: {', '.join(sorted(versions))}.\n",
        "frames": table(("network", *places), frames),
    }


def pattern(marker: str) -> re.Pattern[str]:
    """What stands between a marker and its end."""
    return re.compile(rf"(?<=<!-- {marker} -->\n\n).*?(?=\n<!-- /{marker} -->)", re.DOTALL)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--config", help="what was placed alone in the folders")
    parser.add_argument("--part", choices=[*PARTS], help="which part of it; without: all")
    parser.add_argument("--cycles", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK")
    options = parser.parse_args()
    areas, cycles = measured.load() if measured.TABLE.exists() else ([], {})
    for folder in options.add:
        new = read(folder, options.config, options.part)
        areas = [a for a in areas if (a.place, a.name) != (new.place, new.name)] + [new]
    for name in [] if options.cycles is None else options.cycles or NETWORKS:
        for area in areas:
            if area.memory is None:
                continue
            config = _config(area)
            cycles.setdefault(name, {})[str(area.setting)] = cycles_of(name, area, config)
            print(f"{name}, {area.config} on {area.place}: {cycles[name][str(area.setting)]}")
    measured.save(areas, cycles)
    text = PAGE.read_text(encoding="utf-8")
    for marker, block in blocks(*measured.load()).items():
        text = pattern(marker).sub(lambda _, block=block: block, text)
    PAGE.write_text(text, encoding="utf-8")


def _config(area: Area) -> Config:
    """The configuration of a row: a preset, or its board's own."""
    config = load(area.config) if area.config in PRESETS else load(find(area.board or "").config)
    if f"{config.fingerprint:016x}" != area.fingerprint:
        raise AreaError(f"{area.config} is no longer what was measured on {area.place}")
    return config


if __name__ == "__main__":
    main()
