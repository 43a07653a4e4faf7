"""Bench of the requantizer: parameter sets one after the other, a value in almost every cycle."""

from __future__ import annotations

import os
import random

import cocotb
import numpy as np
from weft.hdl.numerics import PARAMETER_FIELDS, Parameter, requantize
from weft.hdl.requantizer import PARAMETER_HOLD, REQUANTIZE_LATENCY
from weft.tb.bench import clock_and_reset

BITS = int(os.environ.get("MULTIPLIER_BITS", "32"))
INT32 = (-(2**31), 2**31 - 1)

Value = tuple[int, int | None]


def corner_sets() -> list[tuple[Parameter, list[Value]]]:
    """Every shift with extreme accumulators, multipliers, residuals and clamps."""
    top = 2 ** (BITS - 1) - 1
    out = []
    for shift in range(64):
        for multiplier in (0, 1, -1, top, -top - 1):
            p = Parameter(
                bias=(shift % 3 - 1) * 2**30,
                multiplier=multiplier,
                shift=shift,
                residual_shift=(shift * 7 + multiplier) % (shift + 1),
                residual_multiplier=(-(2**17), 2**17 - 1, 1, 0)[shift % 4],
                zero_point=(-128, 0, 127)[shift % 3],
                residual_zero=(127, -128, 3)[multiplier % 3],
                low=-128,
                high=127,
            )
            accs = (*INT32, 0, 1, -1, 2**30, (1 << shift >> 1) & 0x7FFFFFFF)
            out.append((p, [(acc, r) for acc in accs for r in (None, -128, 127)]))
    # 2^62 − 1 from the product and 2^62 from the residual: the brim of 64 bits.
    for zero in (-128, -1, 0, 1, 127):
        p = Parameter(
            bias=2, multiplier=2**31 - 1, residual_shift=2, residual_multiplier=1, zero_point=zero
        )
        out.append((p, [(2**31 - 1, 1), (2**31 - 1, 0), (-(2**31), -4), (2**31 - 2, 1)]))
        p = Parameter(
            multiplier=-(2**31), residual_shift=2, residual_multiplier=-1, zero_point=zero
        )
        out.append((p, [(2**31 - 1, 1), (-(2**31), 1), (-(2**31), 2), (-1, 2), (0, 2)]))
    return out


def random_sets(count: int, seed: int) -> list[tuple[Parameter, list[Value]]]:
    """Parameters drawn from all encodings or from sensible ones, with 1 to 40 values each."""
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        if rng.random() < 0.5:
            p = Parameter.decode(rng.randbytes(16))
        else:
            shift = rng.randrange(1, 63)
            low, high = sorted((rng.randrange(-128, 128), rng.randrange(-128, 128)))
            p = Parameter(
                bias=rng.randrange(-(2**20), 2**20),
                multiplier=rng.randrange(0, 2 ** (BITS - 1)),
                shift=shift,
                residual_shift=rng.randrange(shift + 1),
                residual_multiplier=rng.randrange(2**17),
                zero_point=rng.randrange(-128, 128),
                residual_zero=rng.randrange(-128, 128),
                low=low,
                high=high,
            )
        scale = rng.choice((8, 16, 24, 32))
        values = []
        for _ in range(rng.randrange(1, 40)):
            acc = rng.randrange(-(2 ** (scale - 1)), 2 ** (scale - 1))
            values.append((acc, rng.choice((None, rng.randrange(-128, 128)))))
        out.append((p, values))
    return out


def golden(p: Parameter, value: Value) -> int:
    """What the lane must answer: its multiplier has BITS bits."""
    factor = (p.multiplier + (1 << (BITS - 1))) % (1 << BITS) - (1 << (BITS - 1))
    fields = {name: getattr(p, name) for name, _, _ in PARAMETER_FIELDS}
    p = Parameter(**{**fields, "multiplier": factor})
    acc, residual = value
    term = None if residual is None else np.array([residual], np.int8)
    return int(requantize(np.array([acc], np.int64), p, term)[0])


async def check(dut, sets: list[tuple[Parameter, list[Value]]]) -> None:
    """Feed `sets`, a bubble-free hand-over wherever a set has values for long enough."""
    cycles = await clock_and_reset(dut, load=0, parameter=0, acc=0, add=0, residual=0)
    expected: dict[int, tuple[int, Parameter, Value]] = {}
    drive: dict[int, dict[str, int]] = {}
    at = 0
    for p, values in sets:
        word = int.from_bytes(p.encode(), "little")
        drive.setdefault(at, {}).update(load=1, parameter=word)
        drive.setdefault(at + 1, {})["load"] = 0
        for k, value in enumerate(values):
            t = at + 1 + k
            acc, residual = value
            drive.setdefault(t, {})["acc"] = acc
            drive.setdefault(t + 1, {}).update(
                add=int(residual is not None), residual=residual or 0
            )
            expected[t + REQUANTIZE_LATENCY] = golden(p, value), p, value
        at += max(len(values), PARAMETER_HOLD + 1)
    for t in range(at + REQUANTIZE_LATENCY + 2):
        for name, value in drive.get(t, {}).items():
            getattr(dut, name).value = value
        await cycles.settle()
        if t in expected:
            want, p, value = expected[t]
            got = dut.result.value.to_signed()
            assert got == want, f"cycle {t}: {got} instead of {want} from {value} with {p}"
        await cycles.edge()


@cocotb.test()
async def corners(dut):
    await check(dut, corner_sets())


@cocotb.test()
async def random_values(dut):
    await check(dut, random_sets(int(os.environ.get("SETS", "300")), seed=BITS))
