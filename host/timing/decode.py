"""Decoding a whole program at once: every field of every instruction, by NumPy."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from ...hdl.isa import FORMATS, INSTRUCTION_BYTES, Instruction, Opcode, layout

_WORDS = INSTRUCTION_BYTES // 8


class _Format(NamedTuple):
    """One opcode's fields, behind the opcode: where they are, and which values are legal."""

    names: list[str]
    word: np.ndarray
    shift: np.ndarray
    mask: np.ndarray
    sign: np.ndarray  # weight of the sign bit; 0 where there is none
    least: np.ndarray
    most: np.ndarray
    reserved: np.ndarray  # by word, bits that must be 0


@cache
def _format(opcode: Opcode) -> _Format:
    fields = list(layout(opcode))[1:]
    used = sum(entry.bits for entry in FORMATS[opcode])
    reserved = ~((1 << used) - 1)
    unsigned = np.uint64
    return _Format(
        [entry.name for entry, _ in fields],
        np.array([at // 64 for _, at in fields]),
        np.array([at % 64 for _, at in fields], unsigned),
        np.array([(1 << entry.bits) - 1 for entry, _ in fields], unsigned),
        np.array([entry.signed << entry.bits - 1 for entry, _ in fields]),
        np.array([entry.minimum for entry, _ in fields]),
        np.array([entry.maximum for entry, _ in fields]),
        np.array([reserved >> 64 * i & (1 << 64) - 1 for i in range(_WORDS)], unsigned),
    )


def decode(code: bytes) -> list[Instruction]:
    """What :meth:`Instruction.decode` gives for each instruction of `code`, about 3 times as fast.

    Raises
    ------
    IsaError
        The program is not legal.
    """
    out: list[Instruction] = [None] * (len(code) // INSTRUCTION_BYTES)  # type: ignore[list-item]
    if len(code) % INSTRUCTION_BYTES:
        return _one_by_one(code)
    words = np.zeros((len(out), _WORDS + 1), np.uint64)  # a field may reach into the next word
    words[:, :_WORDS] = np.frombuffer(code, "<u8").reshape(-1, _WORDS)
    opcodes = words[:, 0] & np.uint64((1 << FORMATS[Opcode.END][0].bits) - 1)
    for number in np.unique(opcodes):
        if number not in FORMATS:
            return _one_by_one(code)
        opcode = Opcode(int(number))
        where = np.flatnonzero(opcodes == number)
        mine, form = words[where], _format(opcode)
        high = mine[:, form.word + 1] << (np.uint64(63) - form.shift) << np.uint64(1)
        values = ((mine[:, form.word] >> form.shift | high) & form.mask).astype(np.int64)
        values -= (values & form.sign) << 1
        if (
            (values < form.least).any()
            or (values > form.most).any()
            or (mine[:, :_WORDS] & form.reserved).any()
        ):
            return _one_by_one(code)
        for at, row in zip(where.tolist(), values.tolist(), strict=True):
            fields = dict(zip(form.names, row, strict=True))
            instruction = object.__new__(Instruction)  # its checks are those above
            instruction.__dict__.update(opcode=opcode, fields=fields)
            out[at] = instruction
    return out


def _one_by_one(code: bytes) -> list[Instruction]:
    """The slow way, which says what is wrong."""
    return [
        Instruction.decode(code[at : at + INSTRUCTION_BYTES])
        for at in range(0, len(code), INSTRUCTION_BYTES)
    ]
