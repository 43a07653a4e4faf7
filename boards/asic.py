"""A machine for a chip: Verilog with memories as macros, area and delay on the user's cells.

No numbers come without a cell library (Liberty): those of one process say nothing about another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hdl.files import write_whole
from ..hdl.top import Weft
from ..hdl.verilog import TOP, convert
from .macros import Macros
from .tools import ToolError, run_tool

if TYPE_CHECKING:
    from amaranth.lib import wiring

    from ..hdl.config import Config

REPORT = "report.json"
#: Clock that the flows are asked for, in nanoseconds: a guess to begin with.
PERIOD_NS = 10.0

_SDC = """\
create_clock -name clk -period {period} [get_ports clk]
set_input_delay {io} -clock clk [all_inputs -no_clocks]
set_output_delay {io} -clock clk [all_outputs]
"""
_SCRIPT = """\
read_verilog -lib {top}_rams.v
read_verilog {top}.v
hierarchy -top {top}
synth -top {top} -flatten -noabc
dfflibmap -liberty {cells}
abc -liberty {cells} -script +{optimize}
opt_clean -purge
tee -q -o stat.json stat -liberty {cells} -json
write_verilog -noattr netlist.v
"""
#: What abc does with the logic: yosys' own sequence. The last command writes size and delay to
#: stats.txt; what abc prints is lost where yosys is compiled to WebAssembly.
_OPTIMIZE = "strash;&get,-n;&fraig,-x;&put;scorr;dc2;dch,-f;&get;&nf;&put;buffer,-c;upsize;dnsize"
_STATS = "stats.txt"


@dataclass(frozen=True)
class Asic:
    """What synthesis found.

    Attributes
    ----------
    library
        Name of the cell library.
    area
        Of the cells, in the library's unit; memories are not in it.
    delay_ps
        Longest path through combinational cells, without wires, clock-to-output and set-up times;
        0 where there are none.
    cells, flip_flops
        Number of cells, and how many of them store a bit.
    macros
        How many memories of each module there are.
    """

    library: str
    area: float
    delay_ps: float
    cells: int
    flip_flops: int
    macros: dict[str, int]


def write(config: Config, folder: Path) -> list[Path]:
    """The machine for a chip's tools.

    Parameters
    ----------
    config
        The machine.
    folder
        Gets ``weft.v``; ``weft_rams.v``, what the macro of each memory must do (for simulation, and
        as flip-flops for a trial); ``macros.json``, their list; ``config.mk`` for OpenROAD's flow
        scripts, ``config.json`` for LibreLane, ``weft.sdc``; and ``weft.toml``, the configuration.

    Raises
    ------
    ToolError
        It cannot be written.
    """
    macros = Macros()
    design = convert(Weft(config), TOP, macros)
    texts = {
        f"{TOP}.v": design,
        f"{TOP}_rams.v": macros.text(),
        "macros.json": json.dumps(macros.table(), indent=1) + "\n",
        f"{TOP}.toml": config.to_toml(),
        f"{TOP}.sdc": _SDC.format(period=PERIOD_NS, io=PERIOD_NS / 4),
        "config.mk": _makefile(),
        "config.json": json.dumps(_librelane(), indent=2) + "\n",
    }
    _write(folder, texts)
    return [folder / name for name in texts]


def _write(folder: Path, texts: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
    except OSError as error:
        raise ToolError(f"cannot write to {folder}: {error.strerror}") from error


def build(
    config: Config,
    folder: Path,
    liberty: Path,
    *,
    progress: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """What :func:`write` writes, and area and delay on `liberty`'s cells in ``report.json``.

    Returns
    -------
    dict
        The report: config, fingerprint, liberty (the file's name) and what :class:`Asic` has.

    Raises
    ------
    ToolError
        The library cannot be used, a tool is missing or fails, or the folder cannot be written.
    """
    cells = read_library(liberty)
    with progress(f"Generating {config.name} with macros"):
        write(config, folder)
    with progress(f"Synthesizing with {liberty.name}"):
        found = _synthesize(folder, *cells)
    report = {
        "config": config.name,
        "fingerprint": f"{config.fingerprint:016x}",
        "liberty": liberty.name,
        **asdict(found),
    }
    _write(folder, {REPORT: json.dumps(report, indent=2) + "\n"})
    return report


def read_library(liberty: Path) -> tuple[str, str]:
    """Name and text of a cell library.

    Raises
    ------
    ToolError
        It cannot be read, is no Liberty file, or has no flip-flop.
    """
    try:
        text = liberty.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolError(f"cannot read the library {liberty}: {error.strerror}") from error
    found = re.search(r'^\s*library\s*\(\s*"?([^")]*?)"?\s*\)', text, re.MULTILINE)
    if not found:
        raise ToolError(f"{liberty} is not a Liberty file: it has no library (…) group")
    for what, group in (("cell", "cell"), ("flip-flop", "ff")):
        if not re.search(rf"^[^/]*\b{group}\s*\(", text, re.MULTILINE):
            raise ToolError(
                f"{liberty} has no {what}: give the library of a process' standard cells"
            )
    return found[1], text


def synthesize(component: wiring.Component, liberty: Path, folder: Path) -> Asic:
    """`component` on the cells of `liberty`, in `folder`.

    Raises
    ------
    ToolError
        As :func:`build`.
    """
    cells = read_library(liberty)
    macros = Macros()
    design = convert(component, TOP, macros)
    _write(folder, {f"{TOP}.v": design, f"{TOP}_rams.v": macros.text()})
    return _synthesize(folder, *cells)


def _synthesize(folder: Path, name: str, library: str) -> Asic:
    """The design in `folder` on a library's cells."""
    # Tools compiled to WebAssembly see no file outside their folder, and yosys keeps what it read
    # of a library by its name.
    cells = f"cells-{hashlib.sha256(library.encode()).hexdigest()[:16]}.lib"
    script = _SCRIPT.format(top=TOP, cells=cells, optimize=f"{_OPTIMIZE};stime,-d")
    _write(folder, {cells: library, "asic.ys": script})
    (folder / _STATS).unlink(missing_ok=True)
    log, printed = folder / "yosys.log", folder / "yosys.out"
    try:
        run_tool("yosys", "-l", log.name, "asic.ys", log=printed)
    except ToolError as error:
        said = "".join(
            path.read_text(errors="replace") for path in (log, printed) if path.is_file()
        )
        if "ABC output file" in said or "unreachable" in said:
            raise ToolError(
                f"abc cannot use the library {name}: it needs tables of delays (NLDM), an inverter,"
                f" a buffer and gates such as NAND and NOR; see {log}"
            ) from error
        errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
        raise ToolError(f"{error}; {errors[0]}" if errors else str(error)) from error
    finally:
        (folder / cells).unlink()
    design = json.loads((folder / "stat.json").read_text())["design"]
    counts: dict[str, int] = design["num_cells_by_type"]
    rams = {cell: n for cell, n in counts.items() if cell.startswith("weft_ram_")}
    unmapped = sorted(cell for cell in counts if cell.startswith("$"))
    if unmapped:
        raise ToolError(f"the library {name} has no cell for {', '.join(unmapped)}; see {log}")
    stored = {
        cell
        for cell in counts
        if re.search(rf'\bcell\s*\(\s*"?{re.escape(cell)}"?\s*\)(?:(?!\bcell\s*\().)*?\bff\s*\(',
                     library, re.DOTALL)
    }  # fmt: skip
    return Asic(
        library=name,
        area=float(design.get("area", 0.0)),
        delay_ps=_delay(folder / _STATS),
        cells=sum(counts.values()) - sum(rams.values()),
        flip_flops=sum(counts[cell] for cell in stored),
        macros=dict(sorted(rams.items())),
    )


def _delay(path: Path) -> float:
    """Delay in picoseconds: the last word that abc wrote; 0 if there was no logic."""
    text = path.read_text() if path.is_file() else ""
    delays = [float(line.split()[-1]) for line in text.splitlines() if line.strip()]
    return max(delays, default=0.0)


def _makefile() -> str:
    """Design configuration of OpenROAD's flow scripts."""
    return f"""\
export DESIGN_NAME = {TOP}
export PLATFORM ?= sky130hd
export DESIGN_HOME ?= $(dir $(DESIGN_CONFIG))
export VERILOG_FILES = $(DESIGN_HOME)/{TOP}.v $(DESIGN_HOME)/{TOP}_rams.v
export SDC_FILE = $(DESIGN_HOME)/{TOP}.sdc
export CORE_UTILIZATION ?= 40
export SYNTH_HIERARCHICAL = 1
# Memories: replace {TOP}_rams.v by wrappers around your macros (macros.json lists what they need),
# and name the macros' views here.
# export ADDITIONAL_LEFS =
# export ADDITIONAL_LIBS =
# export ADDITIONAL_GDS =
"""


def _librelane() -> dict:
    """Design configuration of LibreLane."""
    return {
        "DESIGN_NAME": TOP,
        "VERILOG_FILES": [f"dir::{TOP}.v", f"dir::{TOP}_rams.v"],
        "CLOCK_PORT": "clk",
        "CLOCK_PERIOD": PERIOD_NS,
        "PNR_SDC_FILE": f"dir::{TOP}.sdc",
        "SIGNOFF_SDC_FILE": f"dir::{TOP}.sdc",
        "FP_CORE_UTIL": 40,
    }
