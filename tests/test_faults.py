"""No input hangs the machine: whatever is wrong ends in its error, and the next program is exact.

Contracts: "Faults" in ``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from weft.hdl.config import Config
from weft.hdl.isa import (
    FORMATS,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    PEERS,
    SEMAPHORE_MAX,
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
from weft.host.golden import classify
from weft.tb.memory_model import Channel

from . import reach
from .campaigns import broken as campaign
from .faults import change, check_same, golden, oldest, windows
from .gemm import encode

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
        for reduce in (Reduce.MAX, Reduce.SUM):
            for name in ("ry", "rx"):
                yield raw(Instruction(opcode, {"reduce": reduce}), **{name: 0}), Error.FIELD


def misaligned(config: Config) -> Iterator[tuple[bytes, Error]]:
    steps = {1, config.bus_bytes // 2, config.bus_bytes - 1, config.bus_bytes + 1}
    for step in sorted(steps):
        for opcode in (Opcode.LOAD, Opcode.STORE):
            for name in ("offset", "dram_pitch"):
                yield Instruction(opcode, {name: step}).encode(), Error.ALIGNMENT
        for memory in set(Memory) - {Memory.ACT}:
            base = {"memory": memory, "length": config.bus_bytes}
            absent = memory == Memory.TBL and not config.tables
            error = Error.FIELD if absent else Error.ALIGNMENT
            for name in ("local", "local_pitch", "length"):
                yield Instruction(Opcode.LOAD, {**base, name: step}).encode(), error


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
        assert outcome.error == (error, 32 * place) == check_same(bench, job, outcome)
        assert set(outcome.pcs.values()) == {32 * place}
        bench.check_stopped(outcome)
        bench.check_recovery()


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_no_end(bench, count):
    """The program ends without END; its last instructions complete."""
    job = bench.gemm.job_of(encode(*bench.gemm.program[:count]))
    outcome = bench.run(job)
    assert outcome.error == (Error.PROGRAM_END, 32 * count) == check_same(bench, job, outcome)
    bench.check_stopped(outcome)
    bench.check_recovery()


# -- windows -----------------------------------------------------------------------------------

SIZE = 1024


def transfer(opcode: Opcode, segment: Segment, **fields: int) -> Job:
    """One LOAD, or one that fills ACT and a STORE, and END; every segment has SIZE bytes."""
    program = [Instruction(opcode, {"segment": segment, **fields}), Instruction(Opcode.END)]
    if opcode == Opcode.STORE:
        post = post_bit(Unit.LOAD, Unit.STORE, 0)
        filling = {"segment": Segment.INPUT, "length": SIZE, "post": post}
        program[0] = change(program[0], wait=wait_bit(Unit.STORE, Unit.LOAD, 0))
        program.insert(0, Instruction(Opcode.LOAD, filling))
    contents = bytes(i * 7 & 0xFF for i in range(SIZE))
    return Job(encode(*program), (contents, contents, contents, contents))


def edges(bus: int) -> list[tuple[dict[str, int], bool]]:
    """Fields of a transfer, and whether it stays in a window of SIZE bytes."""
    top, far = (1 << 32) - bus, (1 << 24) - bus
    return [
        ({"offset": 0, "length": 1}, True),
        ({"offset": 0, "length": SIZE}, True),
        ({"offset": 0, "length": SIZE + 1}, False),
        ({"offset": SIZE - bus, "length": bus - 1}, True),
        ({"offset": SIZE - bus, "length": bus}, True),
        ({"offset": SIZE - bus, "length": bus + 1}, False),
        ({"offset": SIZE, "length": 1}, False),
        ({"offset": SIZE + bus, "length": 1}, False),
        ({"offset": 0, "length": bus, "rows": SIZE // bus, "dram_pitch": bus}, True),
        ({"offset": bus, "length": bus, "rows": SIZE // bus, "dram_pitch": bus}, False),
        ({"offset": 0, "length": bus + 1, "rows": SIZE // bus, "dram_pitch": bus}, False),
        ({"offset": 0, "length": SIZE, "rows": 9, "dram_pitch": 0}, True),
        ({"offset": 0, "length": (1 << 20) - 1}, False),
        # Sums of offset, length and pitch that would lie in the window modulo 2^32, or 2^24.
        ({"offset": top, "length": 1}, False),
        ({"offset": top, "length": bus + 1}, False),
        ({"offset": top, "length": bus, "rows": 2, "dram_pitch": bus}, False),
        ({"offset": top, "length": bus, "rows": 4095, "dram_pitch": far}, False),
        ({"offset": 0, "length": bus, "rows": 4095, "dram_pitch": far}, False),
        ({"offset": 0, "length": bus, "rows": 257, "dram_pitch": 1 << 23}, False),
        ({"offset": 1 << 31, "length": bus, "rows": 257, "dram_pitch": 1 << 23}, False),
        # A second row that is just outside, by every bit of the pitch.
        *(
            ({"offset": max(0, SIZE - pitch), "length": 1, "rows": 2, "dram_pitch": pitch}, False)
            for pitch in (1 << bit for bit in range((bus - 1).bit_length(), 24))
        ),
    ]


@pytest.mark.parametrize("segment", list(Segment), ids=lambda s: s.name)
@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE], ids=lambda o: o.name)
def test_window_edges(bench, opcode, segment):
    """A byte too many anywhere is an error, and no burst of the row that has it is issued."""
    place = 32 * (opcode == Opcode.STORE)
    for fields, inside in edges(bench.config.bus_bytes):
        job = transfer(opcode, segment, **fields)
        outcome = bench.run(job)
        assert check_same(bench, job, outcome, memory=inside) == outcome.error
        if inside:
            assert outcome.error == (Error.NONE, 0), fields
            continue
        assert outcome.error == (Error.WINDOW, place), fields
        bench.check_stopped(outcome)
        channel = Channel.AR if opcode == Opcode.LOAD else Channel.AW
        base = windows(bench.config, job)[segment.name]
        for address in outcome.traffic[outcome.traffic[:, 1] == channel, 2].tolist():
            if base <= address < base + 4096:
                assert address + bench.config.bus_bytes <= base + SIZE
        assert bench.reset() == 0
    bench.check_known()


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE], ids=lambda o: o.name)
def test_window_edges_anywhere(bench, opcode):
    """The same where windows are far larger and lie anywhere in the address space."""
    near = [(f, inside) for f, inside in edges(bench.config.bus_bytes) if f["offset"] <= 2 * SIZE]
    for place in range(1, 9):
        for fields, inside in near:
            job = transfer(opcode, Segment.SCRATCH, **fields)
            outcome = bench.run(job, place=place, tight=True)
            assert check_same(bench, job, outcome, memory=inside) == outcome.error, fields
            assert (outcome.error[0] == Error.NONE) == inside, fields
            assert not bench.machine.escape
            assert bench.reset() == 0
    bench.check_known()


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE], ids=lambda o: o.name)
def test_windows_without_memory_or_beyond_the_address_space(bench, opcode):
    """A window that the memory does not fill ends in a bus error, beyond 2^addr_bits in WINDOW."""
    bus, top = bench.config.bus_bytes, 1 << bench.config.addr_bits
    bus_error = Error.READ_BUS if opcode == Opcode.LOAD else Error.WRITE_BUS
    for base, offset, length, error in (
        (top - 4096, 0, 4096, bus_error),
        (top - 4096, 4096 - bus, bus, bus_error),
        (top - 4096, 4096 - bus, bus + 1, Error.WINDOW),
        (top - 4096, 4096, 1, Error.WINDOW),
        (top - 4096, (1 << 32) - bus, bus - 1, Error.WINDOW),
        (0, (1 << 32) - bus, bus - 1, bus_error),
    ):
        fields = {"segment": Segment.SCRATCH, "offset": offset, "length": length}
        program = [Instruction(opcode, fields), Instruction(Opcode.END)]
        bench.prepare(bench.gemm.job(*program))
        bench.write("SCRATCH_LO", base & 0xFFFF_FFFF)
        bench.write("SCRATCH_HI", base >> 32)
        bench.write("SCRATCH_SIZE", 0xFFFF_FFFF)
        bench.go()
        outcome = bench.finish()
        assert outcome.error == (error, 0), (hex(base), offset, length)
        bench.check_stopped(outcome)
        bench.check_recovery()


def test_program_at_the_top_of_the_address_space(bench):
    """A window that goes on beyond 2^addr_bits has the instructions up to there."""
    job, top = bench.gemm.job(), 1 << bench.config.addr_bits
    end = encode(Instruction(Opcode.END, {"tag": 5}))
    load = encode(Instruction(Opcode.LOAD, {"segment": Segment.INPUT})) * 127
    for code, error in (
        (load + end, (Error.NONE, 0)),
        (load + load[:32], (Error.PROGRAM_END, 4096)),
    ):
        for size in (4096, 8192, 1 << 28):
            bench.prepare(job)
            bench.place_program(top - 4096, size, code)
            bench.go()
            assert bench.finish().error == error
            assert bench.reset() == 0
    bench.check_known()


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE], ids=lambda o: o.name)
def test_errors_far_into_a_program(tiny_bench, opcode):
    """The program counter that is reported has all its bits."""
    bench = tiny_bench
    bus_error = Error.READ_BUS if opcode == Opcode.LOAD else Error.WRITE_BUS
    for offset, error in ((4096, Error.WINDOW), (0, bus_error)):
        program = reach.long(bench.config, 1 << 15)
        index = (len(program.code) // INSTRUCTION_BYTES - 2) // 4 * 4  # bits 2 to 14 are 1
        fields = {"segment": Segment.SCRATCH, "offset": offset}
        code = program.code[: index * INSTRUCTION_BYTES] + encode(
            Instruction(opcode, fields), Instruction(Opcode.END)
        )
        bench.prepare(replace(program, code=code))
        bench.write("SCRATCH_LO", (1 << 32) - 4096)
        bench.write("SCRATCH_SIZE", 4096)
        bench.go()
        outcome = bench.finish(1 << 20)
        assert outcome.error == (error, index * INSTRUCTION_BYTES)
        bench.check_stopped(outcome)
        bench.check_recovery()


# -- which error -------------------------------------------------------------------------------


def unposted() -> Iterator[tuple[Unit, Instruction]]:
    """For each unit and each of its semaphores, an instruction that waits for it."""
    for opcode, unit in UNIT_OF.items():
        for bit in range(2 * len(PEERS[unit])):
            yield unit, Instruction(opcode, {"wait": 1 << bit})
    for bit in range(2):
        yield Unit.WEIGHT, Instruction(Opcode.MATMUL, {"weight_wait": 1 << bit})


@pytest.mark.parametrize("place", [0, 3, 6])
def test_semaphore_that_is_never_posted(bench, place):
    """The watchdog names the instruction that waits, though others were dispatched after it."""
    program = bench.gemm.program
    if place == 3:  # before anything takes what the LOADs post
        program = [change(load, post=0) for load in program[:3]] + program[3:]
    seen = set()
    for unit, waiting in unposted():
        stuck = [*program[:place], waiting, *[legal(Opcode.STORE)] * 2, program[-1]]
        job = bench.gemm.job(*stuck)
        outcome = bench.run(job, watchdog=200)
        assert outcome.error == (Error.WATCHDOG, 32 * place)
        assert golden(bench, job) == outcome.error
        assert outcome.pcs[unit] == 32 * place
        assert outcome.error[1] == oldest(stuck, outcome)
        bench.check_stopped(outcome)
        assert bench.reset() == 0
        seen.add((unit, waiting.wait or waiting.weight_wait))
    assert len(seen) == 2 * sum(len(peers) for peers in PEERS.values())
    bench.check_known()


def test_semaphores_left_and_overflowing(bench):
    """Every semaphore: one post too few taken, and one more than it can count."""
    for unit, peers in PEERS.items():
        for bit in range(2 * len(peers)):
            post = {"weight_post" if unit == Unit.WEIGHT else "post": 1 << bit}
            executes = Unit.MATMUL if unit == Unit.WEIGHT else unit
            opcode = next(o for o, u in UNIT_OF.items() if u == executes)
            giving = change(legal(opcode), **post)
            for count, error in ((1, Error.SEMAPHORE_LEFT), (64, Error.SEMAPHORE_OVERFLOW)):
                job = bench.gemm.job(*[giving] * count, Instruction(Opcode.END))
                outcome = bench.run(job)
                place = count if error == Error.SEMAPHORE_LEFT else SEMAPHORE_MAX
                assert outcome.error == (error, 32 * place), (unit, bit)
                assert golden(bench, job) == outcome.error
                bench.check_stopped(outcome)
                assert bench.reset() == 0
    bench.check_known()


def test_the_first_error_in_program_order_wins(bench):
    """Errors of the program are reported in its order, whichever unit meets its own first."""
    gemm = bench.gemm
    program = gemm.program
    outside = {"offset": 1 << 20}
    bad_store = change(program[5], **outside)
    bad_load = change(program[0], **outside, post=0)
    stuck = Instruction(Opcode.DRAIN, {"wait": 1})
    undefined = bytes(32)
    end = program[-1]
    cases = [
        ([*program[:5], bad_store, bad_load, end], (Error.WINDOW, 5)),
        ([*program[:6], bad_load, end], (Error.WINDOW, 6)),
        ([*program[:6], stuck, bad_load, end], (Error.WATCHDOG, 6)),
        ([*program[:6], stuck, undefined], (Error.WATCHDOG, 6)),
        ([*program[:6], bad_load, stuck, undefined], (Error.WINDOW, 6)),
        ([*program[:5], bad_store, undefined], (Error.WINDOW, 5)),
        ([*program[:6], undefined, bad_load, end], (Error.OPCODE, 6)),
        ([*program[:6], stuck], (Error.WATCHDOG, 6)),
        ([*program[:6], bad_load, bad_load, bad_load, end], (Error.WINDOW, 6)),
        ([program[0], bad_load, end], (Error.WINDOW, 1)),
        ([program[0], end], (Error.SEMAPHORE_LEFT, 1)),
    ]
    for words, (error, place) in cases:
        code = b"".join(w if isinstance(w, bytes) else w.encode() for w in words)
        job = gemm.job_of(code)
        outcome = bench.run(job, watchdog=500)
        assert outcome.error == (error, 32 * place)
        assert check_same(bench, job, outcome) == outcome.error
        bench.check_stopped(outcome)
        bench.check_recovery()


def test_bank_conflict(bench):
    """STORE reads the bank that MATMUL reads, without a semaphore between them."""
    program = bench.gemm.program
    matmul = change(program[3], oy=512, height=512, ox=1, post=0)
    store = change(program[5], wait=0, local=0)
    outcome = bench.run(bench.gemm.job(*program[:2], matmul, *[store] * 3, program[-1]))
    error, pc = outcome.error
    assert error == Error.BANK_CONFLICT
    assert pc // 32 in (3, 4, 5)
    bench.check_stopped(outcome)
    bench.check_recovery()


def test_random_broken_programs():
    """Some of the runs of `make verify`, on both of its machines."""
    errors, wrong = campaign.check(range(180, 300))
    assert not wrong, wrong[0]
    assert len(errors) > 5
    assert errors["WATCHDOG"] > 5
