"""The on-chip memories against byte arrays and their latencies."""

from __future__ import annotations

import gc
import json

import pytest
from weft.hdl.act_memory import ActMemory
from weft.hdl.config import Config
from weft.hdl.ram import Ram
from weft.hdl.row_memory import RowMemory
from weft.tb.runner import simulate

#: Building takes longer than running.
UNOPTIMISED = ("-CFLAGS", "-O0")

ACT = {
    "8 lanes": {"rows": 8, "cols": 8, "bus_bits": 64, "act_bytes": 1024, "vector_lanes": 8},
    "16 lanes for 12 rows": {
        "rows": 12, "cols": 12, "bus_bits": 64, "act_bytes": 512, "act_banks": 2, "vector_lanes": 3,
        "parity": True,
    },
    "16 lanes for 4 rows": {
        "rows": 4, "cols": 4, "bus_bits": 128, "act_bytes": 1024, "vector_lanes": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ACT)
def test_act_memory(name):
    simulate(
        ActMemory(Config(**ACT[name])),
        "tests.bench_act_memory",
        simulator="icarus",
        env={"CONFIG": json.dumps(ACT[name]), "COUNT": 300},
        name="act_memory",
    )


def test_act_memory_on_verilator():
    fields = ACT["8 lanes"]
    simulate(
        ActMemory(Config(**fields)),
        "tests.bench_act_memory",
        env={"CONFIG": json.dumps(fields), "COUNT": 2500},
        name="act_memory_verilator",
        build_args=UNOPTIMISED,
    )


@pytest.mark.parametrize(
    ("rows", "row_bytes", "bus_bytes", "parity"),
    [
        *((64, 16, 8, True), (32, 16, 16, False), (64, 4, 16, True), (16, 64, 8, False)),
        (256, 1, 8, False),
    ],
)
def test_row_memory(rows, row_bytes, bus_bytes, parity):
    simulate(
        RowMemory(rows=rows, row_bytes=row_bytes, bus_bytes=bus_bytes, parity=parity),
        "tests.bench_row_memory",
        simulator="icarus",
        env={
            "ROWS": rows,
            "ROW_BYTES": row_bytes,
            "BUS_BYTES": bus_bytes,
            "PARITY": int(parity),
        },
        name="row_memory",
    )


@pytest.mark.parametrize("output_register", [False, True])
def test_ram(output_register):
    ram = Ram(width=16, depth=20, granularity=8, output_register=output_register)
    env = {"LATENCY": ram.latency, "DEPTH": 20}
    simulate(ram, "tests.bench_ram", simulator="icarus", env=env, name="ram")


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        (Ram, {"width": 0, "depth": 4}, "width must be at least 1, not 0"),
        (Ram, {"width": 8, "depth": 1}, "depth must be at least 2, not 1"),
        (
            Ram,
            {"width": 12, "depth": 4, "granularity": 8},
            "granularity must divide width = 12, not 8",
        ),
        (
            RowMemory,
            {"rows": 8, "row_bytes": 12, "bus_bytes": 8},
            "row_bytes must be a power of two, not 12",
        ),
        (
            RowMemory,
            {"rows": 1, "row_bytes": 16, "bus_bytes": 8},
            "rows must fill at least two words of 16 bytes: 1",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refusals(component, arguments, message):
    with pytest.raises(ValueError, match=message):
        component(**arguments)
    gc.collect()  # while its warning is ignored
