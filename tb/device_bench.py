"""Cocotb test that executes one job of IcarusDevice; job and result are files in a directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb

from ..hdl.registers import REGISTERS
from .axi_memory import AxiLiteMaster, AxiMemory
from .bench import Cycles, clock_and_reset
from .memory_model import AxiMemoryModel, Options
from .session import BUSY, COUNTERS, IDENTITY, SOFT_RESET, START, STATE

JOB = "job.json"
RESULT = "result.json"


def region_file(number: int) -> str:
    """Name of the file with the contents of a memory region."""
    return f"region{number}.bin"


@cocotb.test()
async def run(dut: Any) -> None:
    """Execute the job in the directory ``$WEFT_JOB``."""
    folder = Path(os.environ["WEFT_JOB"])
    job = json.loads((folder / JOB).read_text())
    regions = [
        (base, bytearray((folder / region_file(i)).read_bytes()))
        for i, base in enumerate(job["regions"])
    ]
    cycles = await clock_and_reset(dut, cycles=4)
    bus = AxiLiteMaster(dut, cycles)
    memory = AxiMemory(dut, cycles, bus_bytes=job["bus_bytes"], options=Options(**job["options"]))
    memory.map(*regions)

    result = {"identity": await _read(bus, *IDENTITY), "rested": False, "ended": False}
    control = REGISTERS["CONTROL"].address
    begin = cycles.now
    await bus.write(control, SOFT_RESET)
    while not result["rested"] and cycles.now - begin <= job["patience"]:
        result["rested"] = not (await _read(bus, "STATUS"))["STATUS"] & BUSY
    if result["rested"]:
        for name, value in job["setup"]:
            await bus.write(REGISTERS[name].address, value)
        execution = cocotb.start_soon(
            _execute(dut, cycles, job["limit"], job["patience"], memory.model)
        )
        origin = await bus.write(control, START) + 1
        memory.model.origin(origin)
        result["ended"], log = await execution
        result["retired"] = [(cycle - origin, unit) for cycle, unit in log if cycle >= origin]
        result["traffic"] = memory.model.traffic
    if result["ended"]:
        result["values"] = await _read(bus, *STATE, *COUNTERS)
    for i, (_, contents) in enumerate(regions):
        (folder / region_file(i)).write_bytes(contents)
    (folder / RESULT).write_text(json.dumps(result))


async def _read(bus: AxiLiteMaster, *names: str) -> dict[str, int]:
    return {name: await bus.read(REGISTERS[name].address) for name in names}


async def _execute(
    dut: Any, cycles: Cycles, limit: int, patience: int, memory: AxiMemoryModel
) -> tuple[bool, list[tuple[int, int]]]:
    """Wait for the interrupt; whether it came, and (cycle, unit) of every completed instruction."""
    log: list[tuple[int, int]] = []
    begin = active = cycles.now
    while cycles.now - begin < limit and cycles.now - active <= patience:
        await cycles.settle()
        units = int(dut.retire.value)
        if units:
            log += [(cycles.now, unit) for unit in range(units.bit_length()) if units >> unit & 1]
        if units or memory.moved == cycles.now:
            active = cycles.now
        interrupt = int(dut.irq.value)
        await cycles.edge()
        if interrupt:
            return True, log
    return False, log
