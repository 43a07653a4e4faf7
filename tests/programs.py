"""Random legal programs: every opcode and field, semaphores where hazards demand them and more.

Legal is what ``weft.host.check`` lets pass when it is not strict: bytes within their segments,
every hazard between units ordered, every wait posted before. Addresses on chip wrap around.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import (
    PEERS,
    SEMAPHORE_MAX,
    Instruction,
    IsaError,
    Memory,
    Opcode,
    Segment,
    Unit,
    check,
    post_bit,
    wait_bit,
)
from weft.hdl.numerics import PARAMETER_BYTES
from weft.host import check as checker
from weft.host.device import Job
from weft.host.regions import Region, WrappedRegion, accesses
from weft.host.schedule import Access, Step, synchronise

from .contents import character, contents, parameters
from .draws import ENTRY_BYTES, Draws

_SPACE = {"ACT": "act", "WGT": "wgt", "PAR": "par"}
#: Opcodes, and how often each is drawn.
_SHARES = {Opcode.LOAD: 6, Opcode.MATMUL: 6, Opcode.DRAIN: 5, Opcode.POOL: 3, Opcode.STORE: 2}
#: Cycles that an instruction may take, and how often.
_BUDGETS = {60: 40, 250: 45, 800: 14, 4500: 1}
#: Programs that share parameter entries; how many entries they choose from.
_POOL, _POOL_ENTRIES = 64, 4096
#: The cheapest instruction of each unit that has an effect.
_LEAST = {
    Unit.LOAD: (Opcode.LOAD, {"segment": Segment.INPUT}),
    Unit.MATMUL: (Opcode.MATMUL, {}),
    Unit.VECTOR: (Opcode.DRAIN, {}),
    Unit.STORE: (Opcode.STORE, {"segment": Segment.OUTPUT}),
}


#: The same where they have nothing in common, and the field that makes them take longer.
_APART: dict[Unit, Callable[[Config], dict[str, int]]] = {
    Unit.LOAD: lambda config: {"local": 0},
    Unit.MATMUL: lambda config: {
        "act": config.act_bank_bytes,
        "acc": 0,
        "width": 99,
        "pixel_pitch": 1,
    },
    Unit.VECTOR: lambda config: {
        "src": config.acc_half,
        "dst": config.act_bytes // 2,
        "dst_pixel": 1,
    },
    Unit.STORE: lambda config: {"local": config.act_bytes - config.act_bank_bytes},
}
_LENGTH = {Unit.LOAD: "length", Unit.MATMUL: "ox", Unit.VECTOR: "ox", Unit.STORE: "length"}

#: What takes too long, or too much memory, for programs of every day; segments of 16 MiB and more.
EXTREMES: dict[str, list[tuple[Opcode, dict[str, int]]]] = {
    "the deepest reduction": [
        (Opcode.LOAD, {"memory": Memory.WGT, "segment": Segment.INPUT, "length": 8192}),
        (Opcode.LOAD, {"segment": Segment.INPUT, "offset": 8192, "length": 16384}),
        (Opcode.MATMUL, {"kc": 65535, "height": 9, "width": 9}),
        (Opcode.DRAIN, {"channels": 4}),
    ],
    "the longest rows": [
        (Opcode.LOAD, {"segment": Segment.INPUT, "length": (1 << 20) - 1, "local": 5}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "length": (1 << 20) - 1, "local": 77}),
    ],
    "rows of half that length": [
        (Opcode.LOAD, {"segment": Segment.INPUT, "length": (1 << 19) + 2408, "local": 3}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "length": (1 << 19) + 2401, "local": 99}),
    ],
    "rows as far apart as can be": [
        (Opcode.LOAD, {"segment": Segment.INPUT, "dram_pitch": (1 << 24) - 64, "rows": 2,
                       "length": 99, "local_pitch": 1000}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "offset": 4096, "dram_pitch": (1 << 24) - 64,
                        "rows": 2, "length": 999, "local_pitch": (1 << 20) - 1}),
        (Opcode.LOAD, {"segment": Segment.INPUT, "offset": (1 << 24) + 4096, "length": 999}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "offset": (1 << 24) + 8192, "length": 999}),
    ],
}  # fmt: skip

#: Bytes of the segments that they need.
EXTREME_SIZES = (16384, (1 << 24) + 16384, (1 << 24) + 16384, 4096)


@dataclass(frozen=True)
class RandomProgram:
    """A program, and memory to run it on."""

    seed: int
    config: Config
    instructions: tuple[Instruction, ...]
    job: Job

    def listing(self) -> str:
        """The instructions, a line each."""
        return "\n".join(f"{i:3} {x}" for i, x in enumerate(self.instructions))


class Generator:
    """Draws the programs of one configuration; the same seed gives the same program."""

    def __init__(self, config: Config):
        self._config = config
        self._entries = -1, b""

    def program(self, seed: int, *, most: int = 24) -> RandomProgram:
        """A program of up to `most` instructions and a few; some are crowds of tiny ones."""
        rng = self._begin(seed)
        draws = self._draws(rng.choice((0, 0.3, 0.5)))
        steps: list[Step] = [] if rng.random() < 0.05 else [self._parameters()]
        tokens: list[tuple[int, Unit, int, Unit]] = []
        kind = rng.random()
        if kind < 0.01:
            producer = rng.choice([*Unit])
            consumer = rng.choice(PEERS[producer])
            count = rng.choice((SEMAPHORE_MAX, rng.randrange(8, SEMAPHORE_MAX)))
            tokens = self._crowd(steps, producer, consumer, count)
        elif kind > 0.04:
            for _ in range(rng.randint(0, most)):
                steps.append(self._legal(draws, rng.choices([*_SHARES], [*_SHARES.values()])[0]))
            steps += [self._legal(draws, Opcode.STORE) for _ in range(rng.randint(1, 2))]
        return self._finish(seed, steps, tokens)

    def tokens(self, seed: int, producer: Unit, consumer: Unit, *, chase: bool) -> RandomProgram:
        """A program whose instructions wait for tokens of one semaphore.

        As many as it can count, or (`chase`) one unit closely behind the other. Which of the
        semaphores of the pair it is depends on `seed`.
        """
        self._begin(seed)
        steps: list[Step] = [self._parameters()]
        if chase:
            taken = self._chase(steps, producer, consumer)
        else:
            taken = self._crowd(steps, producer, consumer, SEMAPHORE_MAX)
        return self._finish(seed, steps, taken, k=seed % 2)

    def transfers(self, seed: int, *, most: int = 30) -> RandomProgram:
        """A program of LOADs and STOREs alone, whose fields are at their edges often."""
        rng = self._begin(seed)
        draws = self._draws(0.6)
        opcodes = rng.choices((Opcode.LOAD, Opcode.STORE), k=most)
        return self._finish(seed, [self._legal(draws, opcode) for opcode in opcodes], [])

    def assemble(
        self,
        seed: int,
        steps: Iterable[tuple[Opcode, dict[str, int]]],
        sizes: Sequence[int] | None = None,
    ) -> RandomProgram:
        """A program of given opcodes and fields, with semaphores, on random memory.

        `sizes` are those of the segments, unless they are as in any random program.
        """
        self._begin(seed)
        self._sizes = self._sizes if sizes is None else tuple(sizes)
        return self._finish(seed, [self._step(opcode, fields) for opcode, fields in steps], [])

    def _begin(self, seed: int) -> random.Random:
        self._rng = rng = random.Random(f"{self._config.fingerprint}:{seed}")
        ragged = [rng.choice((0, 0, 1, rng.randrange(64))) for _ in Segment]
        whole = 3 * ENTRY_BYTES, 16384, 16384, 8192
        self._sizes = tuple(size - less for size, less in zip(whole, ragged, strict=True))
        return rng

    def _draws(self, wild: float) -> Draws:
        return Draws(self._config, self._rng, self._sizes, wild=wild)

    def _finish(
        self,
        seed: int,
        steps: list[Step],
        tokens: list[tuple[int, Unit, int, Unit]],
        k: int | None = None,
    ) -> RandomProgram:
        """Semaphores, which the checker then checks, and memory.

        Hazards take semaphore `k` of each pair, or (2) both as they come; tokens the other one.
        """
        rng, config = self._rng, self._config
        k = rng.choice((0, 1, 2)) if k is None else k
        instructions = synchronise(
            steps,
            config.queue_depth,
            tag=rng.choice((0, 0xFFFF, rng.randrange(1 << 16))),
            pick=lambda: rng.randrange(2) if k == 2 else k,
        )
        if k < 2:  # the other one is free
            tokens = tokens or self._tokens(instructions)
            instructions = _with_tokens(instructions, tokens, 1 - k)
        code = b"".join(instruction.encode() for instruction in instructions)
        checker.check(code, config, self._sizes, strict=False)
        return RandomProgram(seed, config, tuple(instructions), Job(code, self._segments(seed)))

    def _segments(self, seed: int) -> tuple[bytes, bytes, bytes, bytes]:
        """CONST begins with parameter entries, the rest is of any character."""
        config, rng = self._config, np.random.default_rng(self._rng.getrandbits(64))
        if self._entries[0] != seed // _POOL:
            pool = np.random.default_rng([seed // _POOL, config.fingerprint])
            entries = parameters(pool, _POOL_ENTRIES, config.multiplier_bits)
            self._entries = seed // _POOL, entries
        at = PARAMETER_BYTES * int(rng.integers(_POOL_ENTRIES - ENTRY_BYTES // PARAMETER_BYTES))
        data = [contents(rng, size, character(rng)) for size in self._sizes]
        const = self._entries[1][at : at + ENTRY_BYTES] + data[0][ENTRY_BYTES:]
        return const, data[1], data[2], data[3]

    def _parameters(self) -> Step:
        """The first instruction: parameters that let something other than zero through."""
        entries = self._rng.choice((16, 64, 128))
        return self._step(
            Opcode.LOAD,
            {"memory": Memory.PAR, "segment": Segment.CONST, "length": entries * PARAMETER_BYTES},
        )

    def _legal(self, draws: Draws, opcode: Opcode) -> Step:
        """A legal step of `opcode`."""
        while True:
            most = self._rng.choices([*_BUDGETS], [*_BUDGETS.values()])[0]
            try:
                return self._step(opcode, draws.fields(opcode, most))
            except (IsaError, checker.CheckError):
                continue

    def _step(self, opcode: Opcode, fields: dict[str, int]) -> Step:
        config = self._config
        instruction = Instruction(opcode, fields)
        check(instruction, config)
        checker.check_transfer(0, instruction, self._sizes)
        touched = accesses(instruction, config, strict=False)
        checker.check_overlap(0, instruction, touched, strict=False)
        own: list[Access] = []
        weights: list[Access] = []
        for access in touched:
            effects = _effects(access.region, access.write, config)
            (weights if access.unit == Unit.WEIGHT else own).extend(effects)
        return Step(opcode, fields, own, 0, 0, weights)

    # -- semaphores that no hazard demands -----------------------------------------------------

    def _tokens(self, instructions: Sequence[Instruction]) -> list[tuple[int, Unit, int, Unit]]:
        """Random (instruction, its unit, later instruction, its unit)."""
        rng = self._rng
        parts = [(i, unit) for i, x in enumerate(instructions) for unit in _units(x)]
        out = []
        for _ in range(rng.choice((0, 0, 4, 40))):
            (i, producer), (j, consumer) = (
                sorted(rng.choices(parts, k=2)) if parts else 2 * [(0, Unit.LOAD)]
            )
            if i < j and consumer in PEERS[producer]:
                out.append((i, producer, j, consumer))
        return out

    def _crowd(
        self, steps: list[Step], producer: Unit, consumer: Unit, count: int
    ) -> list[tuple[int, Unit, int, Unit]]:
        """Many tiny instructions, whose tokens wait for as many of another unit's."""
        first = len(steps)
        for unit in (producer, consumer):
            step = self._step(*_LEAST[Unit.MATMUL if unit == Unit.WEIGHT else unit])
            steps += [replace(step) for _ in range(count)]
        return [(first + i, producer, first + count + i, consumer) for i in range(count)]

    def _chase(
        self, steps: list[Step], producer: Unit, consumer: Unit
    ) -> list[tuple[int, Unit, int, Unit]]:
        """Two units that run side by side on tokens, the one a few instructions ahead."""
        made: dict[Unit, list[int]] = {producer: [], consumer: []}
        for k in range(48):
            for unit in (producer, consumer) if k >= 4 else (producer,):
                executes = Unit.MATMUL if unit == Unit.WEIGHT else unit
                opcode, fields = _LEAST[executes]
                apart = {**fields, **_APART[executes](self._config)}
                apart[_LENGTH[executes]] = self._rng.choice((1, 1, 2, 9))
                made[unit].append(len(steps))
                steps.append(self._step(opcode, apart))
        pairs = zip(made[producer], made[consumer], strict=False)
        return [(i, producer, j, consumer) for i, j in pairs]


