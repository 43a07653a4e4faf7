"""`weft build axi-ip`: a machine for other people's designs."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

from rich.console import Console

from ..hdl.config import load
from .progress import status

_out = Console()

#: What `weft build` takes besides boards.
AXI_IP = "axi-ip"


def build_axi_ip(config: str | None, output: Path | None, json: bool) -> None:
    """Write the machine as an AXI peripheral."""
    from ..boards import axi_ip

    machine = load(config or "default")
    folder = output or Path("out") / f"{AXI_IP}-{machine.name}"
    with status(f"Generating the peripheral with {machine.name}", json):
        files = axi_ip.write(machine, folder)
    _report(machine.name, files, json)


def _report(name: str, files: list[Path], json: bool) -> None:
    if json:
        print(jsonlib.dumps({"config": name, "files": [str(path) for path in files]}))
    else:
        for path in files:
            _out.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False)
