"""Where transfers are cut into bursts: after the longest, from each row's start, and at pages."""

from __future__ import annotations

import pytest
from weft.hdl.burst import PAGE_BYTES
from weft.hdl.config import Config
from weft.hdl.isa import Instruction, Opcode, Segment
from weft.hdl.write_engine import write_burst_beats
from weft.tb.memory_model import Channel

from . import reach
from .faults import windows
from .programs import Generator


def bursts(config: Config, instruction: Instruction, base: int) -> list[int]:
    """Addresses of the bursts of a LOAD or STORE whose segment begins at `base`, in order."""
    bus = config.bus_bytes
    most = config.burst_beats
    if instruction.opcode == Opcode.STORE:
        most = write_burst_beats(config)
    out = []
    for row in range(instruction.rows):
        at = base + instruction.offset + row * instruction.dram_pitch
        left = -(-instruction.length // bus)
        while left:
            out.append(at)
            beats = min(left, most, (PAGE_BYTES - at % PAGE_BYTES) // bus)
            at, left = at + beats * bus, left - beats
    return out


@pytest.mark.parametrize("channel", [Channel.AR, Channel.AW], ids=lambda c: c.name)
def test_bursts(bench, channel):
    """Rows of a burst and a beat, and of several, that begin everywhere in a page."""
    opcode = Opcode.LOAD if channel == Channel.AR else Opcode.STORE
    segment = Segment.INPUT if channel == Channel.AR else Segment.OUTPUT
    program = Generator(bench.config).assemble(0, reach.pages(bench.config))
    outcome = bench.run(program.job)
    base = windows(bench.config, program.job)[segment.name]
    wanted = [
        address
        for instruction in program.instructions
        if instruction.opcode == opcode
        for address in bursts(bench.config, instruction, base)
    ]
    end = base + len(program.job.segments[segment])
    got = [address for address in outcome.on(channel)[:, 2].tolist() if base <= address < end]
    assert got == wanted
    assert len(wanted) > 50
