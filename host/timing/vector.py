"""Cycles of VECTOR's instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...hdl.isa import Opcode
from ...hdl.ports import ACC_READ_LATENCY, ACT_READ_LATENCY
from ...hdl.vector_unit import RELEASE, result_latency

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ...hdl.isa import Instruction

#: Cycles from a source element's request to its arrival.
SOURCE_LATENCY = {Opcode.DRAIN: ACC_READ_LATENCY, Opcode.POOL: ACT_READ_LATENCY}


def duration(instruction: Instruction, config: Config) -> int:
    """Cycles from the start of a DRAIN or POOL (`ready`) to its end (`done`).

    A group of n ≤ vector_lanes channels takes N = oy·ox·ry·rx cycles of issue, one source element
    each. The first group starts in cycle max(2, n), with its last parameter; the following one N
    cycles later, or when its parameters have replaced those of the first where N is short:
    window − 1 + source latency + RELEASE + n − 1 cycles later. In the end the last element runs
    through the source and the lane.

    Overhead beyond the issue: vector_lanes + 15 cycles (DRAIN) or + 17 (POOL) for a full first
    group; 2 less where there are no tables.
    """
    window = instruction.ry * instruction.rx
    issue = instruction.oy * instruction.ox * window
    source = SOURCE_LATENCY[instruction.opcode]
    lanes = config.vector_lanes
    groups = -(-instruction.channels // lanes)
    last = instruction.channels - (groups - 1) * lanes

    def period(channels: int) -> int:
        """Cycles from a group's first request to that of the next, which has `channels`."""
        return max(issue, window - 1 + source + RELEASE + channels - 1)

    start = max(2, min(lanes, instruction.channels))
    if groups > 1:
        start += (groups - 2) * period(lanes) + period(last)
    return start + issue - 1 + source + result_latency(config)
