"""Random programs that read nothing that they did not write."""

from __future__ import annotations

from weft.hdl.config import Config
from weft.hdl.isa import Instruction, Memory, Opcode, Segment
from weft.hdl.numerics import PARAMETER_BYTES

from .programs import Generator, RandomProgram

SEMAPHORES = ("wait", "post", "weight_wait", "weight_post")


def filling(config: Config) -> list[tuple[Opcode, dict[str, int]]]:
    """Instructions that write every byte of every memory; they repeat a 4 KiB window."""

    def load(memory: Memory, size: int, part: int, segment: Segment) -> tuple[Opcode, dict]:
        part = min(part, size)
        fields = {"memory": memory, "segment": segment, "length": part, "local_pitch": part}
        return Opcode.LOAD, {**fields, "rows": size // part}

    entries = min(128, config.par_entries)
    steps = [
        load(Memory.ACT, config.act_bytes, 4096, Segment.INPUT),
        load(Memory.WGT, config.wgt_bytes, 4096, Segment.INPUT),
        load(Memory.PAR, config.par_bytes, entries * PARAMETER_BYTES, Segment.CONST),
    ]
    if config.tables:
        steps.append(load(Memory.TBL, config.tbl_bytes, 4096, Segment.INPUT))
    for half in (0, 1):
        rows = config.acc_half // 16
        fields = {"acc": half * config.acc_half, "oy": rows, "ox": 16, "kc": config.rows}
        fields |= {"height": 2047, "width": 2047, "pixel_pitch": 4, "row_pitch": 64}
        steps.append((Opcode.MATMUL, fields))
    return steps


def filled_program(config: Config, seed: int) -> RandomProgram:
    """A random program that first writes all memories."""
    generator = Generator(config)

    def bare(instruction: Instruction) -> tuple[Opcode, dict[str, int]]:
        fields = {k: v for k, v in instruction.fields.items() if k not in SEMAPHORES}
        return instruction.opcode, fields

    body = [bare(i) for i in generator.program(seed, most=8).instructions[:-1]]
    return generator.assemble(seed, [*filling(config), *body])
