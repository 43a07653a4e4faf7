"""The AXI-Lite register map and the error codes, defined once as data.

Registers are 32 bits wide; a 64-bit quantity takes two, low word first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .isa import Segment, Unit

ID_VALUE = 0x54464557  # "WEFT" in memory order
VERSION_VALUE = 0x0001_0000


class Error(enum.IntEnum):
    """Why the machine stopped (register ERROR)."""

    NONE = 0
    OPCODE = 1
    RESERVED = 2
    FIELD = 3
    ALIGNMENT = 4
    WINDOW = 5
    SEMAPHORE_OVERFLOW = 6
    SEMAPHORE_LEFT = 7
    READ_BUS = 8
    WRITE_BUS = 9
    BANK_CONFLICT = 10
    WATCHDOG = 11
    PROGRAM_END = 12


ERROR_DOC: dict[Error, str] = {
    Error.NONE: "no error",
    Error.OPCODE: "undefined opcode",
    Error.RESERVED: "a reserved bit is set",
    Error.FIELD: "a field's value is out of range",
    Error.ALIGNMENT: "an address, length or pitch is not a multiple of bus_bytes",
    Error.WINDOW: "a transfer leaves its segment",
    Error.SEMAPHORE_OVERFLOW: "a semaphore was posted beyond its maximum",
    Error.SEMAPHORE_LEFT: "a semaphore was not zero at END",
    Error.READ_BUS: "the bus answered a read with SLVERR or DECERR",
    Error.WRITE_BUS: "the bus answered a write with SLVERR or DECERR",
    Error.BANK_CONFLICT: "two units read, or two wrote, one memory bank in one cycle",
    Error.WATCHDOG: "no instruction completed for WATCHDOG cycles",
    Error.PROGRAM_END: "the program has no END within PROGRAM_SIZE",
}


class Cause(enum.IntEnum):
    """What a unit does in a cycle; for each unit the four counters sum to CYCLES."""

    BUSY = 0
    SEMAPHORE = 1
    MEMORY = 2
    EMPTY = 3


@dataclass(frozen=True)
class Register:
    """One 32-bit register: byte address, access ("ro", "rw", "w1" strobes, "w1c") and meaning."""

    name: str
    address: int
    access: str
    doc: str
    bits: int = 32


def _map() -> dict[str, Register]:
    out: dict[str, Register] = {}

    def add(name: str, address: int, access: str, doc: str, bits: int = 32) -> None:
        out[name] = Register(name, address, access, doc, bits)

    add("ID", 0x000, "ro", f"0x{ID_VALUE:08x}, 'WEFT'")
    add("VERSION", 0x004, "ro", "major in bits 31:16, minor in bits 15:0")
    add("CONFIG_LO", 0x008, "ro", "configuration fingerprint, low word")
    add("CONFIG_HI", 0x00C, "ro", "configuration fingerprint, high word")
    add("CONTROL", 0x020, "w1", "bit 0 START, bit 1 SOFT_RESET, bit 2 LOCK (sticky until reset)", 3)
    add("STATUS", 0x024, "ro", "bit 0 BUSY, bit 1 DONE, bit 2 ERROR, bit 3 LOCKED", 4)
    add("ERROR", 0x028, "ro", "error code, first error wins", 8)
    add("ERROR_PC", 0x02C, "ro", "byte offset of the failing instruction in the program")
    add("IRQ_STATUS", 0x030, "w1c", "bit 0 done, bit 1 error", 2)
    add("IRQ_ENABLE", 0x034, "rw", "bits of IRQ_STATUS that raise the level interrupt", 2)
    add("TAG", 0x038, "ro", "tag of the last END", 16)
    add("WATCHDOG", 0x03C, "rw", "cycles without a completed instruction that stop it; 0 is off")
    add("PROGRAM_LO", 0x040, "rw", "program address, low word; a multiple of 4096")
    add("PROGRAM_HI", 0x044, "rw", "program address, high word")
    add("PROGRAM_SIZE", 0x048, "rw", "program bytes; a multiple of 32")
    for segment in Segment:
        at = 0x060 + 0x10 * segment
        name = segment.name
        add(f"{name}_LO", at, "rw", f"{name} segment address, low word; a multiple of 4096")
        add(f"{name}_HI", at + 4, "rw", f"{name} segment address, high word")
        add(f"{name}_SIZE", at + 8, "rw", f"{name} segment bytes")
    add("CYCLES", 0x100, "ro", "cycles from START to the end")
    add("READ_BEATS", 0x104, "ro", "read data beats received")
    add("WRITE_BEATS", 0x108, "ro", "write data beats sent")
    add("VECTORS", 0x10C, "ro", "activation vectors streamed into the array")
    add("INSTRUCTIONS", 0x110, "ro", "instructions dispatched")
    for unit in Unit:
        for cause in Cause:
            add(
                f"{unit.name}_{cause.name}",
                0x140 + 0x10 * unit + 4 * cause,
                "ro",
                f"cycles that {unit.name} was {_CAUSE_DOC[cause]}",
            )
    return out


_CAUSE_DOC = {
    Cause.BUSY: "working",
    Cause.SEMAPHORE: "waiting for a semaphore",
    Cause.MEMORY: "waiting for the bus or, in MATMUL, for weights",
    Cause.EMPTY: "without an instruction",
}

REGISTERS: dict[str, Register] = _map()
#: Address bits of the AXI-Lite port.
REGISTER_ADDR_BITS = 10
