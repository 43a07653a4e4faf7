"""The machine on a board, or on a board in simulation, as a device that executes programs."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.isa import INSTRUCTION_BYTES, Opcode, Segment, layout
from ..hdl.registers import REGISTERS
from ..host.device import WATCHDOG, DeviceError, Job, Result, check_watchdog
from ..tb.session import (
    BUSY,
    COUNTERS,
    FAILED,
    IDENTITY,
    PAGE,
    SOFT_RESET,
    START,
    STATE,
    Session,
    check_identity,
    prepare,
)
from .board import SIMULATED, find
from .host_link import HostLink, LinkError, SerialPort

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..hdl.config import Config
    from .board import Board
    from .host_link import Port
    from .simulation import SimulatedBoard

#: Core cycles of a bit in simulation, where a slow line would only take time.
_SIMULATED_BIT = 8
#: Seconds after which a run is given up, whatever the machine says.
TIMEOUT = 600.0


class BoardDevice:
    """The machine on a board, reached over its serial port.

    What the board's memory holds is remembered, so that a job writes what differs from the last one
    only, and reads what the program can have stored to.

    Parameters
    ----------
    config
        The machine that is expected there.
    board
        Name of the board; with ``-sim`` behind it: its whole top in simulation.
    port
        Serial port; not for a board in simulation.
    watchdog
        Value of the WATCHDOG register.
    trace, latency, beat_interval
        Of simulated memories, and unused: a board has a memory of its own.
    link
        An open link instead of `port`.
    timeout
        Seconds after which a run is given up.

    Attributes
    ----------
    description
        Board, clock and memory, for reports.

    Raises
    ------
    DeviceError
        There is no such board or port, or another machine on it.
    """

    def __init__(
        self,
        config: Config,
        *,
        board: str | None = None,
        port: str | None = None,
        watchdog: int = WATCHDOG,
        trace: Path | None = None,
        latency: int = 0,
        beat_interval: int = 1,
        link: HostLink | None = None,
        timeout: float = TIMEOUT,
    ):
        del latency, beat_interval
        if trace is not None:
            raise DeviceError("a board has no signals to trace")
        check_watchdog(watchdog)
        self.config = config
        self._watchdog = watchdog
        self._timeout = timeout
        self._link = link or HostLink(_open(config, board, port))
        self._known: dict[int, bytes] = {}
        identity = self._link.identity
        self.description = (
            f"{board or 'a board'} at {identity.clock_hz / 1e6:g} MHz, "
            f"{size(identity.memory_bytes)}"
        )
        try:
            if identity.fingerprint != config.fingerprint:
                raise LinkError(
                    f"the board holds configuration {identity.fingerprint:016x}, but "
                    f"{config.name!r} is {config.fingerprint:016x}: build and flash its bitstream, "
                    "or name with --config the one it holds"
                )
            check_identity(config, self._read(IDENTITY))
        except DeviceError:
            self.close()
            raise

    def run(self, job: Job) -> Result:
        """Execute `job`.

        Raises
        ------
        DeviceError
            The board does not answer, or the machine never ends.
        """
        session = prepare(
            self.config,
            job,
            watchdog=self._watchdog,
            memory_bytes=self._link.identity.memory_bytes,
        )
        known, self._known = self._known, {}  # forgotten if anything goes wrong
        self._write("CONTROL", SOFT_RESET)
        if self._rest() & FAILED:
            raise DeviceError("SOFT_RESET does not succeed: reset the board, flash it again")
        for base, contents in session.regions:
            self._load(known, base, contents)
        for name, value in session.setup:
            self._write(name, value)
        self._write("CONTROL", START)
        self._rest()
        session.values = self._read((*STATE, *COUNTERS))
        self._fetch(known, session, stored_segments(job.code))
        self._known = known
        return session.result(np.zeros((0, 2), np.int64))

    def close(self) -> None:
        """Release the port, or free the simulator."""
        self._link.close()

    def _load(self, known: dict[int, bytes], base: int, contents: bytearray) -> None:
        """Write those pages of a region that the board's memory does not hold already."""
        for at in range(0, len(contents), PAGE):
            page = bytes(contents[at : at + PAGE])
            if known.get(base + at) != page:
                self._link.write_memory(base + at, page)
                known[base + at] = page

    def _fetch(
        self, known: dict[int, bytes], session: Session, segments: Iterable[Segment]
    ) -> None:
        """Read the windows that the program may have stored to."""
        bases = {id(contents): base for base, contents in session.regions}
        for segment in segments:
            window = session.windows[segment]
            if not window:
                continue
            size = -(-len(session.job.segments[segment]) // 4) * 4
            base = bases[id(window)]
            window[:size] = self._link.read_memory(base, size)
            for at in range(0, len(window), PAGE):
                known[base + at] = bytes(window[at : at + PAGE])

    def _rest(self) -> int:
        """Wait until the machine rests; STATUS."""
        end = time.monotonic() + self._timeout
        while (status := self._read(["STATUS"])["STATUS"]) & BUSY:
            if time.monotonic() > end:
                raise DeviceError(f"the machine has not ended after {self._timeout:g} seconds")
        return status

    def _write(self, name: str, value: int) -> None:
        self._link.write_registers(REGISTERS[name].address, value)

    def _read(self, names: Iterable[str]) -> dict[str, int]:
        """Registers by name; those side by side are read at once."""
        wanted = sorted(names, key=lambda name: REGISTERS[name].address)
        values: dict[str, int] = {}
        run: list[str] = []
        for name, after in zip(wanted, [*wanted[1:], None], strict=True):
            run.append(name)
            if after is None or REGISTERS[after].address != REGISTERS[name].address + 4:
                got = self._link.read_registers(REGISTERS[run[0]].address, len(run))
                values |= zip(run, got, strict=True)
                run = []
        return values


def stored_segments(code: bytes) -> list[Segment]:
    """The segments that any STORE of a program names."""
    words = np.frombuffer(code[: len(code) // INSTRUCTION_BYTES * INSTRUCTION_BYTES], "<u8")
    first = words.reshape(-1, INSTRUCTION_BYTES // 8)[:, 0]
    place = next(at for field, at in layout(Opcode.STORE) if field.name == "segment")
    stores = first[first & 0xF == Opcode.STORE]
    return [Segment(number) for number in np.unique(stores >> place & 3).tolist()]


def size(count: int) -> str:
    """Bytes of a memory, for people."""
    return f"{count >> 20} MB" if count >> 20 else f"{count >> 10} KB"


def _open(config: Config, board: str | None, port: str | None) -> Port:
    """The way to a board."""
    if board is None:
        raise DeviceError("--backend board needs --board")
    known = find(board.removesuffix(SIMULATED))
    if board.endswith(SIMULATED):
        if port is not None:
            raise DeviceError(f"{board} is simulated here; --port goes with a board")
        return simulated(known, config)
    if port is None:
        raise DeviceError(f"--board {board} needs --port, such as /dev/ttyUSB0")
    return SerialPort(port, known.baud)


def simulated(board: Board, config: Config, **options: Any) -> SimulatedBoard:
    """The whole top of a board in simulation; `options` are those of :class:`SimulatedBoard`."""
    from . import simulation

    clock_hz = 1e6 * board.clock_mhz
    fast = dataclasses.replace(board, baud=round(clock_hz / _SIMULATED_BIT))
    verilog = simulation.board_verilog(fast, config, fast.clock_mhz, fast.baud)
    return simulation.SimulatedBoard(
        simulation.build(board, verilog), board.chip, clock_hz=clock_hz, baud=fast.baud, **options
    )
