"""Cases of requantization that TOSA defines, what Weft makes of them, and mistakes to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from weft.hdl import numerics
from weft.hdl.numerics import Parameter
from weft.host import interpreter
from weft.host.ir import Requant

#: Widths of multiplier that a configuration may have.
WIDTHS = range(8, 33)
#: Shifts that TOSA defines.
SHIFTS = np.arange(2, 63)
INT32 = (-(1 << 31), (1 << 31) - 1)
#: Values of a channel.
VALUES = 64


@dataclass(frozen=True)
class Case:
    """Accumulators and how they are requantized; `multiplier` and `shift` may be one for all."""

    acc: np.ndarray  # int32 [values, channels]
    bias: np.ndarray  # int32 [channels]
    multiplier: np.ndarray  # int32, or int16 for TOSA's narrow form; [channels] or [1]
    shift: np.ndarray  # int8, alike
    numbers: np.ndarray  # int8 [3]: zero point, low, high

    @property
    def requant(self) -> Requant:
        """As the interpreter takes it."""
        channels = self.acc.shape[1]
        many = (np.broadcast_to(x, channels).astype(np.int64) for x in self._per_channel())
        return Requant(*many, *map(int, self.numbers))

    @property
    def parameters(self) -> list[Parameter]:
        """As the machine takes it, channel by channel."""
        zero, low, high = map(int, self.numbers)
        columns = (np.broadcast_to(x, self.acc.shape[1]).tolist() for x in self._per_channel())
        return [
            Parameter(bias=b, multiplier=m, shift=s, zero_point=zero, low=low, high=high)
            for b, m, s in zip(*columns, strict=True)
        ]

    @property
    def ties(self) -> int:
        """How many of the values lie halfway between two results."""
        r = self.requant
        halves = (self.acc + r.bias) * r.multiplier & (np.int64(1) << r.shift) - 1
        return int(np.count_nonzero(halves == np.int64(1) << (r.shift - 1)))

    def _per_channel(self) -> tuple[np.ndarray, ...]:
        return self.bias, self.multiplier, self.shift


def cases(seed: int, widths: Sequence[int] = WIDTHS, values: int = VALUES) -> Iterator[Case]:
    """Every width with every shift a channel, and a few cases with one shift for all channels.

    Widths that fit TOSA's narrow multiplier come in both forms.
    """
    rng = np.random.default_rng(seed)
    for bits in widths:
        for kind in (np.int32, np.int16) if bits <= 16 else (np.int32,):
            yield _case(rng, bits, SHIFTS, kind, values)
            for shift in rng.choice(SHIFTS, 3):
                yield _case(rng, bits, np.array([shift]), kind, values)


def _case(
    rng: np.random.Generator, bits: int, shifts: np.ndarray, kind: type[np.signedinteger], n: int
) -> Case:
    channels = len(shifts) if len(shifts) > 1 else 4
    multiplier = np.array([_multiplier(rng, bits) for _ in shifts])
    pairs = np.broadcast_arrays(multiplier, shifts, np.empty(channels))[:2]
    values = [_values(rng, int(m), int(s), kind, n) for m, s in zip(*pairs, strict=True)]
    value = np.stack(values, axis=1)
    bias = rng.integers(*INT32, channels) >> rng.integers(0, 32, channels)
    # What bias moves beyond INT32 keeps to it: no sum of a legal program wraps.
    acc = np.clip(value - bias, *INT32)
    bias = np.where((acc + bias == value).all(0), bias, 0)
    acc = np.where(bias == 0, value, acc)
    low, high = sorted(rng.integers(-128, 128, 2)) if rng.random() < 0.5 else (-128, 127)
    zero = rng.choice([-128, -1, 0, 1, 127, int(rng.integers(-128, 128))])
    return Case(
        acc.astype(np.int32),
        bias.astype(np.int32),
        multiplier.astype(kind),
        shifts.astype(np.int8),
        np.array([zero, low, high], np.int8),
    )


def _multiplier(rng: np.random.Generator, bits: int) -> int:
    """A multiplier of so many bits with sign; often with zeros below, which make ties possible."""
    top = 1 << (bits - 1)
    edges = (0, 1, top >> 1, top - 1)
    if rng.random() < 0.2:
        return int(rng.choice(edges))
    value = int(rng.integers(top >> 1, top))
    below = int(rng.integers(0, bits - 1)) if rng.random() < 0.5 else 0
    return value >> below << below


def _values(
    rng: np.random.Generator, multiplier: int, shift: int, kind: type[np.signedinteger], n: int
) -> np.ndarray:
    """`n` sums that TOSA lets be scaled so: edges, ties and their neighbours, and random ones."""
    least, most = INT32
    if kind is np.int32:  # the scaled value keeps to the bits below the rounding
        least, most = max(least, -(1 << (shift - 1))), min(most, (1 << (shift - 1)) - 1)
    elif multiplier:  # the result keeps to INT32, with any zero point
        reach = ((1 << 31) - 130 << shift) // multiplier
        least, most = max(least, -reach), min(most, reach)
    found = [least, least + 1, -1, 0, 1, most - 1, most]
    twos = (multiplier & -multiplier).bit_length() - 1 if multiplier else 0
    tie = 1 << max(0, shift - 1 - twos)  # times an odd number: halfway, if twos < shift
    unit = (1 << shift) / max(1, multiplier)  # what makes a step of the result
    while len(found) < n:
        draw = rng.random()
        if draw < 0.35:
            value = tie * (2 * int(rng.integers(-130, 130)) + 1) + int(rng.integers(-1, 2))
        elif draw < 0.7:
            value = round(rng.uniform(-140, 140) * unit)
        else:
            value = int(rng.integers(least, most + 1)) >> int(rng.integers(0, 31))
        found.append(min(most, max(least, value)))
    return np.array(found[:n], np.int64)


# -- what is compared --------------------------------------------------------------------------


def interpreted(case: Case) -> np.ndarray:
    """The interpreter's result."""
    return interpreter.requantize(case.acc, case.requant)


