"""The one door from the software to anything that executes programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..hdl.isa import Unit
from ..hdl.registers import REGISTERS, Error
from .diagnosis import diagnosis

if TYPE_CHECKING:
    from pathlib import Path

    from ..hdl.config import Config


#: Cycles without a completed instruction after which simulated machines stop, unless told.
WATCHDOG = 4_000_000
#: Slowest memory that is simulated and predicted, in cycles.
MOST_LATENCY = 1 << 20


class DeviceError(RuntimeError):
    """A device that cannot be opened or that broke; one sentence says what to do."""


@dataclass(frozen=True)
class Job:
    """What a device executes.

    Parameters
    ----------
    code
        Encoded instructions.
    segments
        Initial contents of the CONST, INPUT, OUTPUT and SCRATCH windows; their lengths are the
        windows' sizes.
    """

    code: bytes
    segments: tuple[bytes, bytes, bytes, bytes]


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Parameters
    ----------
    error, error_pc
        Error code, and byte offset of the failing instruction (NONE and 0 where all went well).
    tag
        Tag of END.
    segments
        Final contents of the four windows.
    counters
        Counter registers by name; empty where the device does not count.
    retired
        One row (cycle since START, unit) per completed instruction, in order of completion; empty
        where the device does not count.
    bus_open
        After an error: the bus had not answered all that it was asked.
    """

    error: Error
    error_pc: int
    tag: int
    segments: tuple[bytes, bytes, bytes, bytes]
    counters: dict[str, int] = field(default_factory=dict)
    retired: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    bus_open: bool = False

    def require(self, code: bytes = b"", config: Config | None = None, *, first: int = 0) -> Result:
        """This result, or a DeviceError that says what went wrong where, and what to do.

        Parameters are those of :func:`~.diagnosis.diagnosis`.
        """
        if self.error != Error.NONE:
            raise DeviceError(diagnosis(self, code, config, first=first))
        return self

    def completions(self, unit: Unit) -> np.ndarray:
        """Cycles at which `unit`'s instructions completed, in program order."""
        return self.retired[self.retired[:, 1] == unit, 0]


class Device(Protocol):
    """Runs jobs on one configuration; each run starts from a soft reset."""

    config: Config

    def run(self, job: Job) -> Result:
        """Execute `job` to its end or its error."""
        ...

    def close(self) -> None:
        """Release what the device holds."""
        ...


def check_memory(latency: int, beat_interval: int) -> None:
    """Refuse a memory that cannot be; raises DeviceError."""
    if not 0 <= latency <= MOST_LATENCY:
        raise DeviceError(f"latency must be 0 to {MOST_LATENCY} cycles, not {latency}")
    if not 1 <= beat_interval <= MOST_LATENCY:
        raise DeviceError(f"beat_interval must be 1 to {MOST_LATENCY} cycles, not {beat_interval}")


def check_watchdog(watchdog: int) -> None:
    """Refuse a value that its register cannot hold; raises DeviceError."""
    if not 0 <= watchdog < 1 << REGISTERS["WATCHDOG"].bits:
        raise DeviceError(f"watchdog must be 0 (off) to 2^32 - 1 cycles, not {watchdog}")


def backends() -> list[str]:
    """Names of the installed backends."""
    return sorted(entry.name for entry in entry_points(group="weft.devices"))


def open_device(
    backend: str,
    config: Config,
    *,
    latency: int = 50,
    beat_interval: int = 1,
    watchdog: int = WATCHDOG,
    trace: Path | None = None,
    **options: Any,
) -> Device:
    """Open a device.

    Parameters
    ----------
    backend
        One of :func:`backends`.
    config
        The machine.
    latency
        Cycles from a read address to its first beat (simulated memory).
    beat_interval
        Cycles from a beat to the next (simulated memory).
    watchdog
        Cycles without a completed instruction after which the machine stops with WATCHDOG; 0: it
        never does. Backends that know no time see at once that nothing will complete.
    trace
        Where to write an FST waveform, if anywhere.
    options
        Further ones of the backend.

    Raises
    ------
    DeviceError
        Unknown backend, a memory or watchdog that cannot be, or the simulator cannot be found or
        built.
    """
    found = {entry.name: entry for entry in entry_points(group="weft.devices")}
    if backend not in found:
        raise DeviceError(f"unknown backend {backend!r}; there are {', '.join(sorted(found))}")
    check_memory(latency, beat_interval)
    check_watchdog(watchdog)
    device = found[backend].load()
    memory = {"latency": latency, "beat_interval": beat_interval}
    return device(config, **memory, watchdog=watchdog, trace=trace, **options)
