"""Which bits of a flat netlist something depends on: an output of the machine, or a memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

#: A bit of a cell's port.
Place = tuple[str, str, int]
#: Cells whose output bits depend on the same bits of their inputs, and on all of these ports.
_BITWISE = {"$and", "$or", "$xor", "$xnor", "$not", "$mux", "$pmux", "$dff", "$dffe"}
_BITWISE |= {"$sdff", "$sdffe", "$sdffce"}
_CONTROLS = {"S", "EN", "SRST", "CLK"}
#: Cells whose output bits depend on the same and lower bits of their inputs.
_ARITHMETIC = {"$add", "$sub", "$mul", "$neg"}
_SHIFTS = {"$shr", "$sshr"}
_OUTPUTS = {"Y", "Q", "RD_DATA"}


class Liveness:
    """Of one module, as Yosys's write_json has it.

    Parameters
    ----------
    module
        Its ports and cells.
    """

    def __init__(self, module: dict[str, Any]):
        self._cells: dict[str, Any] = module["cells"]
        drivers: dict[int, Place] = {}
        for name, cell in self._cells.items():
            for port in _OUTPUTS & {*cell["connections"]}:
                for at, bit in enumerate(cell["connections"][port]):
                    drivers[bit] = name, port, at
        self._live: set[Place] = set()
        todo = [
            drivers[bit]
            for port in module["ports"].values()
            if port["direction"] == "output"
            for bit in port["bits"]
            if bit in drivers
        ]
        while todo:
            place = todo.pop()
            if place in self._live:
                continue
            self._live.add(place)
            cell, port, at = place
            for name, index in self._inputs(cell, port, at):
                bit = self._cells[cell]["connections"][name][index]
                if bit in drivers:
                    todo.append(drivers[bit])
        self._used: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for cell, port, at in self._live:
            self._used[cell].update(self._inputs(cell, port, at))

    def lives(self, cell: str, port: str, at: int) -> bool:
        """Something may depend on bit `at` of a cell's port."""
        return (port, at) in self._used[cell] or (cell, port, at) in self._live

    def _inputs(self, name: str, port: str, at: int) -> Iterator[tuple[str, int]]:
        """The input bits that an output bit of a cell depends on."""
        cell = self._cells[name]
        kind = cell["type"]
        for source, bits in cell["connections"].items():
            if source in _OUTPUTS:
                continue
            count = len(bits)
            every = range(count)
            if source in _CONTROLS:
                yield from ((source, k) for k in every)
            elif kind in _BITWISE:
                width = len(cell["connections"][port])
                same = range(at, count, width) if kind == "$pmux" else [min(at, count - 1)]
                yield from ((source, k) for k in same)
            elif kind in _ARITHMETIC:
                yield from ((source, k) for k in range(min(at + 1, count)))
            elif kind in _SHIFTS and source == "A":
                step = _step(cell["connections"]["B"])
                signed = [count - 1] if kind == "$sshr" else []
                yield from ((source, k) for k in [*range(at, count, step), *signed])
            else:
                yield from ((source, k) for k in every)


def _step(amount: list[int | str]) -> int:
    """What divides every amount of a shift, whose lowest bits may be constants."""
    zeros = 0
    while zeros < len(amount) and amount[zeros] == "0":
        zeros += 1
    return 1 << zeros
