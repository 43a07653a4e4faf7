"""From a board's top to its bitstream: synthesis, place-and-route, packing; and onto the board."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hdl.config import PRESETS
from .board import BoardError
from .tools import find_tool, run_tool

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .board import Board

_TOP = "top"
#: What it takes to make a bitstream.
TOOLS = ("yosys", "nextpnr-ecp5", "ecppack")
REPORT = "report.json"
BITSTREAM = f"{_TOP}.bit"
_BLOCK_BITS = 18 * 1024
#: What one cell of the netlist takes of what the FPGA counts.
_TAKES = {
    "LUT4": {"luts": 1},
    "CCU2C": {"luts": 2},
    "TRELLIS_DPR16X4": {"luts": 6},
    "TRELLIS_FF": {"ffs": 1},
    "MULT18X18D": {"dsps": 1},
    "DP16KD": {"brams": 1},
}
_NAMES = {
    "luts": "lookup tables",
    "ffs": "flip-flops",
    "dsps": "multipliers",
    "brams": "block RAMs",
}


def folder(board: Board, config: Config) -> Path:
    """Where a machine's bitstream lies unless told."""
    return Path("out") / f"{board.name}-{config.name}"


def least(config: Config) -> dict[str, int]:
    """What a machine takes of an FPGA at the very least: its array and its memories alone."""
    acc_bits = 32 * config.acc_depth * config.cols
    stored = config.act_bytes + config.wgt_bytes + config.par_bytes + config.tbl_bytes
    return {
        "dsps": config.multipliers,
        "brams": -(-(8 * stored + acc_bits) // _BLOCK_BITS),
    }


def check_fit(board: Board, config: Config, used: dict[str, int]) -> None:
    """Refuse what is larger than the FPGA.

    Raises
    ------
    BoardError
        Names the scarcest resource, by how much it is exceeded, and the largest preset that fits.
    """
    over = {name: used[name] - board.capacity[name] for name in used}
    worst = max(over, key=lambda name: over[name] / board.capacity[name])
    if over[worst] <= 0:
        return
    fitting = [
        preset
        for preset in PRESETS.values()
        if preset.rows * preset.cols < config.rows * config.cols
        and all(need <= board.capacity[name] for name, need in least(preset).items())
    ]
    largest = max(fitting, key=lambda preset: preset.rows * preset.cols, default=None)
    advice = f"the largest preset that may fit is {largest.name}" if largest else "take another"
    if worst == "dsps" and not config.packed:
        advice += ", or packed = true, which halves the array's"
    raise BoardError(
        f"{config.name} does not fit {board.name}: it takes {used[worst]} {_NAMES[worst]} of "
        f"{board.capacity[worst]}, {over[worst]} too many; {advice}"
    )


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
        Runs of place-and-route; the fastest is packed.
    progress
        Makes the context of each step, from its name.

    Returns
    -------
    dict
        The report: board, config, rows, cols, clock_mhz, fmax_mhz (the median), fmax_per_seed,
        luts, ffs, dsps, brams, bitstream, seconds.

    Raises
    ------
    ToolError
        A tool is missing or fails.
    BoardError
        The machine does not fit, or is too slow for its clock.
    """
    begin = time.monotonic()
    check_fit(board, config, least(config))
    for tool in TOOLS:
        find_tool(tool)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weft.toml").write_text(config.to_toml(), encoding="utf-8")
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
    with progress(f"Generating {board.name} with {config.name}"):
        plan = board.plan(config)
    for name in (f"{_TOP}.il", f"{_TOP}.lpf"):
        text = plan.files[name]
        (folder / name).write_text(text if isinstance(text, str) else text.decode())
    script = (
        f"read_rtlil {_TOP}.il; synth_ecp5 -top {_TOP} -json {_TOP}.json; "
        "tee -q -o cells.json stat -json"
    )
    with progress("Synthesizing"):
        run_tool("yosys", "-q", "-p", script, log=folder / "yosys.log")
    cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    used = dict.fromkeys(_NAMES, 0)
    for cell, count in cells.items():
        for name, each in _TAKES.get(cell, {}).items():
            used[name] += each * count
    check_fit(board, config, used)

    fmax: dict[int, float] = {}
    for seed in range(1, seeds + 1):
        with progress(f"Placing and routing, {seed} of {seeds}"):
            fmax[seed] = _place(board, folder, seed)
    best = max(fmax, key=lambda seed: fmax[seed])
    with progress("Packing"):
        run_tool(
            "ecppack", "--compress", "--input", f"{_TOP}-{best}.config", "--bit", BITSTREAM,
            log=folder / "ecppack.log",
        )  # fmt: skip
    report = {
        "board": board.name,
        "config": config.name,
        "rows": config.rows,
        "cols": config.cols,
        "clock_mhz": board.clock_mhz,
        "fmax_mhz": statistics.median(fmax.values()),
        "fmax_per_seed": list(fmax.values()),
        **used,
        "bitstream": str(folder / BITSTREAM),
        "seconds": round(time.monotonic() - begin, 1),
    }
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    if fmax[best] < board.clock_mhz:
        raise BoardError(
            f"{config.name} on {board.name} reaches {fmax[best]:.1f} MHz of {board.clock_mhz:g}: "
            f"try more --seeds, a lower --clock-mhz or a smaller --config; see {folder / REPORT}"
        )
    return report


def _place(board: Board, folder: Path, seed: int) -> float:
    """One run of place-and-route: the frequency that the machine's clock reaches, MHz."""
    timing = folder / f"timing-{seed}.json"
    run_tool(
        "nextpnr-ecp5", *board.nextpnr, "--seed", str(seed), "--timing-allow-fail",
        "--json", f"{_TOP}.json", "--lpf", f"{_TOP}.lpf", "--textcfg", f"{_TOP}-{seed}.config",
        "--report", timing.name,
        log=folder / f"nextpnr-{seed}.log",
    )  # fmt: skip
    clocks = json.loads(timing.read_text())["fmax"]
    return min(
        clock["achieved"]
        for clock in clocks.values()
        if clock["constraint"] > 0.9 * board.clock_mhz
    )


def flash(board: Board, folder: Path) -> None:
    """Load the bitstream in `folder` onto a board.

    Raises
    ------
    BoardError
        There is none, openFPGALoader is missing, or it finds no board.
    """
    bitstream = folder / BITSTREAM
    if not bitstream.is_file():
        raise BoardError(f"there is no {bitstream}: run weft build {board.name} first")
    tool = shutil.which("openFPGALoader")
    if tool is None:
        raise BoardError("openFPGALoader is not on PATH: install it (Debian: openfpgaloader)")
    done = subprocess.run(
        [tool, "-b", board.name, str(bitstream)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise BoardError(f"openFPGALoader cannot load {bitstream}: {lines[-1]}")
