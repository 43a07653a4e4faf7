"""Where LeNet's cycles go: the table in docs/architecture.md, from the timing model.

usage: python tools/account.py [--write]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from weft.hdl.config import PRESETS
from weft.hdl.isa import INSTRUCTION_BYTES, Instruction, Opcode, Unit
from weft.host import compiler, lenet
from weft.host.timing.machine import predict
from weft.host.timing.matmul import done_cycle

if TYPE_CHECKING:
    from weft.host.program import Program

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
BLOCK = re.compile(r"(?<=<!-- account -->\n).*?(?=<!-- /account -->)", re.DOTALL)


def spans(program: Program, latency: int) -> list[tuple[int, int]]:
    """For each MATMUL instruction: its first vector's cycle, and the first cycle after its tiles.

    A tile of M vectors occupies the array for max(M, rows) cycles.
    """
    config = program.config
    retired = predict(config, program.code, latency=latency).retired
    done = [int(cycle) for cycle, unit in retired if unit == Unit.MATMUL]
    code = program.code
    decoded = [
        Instruction.decode(code[at : at + INSTRUCTION_BYTES])
        for at in range(0, len(code), INSTRUCTION_BYTES)
    ]
    out = []
    for cycle, i in zip(done, [i for i in decoded if i.opcode == Opcode.MATMUL], strict=True):
        vectors = i.oy * i.ox
        interval = max(vectors, config.rows)
        tiles = -(-i.ky * i.kx * i.kc // config.rows) * i.blocks
        last = cycle - done_cycle(config, 0) - (vectors - 1)  # the last tile's first vector
        out.append((last - (tiles - 1) * interval, last + interval))
    return out


def account(program: Program, latency: int = 50) -> str:
    """The table: per layer, cycles in which the array streams tiles, and those before that."""
    prediction = predict(program.config, program.code, latency=latency)
    code = program.code
    vectors = [int(cycle) for cycle, unit in prediction.retired if unit == Unit.VECTOR]
    opcodes = [
        Instruction.decode(code[at : at + INSTRUCTION_BYTES]).opcode
        for at in range(0, len(code), INSTRUCTION_BYTES)
    ]
    array = spans(program, latency)
    assert opcodes.count(Opcode.MATMUL) == opcodes.count(Opcode.DRAIN) == len(array)
    lines = [
        "| Layer | waits for its input | array streams | last result | bound | MACs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    before = first = waited = streamed = 0
    for layer in program.layers:
        mine = array[first : layer.ends[0]]
        first = layer.ends[0]
        wait = stream = 0
        for start, end in mine:
            wait, stream, before = wait + start - before, stream + end - start, end
        waited, streamed = waited + wait, streamed + stream
        lines.append(
            f"| {layer.name} | {wait:,} | {stream:,} | {vectors[first - 1]:,} "
            f"| {layer.bound_cycles:,} | {layer.macs:,} |"
        )
    end = prediction.cycles
    bound = sum(layer.bound_cycles for layer in program.layers)
    lines += [
        f"| drain, STORE, END | {end - before:,} | | {end:,} | | |",
        f"| total | {waited + end - before:,} | {streamed:,} | {end:,} | {bound:,} "
        f"| {program.macs:,} |",
    ]
    return "\n".join(lines) + "\n"


def lenet_account() -> str:
    """The account of LeNet on the default machine at latency 50."""
    config = PRESETS["default"]
    return account(compiler.compile(lenet.quantized(config).graph, config))


if __name__ == "__main__":
    table = lenet_account()
    if "--write" in sys.argv[1:]:
        PAGE.write_text(BLOCK.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), "utf-8")
    else:
        print(table, end="")
