"""Instruction by instruction: which one is the first that hardware gets wrong, and how.

`lockstep.h` takes down what each instruction writes at the memories' write ports and sums it up in
a digest: over every address that the instruction wrote, a hash of the address and of the value that
it left there. The golden machine tells the same of itself. An instruction depends only on those
before it in the program, so the first whose digest differs is the one that went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import INSTRUCTION_BYTES, Instruction, Unit

if TYPE_CHECKING:
    from ..host.golden import Written

#: Numbers of the spaces in lockstep.h; segments lie in DRAM.
SPACES = {"ACT": 0, "WGT": 1, "PAR": 2, "TBL": 3, "ACC": 4, "DRAM": 5}
#: One write, as lockstep.h logs it.
RECORD = np.dtype(
    [(name, np.uint64 if name == "address" else np.uint32) for name in
     ("address", "unit", "number", "space", "value")]
)  # fmt: skip
#: Bytes that a report shows.
_SHOWN = 4


@dataclass(frozen=True)
class Trace:
    """What the instructions of a run wrote in hardware.

    Parameters
    ----------
    digests
        Of each unit's instructions in order, uint64; those at the end that wrote nothing may lack.
    log
        Every write, as RECORD.
    bases
        Where in the log's DRAM each segment begins.
    """

    digests: dict[Unit, np.ndarray]
    log: np.ndarray
    bases: dict[str, int]


def digests(written: Sequence[Written], bases: dict[str, int]) -> np.ndarray:
    """The digest of each instruction, uint64 [len(written)], from the golden machine's account."""
    if not written:
        return np.zeros(0, np.uint64)
    sizes = [entry.addresses.size for entry in written]
    spaces = [SPACES.get(entry.space, SPACES["DRAM"]) for entry in written]
    starts = [bases.get(entry.space, 0) for entry in written]
    address = np.concatenate([entry.addresses for entry in written]) + np.repeat(starts, sizes)
    value = np.concatenate([_unsigned(entry.values) for entry in written])
    key = (address << 3 | np.repeat(spaces, sizes)).astype(np.uint64) << np.uint64(32) | value
    return np.add.reduceat(_splitmix(key), [0, *accumulate(sizes[:-1])])


def first_difference(
    code: bytes,
    written: Sequence[Written],
    trace: Trace,
    retired: np.ndarray,
    predicted: np.ndarray | None = None,
) -> str | None:
    """A sentence on the first instruction that went wrong, or None.

    The first whose bytes are wrong, in program order; else the first that completes in another
    cycle than predicted.

    Parameters
    ----------
    code
        The program.
    written
        The golden machine's account of it.
    trace
        The hardware's.
    retired, predicted
        Completions in hardware, and those that the timing model expects (None: not compared), as
        rows (cycle, unit).
    """
    parts = list(_parts(code))
    wanted = digests(written, trace.bases)
    for index, unit, number in parts:
        if unit != Unit.WEIGHT and index < len(written):
            have = trace.digests[unit]
            if (have[number] if number < have.size else 0) != wanted[index]:
                detail = _difference(written[index], trace, unit, number)
                return f"{_name(code, index)}: {unit.name} {detail}"
    if predicted is None:
        return None
    wrong = []
    for index, unit, number in parts:
        got, want = _completion(retired, unit, number), _completion(predicted, unit, number)
        if got != want:
            text = f"{unit.name} completes it in cycle {got}, not in cycle {want}"
            wrong.append((min(x for x in (got, want) if x is not None), index, text))
    if not wrong:
        return None
    _, index, text = min(wrong)
    return f"{_name(code, index)}: {text}"


def _parts(code: bytes) -> Iterator[tuple[int, Unit, int]]:
    """(index, unit, how many instructions the unit had before), in program order."""
    count = dict.fromkeys(Unit, 0)
    for at in range(0, len(code), INSTRUCTION_BYTES):
        unit = Instruction.decode(code[at : at + INSTRUCTION_BYTES]).unit
        if unit is None:
            return
        for part in (Unit.WEIGHT, unit) if unit == Unit.MATMUL else (unit,):
            yield at // INSTRUCTION_BYTES, part, count[part]
            count[part] += 1


def _completion(retired: np.ndarray, unit: Unit, number: int) -> int | None:
    cycles = retired[retired[:, 1] == unit, 0]
    return int(cycles[number]) if number < cycles.size else None


def _name(code: bytes, index: int) -> str:
    at = index * INSTRUCTION_BYTES
    return f"instruction {index} ({Instruction.decode(code[at : at + INSTRUCTION_BYTES])})"


def _difference(written: Written, trace: Trace, unit: Unit, number: int) -> str:
    """Which addresses differ: first the lowest ones."""
    log = trace.log[(trace.log["unit"] == unit) & (trace.log["number"] == number)]
    space, base = SPACES.get(written.space, SPACES["DRAM"]), trace.bases.get(written.space, 0)
    got = {(int(e["space"]), int(e["address"])): int(e["value"]) for e in log}
    values = _unsigned(written.values).tolist()
    want = {(space, a + base): v for a, v in zip(written.addresses.tolist(), values, strict=True)}
    wrong = sorted(key for key in {*got, *want} if got.get(key) != want.get(key))
    names = {number: name for name, number in SPACES.items()}
    shown = []
    for place, address in wrong[:_SHOWN]:
        where = f"{names[place]} {address}"
        if place == space:
            where = f"{written.space} {address - base}"
        values = (
            f"0x{x:02x}" if x is not None else "nothing"
            for x in (got.get((place, address)), want.get((place, address)))
        )
        shown.append("{} got {}, expected {}".format(where, *values))
    more = f", … {len(wrong)} differ" if len(wrong) > len(shown) else ""
    return f"wrote {len(got)} places, expected {len(want)}: {'; '.join(shown)}{more}"


def _unsigned(values: np.ndarray) -> np.ndarray:
    """Bytes or INT32, as uint64 of their bits."""
    return values.view(f"u{values.itemsize}").astype(np.uint64)


def _splitmix(x: np.ndarray) -> np.ndarray:
    """The hash of axi_memory.h, on uint64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
