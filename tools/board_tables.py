"""The tables of docs/boards.md, from what `weft build` found, in docs/boards.json.

usage: python tools/board_tables.py                   make the tables
       python tools/board_tables.py record REPORT     from a report.json that weft build wrote
       python tools/board_tables.py synth BOARD       weft build --seeds 0; record report or refusal
       python tools/board_tables.py parts             the smallest machine on an iCE40, part by part
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from weft.boards.board import BoardError, boards, find
from weft.boards.build import build
from weft.boards.device import size
from weft.boards.families import COLLISIONS
from weft.boards.tools import run_tool
from weft.hdl.config import load
from weft.hdl.top import Weft

PAGE = Path(__file__).parents[1] / "docs" / "boards.md"
RESULTS = PAGE.with_suffix(".json")
#: Parts of the machine that the second table lists, by what their instances are called.
PARTS = {
    "": "the machine",
    "core.frontend.fetch": "FETCH: 16 instructions in registers, for want of LUT RAM",
    "core.act": "activation memory's rotators",
    "core.vector_unit": "VECTOR, one lane",
    "core.gemm": "array, accumulators, MATMUL and WEIGHT",
    "control_block.registers": "registers' reads and writes",
    "core.load_unit": "LOAD",
    "core.store_unit": "STORE",
    "read_engine": "read engine",
    "write_engine": "write engine",
    "core.semaphores": "semaphores",
}
_SCRIPT = (
    f"read_rtlil parts.il; {COLLISIONS}synth_ice40 -dsp -noflatten -top weft -run :map_luts; "
    "abc -lut 4; opt_clean; tee -q -o stat.json stat -json"
)


def record(key: str, values: dict[str, Any]) -> None:
    """Replace what is known of one key."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[key] = values
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def measure(name: str) -> None:
    """Synthesize a board's own machine, and record what came of it."""
    board = find(name)
    config = load(board.config)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            record(name, report(build(board, config, Path(scratch), seeds=0)))
        except BoardError as error:
            record(name, {"config": config.name, "refused": str(error)})


def report(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a report."""
    kept = ("config", "clock_mhz", "fmax_per_seed", "luts", "ffs", "dsps", "brams")
    return {name: found[name] for name in kept}


def parts() -> None:
    """Lookup tables and flip-flops of the smallest machine, part by part, on an iCE40."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        machine = Weft(load(find("icebreaker").config))
        (folder / "parts.il").write_text(rtlil.convert(machine, name="weft", emit_src=False))
        run_tool("yosys", "-q", "-p", _SCRIPT, log=folder / "yosys.log")
        modules = json.loads((folder / "stat.json").read_text())["modules"]
    cells = {name.lstrip("\\"): found["num_cells_by_type"] for name, found in modules.items()}

    def total(module: str) -> tuple[int, int]:
        luts = ffs = 0
        for cell, count in cells[module].items():
            inner = cell.lstrip("\\")
            below = total(inner) if inner in cells else (0, 0)
            luts += count * (below[0] + (cell in ("$lut", "SB_LUT4")))
            ffs += count * (below[1] + ("DFF" in cell))
        return luts, ffs

    names = {part: f"weft.{part}".rstrip(".") for part in PARTS}
    record("parts", {part: total(name) for part, name in names.items()})


def boards_table(known: dict[str, Any]) -> str:
    """What there is, and what weft build made of it."""
    head = ["Board", "FPGA", "Memory", "Machine", "Bitstream"]
    numbers = ["MHz of", "LUTs", "Flip-flops", "DSPs", "RAMs"]
    lines = [
        f"| {' | '.join(head + numbers)} |",
        f"|{'---|' * len(head)}{'---:|' * len(numbers)}",
    ]
    for name, board in boards().items():
        kind = f"SDRAM, {board.chip.width} bits" if board.chip else "in the FPGA"
        found = known.get(name, {})
        config = Path(board.config).stem
        cells = [f"`{name}`", board.fpga, f"{size(board.memory_bytes)}, {kind}", f"`{config}`"]
        if "luts" in found:
            fmax = found["fmax_per_seed"]
            fastest = f"{max(fmax):.1f} of {found['clock_mhz']:g}" if fmax else ""
            used = [f"{found[what]:,} of {board.capacity[what]:,}" for what in board.capacity]
            met = "yes" if max(fmax, default=0) >= found["clock_mhz"] else "misses its clock"
            cells += [met if fmax else "synthesis alone", fastest, *used]
        else:
            cells += ["does not fit" if "refused" in found else "not tried", *[""] * 5]
        lines.append(f"| {' | '.join(cells)} |")
    said = [f"> {name}: {found['refused']}" for name, found in known.items() if "refused" in found]
    return "\n".join([*lines, *(["", *said] if said else [])]) + "\n"


def parts_table(known: dict[str, Any]) -> str:
    """Where the lookup tables of the smallest machine are."""
    lines = ["| Part of `least` | LUTs | Flip-flops |", "|---|---:|---:|"]
    lines += [f"| {PARTS[part]} | {luts:,} | {ffs:,} |" for part, (luts, ffs) in known.items()]
    return "\n".join(lines) + "\n"


def page(text: str, known: dict[str, Any]) -> str:
    """The page with its tables made anew."""
    tables = {
        "measured": boards_table({k: v for k, v in known.items() if k != "parts"}),
        "parts": parts_table(known["parts"]),
    }
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
    return text


def main(arguments: list[str]) -> None:
    """Command line."""
    match arguments:
        case []:
            known = json.loads(RESULTS.read_text())
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), known), encoding="utf-8")
        case ["record", file]:
            found = json.loads(Path(file).read_text())
            record(found["board"], report(found))
        case ["synth", name]:
            measure(name)
        case ["parts"]:
            parts()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
