"""The boards that there are: what :mod:`weft` needs to know of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..host.errors import WeftError

if TYPE_CHECKING:
    from amaranth.build.run import BuildPlan

    from ..hdl.config import Config
    from .sdram import Sdram


class BoardError(WeftError):
    """A board that does not exist, or that cannot be built or flashed; one sentence."""


@dataclass(frozen=True)
class Board:
    """A board.

    Parameters
    ----------
    name
        What the command line calls it.
    config
        Name of the preset that it gets unless told.
    clock_mhz
        Frequency of the machine and of its memory.
    baud
        Of the serial line.
    chip
        Its memory.
    capacity
        Of its FPGA: luts, ffs, dsps (multipliers) and brams (18 kbit).
    nextpnr
        What nextpnr is told of the FPGA.
    platform, top
        Make the platform with its pins, and the design for them.
    """

    name: str
    config: str
    clock_mhz: float
    baud: int
    chip: Sdram
    capacity: Mapping[str, int]
    nextpnr: tuple[str, ...]
    platform: Callable[[], Any]
    top: Callable[..., Any]

    def plan(self, config: Config, **options: Any) -> BuildPlan:
        """What the tools get: the design, constraints and scripts; `options` are the top's."""
        options = {"clock_mhz": self.clock_mhz, "baud": self.baud, **options}
        return self.platform().build(
            self.top(config, **options), name="top", do_build=False, emit_src=False
        )


def boards() -> dict[str, Board]:
    """The boards by name.

    Raises
    ------
    BoardError
        amaranth-boards, which knows their pins, is not installed.
    """
    try:
        from .ulx3s import ULX3S
    except ImportError as error:
        raise BoardError(
            "boards need the Python package amaranth-boards: pip install -e '.[boards]'"
        ) from error
    return {board.name: board for board in (ULX3S,)}


def find(name: str) -> Board:
    """The board called `name`.

    Raises
    ------
    BoardError
        There is none.
    """
    known = boards()
    if name not in known:
        raise BoardError(f"unknown board {name!r}; there are {', '.join(known)}")
    return known[name]


#: Ends the name of a board in simulation.
SIMULATED = "-sim"


def usual_config(name: str) -> str:
    """Name of the preset of a board, which may be one in simulation.

    Raises
    ------
    BoardError
        There is no such board.
    """
    return find(name.removesuffix(SIMULATED)).config
