"""From a board's top to its bitstream: synthesis, place-and-route, packing; and onto the board."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hdl.config import PRESETS, load
from .board import BoardError
from .tools import ToolError, find_tool, run_tool

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .board import Board
    from .families import Family

_TOP = "top"
REPORT = "report.json"
_NAMES = {
    "luts": "lookup tables",
    "ffs": "flip-flops",
    "dsps": "multipliers",
    "brams": "block RAMs",
}


def folder(board: Board, config: Config) -> Path:
    """Where a machine's bitstream lies unless told."""
    return Path("out") / f"{board.name}-{config.name}"


def bitstream(board: Board) -> str:
    """Name of a board's bitstream."""
    return f"{_TOP}.{board.family.bitstream}"


def least(board: Board, config: Config) -> dict[str, int]:
    """What a machine takes of an FPGA at the very least: its array and its memories alone."""
    acc_bits = 32 * config.acc_depth * config.cols
    stored = config.act_bytes + config.wgt_bytes + config.par_bytes + config.tbl_bytes
    return {
        "dsps": config.multipliers if board.family.array_in_dsps else 0,
        "brams": board.memory_brams - (-(8 * stored + acc_bits) // board.family.ram_bits),
    }


def check_fit(board: Board, config: Config, used: Mapping[str, int]) -> None:
    """Refuse what is larger than the FPGA.

    Raises
    ------
    BoardError
        Names the scarcest resource, by how much it is exceeded, and the largest that may fit.
    """
    names = {_NAMES[name]: (used[name], board.capacity[name]) for name in used}
    _refuse(board, config, names)


def _refuse(board: Board, config: Config, used: Mapping[str, tuple[int, int]]) -> None:
    """Refuse what takes more than there is; `used` has both for each name of a resource."""
    over = {name: need - there for name, (need, there) in used.items()}
    worst = max(over, key=lambda name: over[name] / used[name][1], default=None)
    if worst is None or over[worst] <= 0:
        return
    need, there = used[worst]
    can_pack = worst == _NAMES["dsps"] and not config.packed and board.family.array_in_dsps
    packed = ", or packed = true, which halves the array's" if can_pack else ""
    raise BoardError(
        f"{config.name} does not fit {board.name}: it takes {need} {worst} of {there}, "
        f"{over[worst]} too many; {_advice(board, config)}{packed}"
    )


def _advice(board: Board, config: Config) -> str:
    """What to take instead of a machine that is too large."""
    own = load(board.config)
    smaller = [
        other
        for other in PRESETS.values()
        if other.rows * other.cols < config.rows * config.cols
        and all(need <= board.capacity[name] for name, need in least(board, other).items())
    ]
    largest = max(smaller, key=lambda other: other.rows * other.cols, default=None)
    if largest is not None and largest.rows * largest.cols > own.rows * own.cols:
        return f"the largest preset that may fit is {largest.name}"
    if own.fingerprint != config.fingerprint:
        return f"the board's own configuration is {own.name}: leave --config out"
    return "no smaller one is known"


def _overfull(log: str) -> dict[str, tuple[int, int]]:
    """What nextpnr says is used, and what there is."""
    found = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log, re.MULTILINE)
    return {f"cells {name}": (int(need), int(there)) for name, need, there in found}


