"""Tables and transposed results on the whole machine in RTL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Instruction, Memory, Opcode, Segment, Unit
from weft.hdl.registers import Error
from weft.host.check import CheckError, check
from weft.host.device import Job
from weft.host.golden import GoldenDevice
from weft.tb.devices import VerilatorDevice

from .gemm import VECTORS, Gemm, encode, fields, load


@pytest.fixture(scope="module")
def tiny():
    """A 4×4 machine in Verilator, kept for all tests."""
    device = VerilatorDevice(PRESETS["tiny"], latency=20)
    yield device
    device.close()


def change(instruction: Instruction, **values: int) -> Instruction:
    """The instruction with other fields."""
    return replace(instruction, fields={**instruction.fields, **values})


@pytest.mark.parametrize("bank", range(4))
def test_a_group_of_channels_in_several_banks(tiny, bank):
    """DRAIN writes channel 0 to bank 0 and channel 1 to bank 2, while LOAD writes to one bank."""
    config = tiny.config
    values = fields(channels=2, dst_jump=2 * config.act_bank_bytes // config.act_lanes)
    drain = Instruction(Opcode.DRAIN, {**values, "oy": 3, "ox": 99, "dst_row": 99, "dst_pixel": 1})
    local = bank * config.act_bank_bytes + 4096
    loads = [Instruction(Opcode.LOAD, {"length": 64, "local": local})] * 6
    code = encode(drain, *loads, Instruction(Opcode.END))
    sizes = (64, 0, 0, 0)
    legal = bank % 2 == 1
    if legal:
        check(code, config, sizes)
    else:
        with pytest.raises(CheckError, match=f"writes ACT bank {bank} .* a bank serves one unit"):
            check(code, config, sizes)
    result = tiny.run(Job(code, (bytes(64), b"", b"", b"")))
    assert (result.error == Error.NONE) == legal
    if not legal:
        assert (result.error, result.error_pc) == (Error.BANK_CONFLICT, 0)


def test_silu_of_a_transposed_product(tiny):
    """Through a table, a column a row: what attention and activation functions need."""
    gemm, config = Gemm(tiny.config), tiny.config
    x = (np.arange(256) - 128) / 16
    table = np.rint(16 * x / (1 + np.exp(-x))).astype(np.int8)
    const = gemm.const + table.tobytes()
    pitch = 1 + config.act_lanes * 2
    drain = gemm.program[4]
    program = [
        load(Memory.TBL, len(gemm.const), 256, Unit.VECTOR),
        *gemm.program[:4],
        change(drain, table=1, dst_pixel=1, dst_jump=2),
        change(gemm.program[5], length=VECTORS, rows=config.cols, local_pitch=pitch, dram_pitch=16),
        gemm.program[-1],
    ]
    # PAR's LOAD follows the table's in the same unit, and posts for both.
    program[0] = change(program[0], post=0)
    job = Job(encode(*program), (const, *gemm.job().segments[1:]))
    result = tiny.run(job)
    assert result.error == Error.NONE
    product = np.frombuffer(gemm.expected(), np.int8).reshape(VECTORS, config.cols)
    rows = np.frombuffer(result.segments[Segment.OUTPUT], np.int8)[: 16 * config.cols]
    expected = table[product.T.astype(int) + 128]
    np.testing.assert_array_equal(rows.reshape(config.cols, 16)[:, :VECTORS], expected)
    assert result.segments == GoldenDevice(config).run(job).segments
    assert len(np.unique(expected)) > 8
