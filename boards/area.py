"""What machines take of FPGAs, how fast they are there, and what that means in frames a second.

``benchmarks/area.json`` keeps what place-and-route found, with the versions of the tools, and the
cycles of networks behind each board's memory; ``tools/area.py`` fills it.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..hdl.config import Config
    from .board import Board

TABLE = Path(__file__).parents[1] / "benchmarks" / "area.json"
#: Cycles between the machine's pins and a board's memory, there and back.
_WAY = 4
#: Cycles of a network for one input: by network, then by :attr:`Area.setting`. None where the
#: machine cannot run it, or it does not fit the board's memory.
Cycles = dict[str, dict[str, int | None]]


class AreaError(WeftError):
    """A measurement that is not there or cannot be read; one sentence."""


@dataclass(frozen=True)
class Memory:
    """A board's memory: how large it is, and the latency and pace that the timing model takes."""

    latency: int
    beat_interval: int
    size: int

    @classmethod
    def of(cls, board: Board, config: Config) -> Memory:
        """The memory of a board behind `config`'s bus: rows stay open, and nothing is refreshed."""
        from .sdram import READ_LATENCY

        port = board.top(config, clock_mhz=board.clock_mhz, baud=board.baud).memory_port
        interval = -(-config.bus_bits // port.width)
        opening = 0
        if chip := board.chip:
            opening = math.ceil((chip.rp + chip.rcd) * board.clock_mhz / 1000) + READ_LATENCY
        return cls(opening + interval + _WAY, interval, board.memory_bytes)


@dataclass(frozen=True, kw_only=True)
class Area:
    """One machine, or a part of one, after place-and-route.

    Parameters
    ----------
    config
        Name of its configuration.
    fingerprint
        That of the configuration, 16 hexadecimal digits.
    machine
        Hash of its Verilog: tells whether two rows are of the same version of the machine.
    fpga
        The device.
    part
        What of it was placed; None: all.
    board
        The board whose whole top it is in; None: the machine alone, out of context.
    luts, ffs, dsps, brams
        What the tool has placed.
    fmax_mhz
        Of each run of place-and-route.
    tools
        Version of each tool by name.
    memory
        The board's.
    limit_mhz
        Fastest clock that the board's memory follows, whatever the FPGA reaches.
    """

    config: str
    fingerprint: str
    machine: str
    fpga: str
    luts: int
    ffs: int
    dsps: int
    brams: int
    fmax_mhz: tuple[float, ...]
    tools: dict[str, str]
    part: str | None = None
    board: str | None = None
    memory: Memory | None = None
    limit_mhz: float | None = None

    @property
    def name(self) -> str:
        """The configuration, and which part of it."""
        return f"{self.config}, {self.part}" if self.part else self.config

    @property
    def place(self) -> str:
        """The board, or the FPGA alone."""
        return self.board or f"{self.fpga}, alone"

    @property
    def fmax(self) -> float:
        """Median of the runs, MHz."""
        return statistics.median(self.fmax_mhz)

    @property
    def clock_mhz(self) -> float:
        """What the machine can run at there."""
        return min(self.fmax, self.limit_mhz or self.fmax)

    @property
    def setting(self) -> str | None:
        """Under which its cycles of a network are kept; None without a memory."""
        if self.memory is None:
            return None
        memory = self.memory
        return (
            f"{self.fingerprint}, latency {memory.latency}, interval {memory.beat_interval}, "
            f"{memory.size >> 10} KiB"
        )

    def frames(self, cycles: Cycles) -> dict[str, float | None]:
        """Inputs a second of each network whose cycles are known; None: does not fit."""
        return {
            name: None if (taken := places[self.setting]) is None else 1e6 * self.clock_mhz / taken
            for name, places in cycles.items()
            if self.setting in places
        }


def load(path: Path = TABLE) -> tuple[list[Area], Cycles]:
    """The table.

    Raises
    ------
    AreaError
        There is none, or it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        areas = [_area(row) for row in found["areas"]]
        cycles = {name: dict(places) for name, places in found["cycles"].items()}
    except OSError as error:
        raise AreaError(
            f"cannot read the measurements {path}: {error.strerror}; a clone of Weft has them"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AreaError(f"the measurements {path} are damaged: {error}") from error
    return areas, cycles


def _area(row: dict[str, Any]) -> Area:
    memory = row.get("memory")
    fmax = tuple(float(mhz) for mhz in row["fmax_mhz"])
    if not fmax:
        raise ValueError(f"{row['config']} has no frequency")
    return Area(**{**row, "fmax_mhz": fmax, "memory": memory and Memory(**memory)})


def save(areas: Iterable[Area], cycles: Cycles, path: Path = TABLE) -> None:
    """Write the table, a row a line."""
    ordered = sorted(areas, key=lambda area: (area.place, area.name))
    rows = ",\n".join(json.dumps(asdict(area)) for area in ordered)
    runs = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(places, sort_keys=True)}"
        for name, places in cycles.items()
    )
    path.write_text(f'{{"areas": [\n{rows}\n],\n"cycles": {{\n{runs}\n}}}}\n', encoding="utf-8")


def chosen(areas: Sequence[Area], config: Config | None, board: str | None) -> list[Area]:
    """The rows of a configuration, of a board.

    Raises
    ------
    AreaError
        There are none.
    """
    found = [
        area
        for area in areas
        if (config is None or area.fingerprint == f"{config.fingerprint:016x}")
        and board in (None, area.board)
    ]
    if not found:
        wanted = [config.name] if config else []
        wanted += [board] if board else []
        known = "; ".join(sorted({f"{area.name} on {area.place}" for area in areas}))
        raise AreaError(
            f"nothing was measured of {' on '.join(wanted) or 'any machine'}; there is "
            f"{known or 'nothing yet'}: measure with weft build, keep it with tools/area.py"
        )
    return found
