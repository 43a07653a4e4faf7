"""Verilator's linter on exported Verilog."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from weft.hdl import verilog
from weft.hdl.config import PRESETS, Config
from weft.tb.devices import machine_verilog
from weft.tb.tools import find_verilator

#: Machines at the ends of what configurations may say.
ENDS = {
    "least": replace(
        PRESETS["tiny"],
        **{"act_banks": 2, "queue_depth": 2, "tables": 0, "vector_lanes": 1, "multiplier_bits": 8},
    ),
    "most": replace(
        PRESETS["tiny"],
        **{"act_banks": 16, "queue_depth": 32, "tables": 8, "vector_lanes": 4, "addr_bits": 64},
        **{"multiplier_bits": 32, "burst_beats": 256, "read_beats": 4096},
    ),
}


def lint(*files: Path) -> subprocess.CompletedProcess:
    """The linter with every warning on."""
    tool = find_verilator()
    command = [tool.executable, "--lint-only", "-Wall", "--top-module", "weft", *files]
    return subprocess.run(
        command, env=tool.variables(), capture_output=True, text=True, check=False
    )


def rules(report: str) -> set[str]:
    """The rules that a report names."""
    return set(re.findall(r"^%Warning-(\w+)", report, re.MULTILINE))


def complaints(config: Config) -> str:
    """What the linter says of a machine beside the waivers; empty if it is content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weft.v"
        path.write_text(machine_verilog(config))
        report = lint(verilog.LINT, path)
    return report.stderr if report.returncode or rules(report.stderr) else ""
