"""The front end (fetch, decoder, dispatch) and the queues against their timing."""

from dataclasses import replace

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.frontend import Frontend
from weft.hdl.isa import Opcode
from weft.hdl.queue import InstructionQueue
from weft.tb.runner import simulate


@pytest.mark.parametrize("bus_bits", [64, 128, 256, 512])
def test_frontend(bus_bits):
    config = replace(PRESETS["default"], bus_bits=bus_bits)
    simulate(
        Frontend(config),
        "tests.bench_fetch",
        simulator="icarus",
        env={"WEFT_BUS_BITS": bus_bits},
        name=f"frontend-{bus_bits}",
    )


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_queue(depth):
    simulate(
        InstructionQueue(Opcode.LOAD, depth=depth),
        "tests.bench_queue",
        simulator="icarus",
        env={"WEFT_DEPTH": depth},
        name=f"queue-{depth}",
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_queue_refuses_a_depth_of_one():
    with pytest.raises(ValueError, match="depth must be an integer of at least 2, not 1"):
        InstructionQueue(Opcode.LOAD, depth=1)
