"""LOAD and STORE against cocotbext-axi's memory, an AXI slave that is not ours."""

from __future__ import annotations

import itertools
import random
import warnings

import cocotb
from weft.tb.bench import STALLS

from tests import bench_load, bench_store
from tests.bench_dma import BASES, SEGMENT_BYTES, contents

# It imports and calls names that cocotb 2 has renamed.
for _module in (r"cocotb\b", r"cocotb_bus\b", r"cocotbext\b", r"importlib\b"):
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=_module)

from cocotbext.axi import (  # noqa: E402
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiWriteBus,
)


def pauses(seed: int, active: bool):
    """Whether a channel pauses, cycle by cycle."""
    rng = random.Random(seed)
    return (active and rng.random() < 0.4 for _ in itertools.count())


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def memory(dut, stalls):
    """Data moves as it should, at the oracle's own pace."""
    reading = hasattr(dut, "m_axi__arvalid")
    bench = bench_load if reading else bench_store
    idle, back = STALLS[stalls]
    cycles = await bench.reset(dut)
    kind, bus = (AxiRamRead, AxiReadBus) if reading else (AxiRamWrite, AxiWriteBus)
    ram = kind(bus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=1 << 34)
    if reading:
        ram.ar_channel.set_pause_generator(pauses(1, back))
        ram.r_channel.set_pause_generator(pauses(2, idle))
    else:
        ram.aw_channel.set_pause_generator(pauses(3, back))
        ram.w_channel.set_pause_generator(pauses(4, back))
        ram.b_channel.set_pause_generator(pauses(5, idle))
    data = contents(7)
    for base, part in zip(BASES, data, strict=True):
        ram.write(base, bytes(part))
    moves = bench.programs(31, 8, 20)
    path = bench.Bench(dut, cycles, None, moves)
    await path.run()
    if reading:
        assert [w for _, w in path.writes] == bench_load.expected_writes(moves, data)
    else:
        bench_store.apply(moves, data)
        assert [ram.read(base, SEGMENT_BYTES) for base in BASES] == [bytes(d) for d in data]
    assert not path.faults
    assert not path.errors
