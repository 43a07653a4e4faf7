"""The instruction set: every format, field and unit, defined once as data.

RTL, compiler, golden machine, test bench and ``docs/isa.md`` all read this module. An
instruction is 256 bits, little-endian in memory; bit 0 is the least significant bit of byte 0.
Bits that no field covers are reserved and must be zero.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .config import Config

INSTRUCTION_BITS = 256
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
SEMAPHORE_BITS = 6
SEMAPHORE_MAX = (1 << SEMAPHORE_BITS) - 1


class IsaError(ValueError):
    """An instruction that cannot be encoded or decoded; says which field, and why."""


class AlignmentError(IsaError):
    """An instruction whose only fault is an address or size between two bus beats."""


class Unit(enum.IntEnum):
    """The units that execute instructions and meet at semaphores."""

    LOAD = 0
    WEIGHT = 1
    MATMUL = 2
    VECTOR = 3
    STORE = 4


#: Peers of each unit. Bit ``2 * PEERS[u].index(p) + k`` of unit u's wait (post) set stands for
#: semaphore k (0 or 1) of the ordered pair p → u (u → p).
PEERS: dict[Unit, tuple[Unit, ...]] = {
    Unit.LOAD: (Unit.WEIGHT, Unit.MATMUL, Unit.VECTOR, Unit.STORE),
    Unit.WEIGHT: (Unit.LOAD,),
    Unit.MATMUL: (Unit.LOAD, Unit.VECTOR, Unit.STORE),
    Unit.VECTOR: (Unit.LOAD, Unit.MATMUL, Unit.STORE),
    Unit.STORE: (Unit.LOAD, Unit.MATMUL, Unit.VECTOR),
}

#: Every semaphore as (producer, consumer, k), in the order hardware numbers them.
SEMAPHORES: tuple[tuple[Unit, Unit, int], ...] = tuple(
    (peer, unit, k) for unit in Unit for peer in PEERS[unit] for k in (0, 1)
)


def wait_bit(unit: Unit, producer: Unit, k: int) -> int:
    """Mask of semaphore k of producer → unit in `unit`'s wait set."""
    return 1 << (2 * PEERS[unit].index(producer) + k)


def post_bit(unit: Unit, consumer: Unit, k: int) -> int:
    """Mask of semaphore k of unit → consumer in `unit`'s post set."""
    return 1 << (2 * PEERS[unit].index(consumer) + k)


class Opcode(enum.IntEnum):
    """Instruction opcodes; 0 is undefined on purpose, so that blank memory traps."""

    END = 1
    LOAD = 2
    MATMUL = 3
    DRAIN = 4
    POOL = 5
    STORE = 6


class Memory(enum.IntEnum):
    """On-chip memories that LOAD can fill."""

    ACT = 0
    WGT = 1
    PAR = 2
    TBL = 3


class Reduce(enum.IntEnum):
    """What DRAIN and POOL do over their window."""

    NONE = 0
    MAX = 1
    SUM = 2


class Segment(enum.IntEnum):
    """Windows of DRAM that LOAD and STORE address."""

    CONST = 0
    INPUT = 1
    OUTPUT = 2
    SCRATCH = 3


