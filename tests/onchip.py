"""What the memories on chip hold, in the RTL and in the golden machine."""

from __future__ import annotations

import re

import numpy as np
from weft.hdl.config import Config
from weft.host.golden import GoldenMachine
from weft.tb.fast import Element, FastMachine

#: Hierarchical names of the memories that the golden machine has; numbers say which part.
_PARTS = {
    "ACT": r"\.act\.bank_(\d+)\.lane_(\d+)\.cells ?$",
    "ACC": r"\.accumulator\.column_(\d+)\.half_(\d+)\.cells ?$",
    "WGT": r"\.wgt\.ram\.cells ?$",
    "PAR": r"\.par\.ram\.cells ?$",
    "TBL": r"\.lookup_(\d+)\.memory\.ram\.cells ?$",
}


#: A memory, and which part of it.
Part = tuple[str, tuple[int, ...]]


class Memories:
    """The memories of a machine whose state is accessible; without parity.

    Parameters
    ----------
    config
        The machine's.
    machine
        It.
    """

    def __init__(self, config: Config, machine: FastMachine):
        self._machine = machine
        self._found: dict[Part, Element] = {}
        for element in machine.elements():
            for name, pattern in _PARTS.items():
                if place := re.search(pattern, element.name):
                    self._found[name, tuple(map(int, place.groups()))] = element
        wanted = {*_expected(config)}
        if {*self._found} != wanted:
            raise ValueError(f"the machine's memories are not found: {wanted - {*self._found}}")

    def difference(self, golden: dict[Part, np.ndarray]) -> str:
        """The first memory that differs from :func:`contents` of a golden machine, or nothing."""
        for (name, part), element in self._found.items():
            if not np.array_equal(self._machine.contents(element).ravel(), golden[name, part]):
                return f"{name}{list(part)} differs"
        return ""


def contents(machine: GoldenMachine) -> dict[Part, np.ndarray]:
    """The bytes of each part of each memory as hardware has it, by name and numbers, uint8."""
    config = machine.config
    act = machine.act.view(np.uint8)
    act = act.reshape(config.act_banks, -1, config.act_lanes)
    acc = machine.acc.reshape(2, config.acc_half, config.cols)
    whole = {"ACT": act, "WGT": machine.wgt, "PAR": machine.par, "TBL": machine.tbl}
    out = {}
    for name, part in _expected(config):
        if name == "ACT":
            found = act[part[0], :, part[1]]
        elif name == "ACC":
            found = acc[part[1], :, part[0]]
        else:
            found = whole[name]
        out[name, part] = np.frombuffer(np.ascontiguousarray(found).tobytes(), np.uint8)
    return out


def _expected(config: Config) -> list[Part]:
    """Every part of every memory."""
    out: list[Part] = [("WGT", ()), ("PAR", ())]
    out += [("ACT", (b, n)) for b in range(config.act_banks) for n in range(config.act_lanes)]
    out += [("ACC", (c, h)) for c in range(config.cols) for h in (0, 1)]
    if config.tables:
        out += [("TBL", (n,)) for n in range(config.vector_lanes)]
    return out
