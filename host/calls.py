"""What the host's operations cost the accelerator: bytes over the bus, cycles in which it rests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import Opcode, Unit
from .ir import Host, Table
from .timing.decode import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ir import Node
    from .program import Port, Program
    from .timing.prediction import Prediction


@dataclass(frozen=True)
class HostCall:
    """An operation of the host, for one batch.

    Attributes
    ----------
    operator, layer
        What it computes, and the layer of the network that asks for it.
    after
        How many runs of the machine have ended before.
    moved_bytes
        What the machine stores for it and loads of its result, in whole beats.
    lost_cycles
        Cycles of the runs before and after it in which neither array nor vector unit works: until
        the end of the one, and from the start of the other. Calls that follow each other share
        one pause, which is the first one's. What the host itself takes is not in it.
    """

    operator: str
    layer: str
    after: int
    moved_bytes: int
    lost_cycles: int


def host_calls(program: Program, predictions: Sequence[Prediction]) -> list[HostCall]:
    """The host's operations of `program`, in order.

    Parameters
    ----------
    predictions
        Of each run of the machine.
    """
    if not program.calls:
        return []
    moves = _Moves(program)
    out, paused = [], 0
    for call in program.calls:
        *sources, target = call.ports
        moved = sum(moves.bytes(Opcode.STORE, port) for port in sources)
        moved += moves.bytes(Opcode.LOAD, target)
        lost = 0
        if paused < call.after < len(predictions):
            lost = _after_work(predictions[call.after - 1]) + _before_work(predictions[call.after])
            paused = call.after
        node = call.graph.nodes[0]
        out.append(HostCall(_operator(node), node.name, call.after, moved, lost))
    return out


class _Moves:
    """The LOADs and STOREs of a program by where they begin."""

    def __init__(self, program: Program):
        rows: dict[Opcode, list[tuple[int, int, int]]] = {Opcode.LOAD: [], Opcode.STORE: []}
        bus = program.config.bus_bytes
        for instruction in decode(program.code):
            if instruction.opcode in rows:
                f = instruction.fields
                moved = f["rows"] * -(-f["length"] // bus) * bus
                rows[instruction.opcode].append((f["segment"], f["offset"], moved))
        self._rows = {
            opcode: np.array(found, np.int64).reshape(-1, 3) for opcode, found in rows.items()
        }

    def bytes(self, opcode: Opcode, port: Port) -> int:
        """What instructions of `opcode` move that begin in `port`, in whole beats."""
        segment, offset, moved = self._rows[opcode].T
        inside = (segment == port.segment) & (offset >= port.offset) & (offset < port.end)
        return int(moved[inside].sum())


def _after_work(prediction: Prediction) -> int:
    """Cycles of a run after array and vector unit have done their last."""
    ends = [prediction.timeline[unit][:, 2] for unit in (Unit.MATMUL, Unit.VECTOR)]
    return prediction.cycles - int(max(times.max(initial=0) for times in ends))


def _before_work(prediction: Prediction) -> int:
    """Cycles of a run before array or vector unit begin."""
    starts = [prediction.timeline[unit][:, 1] for unit in (Unit.MATMUL, Unit.VECTOR)]
    return int(min(times.min(initial=prediction.cycles) for times in starts))


def _operator(node: Node) -> str:
    """What `node` computes, in a word."""
    match node:
        case Host():
            return node.operator
        case Table():
            return node.function
        case _:
            return getattr(node, "mode", type(node).__name__.lower())
