"""The boards that there are: what :mod:`weft` needs to know of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..host.errors import WeftError
from .uart import bit_time

if TYPE_CHECKING:
    from amaranth.build.run import BuildPlan

    from ..hdl.config import Config
    from .families import Family
    from .sdram import Sdram
    from .shell import Shell


class BoardError(WeftError):
    """A board that does not exist, or that cannot be built or flashed; one sentence."""


@dataclass(frozen=True)
class Board:
    """A board.

    Parameters
    ----------
    name
        What the command line calls it.
    title, fpga
        Names of the board and of its FPGA, for people.
    family
        Tools for its FPGA.
    capacity
        Of its FPGA: luts, ffs, dsps (multipliers) and brams.
    nextpnr, packer
        What these programs are told of the FPGA besides.
    config
        Preset or TOML file of the machine that it gets unless told.
    clock_mhz
        Frequency of the machine and of its memory.
    clock
        Settings that make a frequency in MHz; raises a ValueError if there are none.
    baud
        Of the serial line.
    chip
        The SDRAM that is its main memory; None: RAMs of the FPGA are.
    memory_bytes
        Size of the main memory.
    memory_brams
        Block RAMs that it takes.
    loader
        What openFPGALoader calls it.
    platform, top
        Make the platform with its pins, and the design for them.
    """

    name: str
    title: str
    fpga: str
    family: Family
    capacity: Mapping[str, int]
    nextpnr: tuple[str, ...]
    config: str
    clock_mhz: float
    clock: Callable[[float], object]
    baud: int
    chip: Sdram | None
    memory_bytes: int
    loader: str
    platform: Callable[[], Any]
    top: type[Shell]
    packer: tuple[str, ...] = ()
    memory_brams: int = 0

    def check_clock(self) -> None:
        """Refuse a frequency that cannot be made, or that the memory or the line cannot follow.

        Raises
        ------
        BoardError
            Says which.
        """
        most = self.chip.fastest_mhz if self.chip else self.clock_mhz
        try:
            self.clock(self.clock_mhz)
            bit_time(1e6 * self.clock_mhz, self.baud)
        except ValueError as error:
            raise BoardError(f"{self.name}: {error}") from error
        if self.clock_mhz > most:
            raise BoardError(
                f"{self.name}: its SDRAM follows at most {most:g} MHz, not {self.clock_mhz:g}"
            )

    def plan(self, config: Config, **options: Any) -> BuildPlan:
        """What the tools get: the design, constraints and scripts; `options` are the top's.

        Raises
        ------
        BoardError
            See :meth:`check_clock`.
        """
        self.check_clock()
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
        from .icebreaker import ICEBREAKER
        from .orangecrab import ORANGECRAB, ORANGECRAB_85F
        from .tang_nano_20k import TANG_NANO_20K
        from .ulx3s import ULX3S
    except ImportError as error:
        raise BoardError(
            "boards need the Python package amaranth-boards: pip install -e '.[boards]'"
        ) from error
    return {
        board.name: board
        for board in (ULX3S, ORANGECRAB, ORANGECRAB_85F, TANG_NANO_20K, ICEBREAKER)
    }


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
