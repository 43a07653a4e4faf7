"""Programs anywhere in the address space: far bases, large offsets, windows larger than needed."""

from __future__ import annotations

import random
from dataclasses import replace

from weft.hdl.config import Config
from weft.hdl.isa import INSTRUCTION_BYTES, Instruction, Opcode, Segment
from weft.host.device import Job
from weft.tb.session import PAGE, Session, prepare

_SIZE_BITS = 32


def scattered(
    config: Config, job: Job, seed: int, *, watchdog: int = 0, tight: int = False
) -> Session:
    """`job`, a legal program, at random pages; its cycles and what it computes stay the same.

    Each segment's window begins anywhere below its contents; the offsets of LOADs and STOREs grow
    by as much. The window ends with its contents or, unless `tight`, anywhere above.
    """
    rng = random.Random(seed)
    top = 1 << config.addr_bits
    names = ["PROGRAM", *(segment.name for segment in Segment)]
    sizes = [len(job.code), *(len(part) for part in job.segments)]
    taken: list[range] = []
    places, shifts = {}, {}
    setup = []
    for name, size in zip(names, sizes, strict=True):
        room = -(-size // PAGE) * PAGE + PAGE
        while True:
            most = min(top, 1 << rng.randint(max(16, room.bit_length()), config.addr_bits))
            at = rng.randrange(0, most - room, PAGE)
            if not any(at < r.stop and r.start < at + room for r in taken):
                break
        taken.append(range(at, at + room))
        below = min(at, (1 << _SIZE_BITS) - room - PAGE)
        shift = 0 if name == "PROGRAM" else rng.choice((below, rng.randrange(below + 1)))
        shift = shift // PAGE * PAGE
        base, needed = at - shift, shift + size
        if name != "PROGRAM" and not tight and rng.random() < 0.5:
            needed = rng.randrange(needed, min(1 << _SIZE_BITS, top - base))
        places[name], shifts[name] = at, shift
        setup += [
            (f"{name}_LO", base & 0xFFFF_FFFF),
            (f"{name}_HI", base >> 32),
            (f"{name}_SIZE", needed),
        ]
    code = b"".join(
        _moved(job.code[at : at + INSTRUCTION_BYTES], shifts)
        for at in range(0, len(job.code), INSTRUCTION_BYTES)
    )
    session = prepare(config, replace(job, code=code), watchdog=watchdog)
    contents = [bytearray(code.ljust(-(-len(code) // PAGE) * PAGE, b"\0")), *session.windows]
    regions = [
        (places[name], part) for name, part in zip(names, contents, strict=True) if len(part)
    ]
    chosen = {name for name, _ in setup}
    others = [(name, value) for name, value in session.setup if name not in chosen]
    return replace(session, regions=regions, setup=[*setup, *others])


def _moved(word: bytes, shifts: dict[str, int]) -> bytes:
    """An instruction whose offset counts from its segment's new base."""
    instruction = Instruction.decode(word)
    if instruction.opcode not in (Opcode.LOAD, Opcode.STORE):
        return word
    shift = shifts[Segment(instruction.segment).name]
    fields = {**instruction.fields, "offset": instruction.offset + shift}
    return Instruction(instruction.opcode, fields).encode()
