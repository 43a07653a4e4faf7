"""What the driver sees of PYNQ, with the RTL behind it: registers, and buffers with caches.

The processor's view of a buffer and the memory that the machine reaches are two copies, which only
``flush`` and ``invalidate`` make equal: a driver that forgets one fails.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from weft.boards import axi_ip
from weft.hdl.config import Config
from weft.hdl.registers import REGISTERS
from weft.tb import fast
from weft.tb.devices import machine_verilog

CONTROL, STATUS = REGISTERS["CONTROL"].address, REGISTERS["STATUS"].address
START = 1
#: Cycles that pass while the processor makes an access.
ACCESS_CYCLES = 200
FIRST_ADDRESS = 0x1600_0000


def peripheral_verilog(config: Config, core: str) -> str:
    """The peripheral around `core`, with a top that has the pins which the simulator wants.

    Pins that `core` does not have are tied to nothing.
    """
    core, count = re.subn(r"^module weft\b", "module weft_bare", core, flags=re.MULTILINE)
    assert count == 1
    wrapper = axi_ip.wrapper(config).replace("  weft machine (", "  weft_bare machine (")
    pins = {port.name: port for port in axi_ip.ports(config)}
    missing = [name for name in re.findall(r"\.(m_axi_\w+)\(", wrapper) if f" {name}" not in core]
    extra = "".join(f"output {_width(pins[name].bits)}{name}, " for name in missing)
    core = re.sub(r"(input +wire +clk,)", rf"{extra}\1", core, count=1)
    buses = [port for port in pins.values() if port.bus in ("m_axi", "s_axil")]
    outer = ", ".join(
        f"{'output' if port.output else 'input'} {_width(port.bits)}{port.name}" for port in buses
    )
    inner = ", ".join(f".{port.name}({port.name})" for port in buses)
    return (
        f"{core}\n{wrapper}\n"
        f"module weft (input clk, input rst, output irq, output [4:0] retire, {outer});\n"
        "assign retire = 0;\n"
        f"{axi_ip.NAME} peripheral (.aclk(clk), .aresetn(~rst), .irq(irq), {inner});\nendmodule\n"
    )


def _width(bits: int) -> str:
    return f"[{bits - 1}:0] " if bits > 1 else ""


class Buffer(np.ndarray):
    """As ``pynq.allocate`` makes them."""

    device_address: int
    memory: bytearray
    owner: Pynq

    def flush(self) -> None:
        """The processor's copy to memory."""
        self.memory[:] = self.tobytes()

    def invalidate(self) -> None:
        """Memory to the processor's copy."""
        self[:] = np.frombuffer(self.memory, np.uint8)

    def freebuffer(self) -> None:
        """Memory is no longer there."""
        self.owner.buffers = [b for b in self.owner.buffers if b is not self]


class Pynq:
    """A board with the machine of `config`, or with what `verilog` describes."""

    def __init__(self, config: Config, verilog: str | None = None):
        text = machine_verilog(config) if verilog is None else verilog
        self.machine = fast.FastMachine(fast.build(text, config.bus_bytes))
        self.buffers: list[Any] = []
        self.address = FIRST_ADDRESS
        self.registers: dict[int, int] = {}

    def allocate(self, shape: tuple[int], dtype: type) -> Buffer:
        """A buffer; what the processor's copy and memory hold before is chance."""
        assert dtype is np.uint8
        buffer = np.full(shape, 0xA5, np.uint8).view(Buffer)
        buffer.memory = bytearray(b"\x5a" * shape[0])
        buffer.device_address, buffer.owner = self.address, self
        self.address += shape[0]
        self.buffers.append(buffer)
        return buffer

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        start = offset == CONTROL and value == START
        if start:
            self.machine.map(*((b.device_address, b.memory) for b in self.buffers))
        self.machine.write(offset, value, start=start)

    def read(self, offset: int) -> int:
        """Read a register."""
        if offset in self.registers:
            return self.registers[offset]
        if offset == STATUS:
            self.machine.idle(ACCESS_CYCLES)
        return self.machine.read(offset)
