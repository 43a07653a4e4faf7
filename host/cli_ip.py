"""`weft build axi-ip` and `weft build asic`: a machine for other people's designs and tools."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

from rich.console import Console

from ..hdl.config import load
from .progress import status

_out = Console()

#: What `weft build` takes besides boards.
AXI_IP, ASIC = "axi-ip", "asic"


def build_axi_ip(config: str | None, output: Path | None, json: bool) -> None:
    """Write the machine as an AXI peripheral."""
    from ..boards import axi_ip

    machine = load(config or "default")
    folder = output or Path("out") / f"{AXI_IP}-{machine.name}"
    with status(f"Generating the peripheral with {machine.name}", json):
        files = axi_ip.write(machine, folder)
    _report(machine.name, files, json)


def build_asic(config: str | None, output: Path | None, liberty: Path | None, json: bool) -> None:
    """Write the machine for a chip's tools; with a cell library, measure it."""
    from ..boards import asic

    machine = load(config or "default")
    folder = output or Path("out") / f"{ASIC}-{machine.name}"
    if liberty is None:
        with status(f"Generating {machine.name} with macros", json):
            files = asic.write(machine, folder)
        _report(machine.name, files, json)
        return
    report = asic.build(machine, folder, liberty, progress=lambda what: status(what, json))
    if json:
        print(jsonlib.dumps(report))
        return
    memories = ", ".join(f"{n} {name}" for name, n in report["macros"].items())
    _out.print(
        f"{folder}: {machine.name} on {report['library']}: area {report['area']:,.0f} in the "
        f"library's unit, {report['cells']:,} cells, {report['flip_flops']:,} of them flip-flops; "
        f"longest path {report['delay_ps'] / 1000:.2f} ns without wires, clock-to-output and "
        f"set-up; memories are not in it: {memories or 'none'}",
        highlight=False,
    )


def _report(name: str, files: list[Path], json: bool) -> None:
    if json:
        print(jsonlib.dumps({"config": name, "files": [str(path) for path in files]}))
    else:
        for path in files:
            _out.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False)
