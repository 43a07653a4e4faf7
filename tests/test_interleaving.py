"""What the checker accepts means the same in every order that the semaphores allow.

Random streams run on the golden machine's datapath with random interleavings of the units; the
memories must come out as in program order whenever the checker has no objection.
"""

import random

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import PEERS, Instruction, Opcode, Unit, post_bit, wait_bit
from weft.host.check import CheckError, check
from weft.host.golden import GoldenMachine

TINY = PRESETS["tiny"]
BANK = TINY.act_bank_bytes
SIZES = (256, 256, 256, 256)
BLOCKED = "blocked"
DONE = "done"


def random_instruction(rng: random.Random) -> tuple[Opcode, dict[str, int]]:
    """An instruction that touches a few places only, so that many meet."""

    def act():
        return rng.randrange(3) * BANK + 8 * rng.randrange(2)

    opcode = rng.choice([o for o in Opcode if o != Opcode.END])
    if opcode == Opcode.LOAD:
        memory = rng.randrange(3)
        local = act() if memory == 0 else 16 * rng.randrange(3)
        fields = {"memory": memory, "local": local, "length": 16, "segment": rng.choice([0, 3])}
        return opcode, {**fields, "offset": 32 * rng.randrange(4)}
    if opcode == Opcode.STORE:
        return opcode, {"local": act(), "length": 8, "segment": 3, "offset": 32 * rng.randrange(4)}
    if opcode == Opcode.MATMUL:
        half = TINY.acc_half * rng.randrange(2)
        return opcode, {
            "act": act(), "kc": 8, "wgt": 4 * rng.randrange(2), "acc": half,
            "accumulate": rng.randrange(2),
        }  # fmt: skip
    par = {"par": rng.randrange(3), "dst": act(), "channels": 4}
    if opcode == Opcode.DRAIN:
        residual = rng.randrange(2)
        half = TINY.acc_half * rng.randrange(2)
        return opcode, {**par, "src": half, "residual": residual, "res": par["dst"]}
    return opcode, {**par, "src": act() + 4}


def parts(opcode: Opcode) -> tuple[Unit, ...]:
    unit = Instruction(opcode).unit
    return (Unit.WEIGHT, unit) if opcode == Opcode.MATMUL else (unit,)


def field(unit: Unit, name: str) -> str:
    return f"weight_{name}" if unit == Unit.WEIGHT else name


def random_stream(rng: random.Random) -> list[Instruction]:
    """Instructions, with tokens from earlier to later ones, at random."""
    drafts = [random_instruction(rng) for _ in range(rng.randrange(3, 8))]
    density = rng.random()
    for j, (later, waits) in enumerate(drafts):
        for earlier, posts in drafts[:j]:
            for producer in parts(earlier):
                for consumer in parts(later):
                    if producer not in PEERS[consumer] or rng.random() > density:
                        continue
                    k = rng.randrange(2)
                    post, wait = field(producer, "post"), field(consumer, "wait")
                    give, take = post_bit(producer, consumer, k), wait_bit(consumer, producer, k)
                    if not (posts.get(post, 0) & give or waits.get(wait, 0) & take):
                        posts[post] = posts.get(post, 0) | give
                        waits[wait] = waits.get(wait, 0) | take
    return [Instruction(opcode, fields) for opcode, fields in drafts]


class Interleaver:
    """Runs a stream with its units in random order, each instruction's effect at a random moment
    between its start and its end.
    """

    def __init__(self, stream: list[Instruction], seed: int):
        self.machine = GoldenMachine(TINY)
        rng = np.random.default_rng(seed)
        self.machine.act[:] = rng.integers(-128, 128, self.machine.act.shape)
        self.machine.wgt[:] = rng.integers(-128, 128, self.machine.wgt.shape)
        self.machine.acc[:] = rng.integers(-999, 999, self.machine.acc.shape)
        self.machine.par[:] = rng.integers(0, 256, self.machine.par.shape)
        self.machine.par[:, 8:10] = 0
        contents = [rng.integers(0, 256, size).astype(np.uint8) for size in SIZES]
        self.machine._segments = contents
        self.queues = {unit: [i for i in stream if unit in parts(i.opcode)] for unit in Unit}
        self.counts: dict[tuple[Unit, Unit, int], int] = {}
        self.weights: list[np.ndarray] = []

    def run(self, rng: random.Random) -> list[bytes]:
        """All memories after a run."""
        units = {unit: self._unit(unit) for unit in Unit}
        while units:
            order = list(units)
            rng.shuffle(order)
            for unit in order:
                state = next(units[unit], DONE)
                if state == DONE:
                    del units[unit]
                if state != BLOCKED:
                    break
            else:
                raise AssertionError("the units wait for each other")
        machine = self.machine
        memories = [machine.act, machine.wgt, machine.par, machine.acc, *machine._segments]
        return [memory.tobytes() for memory in memories]

    def _unit(self, unit: Unit):
        """One unit as a process; yields after each step, BLOCKED where it cannot go on."""
        machine = self.machine
        for i in self.queues[unit]:
            wait, post = getattr(i, field(unit, "wait")), getattr(i, field(unit, "post"))
            keys = [
                (p, unit, k) for p in PEERS[unit] for k in (0, 1) if wait & wait_bit(unit, p, k)
            ]
            while not all(self.counts.get(key) for key in keys):
                yield BLOCKED
            for key in keys:
                self.counts[key] -= 1
            yield
            if unit == Unit.WEIGHT:
                self.weights.append(machine.wgt.copy())
            elif unit == Unit.MATMUL:
                while not self.weights:
                    yield BLOCKED
                loaded, machine.wgt = machine.wgt, self.weights.pop(0)
                machine._matmul(i)
                machine.wgt = loaded
            else:
                getattr(machine, f"_{i.opcode.name.lower()}")(i)
            yield
            for consumer in PEERS[unit]:
                for k in (0, 1):
                    if post & post_bit(unit, consumer, k):
                        key = (unit, consumer, k)
                        self.counts[key] = self.counts.get(key, 0) + 1
            yield


def in_program_order(stream: list[Instruction], seed: int) -> list[bytes]:
    """All memories after the golden machine ran the stream."""
    machine = Interleaver([], seed).machine
    code = b"".join(i.encode() for i in (*stream, Instruction(Opcode.END)))
    result = machine.execute(code, tuple(s.tobytes() for s in machine._segments))
    result.require()
    memories = [machine.act, machine.wgt, machine.par, machine.acc]
    return [*(memory.tobytes() for memory in memories), *result.segments]


@pytest.mark.parametrize("part", range(3))
def test_accepted_streams_mean_the_same_in_every_order(part):
    accepted = diverging = 0
    for seed in range(200 * part, 200 * (part + 1)):
        rng = random.Random(seed)
        stream = random_stream(rng)
        expected = in_program_order(stream, seed)
        code = b"".join(i.encode() for i in (*stream, Instruction(Opcode.END)))
        try:
            check(code, TINY, SIZES)
            legal = True
        except CheckError:
            legal = False
        same = all(Interleaver(stream, seed).run(rng) == expected for _ in range(4))
        assert same or not legal, [str(i) for i in stream]
        accepted += legal
        diverging += not same
    # Both kinds must occur, or this test shows nothing.
    assert accepted >= 30
    assert diverging >= 10


def test_waiting_forever_is_noticed():
    stuck = Instruction(Opcode.STORE, {"wait": wait_bit(Unit.STORE, Unit.LOAD, 0), "segment": 3})
    with pytest.raises(AssertionError, match="wait for each other"):
        Interleaver([stuck], 0).run(random.Random(0))
