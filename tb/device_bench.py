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
    if job["check_outputs"]:
        cocotb.start_soon(check_outputs(dut, cycles))

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


class UndefinedOutput(AssertionError):
    """An output is x where it must not be."""


#: Channels that the machine drives, and outputs that always count.
_CHANNELS = {
    "m_axi_ar": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
    "m_axi_aw": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
    "m_axi_w": ("strb", "last"),
    "s_axil_b": ("resp",),
    "s_axil_r": ("resp", "data"),
}
_CONTROLS = (
    *(f"{channel}valid" for channel in _CHANNELS),
    *("m_axi_rready", "m_axi_bready", "s_axil_awready", "s_axil_wready", "s_axil_arready"),
    *("irq", "retire"),
)


async def check_outputs(dut: Any, cycles: Cycles) -> None:
    """Raise UndefinedOutput in the first cycle in which an output that counts is x.

    Those are valid, ready, interrupt and `retire` in every cycle, and what belongs to a valid while
    that is set; of write data the bytes with strobes.
    """
    pins = {name: getattr(dut, name) for name in _CONTROLS}
    payload = {
        channel: [(channel + name, getattr(dut, channel + name)) for name in names]
        for channel, names in _CHANNELS.items()
    }
    while True:
        await cycles.settle()
        counting = list(pins.items())
        for channel, members in payload.items():
            if str(pins[f"{channel}valid"].value) == "1":
                counting += members
        for name, pin in counting:
            if not pin.value.is_resolvable:
                raise UndefinedOutput(f"{name} is {pin.value!s} in cycle {cycles.now}")
        if str(dut.m_axi_wvalid.value) == "1":
            strobes, data = int(dut.m_axi_wstrb.value), str(dut.m_axi_wdata.value)[::-1]
            for lane in range(strobes.bit_length()):
                if strobes >> lane & 1 and set(data[8 * lane : 8 * lane + 8]) - {"0", "1"}:
                    raise UndefinedOutput(f"m_axi_wdata, byte {lane} in cycle {cycles.now}")
        await cycles.edge()


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
