"""No input hangs the machine: whatever is wrong ends in its error, and the next program is exact.

Contracts: "Faults" in ``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from weft.hdl.config import PRESETS, Config, load
from weft.hdl.isa import (
    FORMATS,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    PEERS,
    UNIT_OF,
    Instruction,
    Memory,
    Opcode,
    Reduce,
    Segment,
    Unit,
    layout,
    post_bit,
    wait_bit,
)
from weft.hdl.registers import Error
from weft.host.device import Job
from weft.host.golden import GoldenDevice, classify
from weft.tb.memory_model import Channel

from .faults import (
    Bench,
)
from .gemm import Gemm, encode

#: Rows are not columns, and addresses are as wide as they can be.
ODD = load(Path(__file__).with_name("configs") / "odd.toml")
CONFIGS = {config.name: config for config in (PRESETS["tiny"], ODD)}
WATCHDOG = 600
STUCK = 0


@pytest.fixture(scope="module", params=CONFIGS)
def bench(request) -> Iterator[Bench]:
    """A machine on a memory without stalls."""
    opened = Bench(CONFIGS[request.param])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tiny() -> Iterator[Bench]:
    """The 4×4 machine."""
    opened = Bench(PRESETS["tiny"])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def stalling() -> Iterator[Bench]:
    """The 4×4 machine on a memory that stalls at random."""
    opened = Bench(PRESETS["tiny"], latency=9, stalls=3)
    yield opened
    opened.close()


def change(instruction: Instruction, **values: int) -> Instruction:
    """The instruction with other fields."""
    return replace(instruction, fields={**instruction.fields, **values})


def story(gemm: Gemm) -> tuple[list[Instruction], Job]:
    """The product, then a LOAD and a STORE of two rows of several bursts each."""
    config = gemm.config
    bus, local = config.bus_bytes, 2 * config.act_bank_bytes
    beats = config.burst_beats + 6
    fields = {"rows": 2, "local": local, "local_pitch": beats * bus}
    incoming = Instruction(
        Opcode.LOAD,
        {
            **fields, "segment": Segment.INPUT, "offset": 512, "length": beats * bus - 3,
            "dram_pitch": 1024, "post": post_bit(Unit.LOAD, Unit.STORE, 0),
        },
    )  # fmt: skip
    outgoing = Instruction(
        Opcode.STORE,
        {
            **fields, "segment": Segment.SCRATCH, "length": 20 * bus + 1, "dram_pitch": 512,
            "wait": wait_bit(Unit.STORE, Unit.LOAD, 0),
        },
    )  # fmt: skip
    program = [*gemm.program[:-1], incoming, outgoing, gemm.program[-1]]
    const, act, output, _ = gemm.job().segments
    image = bytes((7 * i + 3) & 0xFF for i in range(4096))
    return program, Job(encode(*program), (const, act + image, output, bytes(2048)))


def golden(config: Config, job: Job) -> tuple[Error, int]:
    """What the golden machine says of a program."""
    result = GoldenDevice(config).run(job)
    return result.error, result.error_pc


# -- malformed instructions --------------------------------------------------------------------


def legal(opcode: Opcode) -> Instruction:
    """An instruction of `opcode` that would do no harm."""
    return Instruction(opcode, {"memory": Memory.ACT} if opcode == Opcode.LOAD else {})


def undefined_opcodes() -> Iterator[tuple[bytes, Error]]:
    for opcode in set(range(16)) - set(Opcode):
        yield opcode.to_bytes(INSTRUCTION_BYTES, "little"), Error.OPCODE
        yield (
            (opcode | ~0xF & (1 << INSTRUCTION_BITS) - 1).to_bytes(INSTRUCTION_BYTES, "little"),
            Error.OPCODE,
        )


def reserved_bits() -> Iterator[tuple[bytes, Error]]:
    for opcode in Opcode:
        word = int.from_bytes(legal(opcode).encode(), "little")
        for bit in range(sum(entry.bits for entry in FORMATS[opcode]), INSTRUCTION_BITS):
            yield (word | 1 << bit).to_bytes(INSTRUCTION_BYTES, "little"), Error.RESERVED


def illegal_values(opcode: Opcode) -> Iterator[tuple[str, int]]:
    """Every field that has encodings which are not legal by themselves, with those next to the
    legal ones, the farthest ones, and all of an enumeration's.
    """
    unit = UNIT_OF.get(opcode)
    peers = 2 * len(PEERS[unit]) if unit is not None else 0
    for entry in FORMATS[opcode]:
        if entry.name == "opcode":
            continue
        if entry.name in ("wait", "post"):
            yield from ((entry.name, 1 << bit) for bit in range(peers, entry.bits))
            continue
        lowest = -(1 << entry.bits - 1) if entry.signed else 0
        highest = (1 << entry.bits - entry.signed) - 1
        values = {*range(lowest, entry.minimum)} if entry.minimum - lowest < 9 else set()
        if entry.kind is not None:
            values |= set(range(entry.maximum + 1, highest + 1))
        elif entry.maximum < highest:
            values |= {entry.maximum + 1, highest}
        yield from ((entry.name, value) for value in sorted(values))


def raw(instruction: Instruction, **values: int) -> bytes:
    """The instruction with values in its fields that it would refuse itself."""
    word = int.from_bytes(instruction.encode(), "little")
    for entry, at in layout(instruction.opcode):
        if entry.name in values:
            mask = (1 << entry.bits) - 1
            word = word & ~(mask << at) | (values[entry.name] & mask) << at
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def illegal_fields() -> Iterator[tuple[bytes, Error]]:
    for opcode in Opcode:
        for name, value in illegal_values(opcode):
            yield raw(legal(opcode), **{name: value}), Error.FIELD
    for opcode in (Opcode.DRAIN, Opcode.POOL):
        for window in ({"ry": 2}, {"rx": 2}, {"ry": 15, "rx": 15}):
            yield Instruction(opcode, {"reduce": Reduce.NONE, **window}).encode(), Error.FIELD


def misaligned(config: Config) -> Iterator[tuple[bytes, Error]]:
    steps = {1, config.bus_bytes // 2, config.bus_bytes - 1, config.bus_bytes + 1}
    for step in sorted(steps):
        for opcode in (Opcode.LOAD, Opcode.STORE):
            for name in ("offset", "dram_pitch"):
                yield Instruction(opcode, {name: step}).encode(), Error.ALIGNMENT
        for memory in set(Memory) - {Memory.ACT}:
            base = {"memory": memory, "length": config.bus_bytes}
            for name in ("local", "local_pitch", "length"):
                yield Instruction(Opcode.LOAD, {**base, name: step}).encode(), Error.ALIGNMENT


def test_every_field_with_illegal_values_is_among_them():
    """Whatever value is drawn: it is legal, or its kind of illegality is tested."""
    for opcode in Opcode:
        tested = {name for name, _ in illegal_values(opcode)}
        for entry in FORMATS[opcode][1:]:
            span = 1 << entry.bits
            every = span == entry.maximum - entry.minimum + 1
            sets = entry.name in ("wait", "post") and opcode != Opcode.LOAD
            assert (entry.name in tested) == (sets or not every), (opcode, entry.name)


@pytest.mark.parametrize(
    "words",
    [undefined_opcodes, reserved_bits, illegal_fields, misaligned],
    ids=lambda f: f.__name__,
)
def test_malformed_instruction(bench, words):
    """Alone, where it is reported at once; every one of its kind."""
    count = 0
    for word, error in words(bench.config) if words is misaligned else words():
        assert classify(word, bench.config) == error
        outcome = bench.run(bench.gemm.job_of(word + Instruction(Opcode.END).encode()))
        assert outcome.error == (error, 0), word.hex()
        bench.check_stopped(outcome)
        assert not (outcome.traffic[:, 1] == Channel.W).any()
        assert bench.reset() == 0
        count += 1
        if count % 16 == 0:
            bench.check_known()
    bench.check_known()
    assert count > 10


@pytest.mark.parametrize("place", range(7))
def test_malformed_instruction_in_a_program(bench, place):
    """Everything before it has happened, nothing after it."""
    for words in (undefined_opcodes, reserved_bits, illegal_fields):
        word, error = list(words())[place]
        code = bytearray(bench.gemm.job().code)
        code[32 * place : 32 * place + 32] = word
        job = bench.gemm.job_of(bytes(code))
        outcome = bench.run(job)
        expected = GoldenDevice(bench.config).run(job)
        assert outcome.error == (error, 32 * place) == (expected.error, expected.error_pc)
        assert outcome.result.segments == expected.segments
        assert set(outcome.pcs.values()) == {32 * place}
        bench.check_stopped(outcome)
        bench.check_recovery()