@dataclass(frozen=True)
class Field:
    """One bit field: its width, sign, legal range and meaning."""

    name: str
    bits: int
    doc: str
    signed: bool = False
    least: int | None = None
    kind: type[enum.IntEnum] | None = None

    @property
    def minimum(self) -> int:
        """Smallest legal value."""
        if self.least is not None:
            return self.least
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest legal value."""
        if self.kind is not None:
            return max(self.kind)
        return (1 << (self.bits - self.signed)) - 1


HEADER = (
    Field("opcode", 4, "what to do", kind=Opcode, least=1),
    Field("wait", 8, "semaphores that must be non-zero; each is decremented at the start"),
    Field("post", 8, "semaphores incremented at the end"),
)

_TRANSFER = (
    Field("segment", 2, "DRAM window", kind=Segment),
    Field("offset", 32, "byte offset of the first row in the window; a multiple of bus_bytes"),
    Field("length", 20, "bytes in a row", least=1),
    Field("rows", 12, "rows", least=1),
    Field("dram_pitch", 24, "bytes from row to row in DRAM; a multiple of bus_bytes"),
    Field("local_pitch", 20, "bytes from row to row on chip"),
)

_SOURCE_WINDOW = (
    Field("sy", 4, "rows from one output's window to the next", least=1),
    Field("sx", 4, "pixels from one output's window to the next", least=1),
    Field("oy", 10, "output rows", least=1),
    Field("ox", 10, "output columns", least=1),
)

_PADDING = (
    Field(
        "iy0", 11, "input row of the first output's window top (negative in padding)", signed=True
    ),
    Field("ix0", 11, "input column of the first output's window left", signed=True),
    Field("height", 11, "input rows; rows outside [0, height) read as fill", least=1),
    Field("width", 11, "input columns; columns outside [0, width) read as fill", least=1),
    Field("fill", 8, "value read outside the input", signed=True),
)

_DESTINATION = (
    Field("dst", 20, "ACT byte address of the first output's first channel"),
    Field("par", 12, "first parameter entry; one a channel"),
    Field("dst_row", 20, "ACT bytes from one output row to the next"),
    Field("dst_pixel", 16, "ACT bytes from one output column to the next"),
    Field("reduce", 2, "reduction over the window", kind=Reduce),
    Field("ry", 4, "window rows", least=1),
    Field("rx", 4, "window columns", least=1),
    Field("table", 4, "0: none; k: send the results through table k − 1"),
)

FORMATS: dict[Opcode, tuple[Field, ...]] = {
    Opcode.END: (*HEADER, Field("tag", 16, "shown in the TAG register when the program ends")),
    Opcode.LOAD: (
        *HEADER,
        Field("memory", 2, "memory to fill", kind=Memory),
        Field("local", 20, "byte address of the first row on chip"),
        *_TRANSFER,
    ),
    Opcode.STORE: (*HEADER, Field("local", 20, "ACT byte address of the first row"), *_TRANSFER),
    Opcode.MATMUL: (
        *HEADER,
        Field("weight_wait", 2, "semaphores LOAD → WEIGHT k that the weight loader waits for"),
        Field("weight_post", 2, "semaphores WEIGHT → LOAD k posted when the last tile was read"),
        Field("accumulate", 1, "0: the first reduction tile overwrites ACC, 1: it adds"),
        Field("act", 20, "ACT byte address of the input pixel at (iy0, ix0), modulo 2^20"),
        Field("wgt", 16, "first weight row, in units of wgt_row_bytes"),
        Field("acc", 12, "first ACC entry"),
        Field("blocks", 6, "column blocks", least=1),
        Field("kc", 16, "contiguous bytes of a window position (input channels)", least=1),
        Field("ky", 4, "window rows", least=1),
        Field("kx", 4, "window columns", least=1),
        Field("dy", 4, "dilation in rows", least=1),
        Field("dx", 4, "dilation in columns", least=1),
        Field("row_pitch", 20, "ACT bytes from one input row to the next"),
        Field("pixel_pitch", 16, "ACT bytes from one input pixel to the next"),
        *_SOURCE_WINDOW,
        *_PADDING,
    ),
    Opcode.DRAIN: (
        *HEADER,
        *_DESTINATION,
        Field("src", 12, "ACC entry of the first window"),
        Field("src_row", 12, "ACC entries from one source row to the next"),
        Field("src_block", 12, "ACC entries from one column block to the next"),
        Field("channels", 12, "output channels", least=1),
        *_SOURCE_WINDOW,
        Field("residual", 1, "1: add the residual"),
        Field("res", 20, "ACT byte address of the first output's residual"),
        Field("res_row", 20, "ACT bytes from one residual row to the next"),
        Field("res_pixel", 16, "ACT bytes from one residual column to the next"),
        Field("dst_jump", 16, "channels lie 1 + act_lanes · dst_jump ACT bytes apart"),
    ),
    Opcode.POOL: (
        *HEADER,
        *_DESTINATION,
        Field("src", 20, "ACT byte address of the pixel at (iy0, ix0), modulo 2^20"),
        Field("src_row", 20, "ACT bytes from one source row to the next"),
        Field("src_pixel", 16, "ACT bytes from one source column to the next"),
        Field("channels", 12, "channels", least=1),
        *_SOURCE_WINDOW,
        *_PADDING,
    ),
}  # fmt: skip

#: The unit whose queue takes each opcode (END is FETCH's own; MATMUL also enters WEIGHT).
UNIT_OF: dict[Opcode, Unit] = {
    Opcode.LOAD: Unit.LOAD,
    Opcode.MATMUL: Unit.MATMUL,
    Opcode.DRAIN: Unit.VECTOR,
    Opcode.POOL: Unit.VECTOR,
    Opcode.STORE: Unit.STORE,
}


def layout(opcode: Opcode) -> Iterator[tuple[Field, int]]:
    """Each field of `opcode`'s format with the bit it starts at."""
    at = 0
    for entry in FORMATS[opcode]:
        yield entry, at
        at += entry.bits


