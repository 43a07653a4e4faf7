"""What `weft compile` costs: seconds and memory for an archive of torch.export.save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from weft.hdl.isa import INSTRUCTION_BYTES
from weft.host import program
from weft.host.networks import NETWORKS

COMPILE = Path(__file__).parents[1] / "benchmarks" / "compile.json"
#: Images that ranges are taken from.
CALIBRATION = 2


def load() -> dict[str, dict[str, Any]]:
    """Costs by network."""
    return json.loads(COMPILE.read_text(encoding="utf-8")) if COMPILE.exists() else {}


def export(name: str, archive: str, inputs: str) -> None:
    """Write a network as torch exports it, and what to calibrate with."""
    import torch

    example = NETWORKS[name]
    values = example.inputs(CALIBRATION)
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    made = torch.export.export(example.build(), (torch.from_numpy(values),), dynamic_shapes=batch)
    torch.export.save(made, archive)
    np.save(inputs, values)


def cost(command: list[str]) -> dict[str, float]:
    """Seconds of the clock and of processors, and the most memory that a command holds at once."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "mebibytes": usage.ru_maxrss // 1024,
    }


def measure(name: str) -> dict[str, Any]:
    """Export a network, then compile it for the default machine in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        archive, inputs, out = (Path(folder) / f for f in ("net.pt2", "x.npy", "net.weft"))
        exporting = (
            "import sys, compile_cost as c; c.export(sys.argv[1], *map(c.Path, sys.argv[2:]))"
        )
        subprocess.run(
            [sys.executable, "-c", exporting, name, archive, inputs],
            cwd=Path(__file__).parent,
            check=True,
        )
        command = [sys.executable, "-m", "weft.host.cli", "compile", str(archive)]
        found = cost([*command, "--calibration", str(inputs), "-o", str(out)])
        made = program.load(out)
        return {
            **found,
            "instructions": len(made.code) // INSTRUCTION_BYTES,
            "constant_bytes": len(made.const),
        }


def save(costs: dict[str, dict[str, Any]]) -> None:
    """Write the file, a network a line."""
    lines = [f'"{name}": {json.dumps(costs[name])}' for name in NETWORKS if name in costs]
    COMPILE.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
