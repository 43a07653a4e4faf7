"""Instruction streams as text, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    PEERS,
    UNIT_OF,
    Instruction,
    IsaError,
    Opcode,
    Segment,
    Unit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .program import Program

_SEMAPHORE_FIELDS = ("wait", "post", "weight_wait", "weight_post")


def disassemble(code: bytes) -> Iterator[str]:
    """One line of assembly per instruction; a word that does not decode becomes a comment."""
    for at in range(0, len(code), INSTRUCTION_BYTES):
        word = code[at : at + INSTRUCTION_BYTES]
        try:
            yield str(Instruction.decode(word)).rstrip()
        except IsaError as error:
            yield f"; {word.hex()}: {error}"


def listing(program: Program) -> str:
    """The program as a numbered listing, with its segments and the ends of its layers."""
    sizes = ", ".join(
        f"{segment.name} {size:,}" for segment, size in zip(Segment, program.sizes, strict=True)
    )
    at_once = f", {program.batch} images at a time" if program.batch > 1 else ""
    lines = [f"; {program.name} for {program.config.name}{at_once}", f"; bytes: {sizes}"]
    ends: dict[tuple[int, int], list[str]] = {}
    for layer in program.layers:
        for end in layer.ends:
            text = f"end of {layer.kind} {layer.name}"
            ends.setdefault((layer.run, end), []).append(text)
    calls = [(call.after, f"the host computes {call.graph.name}") for call in program.calls]
    digits = len(str(len(program.code) // INSTRUCTION_BYTES - 1))
    run = vectors = 0
    lines += [f"; {text}" for after, text in calls if after == 0]
    for index, line in enumerate(disassemble(program.code)):
        lines.append(f"{index:>{digits}}  {line}")
        if line.split(" ", 1)[0] in _VECTOR_NAMES:
            vectors += 1
            lines += [f"; {text}" for text in ends.get((run, vectors), ())]
        elif line.startswith(Opcode.END.name):
            run, vectors = run + 1, 0
            lines += [f"; {text}" for after, text in calls if after == run]
    return "\n".join(lines)


_VECTOR_NAMES = {opcode.name for opcode, unit in UNIT_OF.items() if unit == Unit.VECTOR}


def assemble(text: str) -> bytes:
    """Encode assembly as :func:`disassemble` writes it.

    One instruction a line: the opcode, then ``field=value`` for the fields that differ from their
    defaults. ``;`` starts a comment, and a number before the opcode is ignored.

    Raises
    ------
    IsaError
        A line that is no instruction; says which.
    """
    code = b""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(";", 1)[0].split()
        if words and words[0].isdecimal():
            del words[0]
        if words:
            try:
                code += _instruction(words).encode()
            except IsaError as error:
                raise IsaError(f"line {number}: {error}") from error
    return code


def _instruction(words: list[str]) -> Instruction:
    if words[0] not in Opcode.__members__:
        raise IsaError(f"no opcode {words[0]!r}")
    opcode = Opcode[words[0]]
    values = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals or name in values:
            raise IsaError(f"{word!r} is not one field=value")
        values[name] = _value(opcode, name, value)
    return Instruction(opcode, values)


def _value(opcode: Opcode, name: str, text: str) -> int:
    kinds = {entry.name: entry.kind for entry in FORMATS[opcode]}
    kind = kinds.get(name)
    if kind is not None and text.upper() in kind.__members__:
        return kind[text.upper()]
    if name in _SEMAPHORE_FIELDS and not text.isdecimal():
        unit = Unit.WEIGHT if name.startswith("weight") else UNIT_OF.get(opcode)
        return _mask(unit, text)
    try:
        return int(text, 0)
    except ValueError:
        raise IsaError(f"{opcode.name}.{name} cannot be {text!r}") from None


def _mask(unit: Unit | None, text: str) -> int:
    """The semaphore set in `text`, such as ``load.0+vector.1``."""
    bits = {
        f"{peer.name.lower()}.{k}": 1 << (2 * at + k)
        for at, peer in enumerate(PEERS[unit] if unit is not None else ())
        for k in (0, 1)
    }
    mask = 0
    for name in text.split("+"):
        if name not in bits:
            raise IsaError(f"no semaphore {name!r}; there are {', '.join(bits) or 'none'}")
        mask |= bits[name]
    return mask