def _effects(region: Region, write: bool, config: Config) -> list[Access]:
    """What the scheduler should know of an access."""
    if region.memory == "ACC":
        half = config.acc_half
        return [Access("acc", region.low // half, (region.high - 1) // half + 1, write)]
    space = _SPACE.get(region.memory, region.memory)
    spans = [(region.low, region.high)]
    if isinstance(region, WrappedRegion) and region.intervals[0].size <= 4:
        spans = [(int(low), int(high)) for low, high in zip(*region.intervals, strict=True)]
    out = [Access(space, low, high, write) for low, high in spans]
    if space == "act":
        size, port = config.act_bank_bytes, "write bank" if write else "read bank"
        out += [Access(port, low // size, (high - 1) // size + 1, True) for low, high in spans]
    return out


def _units(instruction: Instruction) -> tuple[Unit, ...]:
    if instruction.opcode == Opcode.MATMUL:
        return Unit.WEIGHT, Unit.MATMUL
    return () if instruction.unit is None else (instruction.unit,)


def _with_tokens(
    instructions: Sequence[Instruction], tokens: list[tuple[int, Unit, int, Unit]], k: int
) -> list[Instruction]:
    """The instructions with further tokens through semaphore k of each pair.

    Of each semaphore the n-th wait takes the n-th post, and an instruction waits for it or posts it
    once. Sorted, posts still precede their waits.
    """
    posts: dict[tuple[Unit, Unit], set[int]] = defaultdict(set)
    waits: dict[tuple[Unit, Unit], set[int]] = defaultdict(set)
    for i, producer, j, consumer in tokens:
        pair = producer, consumer
        if i not in posts[pair] and j not in waits[pair]:
            posts[pair].add(i)
            waits[pair].add(j)
    if not posts:
        return [*instructions]
    fields = [dict(instruction.fields) for instruction in instructions]
    for (producer, consumer), indices in posts.items():
        name = "weight_post" if producer == Unit.WEIGHT else "post"
        for index in indices:
            fields[index][name] |= post_bit(producer, consumer, k)
    for (producer, consumer), indices in waits.items():
        name = "weight_wait" if consumer == Unit.WEIGHT else "wait"
        for index in indices:
            fields[index][name] |= wait_bit(consumer, producer, k)
    return [Instruction(x.opcode, f) for x, f in zip(instructions, fields, strict=True)]
