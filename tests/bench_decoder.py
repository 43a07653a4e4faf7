"""Bench of the decoder: a table of words, each checked against the golden classification."""

import os
import random
from dataclasses import replace

import cocotb
from weft.hdl.config import PRESETS
from weft.hdl.decoder import DECODED
from weft.hdl.fetch_unit import FETCHED
from weft.hdl.isa import FORMATS, INSTRUCTION_BITS, Instruction, Opcode, layout
from weft.hdl.registers import Error
from weft.host.timing.fetch import DECODE_LATENCY
from weft.host.traps import classify
from weft.tb.bench import STALLS, StreamSink, StreamSource

from .bench_common import restart

CONFIG = replace(PRESETS[os.environ["WEFT_CONFIG"]], tables=int(os.environ["WEFT_TABLES"]))


def legal(rng: random.Random, opcode: Opcode) -> int:
    """A random instruction that may at most be misaligned or name missing peers."""
    fields = {
        entry.name: rng.choice(
            (entry.minimum, entry.maximum, rng.randint(entry.minimum, entry.maximum))
        )
        for entry in FORMATS[opcode][1:]
    }
    if rng.random() < 0.7:
        fields["wait"] = fields["post"] = 0
    if "table" in fields and rng.random() < 0.8:
        fields["table"] = rng.randint(0, CONFIG.tables)
    bus = CONFIG.bus_bytes
    for name in ("offset", "dram_pitch", "local", "local_pitch", "length"):
        if name in fields and rng.random() < 0.9:
            fields[name] = max(fields[name] // bus * bus, bus if name == "length" else 0)
    return int.from_bytes(Instruction(opcode, fields).encode(), "little")


def words() -> list[int]:
    """Every boundary of every field, single bit flips of legal words, and noise."""
    rng = random.Random(7)
    out = [rng.getrandbits(INSTRUCTION_BITS) for _ in range(64)]
    out += [opcode | rng.getrandbits(60) << 4 for opcode in range(16) for _ in range(4)]
    for opcode in Opcode:
        default = int.from_bytes(Instruction(opcode).encode(), "little")
        if opcode in (Opcode.LOAD, Opcode.STORE):
            default = int.from_bytes(
                Instruction(opcode, {"length": CONFIG.bus_bytes}).encode(), "little"
            )
        out += [default ^ 1 << bit for bit in range(INSTRUCTION_BITS)]
        for entry, at in layout(opcode):
            mask = (1 << entry.bits) - 1
            for value in (0, 1, 2, 3, mask // 2, mask // 2 + 1, mask - 1, mask):
                out.append(default & ~(mask << at) | (value & mask) << at)
        for _ in range(60):
            word = legal(rng, opcode)
            out += [word, word ^ 1 << rng.randrange(INSTRUCTION_BITS)]
    return out


async def exchange(dut, stall: str, table: list[int]):
    """Pass the table through; returns the cycles of the inputs, and the outputs."""
    idle, backpressure = STALLS[stall]
    cycles = await restart(dut)
    source = StreamSource(dut, "i", cycles, FETCHED, idle=idle)
    sink = StreamSink(dut, "o", cycles, DECODED, backpressure=backpressure)
    items = [{"word": word, "pc": i & 0xFFFFFF, "end": 0} for i, word in enumerate(table)]
    items.append({"word": table[0], "pc": len(table), "end": 1})
    sending = cocotb.start_soon(source.send(items))
    received = await sink.receive(len(items))
    return await sending, received


@cocotb.test()
async def every_word_has_its_code(dut):
    table = words()
    expected = [classify(word.to_bytes(32, "little"), CONFIG) for word in table]
    for code in (Error.NONE, Error.OPCODE, Error.RESERVED, Error.FIELD, Error.ALIGNMENT):
        assert expected.count(code) >= 50, f"the table has few words with {code.name}"
    sent, received = await exchange(dut, "none", table)
    for i, (word, code) in enumerate(zip(table, expected, strict=True)):
        payload = received[i][1]
        assert payload["error"] == code, f"{word:064x}: {payload['error']}, not {code.name}"
        assert (payload["word"], payload["pc"]) == (word, i)
    assert received[-1][1]["error"] == Error.PROGRAM_END
    assert received[-1][1]["pc"] == len(table)
    assert [cycle for cycle, _ in received] == [cycle + DECODE_LATENCY for cycle in sent]


@cocotb.test()
async def stalls_lose_nothing(dut):
    table = words()[::9]
    expected = [classify(word.to_bytes(32, "little"), CONFIG) for word in table]
    for stall in STALLS:
        _, received = await exchange(dut, stall, table)
        assert [payload["error"] for _, payload in received[:-1]] == expected, stall
        assert [payload["pc"] for _, payload in received] == list(range(len(table) + 1)), stall
