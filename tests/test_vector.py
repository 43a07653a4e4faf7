"""VECTOR against NumPy and its timing function."""

from __future__ import annotations

import json

import pytest
from weft.hdl.config import Config
from weft.hdl.isa import Instruction, Opcode
from weft.hdl.vector_unit import VectorUnit, result_latency
from weft.host.timing import vector as timing
from weft.tb.runner import simulate

#: Building takes longer than running.
UNOPTIMISED = ("-CFLAGS", "-O0")

SMALL = {
    "bus_bits": 64,
    "act_bytes": 8192,
    "act_banks": 2,
    "wgt_bytes": 4096,
    "acc_depth": 64,
    "par_entries": 64,
}
CONFIGS = {
    "2 of 8 columns": {"rows": 4, "cols": 8, "vector_lanes": 2, "multiplier_bits": 18, "tables": 1},
    "4 of 4 columns": {"rows": 8, "cols": 4, "vector_lanes": 4},
    "8 of 16 columns": {"rows": 4, "cols": 16, "vector_lanes": 8, "tables": 4},
    "3 of 12 columns": {
        "rows": 8, "cols": 12, "vector_lanes": 3, "multiplier_bits": 24, "tables": 8,
    },
    "1 of 4 columns": {"rows": 4, "cols": 4, "vector_lanes": 1, "multiplier_bits": 8, "tables": 0},
}  # fmt: skip


def run(name: str, simulator: str, count: int) -> None:
    """`count` random instructions on the configuration of that name."""
    fields = {**SMALL, **CONFIGS[name]}
    simulate(
        VectorUnit(Config(**fields)),
        "tests.bench_vector",
        simulator=simulator,
        env={"CONFIG": json.dumps(fields), "SEED": fields["vector_lanes"], "COUNT": count},
        name=f"vector_{simulator}",
        build_args=UNOPTIMISED if simulator == "verilator" else (),
    )


@pytest.mark.parametrize("name", ["2 of 8 columns", "3 of 12 columns", "8 of 16 columns"])
def test_equals_numpy_and_timing(name):
    run(name, "verilator", 50)


@pytest.mark.parametrize("name", ["1 of 4 columns", "2 of 8 columns", "4 of 4 columns"])
def test_icarus_agrees(name):
    run(name, "icarus", 14)


def test_durations_in_numbers():
    """Worked examples of the contract: 8 lanes, 16 columns."""
    config, plain = Config(), Config(tables=0)
    plane = {"oy": 8, "ox": 8, "channels": 8}
    assert (result_latency(config), result_latency(plain)) == (13, 11)
    # 8 parameters, 64 elements, 3 + 13 of latency, the first element beside the last parameter.
    drain = Instruction(Opcode.DRAIN, plane)
    assert timing.duration(drain, config) == 8 + 64 - 1 + 3 + 13
    assert timing.duration(drain, plain) == 8 + 64 - 1 + 3 + 11
    assert timing.duration(Instruction(Opcode.POOL, plane), config) == 8 + 64 - 1 + 5 + 13
    # The second group follows without a gap.
    wide = Instruction(Opcode.DRAIN, {**plane, "channels": 16})
    assert timing.duration(wide, config) == 8 + 128 - 1 + 3 + 13
    # One output a group: a group every 17 cycles.
    vector = Instruction(Opcode.DRAIN, {"channels": 24})
    assert timing.duration(vector, config) == 8 + 2 * 17 + 3 + 13
