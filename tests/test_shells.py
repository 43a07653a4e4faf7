"""The shells of boards: link and memory through the pins of every top, without the machine.

What is the same on all boards is tested on the ULX3S, in test_boards.py.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import pytest
from weft.boards.board import Board
from weft.boards.device import simulated
from weft.boards.host_link import HostLink, LinkError
from weft.boards.simulation import SimulatedBoard, SimulationError
from weft.hdl.config import load

from .bare_boards import bare

PATIENCE = 12_000


def shell(name: str) -> Board:
    """A board without a machine, under a name of its own: simulations are kept by name."""
    return dataclasses.replace(bare(name), name=f"bare {name}")


@pytest.fixture(scope="module", params=["orangecrab", "tang-nano-20k", "icebreaker"])
def board(request) -> Iterator[tuple[Board, SimulatedBoard]]:
    """A board and its simulation."""
    made = shell(request.param)
    port = simulated(made, load(made.config), patience=PATIENCE)
    yield made, port
    port.close()


def test_says_who_it_is(board):
    made, port = board
    identity = HostLink(port).identity
    assert identity.fingerprint == load(made.config).fingerprint
    assert identity.memory_bytes == made.memory_bytes
    assert identity.clock_hz == 1e6 * made.clock_mhz


def test_memory_holds_what_was_written(board):
    """Words at any place, across rows and banks and to the memory's end; the last value counts."""
    made, port = board
    link = HostLink(port)
    generator = random.Random(made.name)
    kept: dict[int, int] = {}
    for _ in range(60):
        size = 4 * generator.choice([1, 1, 2, 3, 9, 64, 256])
        base = generator.choice([0, 1024 - 16, 4096 - 8, 16384 - 8, made.memory_bytes - 1024])
        address = min(base + 4 * generator.randrange(9), made.memory_bytes - size)
        data = generator.randbytes(size)
        link.write_memory(address, data)
        kept |= dict(enumerate(data, address))
    addresses = sorted(kept)
    for start in [at for at in addresses if at - 1 not in kept]:
        end = next(at for at in range(start, made.memory_bytes + 1) if at not in kept)
        assert link.read_memory(start, end - start) == bytes(kept[at] for at in range(start, end))


def test_beyond_the_memory_is_refused(board):
    made, port = board
    link = HostLink(port)
    with pytest.raises(LinkError, match="outside the board's memory"):
        link.read_memory(made.memory_bytes - 4, 8)


def test_the_chip_complains_of_a_time_undercut():
    """The SDRAM at the pins of the Tang Nano checks times too."""
    made = shell("tang-nano-20k")
    port = simulated(made, load(made.config), patience=PATIENCE, times={"rcd": 37_038})
    with pytest.raises(SimulationError, match="tRCD"):
        HostLink(port).write_memory(0, bytes(8))
    port.close()
