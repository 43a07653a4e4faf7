"""What stops a machine before any datapath is involved: illegal words and semaphores."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    PEERS,
    SEMAPHORE_MAX,
    SEMAPHORES,
    AlignmentError,
    Instruction,
    IsaError,
    Opcode,
    Unit,
    check,
)
from ..hdl.registers import Error

if TYPE_CHECKING:
    from ..hdl.config import Config


class Trap(Exception):
    """An instruction that stops the machine."""

    def __init__(self, error: Error):
        super().__init__(error.name)
        self.error = error


def classify(word: bytes, config: Config) -> Error:
    """What the decoder says to one instruction: NONE, or the error that it traps with.

    Where several apply the first of OPCODE, RESERVED, FIELD, ALIGNMENT is reported.
    """
    value = int.from_bytes(word, "little")
    if value & 0xF not in set(Opcode):
        return Error.OPCODE
    opcode = Opcode(value & 0xF)
    if value >> sum(entry.bits for entry in FORMATS[opcode]):
        return Error.RESERVED
    try:
        check(Instruction.decode(word), config)
    except AlignmentError:
        return Error.ALIGNMENT
    except IsaError:
        return Error.FIELD
    return Error.NONE


@lru_cache(maxsize=16)
def decode(code: bytes, config: Config) -> tuple[tuple[Instruction | None, Error], ...]:
    """The stream up to END or the first illegal instruction (None with its error)."""
    out: list[tuple[Instruction | None, Error]] = []
    for at in range(0, len(code), INSTRUCTION_BYTES):
        word = code[at : at + INSTRUCTION_BYTES]
        error = classify(word, config)
        instruction = Instruction.decode(word) if error == Error.NONE else None
        out.append((instruction, error))
        if instruction is None or instruction.opcode == Opcode.END:
            break
    return tuple(out)


class Semaphores:
    """The counting semaphores, taken and given in program order."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SEMAPHORES, 0)

    def wait(self, unit: Unit, mask: int) -> None:
        """Take `mask`; one that is zero would never be posted, so the watchdog would bite."""
        taken = [
            (peer, unit, k)
            for i, peer in enumerate(PEERS[unit])
            for k in (0, 1)
            if mask >> (2 * i + k) & 1
        ]
        if any(self.counts[key] == 0 for key in taken):
            raise Trap(Error.WATCHDOG)
        for key in taken:
            self.counts[key] -= 1

    def post(self, unit: Unit, mask: int) -> None:
        """Give `mask`."""
        for i, peer in enumerate(PEERS[unit]):
            for k in (0, 1):
                if mask >> (2 * i + k) & 1:
                    key = (unit, peer, k)
                    if self.counts[key] == SEMAPHORE_MAX:
                        raise Trap(Error.SEMAPHORE_OVERFLOW)
                    self.counts[key] += 1
