"""The checker of finished instruction streams: legal, in bounds, free of deadlock and of races.

It trusts nothing that the compiler knew. From the words alone it works out which instructions may
overlap (vector clocks over the semaphores) and what each one touches (``regions.py``), and refuses
the stream unless every hazard is ordered. For a stream that passes, hardware agrees with program
order at any memory latency.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hdl.isa import (
    INSTRUCTION_BYTES,
    PEERS,
    SEMAPHORE_MAX,
    Instruction,
    IsaError,
    Opcode,
    Segment,
    Unit,
)
from ..hdl.isa import check as check_instruction
from .errors import WeftError
from .regions import Access, RegionError, accesses
from .timing.decode import decode as decode_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..hdl.config import Config

Semaphore = tuple[Unit, Unit, int]
#: Per unit, how many of its instructions are known to have completed.
Clock = tuple[int, ...]
_NOTHING: Clock = (0,) * len(Unit)


class CheckError(WeftError):
    """A stream that hardware must not run.

    Parameters
    ----------
    message
        One sentence: which instructions, which region, which rule.
    instructions
        Indices of the instructions at fault.
    """

    def __init__(self, message: str, *instructions: int):
        super().__init__(message)
        self.instructions = instructions


def check(code: bytes, config: Config, sizes: Sequence[int], *, strict: bool = True) -> None:
    """Check a whole stream.

    Parameters
    ----------
    code
        Encoded instructions.
    config
        The machine.
    sizes
        Bytes of the CONST, INPUT, OUTPUT and SCRATCH segments.
    strict
        Refuse also what is legal, but no compiler wants: addresses on chip that wrap around or are
        rounded, results that overwrite each other.

    Raises
    ------
    CheckError
        The first rule that the stream breaks, in program order.
    """
    stream = decode(code, config)
    order = _Order(config)
    hazards = _Hazards(config)
    for index, instruction in enumerate(stream[:-1]):
        try:
            touched = accesses(instruction, config, strict=strict)
        except RegionError as error:
            raise CheckError(f"{_name(index, instruction)}: {error}", index) from error
        check_transfer(index, instruction, sizes)
        check_overlap(index, instruction, touched, strict=strict)
        clocks = order.add(index, instruction)
        for access in touched:
            number = order.number(access.unit)
            hazards.add(_Use(index, instruction, number, access), clocks[access.unit])
    order.finish(len(stream) - 1)


def decode(code: bytes, config: Config) -> list[Instruction]:
    """The instructions of `code`, each legal for `config`, with END last and nowhere else."""
    if not code or len(code) % INSTRUCTION_BYTES:
        raise CheckError(f"the stream is {len(code)} bytes, not whole instructions")
    try:
        words = decode_all(code)
    except IsaError:  # below it is said which one
        words = [code[at : at + INSTRUCTION_BYTES] for at in range(0, len(code), INSTRUCTION_BYTES)]
    stream: list[Instruction] = []
    for index, word in enumerate(words):
        try:
            stream.append(word if isinstance(word, Instruction) else Instruction.decode(word))
            check_instruction(stream[-1], config)
        except IsaError as error:
            raise CheckError(f"instruction {index} is not legal: {error}", index) from error
        if stream[-1].opcode == Opcode.END and index + 1 < len(words):
            raise CheckError(f"instruction {index + 1} is never reached: END precedes it", index)
    if stream[-1].opcode != Opcode.END:
        raise CheckError("the stream has no END")
    return stream


def _name(index: int, instruction: Instruction) -> str:
    return f"instruction {index} ({instruction.opcode.name})"


def check_transfer(index: int, i: Instruction, sizes: Sequence[int]) -> None:
    """Every row must lie in its segment."""
    if i.opcode not in (Opcode.LOAD, Opcode.STORE):
        return
    end = i.offset + (i.rows - 1) * i.dram_pitch + i.length
    if end > sizes[i.segment]:
        raise CheckError(
            f"{_name(index, i)} ends at byte {end} of {Segment(i.segment).name}, "
            f"which has {sizes[i.segment]}",
            index,
        )


def check_overlap(index: int, i: Instruction, touched: list[Access], *, strict: bool) -> None:
    """Within one DRAIN or POOL the order of its reads and writes must not matter.

    Residuals may be replaced in place, each by its own sum.
    """
    if i.unit != Unit.VECTOR:
        return
    target = next(a.region for a in touched if a.write)
    injective = target.injective
    if strict and not injective:
        raise CheckError(f"{_name(index, i)} writes an ACT byte twice", index)
    if injective and _in_place(i):
        return
    for access in touched:
        stretch = None if access.write else access.region.meet(target)
        if stretch is not None:
            raise CheckError(
                f"{_name(index, i)} overwrites ACT bytes {stretch[0]} to {stretch[1] - 1} "
                "that it may still have to read",
                index,
            )


def _in_place(i: Instruction) -> bool:
    """Whether a DRAIN writes each sum to the address of its residual."""
    return (
        i.opcode == Opcode.DRAIN
        and i.res == i.dst
        and (i.oy == 1 or i.res_row == i.dst_row)
        and (i.ox == 1 or i.res_pixel == i.dst_pixel)
        and (i.channels == 1 or i.dst_jump == 0)
    )


class _Order:
    """Happens-before between the units, as vector clocks.

    An instruction knows at its start what was posted to its unit so far. A post carries what its
    unit knew, and that this instruction and all before it in its unit have completed. MATMUL's
    completion implies that its WEIGHT part has completed.
    """

    def __init__(self, config: Config):
        self._config = config
        self._count = dict.fromkeys(Unit, 0)
        self._clock = dict.fromkeys(Unit, _NOTHING)
        self._tokens: dict[Semaphore, list[Clock]] = defaultdict(list)
        self._waits: dict[Semaphore, list[int]] = defaultdict(list)

    def number(self, unit: Unit) -> int:
        """The number of `unit`'s latest instruction; its first one is 1."""
        return self._count[unit]

    def add(self, index: int, instruction: Instruction) -> dict[Unit, Clock]:
        """Take the next instruction; returns the clock at the start of each of its parts."""
        unit = instruction.unit
        assert unit is not None
        parts = [(unit, instruction.wait, instruction.post)]
        if instruction.opcode == Opcode.MATMUL:
            parts.insert(0, (Unit.WEIGHT, instruction.weight_wait, instruction.weight_post))
        for part, wait, _ in parts:
            self._count[part] += 1
            for key in _semaphores(part, wait, consumer=True):
                self._wait(index, instruction, key)
        ends: dict[Unit, Clock] = {}
        done = _NOTHING
        for part, _, _ in parts:
            done = tuple(map(max, done, self._clock[part]))
            done = (*done[:part], self._count[part], *done[part + 1 :])
            ends[part] = done
        for part, _, post in parts:
            for key in _semaphores(part, post, consumer=False):
                self._post(index, instruction, key, ends[part])
        return {part: self._clock[part] for part, _, _ in parts}

    def _wait(self, index: int, instruction: Instruction, key: Semaphore) -> None:
        taken = self._waits[key]
        if len(taken) == len(self._tokens[key]):
            raise CheckError(
                f"{_name(index, instruction)} waits for semaphore {_label(key)}, "
                "which no earlier instruction posts: it would wait forever",
                index,
            )
        consumer = key[1]
        token = self._tokens[key][len(taken)]
        self._clock[consumer] = tuple(map(max, self._clock[consumer], token))
        taken.append(self._count[consumer])

    def _post(self, index: int, instruction: Instruction, key: Semaphore, clock: Clock) -> None:
        """Post, unless the count could pass its maximum with the consumer as late as it can be.

        Of the consumer's instructions before this one, those have started that this one follows,
        and all that its queue cannot hold, since dispatch is in order.
        """
        self._tokens[key].append(clock)
        consumer = key[1]
        started = max(clock[consumer], self._count[consumer] - self._config.queue_depth)
        taken = bisect_right(self._waits[key], started)
        if len(self._tokens[key]) - taken > SEMAPHORE_MAX:
            raise CheckError(
                f"{_name(index, instruction)} may post semaphore {_label(key)} "
                f"beyond its maximum of {SEMAPHORE_MAX}",
                index,
            )

    def finish(self, index: int) -> None:
        """Check that END finds every semaphore at zero."""
        for key, tokens in self._tokens.items():
            left = len(tokens) - len(self._waits[key])
            if left:
                raise CheckError(f"semaphore {_label(key)} is {left}, not zero, at END", index)


