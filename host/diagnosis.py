"""What stopped a machine, in one sentence for its user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hdl.isa import INSTRUCTION_BYTES, Instruction, IsaError, check
from ..hdl.registers import ERRORS

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .device import Result


def diagnosis(
    result: Result, code: bytes = b"", config: Config | None = None, *, first: int = 0
) -> str:
    """The error, the instruction that it is about, what it means and what to do about it.

    Parameters
    ----------
    result
        Of a run that ended in an error.
    code
        What was run; without it the instruction is named by its number alone.
    config
        The machine, to tell what is wrong with an instruction that is not legal for it.
    first
        Number of the first instruction in `code`, where that is a part of a program.
    """
    info = ERRORS[result.error]
    place = f"instruction {first + result.error_pc // INSTRUCTION_BYTES}"
    word = code[result.error_pc : result.error_pc + INSTRUCTION_BYTES]
    shown = f" ({_show(word, config)})" if word else ""
    unanswered = ", and the bus has not answered all that it was asked" * result.bus_open
    return (
        f"the machine stopped with {result.error.name} at {place}{shown}: "
        f"{info.meaning}{unanswered}; {info.advice}"
    )


def _show(word: bytes, config: Config | None) -> str:
    """An instruction as assembly, with what is wrong with it, if anything."""
    try:
        instruction = Instruction.decode(word)
    except IsaError as error:
        return str(error)
    text = " ".join(str(instruction).split())
    try:
        if config is not None:
            check(instruction, config)
    except IsaError as error:
        return f"{text}: {error}"
    return text