for _opcode, _fields in FORMATS.items():
    assert sum(f.bits for f in _fields) <= INSTRUCTION_BITS, _opcode


class _Slot(NamedTuple):
    """A field but the opcode, as encoding and decoding want it."""

    name: str
    at: int
    mask: int
    sign: int  # the sign bit, or 0
    least: int
    most: int
    default: int


_SLOTS = {
    opcode: tuple(
        _Slot(
            entry.name, at, (1 << entry.bits) - 1, entry.signed << (entry.bits - 1),
            entry.minimum, entry.maximum, max(entry.minimum, 0),
        )
        for entry, at in layout(opcode)
        if entry.name != "opcode"
    )
    for opcode in FORMATS
}  # fmt: skip
_USED_BITS = {opcode: sum(entry.bits for entry in fields) for opcode, fields in FORMATS.items()}


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction: an opcode and the value of every other field of its format.

    Fields are read as attributes: ``instruction.length``. Fields left out take the smallest legal
    value that is not negative (0, or 1 for counts).
    """

    opcode: Opcode
    fields: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values: dict[str, int] = {}
        given = dict(self.fields)
        for name, _, _, _, least, most, default in _SLOTS[self.opcode]:
            value = int(given.pop(name, default))
            if not least <= value <= most:
                raise IsaError(f"{self.opcode.name}.{name} must be {least} to {most}, not {value}")
            values[name] = value
        if given:
            raise IsaError(f"{self.opcode.name} has no field {min(given)!r}")
        object.__setattr__(self, "fields", values)

    def __getattr__(self, name: str) -> int:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"{self.opcode.name} has no field {name!r}") from None

    def __hash__(self) -> int:
        return hash(self.encode())

    @property
    def unit(self) -> Unit | None:
        """The unit that executes it; None for END."""
        return UNIT_OF.get(self.opcode)

    def encode(self) -> bytes:
        """The instruction as INSTRUCTION_BYTES little-endian bytes."""
        word = int(self.opcode)
        for name, at, mask, *_ in _SLOTS[self.opcode]:
            word |= (self.fields[name] & mask) << at
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Instruction:
        """The instruction in `data`; raises IsaError where the encoding is not legal."""
        if len(data) != INSTRUCTION_BYTES:
            raise IsaError(f"an instruction is {INSTRUCTION_BYTES} bytes, not {len(data)}")
        word = int.from_bytes(data, "little")
        try:
            opcode = Opcode(word & 0xF)
        except ValueError:
            raise IsaError(f"undefined opcode {word & 0xF}") from None
        end = _USED_BITS[opcode]
        if word >> end:
            raise IsaError(f"{opcode.name} has reserved bits set above bit {end - 1}")
        return cls(
            opcode,
            {
                name: (word >> at & mask ^ sign) - sign
                for name, at, mask, sign, *_ in _SLOTS[opcode]
            },
        )

    def __str__(self) -> str:
        """One line of assembly: opcode, then name=value for fields that differ from the default."""
        parts = [f"{self.opcode.name:<6}"]
        for entry in FORMATS[self.opcode][1:]:
            value = self.fields[entry.name]
            if entry.name in ("wait", "post", "weight_wait", "weight_post"):
                if value:
                    parts.append(f"{entry.name}={self._semaphores(entry.name, value)}")
            elif entry.kind is not None:
                parts.append(f"{entry.name}={entry.kind(value).name.lower()}")
            elif value != max(entry.minimum, 0):
                parts.append(f"{entry.name}={value}")
        return " ".join(parts)

    def _semaphores(self, name: str, value: int) -> str:
        unit = Unit.WEIGHT if name.startswith("weight") else self.unit
        peers = PEERS[unit] if unit is not None else ()
        names = [
            f"{peer.name.lower()}.{k}"
            for i, peer in enumerate(peers)
            for k in (0, 1)
            if value >> (2 * i + k) & 1
        ]
        return "+".join(names)


def check(instruction: Instruction, config: Config) -> None:
    """Checks that hold for one configuration, exactly those the decoder traps on.

    Raises IsaError, or AlignmentError where nothing but alignment is wrong. The list, per opcode:

    - wait and post sets name only peers that exist (END: none at all);
    - `reduce` = NONE has a 1×1 window;
    - DRAIN, POOL: `table` is at most `tables`;
    - LOAD: to TBL only where there are tables;
    - LOAD, STORE: `offset` and `dram_pitch` are multiples of bus_bytes;
    - LOAD to WGT, PAR or TBL: `local`, `local_pitch` and `length` are multiples of bus_bytes.

    Addresses on chip wrap modulo the memory's size, as in hardware; the compiler's checker
    (`host/check.py`) refuses programs that rely on it.
    """
    opcode = instruction.opcode
    peers = len(PEERS[instruction.unit]) if instruction.unit is not None else 0
    for name in ("wait", "post"):
        if getattr(instruction, name) >> (2 * peers):
            raise IsaError(f"{opcode.name}.{name} names a peer that does not exist")
    if opcode in (Opcode.DRAIN, Opcode.POOL):
        if instruction.reduce == Reduce.NONE and (instruction.ry, instruction.rx) != (1, 1):
            raise IsaError(f"{opcode.name} without reduction needs a 1×1 window")
        if instruction.table > config.tables:
            raise IsaError(
                f"{opcode.name}.table must be at most {config.tables}, the tables that "
                f"{config.name} has, not {instruction.table}"
            )
    if opcode == Opcode.LOAD and instruction.memory == Memory.TBL and not config.tables:
        raise IsaError(f"LOAD.memory cannot be TBL: {config.name} has no tables")
    bus = config.bus_bytes
    if opcode in (Opcode.LOAD, Opcode.STORE):
        names = ["offset", "dram_pitch"]
        if opcode == Opcode.LOAD and instruction.memory != Memory.ACT:
            names += ["local", "local_pitch", "length"]
        for name in names:
            if getattr(instruction, name) % bus:
                raise AlignmentError(
                    f"{opcode.name}.{name} must be a multiple of {bus} bytes, "
                    f"not {getattr(instruction, name)}"
                )


def channel_step(instruction: Instruction, config: Config) -> int:
    """ACT bytes from one channel of a DRAIN's or POOL's result to the next."""
    if instruction.opcode != Opcode.DRAIN:
        return 1
    return 1 + config.act_lanes * instruction.dst_jump
