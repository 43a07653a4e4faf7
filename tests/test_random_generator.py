"""What random programs reach: every field at its edges, every semaphore, every sort of address.

That the programs run alike everywhere is tested in ``test_random_programs.py``; this is so that
they cannot become tame without anyone noticing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import (
    FORMATS,
    PEERS,
    SEMAPHORE_MAX,
    SEMAPHORES,
    Instruction,
    Memory,
    Opcode,
    Segment,
    Unit,
)
from weft.host.check import check
from weft.host.disasm import assemble
from weft.host.regions import RegionError, WrappedRegion, accesses

from .draws import ENTRY_BYTES, FREE
from .programs import Generator
from .side_by_side import completion_order

TINY = PRESETS["tiny"]
PROGRAMS = 1000
#: Greatest values where the format has room for more than these programs use, and why.
_WINDOWS = "windows of the random programs are small; greater ones are in EXTREMES"
GREATEST = {
    ("END", "wait"): (0, "END waits for nothing"),
    ("END", "post"): (0, "END posts nothing"),
    ("LOAD", "offset"): (3 * ENTRY_BYTES - 64, _WINDOWS),
    ("STORE", "offset"): (3 * ENTRY_BYTES - 64, _WINDOWS),
    ("LOAD", "length"): (16_000, _WINDOWS),
    ("STORE", "length"): (16_000, _WINDOWS),
    ("LOAD", "dram_pitch"): ((1 << 24) - TINY.bus_bytes, "a multiple of bus_bytes"),
    ("STORE", "dram_pitch"): ((1 << 24) - TINY.bus_bytes, "a multiple of bus_bytes"),
    ("MATMUL", "kc"): (1000, "65,535 take as many cycles; they are in EXTREMES"),
    ("DRAIN", "table"): (TINY.tables, "the tables there are"),
    ("POOL", "table"): (TINY.tables, "the tables there are"),
}  # fmt: skip
_MASKS = ("wait", "post", "weight_wait", "weight_post")


@pytest.fixture(scope="module")
def programs():
    generator = Generator(TINY)
    return [generator.program(seed) for seed in range(PROGRAMS)]


@pytest.fixture(scope="module")
def values(programs) -> dict[tuple[str, str], Counter[int]]:
    """How often each value of each field occurs."""
    seen: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for program in programs:
        for instruction in program.instructions:
            for name, value in instruction.fields.items():
                seen[instruction.opcode.name, name][value] += 1
    return seen


@pytest.mark.parametrize(
    ("opcode", "entry"),
    [
        (o, e)
        for o, entries in FORMATS.items()
        for e in entries
        if e.name not in (*_MASKS, "opcode")
    ],
    ids=lambda x: x.name,
)
def test_fields_reach_their_edges_and_what_lies_between(values, opcode, entry):
    seen = values[opcode.name, entry.name]
    most, _ = GREATEST.get((opcode.name, entry.name), (entry.maximum, ""))
    assert min(seen) == entry.minimum
    assert most <= max(seen) <= entry.maximum
    if most == entry.maximum:
        assert seen[most] >= 1
    between = [value for value in seen if entry.minimum < value < most]
    assert len(between) >= min(5, most - entry.minimum - 1)


def test_every_free_field_is_drawn_at_random():
    for opcode, entries in FREE.items():
        names = {entry.name for entry in FORMATS[opcode]} - {entry.name for entry in entries}
        assert names <= {
            "opcode",
            *_MASKS,
            "memory",
            "segment",
            "table",
            "reduce",
            "residual",
            "accumulate",
        }


def test_opcodes_follow_each_other_in_every_order(programs):
    pairs = Counter((a.opcode, b.opcode) for p in programs for a, b in pairwise(p.instructions))
    units = [opcode for opcode in Opcode if opcode != Opcode.END]
    missing = {(a, b) for a in units for b in units} - {*pairs}
    assert not missing
    assert {length for p in programs if (length := len(p.instructions)) < 4} == {1, 2, 3}
    assert max(len(p.instructions) for p in programs) > 2 * SEMAPHORE_MAX


def test_every_semaphore_is_used_alone_and_with_others(programs):
    taken: Counter[tuple] = Counter()
    together = 0
    fullest = 0
    for program in programs:
        counts: Counter[tuple] = Counter()
        for instruction in program.instructions:
            for unit, wait, post in _parts(instruction):
                waits = _keys(unit, wait, consumer=True)
                together += len(waits) > 2
                counts.subtract(waits)
                taken.update(waits)
                counts.update(_keys(unit, post, consumer=False))
            fullest = max(fullest, *counts.values(), 0)
    assert {*taken} == {*SEMAPHORES}
    assert min(taken.values()) >= 10
    assert together >= 10
    assert fullest == SEMAPHORE_MAX


def _parts(i: Instruction) -> list[tuple[Unit, int, int]]:
    if i.opcode == Opcode.MATMUL:
        return [(Unit.WEIGHT, i.weight_wait, i.weight_post), (Unit.MATMUL, i.wait, i.post)]
    return [] if i.unit is None else [(i.unit, i.wait, i.post)]


def _keys(unit: Unit, mask: int, *, consumer: bool) -> list[tuple[Unit, Unit, int]]:
    return [
        (peer, unit, k) if consumer else (unit, peer, k)
        for at, peer in enumerate(PEERS[unit])
        for k in (0, 1)
        if mask >> (2 * at + k) & 1
    ]


def test_addresses_of_every_sort(programs):
    """Wrapped around in every memory by every unit, rounded, several bursts, ragged ends, …"""
    seen: Counter[tuple | str] = Counter()
    for program in programs:
        sizes = [len(segment) for segment in program.job.segments]
        for i in program.instructions:
            touched = accesses(i, TINY, strict=False)
            for access in touched:
                if isinstance(access.region, WrappedRegion):
                    seen["wraps", access.unit, access.region.memory, access.write] += 1
            try:
                accesses(i, TINY)
            except RegionError as error:
                seen["rounded"] += "rounded" in str(error)
            if i.opcode in (Opcode.LOAD, Opcode.STORE):
                beats = -(-i.length // TINY.bus_bytes)
                seen[i.opcode, "bursts"] += beats > 2 * (
                    TINY.burst_beats if i.opcode == Opcode.LOAD else 16
                )
                end = i.offset + (i.rows - 1) * i.dram_pitch + i.length
                seen[i.opcode, "ragged end"] += end == sizes[i.segment] and end % TINY.bus_bytes > 0
                seen[i.opcode, "page"] += i.offset // 4096 != (i.offset + i.length - 1) // 4096
                seen[i.opcode, "rows overlap"] += i.rows > 1 and i.local_pitch < i.length
                seen[i.opcode, "rows overlap in DRAM"] += i.rows > 1 and i.dram_pitch < i.length
                seen[i.opcode, Segment(i.segment)] += 1
            elif i.opcode == Opcode.MATMUL:
                seen["padding only"] += not any(
                    a.unit == Unit.MATMUL and not a.write for a in touched
                )
                seen["sums meet"] += i.blocks * i.oy * i.ox > TINY.acc_depth
            elif i.unit == Unit.VECTOR:
                seen["results meet"] += not next(a.region for a in touched if a.write).injective
                if i.opcode == Opcode.DRAIN and i.residual:
                    seen["in place"] += i.res == i.dst
    wraps = [
        (Unit.LOAD, Memory.ACT.name, True), (Unit.LOAD, "WGT", True), (Unit.LOAD, "PAR", True),
        (Unit.LOAD, "TBL", True), (Unit.STORE, "ACT", False), (Unit.WEIGHT, "WGT", False),
        (Unit.MATMUL, "ACT", False), (Unit.MATMUL, "ACC", True), (Unit.VECTOR, "ACT", False),
        (Unit.VECTOR, "ACT", True), (Unit.VECTOR, "PAR", False), (Unit.VECTOR, "ACC", False),
    ]  # fmt: skip
    transfers = [
        (opcode, what)
        for opcode in (Opcode.LOAD, Opcode.STORE)
        for what in (
            "bursts",
            "ragged end",
            "page",
            "rows overlap",
            "rows overlap in DRAM",
            *Segment,
        )
    ]
    wanted = [("wraps", *key) for key in wraps] + transfers
    wanted += ["rounded", "padding only", "sums meet", "results meet", "in place"]
    assert not {key: seen[key] for key in wanted if seen[key] < 4}


def test_sizes_around_the_dimensions(values):
    for opcode, name, size in (
        (Opcode.MATMUL, "kc", TINY.rows),
        (Opcode.MATMUL, "ox", TINY.rows),
        (Opcode.DRAIN, "channels", TINY.vector_lanes),
        (Opcode.POOL, "channels", TINY.vector_lanes),
        (Opcode.LOAD, "length", TINY.bus_bytes),
        (Opcode.STORE, "length", TINY.bus_bytes),
    ):
        seen = values[opcode.name, name]
        assert all(seen[value] >= 5 for value in (1, size - 1, size, size + 1, 7, 13)), name


def test_memory_of_every_character(programs):
    """All −128, all 127, mostly zero, anything; other sizes than whole pages."""
    seen: Counter[str] = Counter()
    for program in programs:
        for segment in program.job.segments[1:]:
            shares = Counter(segment)
            value, count = shares.most_common(1)[0]
            seen[
                f"only {value}"
                if count == len(segment)
                else "sparse"
                if count > len(segment) / 2
                else "any"
            ] += 1
            seen["ragged"] += len(segment) % TINY.bus_bytes != 0
    assert {*seen} >= {"only 128", "only 127", "sparse", "any"}
    assert min(seen[key] for key in ("only 128", "only 127", "sparse", "any", "ragged")) > 50


def test_the_same_seed_gives_the_same_program():
    """Whatever came before it."""
    one, other = Generator(TINY), Generator(TINY)
    other.program(99_999)
    assert one.program(70) == other.program(70)
    assert one.program(71) != other.program(70)


@pytest.mark.parametrize("name", ["small", "default", "large"])
def test_other_machines(name):
    config = PRESETS[name]
    generator = Generator(config)
    for seed in range(30):
        program = generator.program(seed)
        sizes = [len(segment) for segment in program.job.segments]
        check(program.job.code, config, sizes, strict=False)


def test_completion_order_is_that_of_the_tokens():
    """A LOAD that posts to a MATMUL, which posts to a STORE: what comes too early, is missing, …"""
    code = assemble(
        "LOAD post=matmul.0\nMATMUL wait=load.0 post=store.1\nSTORE wait=matmul.1\nLOAD\nEND"
    )
    program = tuple(Instruction.decode(code[at : at + 32]) for at in range(0, len(code), 32))
    good = [
        (10, Unit.LOAD),
        (15, Unit.WEIGHT),
        (40, Unit.MATMUL),
        (50, Unit.STORE),
        (60, Unit.LOAD),
    ]

    def wrong(*events: tuple[int, Unit]) -> list[str]:
        return completion_order(program, np.array(sorted(events)))

    assert wrong(*good) == []
    assert wrong((45, Unit.LOAD), *good[1:]) == ["MATMUL 0 completed before its token"]
    assert wrong(*good[:3], (40, Unit.STORE), good[4]) == ["STORE 0 completed before its token"]
    assert wrong(*good[:4]) == ["LOAD completed 1 instructions only"]
    assert wrong(*good, (70, Unit.VECTOR)) == ["VECTOR completed too many instructions"]
