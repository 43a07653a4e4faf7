"""Runs that begin as if most of a long program were behind them.

No test executes 2^24 instructions or counts to 2^32. Instead the registers that count are set, just
behind START, to what they would hold then; from there on everything must go on as from 0.
"""

from __future__ import annotations

import re

from weft.hdl.fetch_unit import FETCH_BURST
from weft.hdl.isa import INSTRUCTION_BYTES, Instruction, Opcode, Segment, Unit, post_bit
from weft.hdl.ports import PC_BITS
from weft.hdl.registers import REGISTERS, Error
from weft.host.device import Job
from weft.tb.fast import Element
from weft.tb.session import COUNTERS

from . import reach
from .faults import Bench, Outcome
from .gemm import encode

#: Instructions of the programs.
LENGTH = 256
#: How many of them come before half of all program counters.
BEFORE = (32, 128)


def check(bench: Bench) -> None:
    """Program counters take all their values, and counters start again at 0."""
    posts = {"segment": Segment.INPUT, "post": post_bit(Unit.LOAD, Unit.MATMUL, 0)}
    too_many = encode(Instruction(Opcode.LOAD, posts)) * LENGTH
    programs = {
        Error.NONE: reach.long(bench.config, LENGTH),
        Error.SEMAPHORE_OVERFLOW: Job(too_many, (bytes(64),) * 4),
    }
    for error, job in programs.items():
        early = run(bench, job)
        assert early.result.error == error
        for before in BEFORE:
            skipped = (1 << PC_BITS - 1) - before
            late = run(bench, job, skipped)
            check_alike(early, late, skipped * INSTRUCTION_BYTES)
    bench.reset(hard=True)


def run(bench: Bench, job: Job, skipped: int = 0) -> Outcome:
    """Run a program, with `skipped` instructions of no effect before it, and counters to match."""
    bench.reset(hard=True)
    bench.prepare(job)
    offset = skipped * INSTRUCTION_BYTES
    bench.place_program(1 << bench.config.addr_bits - 1, offset + len(job.code), job.code, offset)
    bench.go()
    burst = FETCH_BURST * INSTRUCTION_BYTES
    fetched = {  # by their bits; those that are always 0 are not there after synthesis
        bench.config.addr_bits: offset,
        bench.config.addr_bits - (burst - 1).bit_length(): offset // burst,
        PC_BITS: skipped,
        PC_BITS - (FETCH_BURST - 1).bit_length(): skipped // FETCH_BURST,
    }
    for element in bench.machine.elements() if skipped else ():
        name = element.name.strip()
        if re.search(r"control_block\.counters\.", name):
            add(bench, element, -2)
        elif re.search(r"frontend\.(fetch\.|dispatch\.pc$)", name) and element.bits in fetched:
            remains = name.endswith((".left", ".remaining"))
            add(bench, element, (-1 if remains else 1) * fetched[element.bits])
    return bench.finish()


def add(bench: Bench, element: Element, value: int) -> None:
    """Add `value` to a register, modulo its range."""
    old = int.from_bytes(bench.machine.contents(element)[0].tobytes(), "little")
    new = (old + value) % (1 << element.bits)
    for bit in range(element.bits):
        if (old ^ new) >> bit & 1:
            bench.machine.invert(element, 0, bit)


def check_alike(early: Outcome, late: Outcome, offset: int) -> None:
    """The two runs differ in counters and in program counters, which are `offset` bytes apart."""
    assert late.status == early.status
    assert late.result.segments == early.result.segments
    assert (late.result.retired == early.result.retired).all()
    for name in COUNTERS:
        expected = (early.result.counters[name] - 2) % (1 << REGISTERS[name].bits)
        assert late.result.counters[name] == expected, name
    assert late.pcs == {unit: pc + offset for unit, pc in early.pcs.items()}
    assert late.result.error == early.result.error
    if early.result.error:
        assert late.result.error_pc == early.result.error_pc + offset