def _semaphores(unit: Unit, mask: int, *, consumer: bool) -> list[Semaphore]:
    return [
        (peer, unit, k) if consumer else (unit, peer, k)
        for at, peer in enumerate(PEERS[unit])
        for k in (0, 1)
        if mask >> (2 * at + k) & 1
    ]


def _label(key: Semaphore) -> str:
    return f"{key[0].name} → {key[1].name} {key[2]}"


@dataclass(frozen=True, eq=False)
class _Use:
    """An access by a numbered instruction of a unit."""

    index: int
    instruction: Instruction
    number: int
    access: Access

    @property
    def label(self) -> str:
        return _name(self.index, self.instruction)


class _Hazards:
    """Compares each access with all earlier ones that it does not follow."""

    def __init__(self, config: Config):
        self._bank = config.act_bank_bytes
        self._half = config.acc_half
        self._uses: dict[tuple[str, Unit], list[tuple[int, int, int, int, _Use]]] = defaultdict(
            list
        )

    def add(self, use: _Use, clock: Clock) -> None:
        """Check `use`, whose instruction starts knowing `clock`, and remember it."""
        access = use.access
        region = access.region
        memory, write = region.memory, access.write
        low, high, ports = region.low, region.high, 0
        if memory == "ACT":
            ports = region.banks(self._bank)
        elif memory == "ACC":
            ports = region.banks(self._half)
        for unit in Unit:
            if unit == access.unit:
                continue
            known = clock[unit]
            for number, first, last, others, other in reversed(self._uses[memory, unit]):
                if number <= known:
                    break
                both = write + other.access.write
                if both == 1 and memory == "ACC" and ports & others:
                    self._refuse_half(other, use)
                elif both and low < last and first < high:
                    self._check_bytes(other, use)
                if both != 1 and memory == "ACT" and ports & others:
                    self._refuse_bank(other, use, ports & others)
        self._uses[memory, access.unit].append((use.number, low, high, ports, use))

    def _check_bytes(self, earlier: _Use, later: _Use) -> None:
        stretch = later.access.region.meet(earlier.access.region)
        if stretch is None:
            return
        memory = later.access.region.memory
        unit = "entries" if memory == "ACC" else "bytes"
        raise CheckError(
            f"{later.label} {_verb(later)} {memory} {unit} {stretch[0]} to {stretch[1] - 1} while "
            f"{earlier.label} may still {_verb(earlier)[:-1]} them: no semaphore orders the two",
            earlier.index,
            later.index,
        )

    def _refuse_bank(self, earlier: _Use, later: _Use, banks: int) -> None:
        bank = (banks & -banks).bit_length() - 1
        raise CheckError(
            f"{later.label} {_verb(later)} ACT bank {bank} (bytes {bank * self._bank} to "
            f"{(bank + 1) * self._bank - 1}) while {earlier.label} may still "
            f"{_verb(earlier)[:-1]} it: a bank serves one unit at a time",
            earlier.index,
            later.index,
        )

    def _refuse_half(self, earlier: _Use, later: _Use) -> None:
        raise CheckError(
            f"{later.label} {_verb(later)} an ACC half in which {earlier.label} may still "
            f"{'accumulate' if earlier.access.write else 'read'}: no semaphore orders the two",
            earlier.index,
            later.index,
        )


def _verb(use: _Use) -> str:
    return "writes" if use.access.write else "reads"
