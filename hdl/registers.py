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
    BUS_STUCK = 13
    CORRUPT = 14
    PARITY = 15


@dataclass(frozen=True)
class ErrorInfo:
    """What an error means, which instruction ERROR_PC names, and what to do about it.

    `in_turn`: it waits until every instruction before that one has completed; else it is reported
    at once.
    """

    meaning: str
    place: str
    advice: str
    in_turn: bool = True


_COMPILE = "compile the program for this configuration, or correct it"

ERRORS: dict[Error, ErrorInfo] = {
    Error.NONE: ErrorInfo("no error", "0", "nothing"),
    Error.OPCODE: ErrorInfo("undefined opcode", "the instruction", _COMPILE),
    Error.RESERVED: ErrorInfo("a reserved bit is set", "the instruction", _COMPILE),
    Error.FIELD: ErrorInfo("a field's value is out of range", "the instruction", _COMPILE),
    Error.ALIGNMENT: ErrorInfo(
        "an address, length or pitch is not a multiple of bus_bytes", "the instruction", _COMPILE
    ),
    Error.WINDOW: ErrorInfo(
        "a transfer leaves its segment or the address space",
        "the LOAD or STORE",
        "make the segment as large as the program expects, or correct offset, pitch and length",
    ),
    Error.SEMAPHORE_OVERFLOW: ErrorInfo(
        "a semaphore was posted beyond its maximum",
        "the instruction that posts",
        "let the consumer wait for more of the posts",
        in_turn=False,
    ),
    Error.SEMAPHORE_LEFT: ErrorInfo(
        "a semaphore was not zero at END", "the END", "let an instruction wait for every post"
    ),
    Error.READ_BUS: ErrorInfo(
        "the bus answered a read with SLVERR or DECERR",
        "the LOAD, or the instruction that was being fetched",
        "let the program and the segments lie where there is memory",
        in_turn=False,
    ),
    Error.WRITE_BUS: ErrorInfo(
        "the bus answered a write with SLVERR or DECERR",
        "the STORE",
        "let the segment lie where there is memory that can be written",
        in_turn=False,
    ),
    Error.BANK_CONFLICT: ErrorInfo(
        "two units read, or two wrote, one memory bank in one cycle",
        "an instruction in progress of VECTOR, else STORE, else LOAD, else MATMUL",
        "let semaphores order the two instructions",
        in_turn=False,
    ),
    Error.WATCHDOG: ErrorInfo(
        "no instruction completed for WATCHDOG cycles",
        "the oldest instruction that has not completed",
        "see whether it waits for a semaphore that no earlier instruction posts, or for a bus that "
        "does not answer (STATUS has OPEN), or needs a larger WATCHDOG",
    ),
    Error.PROGRAM_END: ErrorInfo(
        "the program has no END within PROGRAM_SIZE and the address space",
        "the place after the last instruction",
        "end the program with END and make PROGRAM_SIZE its size",
    ),
    Error.BUS_STUCK: ErrorInfo(
        "SOFT_RESET found bus transfers that were not answered within WATCHDOG cycles",
        "0",
        "reset the machine together with its bus, or repeat SOFT_RESET when OPEN has fallen",
    ),
    Error.CORRUPT: ErrorInfo(
        "the machine found its own state inconsistent: a bit of a register flipped",
        "the oldest instruction that has not completed",
        "reset the machine, write all registers again and repeat the program",
        in_turn=False,
    ),
    Error.PARITY: ErrorInfo(
        "a byte or word that was read from an on-chip memory had the wrong parity",
        "the oldest instruction that has not completed",
        "reset the machine and repeat the program from its first LOAD",
        in_turn=False,
    ),
}


class Cause(enum.IntEnum):
    """What a unit does in a cycle; for each unit the four counters sum to CYCLES."""

    BUSY = 0
    SEMAPHORE = 1
    MEMORY = 2
    EMPTY = 3


@dataclass(frozen=True)
class Register:
    """One 32-bit register: byte address, access ("ro", "rw", "w1" strobes, "w1c"), meaning, bits
    that exist, and for "rw" the value after reset.
    """

    name: str
    address: int
    access: str
    doc: str
    bits: int = 32
    init: int = 0


def _map() -> dict[str, Register]:
    out: dict[str, Register] = {}

    def add(name: str, address: int, access: str, doc: str, bits: int = 32, init: int = 0) -> None:
        out[name] = Register(name, address, access, doc, bits, init)

    add("ID", 0x000, "ro", f"0x{ID_VALUE:08x}, 'WEFT'")
    add("VERSION", 0x004, "ro", "major in bits 31:16, minor in bits 15:0")
    add("CONFIG_LO", 0x008, "ro", "configuration fingerprint, low word")
    add("CONFIG_HI", 0x00C, "ro", "configuration fingerprint, high word")
    add("CONTROL", 0x020, "w1", "bit 0 START, bit 1 SOFT_RESET, bit 2 LOCK (sticky until reset)", 3)
    add(
        "STATUS",
        0x024,
        "ro",
        "bit 0 BUSY, bit 1 DONE, bit 2 ERROR, bit 3 LOCKED, bit 4 OPEN (bus transfers under way)",
        5,
    )
    add("ERROR", 0x028, "ro", "error code, first error wins", 8)
    add("ERROR_PC", 0x02C, "ro", "byte offset of the instruction concerned in the program")
    add("IRQ_STATUS", 0x030, "w1c", "bit 0 done, bit 1 error", 2)
    add("IRQ_ENABLE", 0x034, "rw", "bits of IRQ_STATUS that raise the level interrupt", 2)
    add("TAG", 0x038, "ro", "tag of the last END", 16)
    add(
        "WATCHDOG",
        0x03C,
        "rw",
        "cycles without a completed instruction, or after an error or SOFT_RESET without the bus "
        "answering, that the machine waits; 0xffffffff after reset; 0: for ever",
        init=0xFFFF_FFFF,
    )
    add("PROGRAM_LO", 0x040, "rw", "program address, low word; a multiple of 4096")
    add("PROGRAM_HI", 0x044, "rw", "program address, high word")
    add("PROGRAM_SIZE", 0x048, "rw", "program bytes; a multiple of 32")
    for segment in Segment:
        at = 0x060 + 0x10 * segment
        name = segment.name
        add(f"{name}_LO", at, "rw", f"{name} segment address, low word; a multiple of 4096")
        add(f"{name}_HI", at + 4, "rw", f"{name} segment address, high word")
        add(f"{name}_SIZE", at + 8, "rw", f"{name} segment bytes")
    for unit in Unit:
        add(
            f"{unit.name}_PC",
            0x0C0 + 4 * unit,
            "ro",
            f"byte offset of the oldest instruction that {unit.name} has not completed; where it "
            "has none, of the next to be dispatched",
        )
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
