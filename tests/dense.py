"""Programs whose results hang on every bit of the arithmetic: few of them saturate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import Memory, Opcode, Segment
from weft.hdl.numerics import Parameter

from .programs import Generator, RandomProgram

#: Rows and columns of outputs, column blocks, DRAINs, and parameter entries of a program.
_SIDE, _BLOCKS, _DRAINS, _ENTRIES = 8, 2, 12, 128


def program(config: Config, seed: int) -> RandomProgram:
    """A product of small numbers, drained many times with other parameters and residuals."""
    rng = np.random.default_rng([seed, config.fingerprint])
    bank, rows, channels = config.act_bank_bytes, config.rows, _BLOCKS * config.cols
    outputs = _SIDE * _SIDE
    weights = _BLOCKS * rows * config.wgt_row_bytes
    shape = {"oy": _SIDE, "ox": _SIDE}
    product = {
        **shape, "kc": rows, "blocks": _BLOCKS, "row_pitch": _SIDE * rows, "pixel_pitch": rows,
        "height": _SIDE, "width": _SIDE,
    }  # fmt: skip
    out = {
        **shape, "channels": channels, "src_row": _SIDE, "src_block": outputs,
        "dst_row": _SIDE * channels, "dst_pixel": channels,
        "res": 2 * bank, "res_row": _SIDE * channels, "res_pixel": channels,
    }  # fmt: skip
    load = {"segment": Segment.INPUT, "memory": Memory.ACT}
    steps = [
        (Opcode.LOAD, {"memory": Memory.PAR, "segment": Segment.CONST, "length": 16 * _ENTRIES}),
        (Opcode.LOAD, {**load, "memory": Memory.WGT, "length": weights}),
        (Opcode.LOAD, {**load, "offset": 4096, "length": outputs * rows}),
        (Opcode.LOAD, {**load, "offset": 8192, "length": outputs * channels, "local": 2 * bank}),
        (Opcode.MATMUL, product),
    ]
    for k in range(_DRAINS):
        par = int(rng.integers(_ENTRIES - channels))
        place = {"dst": bank + k * outputs * channels, "par": par, "residual": k % 2}
        steps.append((Opcode.DRAIN, {**out, **place}))
    made = Generator(config).assemble(seed, steps)
    const, image, *others = made.job.segments
    entries = b"".join(_parameter(rng, config).encode() for _ in range(_ENTRIES))
    small = rng.integers(-7, 8, 4096), rng.integers(-15, 16, 4096), rng.integers(-128, 128, 8192)
    image = np.concatenate(small).astype(np.int8).tobytes()[: len(image)]
    segments = (entries + const[len(entries) :], image, *others)
    return replace(made, job=replace(made.job, segments=segments))


def _parameter(rng: np.random.Generator, config: Config) -> Parameter:
    """Parameters with which sums of some hundreds give results within eight bits or so."""
    shift = int(rng.integers(0, 40))
    bits = int(rng.integers(0, min(shift + 2, config.multiplier_bits)))
    reach = min(31, max(4, shift + 8 - bits))
    early = int(rng.integers(0, min(shift, 24) + 1))

    def signed(bits: int) -> int:
        return int(rng.integers(-(1 << bits), 1 << bits))

    return Parameter(
        bias=signed(reach),
        multiplier=signed(bits) or 1,
        shift=shift,
        residual_shift=early,
        residual_multiplier=signed(min(early + 1, 17)),
        zero_point=signed(3),
        residual_zero=signed(7),
        low=int(rng.choice((-128, -128, -100))),
        high=int(rng.choice((127, 127, 100))),
    )
