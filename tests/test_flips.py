"""Bit flips in the state of a running machine."""

from __future__ import annotations

import random

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.registers import REGISTERS
from weft.tb import fast
from weft.tb.session import START, await_rest, prepare

from .flips import Fate, Flip, Sampler, Subject, library, windows

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(TINY)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(TINY, 0)


def element(sampler: Sampler, name: str) -> fast.Element:
    """The register or memory whose name ends so."""
    found = [e for all_ in sampler.elements.values() for e in all_ if e.name.endswith(name)]
    assert len(found) == 1
    return found[0]


def test_every_bit_has_a_place(sampler):
    """The memories' sizes are known; what no other place takes would be in the last one."""
    assert sampler.bits["ACT"] == 8 * TINY.act_bytes
    assert sampler.bits["WGT"] == 8 * TINY.wgt_bytes
    assert sampler.bits["ACC"] == 32 * TINY.acc_depth * TINY.cols
    assert sampler.bits["PAR"] == 8 * TINY.par_bytes
    assert "other" not in sampler.bits
    assert sum(sampler.bits.values()) > 515_000


def test_a_flip_happens_in_its_cycle(sampler, subject):
    """A counter counts on from what the flip made of it, in the cycle that it names."""
    counter = element(sampler, ".counters.cycles")
    high = Flip(counter, 0, 20, 30)
    _, result = subject.execute(high)
    assert result.counters["CYCLES"] == subject.cycles + (1 << 20)
    for cycle in range(30, 34):  # the lowest bit: one more, or one fewer
        _, result = subject.execute(Flip(counter, 0, 0, cycle))
        assert result.counters["CYCLES"] == subject.cycles + (-1 if (cycle - 1) % 2 else 1)


def test_bursts_outside_the_windows_are_seen(subject):
    """The unharmed program, while one window is said to be smaller than the host set it."""
    session = prepare(TINY, subject.program.job)
    machine = fast.FastMachine(library(TINY))
    texts = []
    for shrunk in range(5):
        machine.map(*session.regions)
        for i, (base, size) in enumerate(windows(session)):
            machine.window(base, 8 if i == shrunk else size, writable=i > 0)
        for name, value in session.setup:
            machine.write(REGISTERS[name].address, value)
        machine.write(REGISTERS["CONTROL"].address, START, start=True)
        assert await_rest(machine, 100_000)
        texts.append(machine.escape)
    machine.close()
    assert texts[0].startswith("AR, cycle 3: 128 bytes from 2147483648")
    assert sum(bool(text) for text in texts) >= 3


#: Parts of the names of registers on the way of an address, from the host to the bus.
ADDRESSES = (
    *(".registers.program_", ".registers.const_", ".registers.output_", ".frontend.fetch."),
    *(".load_unit.splitter.", ".store_unit.splitter.", ".write_engine.bursts."),
    *(".read_engine.address.", ".write_engine.address.", ".write_engine.whole"),
)


@pytest.mark.parametrize("seed", [0, 2])
def test_no_flip_of_an_address_leaves_the_windows(sampler, seed):
    subject, rng = Subject(TINY, seed), random.Random(seed)
    everything = [hit for hits in sampler.elements.values() for hit in hits]
    for part in ADDRESSES:
        for _ in range(12):
            hit = rng.choice([e for e in everything if part in e.name])
            word, bit = rng.randrange(hit.words), rng.randrange(hit.bits)
            check(subject, Flip(hit, word, bit, rng.randrange(1, subject.cycles)))


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_no_flip_hangs_the_machine_or_leaves_the_windows(sampler, seed):
    subject, rng = Subject(TINY, seed), random.Random(seed)
    for name in sampler.bits:
        for _ in range(3):
            check(subject, sampler.draw(name, subject.cycles, rng))


def check(subject: Subject, flip: Flip) -> None:
    """What must be so whatever flips."""
    outcome = subject.run(flip)
    assert not outcome.escape, f"{flip}: {outcome.escape}"
    assert outcome.fate != Fate.HANG, f"{flip}"
