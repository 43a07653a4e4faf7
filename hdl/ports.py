"""Signatures between the units: what crosses each boundary, and the latencies that bind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .isa import FORMATS, Opcode, Segment
from .registers import Error

if TYPE_CHECKING:
    from .config import Config

#: Cycles from an ACT read request to its data.
ACT_READ_LATENCY = 5
#: Cycles from a WGT or PAR read request to its data.
ROW_READ_LATENCY = 2
#: Cycles from VECTOR's ACC read request to its data.
ACC_READ_LATENCY = 3
#: Cycles from an ACT write with jumps to its data.
JUMP_LEAD = 2
#: Cycles from a change of such writes' `jump` to the first one that may use it.
JUMP_SETUP = 3
#: Width of a program offset counted in instructions.
PC_BITS = 24
#: Width of an error code.
ERROR_BITS = max(Error).bit_length()
#: Width of a segment's number.
SEGMENT_BITS = max(Segment).bit_length()
#: Width of an ACT byte address in an instruction.
ACT_ADDR_BITS = 20


def instruction_layout(*opcodes: Opcode) -> data.Layout:
    """Fields of one opcode's format (a struct), or of several (a union of structs by name), at the
    bits where the encoding has them, so that a raw instruction word can be viewed through it.
    """

    def one(opcode: Opcode) -> data.StructLayout:
        return data.StructLayout(
            {f.name: signed(f.bits) if f.signed else unsigned(f.bits) for f in FORMATS[opcode]}
        )

    if len(opcodes) == 1:
        return one(opcodes[0])
    return data.UnionLayout({opcode.name.lower(): one(opcode) for opcode in opcodes})


class UnitPort(wiring.Signature):
    """How a unit gets instructions and reports back; from the unit's side.

    Members
    -------
    instr
        Head of the unit's queue: `payload.word` viewed through :func:`instruction_layout` and
        `payload.pc`. `valid` says that there is one, whether or not its semaphores are ready, so a
        unit may look ahead. The unit asserts `ready` for the one cycle in which the instruction
        starts, only while `valid & go`.
    go
        Every semaphore of the head's wait set is non-zero. `ready` decrements them.
    post
        Post set of the instruction that completes in this cycle, else 0.
    done
        An instruction completes in this cycle.
    busy
        An instruction has started and not completed (registered; includes the cycle after `ready`
        up to and including the cycle of `done`).
    stall
        While busy: waiting for the bus (or for weights) in this cycle.
    """

    def __init__(self, *opcodes: Opcode):
        payload = data.StructLayout({"word": instruction_layout(*opcodes), "pc": PC_BITS})
        super().__init__(
            {
                "instr": In(stream.Signature(payload)),
                "go": In(1),
                "post": Out(8),
                "done": Out(1),
                "busy": Out(1),
                "stall": Out(1),
            }
        )


class ActRead(wiring.Signature):
    """A read port of ACT, from the reader's side: a window of `width` bytes a cycle.

    In the cycle of `en`: lane i of `width` reads byte `base + i + A · jump[i]` (modulo the memory)
    where `mask[i]`, else takes `fill`. `data` is valid ACT_READ_LATENCY cycles later, in lane
    order. `jump` exists only where `jumps` is set, and is counted in words of A = act_lanes bytes.
    """

    def __init__(self, config: Config, width: int, *, jumps: bool = False):
        members = {
            "en": Out(1),
            "base": Out(ACT_ADDR_BITS),
            "mask": Out(width),
            "fill": Out(8),
            "data": In(data.ArrayLayout(8, width)),
        }
        if jumps:
            members["jump"] = Out(data.ArrayLayout((config.act_words - 1).bit_length(), width))
        super().__init__(members)


class ActWrite(wiring.Signature):
    """A write port of ACT, from the writer's side: lane i writes byte `base + i` if `mask[i]`.

    With `jumps` it writes byte `base + i · (1 + A · jump)`, A = act_lanes, and `data` follows
    JUMP_LEAD cycles after the rest; `jump` is to be stable from JUMP_SETUP cycles before a write
    until its data.

    A read requested in the cycle of the data or later sees the write.
    """

    def __init__(self, config: Config, width: int, *, jumps: bool = False):
        members = {
            "en": Out(1),
            "base": Out(ACT_ADDR_BITS),
            "mask": Out(width),
            "data": Out(data.ArrayLayout(8, width)),
        }
        if jumps:
            members["jump"] = Out((config.act_words - 1).bit_length())
        super().__init__(members)


class RowRead(wiring.Signature):
    """A read port of WGT or PAR, from the reader's side: `data` comes ROW_READ_LATENCY later."""

    def __init__(self, rows: int, row_bytes: int):
        super().__init__(
            {"en": Out(1), "addr": Out((rows - 1).bit_length()), "data": In(8 * row_bytes)}
        )


class BeatWrite(wiring.Signature):
    """A write port of WGT, PAR or TBL, from the writer's side: one bus beat with byte strobes.

    `addr` counts beats. A read requested in the cycle after or later sees the write.
    """

    def __init__(self, beats: int, bus_bytes: int):
        super().__init__(
            {
                "en": Out(1),
                "addr": Out((beats - 1).bit_length()),
                "strobe": Out(bus_bytes),
                "data": Out(8 * bus_bytes),
            }
        )


class AccRead(wiring.Signature):
    """VECTOR's read port of ACC: lane i of `data` is column `group · vector_lanes + i` of entry
    `addr`, ACC_READ_LATENCY cycles after `en`.
    """

    def __init__(self, config: Config):
        groups = config.cols // config.vector_lanes
        super().__init__(
            {
                "en": Out(1),
                "addr": Out((config.acc_depth - 1).bit_length()),
                "group": Out(max(1, (groups - 1).bit_length())),
                "data": In(data.ArrayLayout(32, config.vector_lanes)),
            }
        )


class Segments(wiring.Signature):
    """The DRAM windows, from the control block's side: base address and size of each segment."""

    def __init__(self, config: Config):
        super().__init__(
            {
                "base": Out(data.ArrayLayout(config.addr_bits, 4)),
                "size": Out(data.ArrayLayout(32, 4)),
            }
        )


class Fault(wiring.Signature):
    """An error report, from the reporter's side; `valid` pulses."""

    def __init__(self):
        super().__init__({"valid": Out(1), "code": Out(ERROR_BITS), "pc": Out(PC_BITS)})


class BurstRequest(data.StructLayout):
    """A burst: first address, beats minus one, segment, and the instruction it is for."""

    def __init__(self, config: Config):
        super().__init__(
            {"addr": config.addr_bits, "len": 8, "segment": SEGMENT_BITS, "pc": PC_BITS}
        )


class BeatReturn(wiring.Signature):
    """Read data on its way to FETCH or LOAD (no back-pressure), from the read engine's side."""

    def __init__(self, config: Config):
        super().__init__(
            {"valid": Out(1), "data": Out(config.bus_bits), "last": Out(1), "error": Out(1)}
        )
