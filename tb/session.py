"""What every simulated device does with a job: place it, set registers, collect the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..hdl.isa import Segment
from ..hdl.registers import ID_VALUE, REGISTERS, VERSION_VALUE, Error
from ..host.device import DeviceError, Job, Result
from .memory_model import NEVER

if TYPE_CHECKING:
    from ..hdl.config import Config

PAGE = 4096
START = 1
SOFT_RESET = 2
IDENTITY = ("ID", "VERSION", "CONFIG_LO", "CONFIG_HI")
STATE = ("STATUS", "ERROR", "ERROR_PC", "TAG", "IRQ_STATUS")
#: Registers that count, by name.
COUNTERS = tuple(name for name, register in REGISTERS.items() if register.address >= 0x100)
#: Bits of STATUS: the machine is working; the program ended; it was stopped by an error; transfers
#: on the bus are open.
BUSY, DONE, FAILED, OPEN = 1, 2, 4, 16
#: Both bits of IRQ_STATUS.
INTERRUPTS = 3
#: Interrupts after which a machine that still works is given up.
_INTERRUPTS_BELIEVED = 3


@dataclass
class Session:
    """A job made ready: memory contents by address, and the registers to write before START.

    `bases` says where each segment begins, counted from the first of the regions.
    """

    job: Job
    regions: list[tuple[int, bytearray]]
    setup: list[tuple[str, int]]
    windows: list[bytearray]
    bases: dict[str, int]
    values: dict[str, int] = field(default_factory=dict)

    def result(self, retired: np.ndarray) -> Result:
        """The result, once `values` holds the registers STATE and COUNTERS and memory is final.

        Raises
        ------
        DeviceError
            The registers contradict each other: the machine is out of order.
        """
        error = self._error()
        final = [
            bytes(window[: len(before)])
            for window, before in zip(self.windows, self.job.segments, strict=True)
        ]
        return Result(
            error=error,
            error_pc=self.values["ERROR_PC"],
            tag=self.values["TAG"],
            segments=(final[0], final[1], final[2], final[3]),
            counters={name: self.values[name] for name in COUNTERS},
            retired=retired,
            bus_open=error != Error.NONE and bool(self.values["STATUS"] & OPEN),
        )

    def _error(self) -> Error:
        """The error code, if it is one and STATUS agrees."""
        status, code = self.values["STATUS"] & (BUSY | DONE | FAILED), self.values["ERROR"]
        if code in set(Error) and status == (FAILED if code else DONE):
            return Error(code)
        raise DeviceError(
            f"the machine is out of order: it rests with STATUS 0x{status:x} and ERROR {code}; "
            "reset it and run the job again"
        )


def prepare(
    config: Config, job: Job, *, watchdog: int = 0, memory_bytes: int | None = None
) -> Session:
    """Place the program and the windows of `job` in memory, each on pages of its own.

    The upper half of the address space is used, so that high address words matter; between the
    windows lies a page that does not exist. On a board, whose memory has `memory_bytes` from
    address 0 on, the program comes last: what programs share keeps its place.

    Raises
    ------
    DeviceError
        They do not fit.
    """
    end = 1 << config.addr_bits if memory_bytes is None else memory_bytes
    first = address = 0 if memory_bytes is not None else end // 2
    regions: list[tuple[int, bytearray]] = []
    setup: list[tuple[str, int]] = []
    windows = [bytearray(part) for part in job.segments]
    parts = [(segment.name, part) for segment, part in zip(Segment, windows, strict=True)]
    parts.insert(0 if memory_bytes is None else len(parts), ("PROGRAM", bytearray(job.code)))
    bases: dict[str, int] = {}
    for name, part in parts:
        bases[name] = address - first
        size = len(part)
        part.extend(bytes(-size % PAGE))
        setup += [
            (f"{name}_LO", address & 0xFFFFFFFF),
            (f"{name}_HI", address >> 32),
            (f"{name}_SIZE", size),
        ]
        if part:
            regions.append((address, part))
        address += len(part) + PAGE
    if address > end:
        place = f"half of {config.addr_bits} address bits" if memory_bytes is None else "its memory"
        raise DeviceError(
            f"the program and its windows do not fit {place}: they take {address - first} of "
            f"{end - first} bytes"
        )
    setup += [("WATCHDOG", watchdog), ("IRQ_STATUS", INTERRUPTS), ("IRQ_ENABLE", INTERRUPTS)]
    return Session(job, regions, setup, windows, bases)


class Steppable(Protocol):
    """What :func:`await_rest` needs of a machine; see :class:`~.fast.FastMachine`."""

    def run(self, limit: int, patience: int = NEVER, *, strict: bool = True) -> bool: ...

    def read(self, address: int) -> int: ...

    def write(self, address: int, value: int) -> None: ...


def await_rest(
    machine: Steppable, limit: int, patience: int = NEVER, *, strict: bool = True
) -> bool:
    """Let a started machine run until STATUS says that it rests; False if that never happens.

    The interrupt only says when to look: one that comes early is cleared, one that is missing does
    no harm. Parameters are those of :meth:`~.fast.FastMachine.run`.
    """
    for _ in range(_INTERRUPTS_BELIEVED):
        interrupted = machine.run(limit, patience, strict=strict)
        if not machine.read(REGISTERS["STATUS"].address) & BUSY:
            return True
        if not interrupted:
            break
        machine.write(REGISTERS["IRQ_STATUS"].address, INTERRUPTS)
    return False


def check_identity(config: Config, values: dict[str, int]) -> None:
    """Refuse a machine that is not `config`'s; `values` holds the registers IDENTITY."""
    if values["ID"] != ID_VALUE:
        raise DeviceError(f"this is not Weft: its ID register reads 0x{values['ID']:08x}")
    if values["VERSION"] >> 16 != VERSION_VALUE >> 16:
        raise DeviceError(
            f"the machine has register map version {values['VERSION'] >> 16}, "
            f"this software needs {VERSION_VALUE >> 16}"
        )
    fingerprint = values["CONFIG_HI"] << 32 | values["CONFIG_LO"]
    if fingerprint != config.fingerprint:
        raise DeviceError(
            f"the machine has configuration {fingerprint:016x}, "
            f"but {config.name!r} is {config.fingerprint:016x}: export its Verilog again"
        )


def silent(cycles: int) -> DeviceError:
    """The error for a machine that never ended."""
    return DeviceError(
        f"the machine did not end: it stopped making progress, or {cycles} cycles passed"
    )


def restless(cycles: int) -> DeviceError:
    """The error for a machine that SOFT_RESET does not stop."""
    return DeviceError(f"the machine is still busy {cycles} cycles after SOFT_RESET")
