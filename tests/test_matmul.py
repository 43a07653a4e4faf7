"""The GEMM core against its recurrence and against NumPy, to the cycle and to the bit."""

from __future__ import annotations

import dataclasses
import json

import pytest
from weft.hdl.config import Config
from weft.hdl.gemm import GemmCore
from weft.tb.runner import simulate

SQUARE = Config(
    rows=4, cols=4, bus_bits=64, act_bytes=4096, wgt_bytes=4096, acc_depth=32, vector_lanes=2
)
WIDE = Config(
    rows=8, cols=12, bus_bits=64, act_bytes=8192, wgt_bytes=8192, acc_depth=64, vector_lanes=4
)
ODD = Config(
    rows=12, cols=4, bus_bits=64, act_bytes=8192, wgt_bytes=4096, acc_depth=32, vector_lanes=4
)
LARGE = Config(rows=16, cols=16, acc_depth=64, wgt_bytes=8192, act_bytes=16384)


@pytest.mark.parametrize(
    ("config", "count", "simulator"),
    [
        (SQUARE, 30, "verilator"),
        (SQUARE, 6, "icarus"),
        (WIDE, 6, "icarus"),
        (ODD, 8, "icarus"),
        (LARGE, 2, "icarus"),
    ],
    ids=["4x4", "4x4-icarus", "8x12", "12x4", "16x16"],
)
def test_core(config, count, simulator):
    simulate(
        GemmCore(config),
        "tests.bench_matmul",
        simulator=simulator,
        env={"CONFIG": json.dumps(dataclasses.asdict(config)), "COUNT": count},
        name=f"matmul_{config.rows}x{config.cols}",
    )
