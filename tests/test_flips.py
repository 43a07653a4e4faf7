"""Bit flips in the state of a running machine."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Memory, Opcode, Segment, Unit
from weft.hdl.numerics import Parameter
from weft.hdl.registers import REGISTERS, Error
from weft.host.device import Job
from weft.host.timing.machine import predict
from weft.tb import fast
from weft.tb.memory_model import Options
from weft.tb.session import START, await_rest, prepare

from .faults import Bench
from .filled import filled_program
from .flips import (
    Fate,
    Flip,
    Outcome,
    Sampler,
    Subject,
    check_address_registers,
    check_guard,
    library,
    network,
    random_program,
    windows,
)
from .programs import Generator

TINY = replace(PRESETS["tiny"], name="tiny with parity", parity=True)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(TINY)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return random_program(TINY, 0)


def element(sampler: Sampler, name: str) -> fast.Element:
    """The register or memory whose name ends so."""
    found = [e for all_ in sampler.elements.values() for e in all_ if e.name.endswith(name)]
    assert len(found) == 1
    return found[0]


def test_every_bit_has_a_place(sampler):
    """The memories' sizes are known; what no other place takes would be in the last one."""
    assert sampler.bits["ACT"] == 9 * TINY.act_bytes
    assert sampler.bits["WGT"] == 9 * TINY.wgt_bytes
    assert sampler.bits["ACC"] == 33 * TINY.acc_depth * TINY.cols
    assert sampler.bits["PAR"] == 9 * TINY.par_bytes
    assert sampler.bits["tables"] == 9 * TINY.tbl_bytes * TINY.vector_lanes
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
        assert result.counters["CYCLES"] == subject.cycles + (-1 if cycle % 2 else 1)


def test_bursts_outside_the_windows_are_seen(subject):
    """The unharmed program, while one window is said to be smaller than the host set it."""
    session = prepare(TINY, subject.job)
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
    *(".write_engine.some_whole", ".write_engine.some_sending"),
)


@pytest.mark.parametrize("seed", [0, 2])
def test_no_flip_of_an_address_leaves_the_windows(sampler, seed):
    subject, rng = random_program(TINY, seed), random.Random(seed)
    everything = [hit for hits in sampler.elements.values() for hit in hits]
    for part in ADDRESSES:
        for _ in range(12):
            hit = rng.choice([e for e in everything if part in e.name])
            word, bit = rng.randrange(hit.words), rng.randrange(hit.bits)
            check(subject, Flip(hit, word, bit, rng.randrange(1, subject.cycles)))


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_no_flip_hangs_the_machine_or_leaves_the_windows(sampler, seed):
    subject, rng = random_program(TINY, seed), random.Random(seed)
    for name in sampler.bits:
        for _ in range(3):
            check(subject, sampler.draw(name, subject.cycles, rng))


def check(subject: Subject, flip: Flip) -> None:
    """What must be so whatever flips."""
    outcome = subject.run(flip)
    assert not outcome.escape, f"{flip}: {outcome.escape}"
    assert outcome.fate != Fate.HANG, f"{flip}"


def test_no_flip_in_an_address_register_shows():
    """Neither on the bus, nor in a counter, nor in the result."""
    machine = fast.FastMachine(library(TINY))
    assert check_address_registers(Bench(TINY, machine=machine)) > 250
    machine.close()


def test_the_guard_refuses_what_leaves_its_window():
    machine = fast.FastMachine(library(TINY))
    check_guard(Bench(TINY, machine=machine), 150)
    machine.close()


@pytest.fixture(scope="module")
def net() -> Subject:
    return network(TINY, 0)


def test_parity_costs_no_time(net):
    """Every counter is what the timing model says, which knows nothing of parity."""
    predicted = predict(TINY, net.job.code, latency=net.options.latency)
    assert net.counters == predicted.counters
    for seed in range(100):
        if seed % 3 == 0:
            subject = random_program(TINY, seed)
            if not subject.options.stall_seed:
                predicted = predict(TINY, subject.job.code, latency=subject.options.latency)
                assert subject.counters == predicted.counters


#: Memories, and what part of each to hit: the first addresses, where the network lies.
MEMORIES = {"ACT": 32, "WGT": 8, "ACC": 8, "PAR": 8, "tables": 1}


