"""Coverage of the generated Verilog: lines (and branches), and toggles of every module's ports."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from weft.hdl.config import Config
from weft.tb import fast
from weft.tb.devices import machine_verilog

_PORT = re.compile(r"^  (?:input|output) (?:\[\d+:\d+\] )?(\\\S+ |\w+);$")
_SIGNAL = re.compile(r"^  (?:wire|reg) (?:\[\d+:\d+\] )?(\\\S+ |\w+)")
_FIELD = re.compile("\x01([^\x02]+)\x02([^\x01]*)")


@dataclass(frozen=True)
class Point:
    """What is counted: a line or branch (`what` is its number), or an edge of a port's bit.

    Parameters
    ----------
    module
        The Verilog module.
    kind
        ``line``, ``branch`` or ``toggle``.
    instance
        Hierarchical name.
    what
        Of a toggle: port, bit, and edge.
    """

    module: str
    kind: str
    instance: str
    what: str


def ports_only(verilog: str) -> str:
    """The Verilog in which toggles are counted of ports only."""
    out, ports = [], set()
    for line in verilog.splitlines():
        if line.startswith("module "):
            ports = set()
        if found := _PORT.match(line):
            ports.add(found[1])
        elif ((found := _SIGNAL.match(line)) and found[1] not in ports) or "weft_began" in line:
            line = f"/*verilator coverage_off*/ {line} /*verilator coverage_on*/"
        out.append(line)
    return "\n".join(out) + "\n"


def library(config: Config) -> Path:
    """The simulator that counts, with access to the state."""
    verilog = ports_only(fast.public_state(machine_verilog(config)))
    return fast.build(verilog, config.bus_bytes, coverage=True, state=True)


def counts(machine: fast.FastMachine) -> Counter[Point]:
    """How often each point was passed since the machine was made."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "coverage.dat"
        machine.coverage(path)
        return parse(path.read_text(encoding="latin-1"))


def parse(text: str) -> Counter[Point]:
    """The points of a file in Verilator's format."""
    out: Counter[Point] = Counter()
    for line in text.splitlines():
        if not line.startswith("C "):
            continue
        head, _, count = line[2:].rpartition(" ")
        fields = dict(_FIELD.findall(head))
        kind, _, module = fields["page"].partition("/")
        kind = kind.removeprefix("v_")
        what = fields["o"] if kind == "toggle" else f"{fields['l']} {fields['o']}"
        out[Point(module, kind, fields["h"], what)] += int(count)
    return out


def by_module(points: Counter[Point]) -> dict[str, dict[str, tuple[int, int]]]:
    """module → kind → (covered, all)."""
    out: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for point, count in points.items():
        cell = out[point.module][point.kind]
        cell[0] += count > 0
        cell[1] += 1
    return {m: {k: (a, b) for k, (a, b) in kinds.items()} for m, kinds in out.items()}


def port_bit(what: str) -> tuple[str, int]:
    """Name and bit of the port of a toggle."""
    found = re.fullmatch(r"(.*?)(?:\[(\d+)\])?:\d->\d", what)
    assert found, what
    name = found[1].replace("___05F", "__")
    name = re.sub(r"__0([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), name)
    return name, int(found[2] or 0)


def ranges(bits: Iterable[int]) -> str:
    """Bits as text, highest first: ``31:12, 3``."""
    out: list[list[int]] = []
    for bit in sorted(set(bits), reverse=True):
        if out and out[-1][1] == bit + 1:
            out[-1][1] = bit
        else:
            out.append([bit, bit])
    return ", ".join(str(a) if a == b else f"{a}:{b}" for a, b in out)