def defined(case: Case) -> np.ndarray:
    """The definition's, which the RTL is tested against."""
    columns = zip(case.acc.T, case.parameters, strict=True)
    return np.stack([numerics.requantize(acc, p) for acc, p in columns], axis=1)


Rounding = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _with(rounding: Rounding) -> Callable[[Case], np.ndarray]:
    """Requantization with another way to divide a product by 2 to the shift."""

    def mistaken(case: Case) -> np.ndarray:
        r = case.requant
        scaled = rounding((case.acc + r.bias) * r.multiplier, r.shift)
        return np.clip(scaled + r.zero_point, r.low, r.high).astype(np.int8)

    return mistaken


def _clamped_first(case: Case) -> np.ndarray:
    r = case.requant
    half = np.int64(1) << (r.shift - 1)
    scaled = (((case.acc + r.bias) * r.multiplier) + half) >> r.shift
    return (np.clip(scaled, r.low, r.high) + r.zero_point).astype(np.int8)


#: Mistakes that a comparison must notice, by name.
MISTAKES: dict[str, Callable[[Case], np.ndarray]] = {
    "half a unit, less one": _with(lambda x, s: (x + (np.int64(1) << (s - 1)) - 1) >> s),
    "half a unit, and one": _with(lambda x, s: (x + (np.int64(1) << (s - 1)) + 1) >> s),
    "no rounding": _with(lambda x, s: x >> s),
    "away from zero": _with(
        lambda x, s: np.sign(x) * ((np.abs(x) + (np.int64(1) << (s - 1))) >> s)
    ),
    "in two steps": _with(lambda x, s: (((x >> (s - 2)) + 1 >> 1) + 1) >> 1),
    "a shift of one more": _with(lambda x, s: (x + (np.int64(1) << s)) >> (s + 1)),
    "clamp before zero point": _clamped_first,
}


def differences(
    results: Sequence[np.ndarray], found: Sequence[Case], ours: Callable[[Case], np.ndarray]
) -> int:
    """How many values of `ours` differ from `results`."""
    pairs = zip(results, found, strict=True)
    return sum(int(np.count_nonzero(ours(case) != result)) for result, case in pairs)


# -- files -------------------------------------------------------------------------------------


def save(path: Path, found: Sequence[Case], results: Sequence[np.ndarray] = ()) -> None:
    """Write cases as ``tosa_model.py`` reads them, and its results if there are any."""
    names = [field.name for field in fields(Case)]
    arrays = {f"{name}{i}": getattr(c, name) for i, c in enumerate(found) for name in names}
    arrays |= {f"result{i}": result for i, result in enumerate(results)}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path) -> tuple[list[Case], list[np.ndarray]]:
    """Cases and results of a file, as many as it has."""
    with np.load(path) as data:

        def every(name: str) -> list[np.ndarray]:
            return [data[f"{name}{i}"] for i in range(len(data.files)) if f"{name}{i}" in data]

        columns = (every(field.name) for field in fields(Case))
        return [Case(*row) for row in zip(*columns, strict=True)], every("result")