def test_parity_lets_no_flip_of_a_memory_through(sampler, net):
    """Many flips are found, and before any of them could be stored."""
    found = dict.fromkeys(MEMORIES, 0)
    rng = random.Random(0)
    for name, part in MEMORIES.items():
        for _ in range(100):
            flip = sampler.draw(name, net.cycles, rng)
            flip = replace(flip, word=rng.randrange(flip.element.words // part))
            outcome, result = net.execute(flip)
            assert outcome.fate in (Fate.MASKED, Fate.DETECTED), f"{flip}: {outcome}"
            if outcome.fate == Fate.DETECTED:
                assert outcome.error == Error.PARITY
                found[name] += 1
            outputs = (r.segments[2] for r in (result, net.job, net.expected))
            pairs = zip(*outputs, strict=True)
            assert all(got in allowed for got, *allowed in pairs), f"{flip}: wrong bytes stored"
    assert all(found.values()), found


def test_parity_of_a_table_counts_only_where_it_is_used(sampler):
    """Entries flip before the LOAD that writes them all, and behind it; few of them are used."""
    values = np.random.default_rng(1).integers(-128, 128, 4096).astype(np.int8)
    pool = {"channels": 3, "oy": 2, "ox": 3, "sy": 1, "sx": 1, "src_row": 16, "src_pixel": 4}
    pool |= {"height": 99, "width": 99, "dst": 1024, "dst_row": 12, "dst_pixel": 4, "table": 1}
    program = Generator(TINY).assemble(
        1,
        [
            (Opcode.LOAD, {"memory": Memory.TBL, "segment": Segment.INPUT, "length": 256}),
            (Opcode.LOAD, {"memory": Memory.PAR, "segment": Segment.CONST, "length": 128}),
            (Opcode.LOAD, {"segment": Segment.INPUT, "offset": 256, "length": 256}),
            (Opcode.POOL, pool),
            (Opcode.STORE, {"segment": Segment.OUTPUT, "local": 1024, "length": 24}),
        ],
    )
    unity = Parameter(multiplier=1 << 16, shift=16).encode()
    const, _, *others = program.job.segments
    parts = (8 * unity + const[128:], values.tobytes(), *others)
    subject = Subject(TINY, Job(program.job.code, parts), Options(latency=50))
    used = {
        (channel % 2, int(values[256 + 16 * y + 4 * x + channel]) + 128)
        for y in range(2)
        for x in range(3)
        for channel in range(3)
    }
    loaded = predict(TINY, program.job.code, latency=50).timeline[Unit.LOAD][0][2]
    lanes = sorted(sampler.elements["tables"], key=lambda element: element.name)
    for lane, element in enumerate(lanes):
        for entry in range(TINY.tbl_bytes):
            word, bit = divmod(9 * entry + 3, element.bits)
            before, _ = subject.execute(Flip(element, word, bit, 5))
            assert before.fate == Fate.MASKED, (lane, entry)
            after, _ = subject.execute(Flip(element, word, bit, int(loaded) + 2))
            assert (after.error == Error.PARITY) == ((lane, entry) in used), (lane, entry)


def test_comes_up_from_any_state(net):
    """100 random initial values of every register: the same result in the same cycles."""
    filled = Subject(TINY, filled_program(TINY, 0).job, Options(latency=13, stall_seed=1))
    for seed in range(1, 101):
        for subject in (net, filled):
            outcome, result = subject.execute(None, random_state=seed)
            assert outcome == Outcome(Fate.MASKED, Error.NONE, "", ""), f"state {seed}"
            assert result is not None
            assert result.counters == subject.counters, f"state {seed}"


def test_random_states_are_random(sampler):
    """What no reset reaches still differs after it, and what one reaches does not."""
    free = element(sampler, ".array.pe_2_1.shadow")
    bound = element(sampler, ".control_block.watched")
    values: dict[fast.Element, set[tuple[int, ...]]] = {free: set(), bound: set()}
    for seed in range(1, 21):
        machine = fast.FastMachine(library(TINY), random_state=seed)
        for register, seen in values.items():
            seen.add(tuple(machine.bit(register, 0, k) for k in range(register.bits)))
        machine.close()
    assert len(values[free]) > 10
    assert len(values[bound]) == 1