def build(
    board: Board,
    config: Config,
    folder: Path,
    *,
    seeds: int = 1,
    progress: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """Bitstream, report and configuration of a machine on a board, in `folder`.

    Parameters
    ----------
    seeds
        Runs of place-and-route; the fastest is packed. 0: synthesis alone.
    progress
        Makes the context of each step, from its name.

    Returns
    -------
    dict
        The report: board, config, rows, cols, clock_mhz, fmax_mhz (the median), fmax_per_seed,
        luts, ffs, dsps, brams, bitstream, seconds. After synthesis alone neither fmax_mhz nor
        bitstream.

    Raises
    ------
    ToolError
        A tool is missing or fails.
    BoardError
        The machine does not fit, or is too slow for its clock.
    """
    begin = time.monotonic()
    check_fit(board, config, least(board, config))
    board.check_clock()
    family = board.family
    for tool in family.tools:
        find_tool(tool)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weft.toml").write_text(config.to_toml(), encoding="utf-8")
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
    with progress(f"Generating {board.name} with {config.name}"):
        plan = board.plan(config)
    for name in (f"{_TOP}.il", f"{_TOP}.{family.constraints}"):
        text = plan.files[name]
        (folder / name).write_text(text if isinstance(text, str) else text.decode())
    with progress("Synthesizing"):
        _synthesize(family, folder)
    cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    used: dict[str, int] = dict.fromkeys(_NAMES, 0)
    for cell, count in cells.items():
        for name, each in family.takes.get(cell, {}).items():
            used[name] += each * count
    check_fit(board, config, used)

    fmax: dict[int, float] = {}
    for seed in range(1, seeds + 1):
        with progress(f"Placing and routing, {seed} of {seeds}"):
            fmax[seed] = _place(board, config, folder, seed)
    if fmax:
        with progress("Packing"):
            _pack(board, folder, max(fmax, key=lambda seed: fmax[seed]))
    report = {
        "board": board.name,
        "config": config.name,
        "rows": config.rows,
        "cols": config.cols,
        "clock_mhz": board.clock_mhz,
        "fmax_mhz": statistics.median(fmax.values()) if fmax else None,
        "fmax_per_seed": list(fmax.values()),
        **used,
        "bitstream": str(folder / bitstream(board)) if fmax else None,
        "seconds": round(time.monotonic() - begin, 1),
    }
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    fastest = max(fmax.values(), default=board.clock_mhz)
    if fastest < board.clock_mhz:
        raise BoardError(
            f"{config.name} on {board.name} reaches {fastest:.1f} MHz of {board.clock_mhz:g}: "
            f"try more --seeds, a lower --clock-mhz or a smaller --config; see {folder / REPORT}"
        )
    return report


def _synthesize(family: Family, folder: Path) -> None:
    """Netlist and cells.json of the design."""
    for number, synth in enumerate(family.synth, 1):
        script = f"read_rtlil {_TOP}.il; {synth}; tee -q -o cells.json stat -json"
        try:
            run_tool("yosys", "-q", "-p", script, log=folder / "yosys.log")
            return
        except ToolError:
            if number == len(family.synth):
                raise


def _place(board: Board, config: Config, folder: Path, seed: int) -> float:
    """One run of place-and-route: the frequency that the machine's clock reaches, MHz."""
    timing = folder / f"timing-{seed}.json"
    family = board.family
    names = {
        "constraints": f"{_TOP}.{family.constraints}",
        "routed": f"{_TOP}-{seed}.{family.routed}",
    }
    log = folder / f"nextpnr-{seed}.log"
    try:
        run_tool(
            family.nextpnr, *board.nextpnr, "--seed", str(seed), "--timing-allow-fail",
            "--freq", f"{board.clock_mhz:g}", "--report", timing.name,
            "--json", f"{_TOP}.json", *(word.format(**names) for word in family.place),
            log=log,
        )  # fmt: skip
    except ToolError:
        if log.is_file():
            _refuse(board, config, _overfull(log.read_text()))
        raise
    clocks = json.loads(timing.read_text())["fmax"]
    return min(
        clock["achieved"]
        for clock in clocks.values()
        if clock["constraint"] > 0.9 * board.clock_mhz
    )


def _pack(board: Board, folder: Path, seed: int) -> None:
    """The bitstream of one run of place-and-route."""
    family = board.family
    names = {"routed": f"{_TOP}-{seed}.{family.routed}", "bitstream": bitstream(board)}
    arguments = [word.format(**names) for word in family.pack]
    run_tool(family.packer, *board.packer, *arguments, log=folder / f"{family.packer}.log")


def flash(board: Board, folder: Path) -> None:
    """Load the bitstream in `folder` onto a board.

    Raises
    ------
    BoardError
        There is none, openFPGALoader is missing, or it finds no board.
    """
    file = folder / bitstream(board)
    if not file.is_file():
        raise BoardError(f"there is no {file}: run weft build {board.name} first")
    tool = shutil.which("openFPGALoader")
    if tool is None:
        raise BoardError("openFPGALoader is not on PATH: install it (Debian: openfpgaloader)")
    done = subprocess.run(
        [tool, "-b", board.loader, str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise BoardError(f"openFPGALoader cannot load {file}: {lines[-1]}")
