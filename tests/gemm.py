"""A small program that uses every unit, with its result by NumPy alone."""

from __future__ import annotations

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import Instruction, Memory, Opcode, Segment, Unit, post_bit, wait_bit
from weft.hdl.numerics import Parameter, requantize
from weft.host.device import Job

VECTORS, DEPTH = 9, 11


def encode(*program: Instruction) -> bytes:
    return b"".join(instruction.encode() for instruction in program)


def fields(**values: int) -> dict[str, int]:
    return values


def load(memory: Memory, offset: int, length: int, consumer: Unit) -> Instruction:
    """A LOAD of one row from CONST (or INPUT, to ACT) that posts semaphore 0 to `consumer`."""
    segment = Segment.INPUT if memory == Memory.ACT else Segment.CONST
    post = post_bit(Unit.LOAD, consumer, 0)
    values = fields(memory=memory, segment=segment, offset=offset, length=length, post=post)
    return Instruction(Opcode.LOAD, values)


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class Gemm:
    """A matrix product of random numbers, as a program: VECTORS × DEPTH by DEPTH × cols."""

    def __init__(self, config: Config, seed: int = 0):
        rng = np.random.default_rng(seed)
        rows, cols, bus = config.rows, config.cols, config.bus_bytes
        self.config = config
        self.act = rng.integers(-128, 128, (VECTORS, DEPTH), np.int8)
        self.weight = rng.integers(-127, 128, (DEPTH, cols), np.int8)
        self.parameters = [
            Parameter(
                bias=int(rng.integers(-5000, 5000)),
                multiplier=int(rng.integers(1 << 14, 1 << 16)),
                shift=23,
                zero_point=int(rng.integers(-10, 10)),
                low=-120,
            )
            for _ in range(cols)
        ]
        tiles = -(-DEPTH // rows)
        wgt = np.zeros((tiles * rows, config.wgt_row_bytes), np.int8)
        wgt[:DEPTH, :cols] = self.weight
        par = b"".join(parameter.encode() for parameter in self.parameters)
        wgt_bytes = round_up(wgt.nbytes, bus)
        par_bytes = round_up(len(par), bus)
        self.const = wgt.tobytes().ljust(wgt_bytes, b"\0") + par.ljust(par_bytes, b"\0")
        dst = config.act_bank_bytes
        self.program = [
            load(Memory.WGT, 0, wgt_bytes, Unit.WEIGHT),
            load(Memory.ACT, 0, self.act.size, Unit.MATMUL),
            load(Memory.PAR, wgt_bytes, par_bytes, Unit.VECTOR),
            Instruction(
                Opcode.MATMUL,
                fields(
                    weight_wait=wait_bit(Unit.WEIGHT, Unit.LOAD, 0),
                    wait=wait_bit(Unit.MATMUL, Unit.LOAD, 0),
                    post=post_bit(Unit.MATMUL, Unit.VECTOR, 0),
                    kc=DEPTH,
                    ox=VECTORS,
                    width=VECTORS,
                    pixel_pitch=DEPTH,
                ),
            ),
            Instruction(
                Opcode.DRAIN,
                fields(
                    wait=wait_bit(Unit.VECTOR, Unit.LOAD, 0)
                    | wait_bit(Unit.VECTOR, Unit.MATMUL, 0),
                    post=post_bit(Unit.VECTOR, Unit.STORE, 0),
                    channels=cols,
                    ox=VECTORS,
                    dst=dst,
                    dst_pixel=cols,
                ),
            ),
            Instruction(
                Opcode.STORE,
                fields(
                    wait=wait_bit(Unit.STORE, Unit.VECTOR, 0),
                    segment=Segment.OUTPUT,
                    local=dst,
                    length=VECTORS * cols,
                ),
            ),
            Instruction(Opcode.END, {"tag": 0x5EED}),
        ]

    def job(self, *program: Instruction) -> Job:
        """The program, or another one, with this data."""
        return self.job_of(encode(*(program or self.program)))

    def job_of(self, code: bytes) -> Job:
        """Any code with this data."""
        output = bytes(round_up(VECTORS * self.config.cols, 64) + 64)
        return Job(code, (self.const, self.act.tobytes().ljust(512, b"\0"), output, b""))

    def expected(self) -> bytes:
        """The product, by NumPy alone."""
        sums = self.act.astype(np.int32) @ self.weight.astype(np.int32)
        columns = [requantize(sums[:, c], p) for c, p in enumerate(self.parameters)]
        return np.stack(columns, axis=1).tobytes()
