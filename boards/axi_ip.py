"""The machine as a peripheral for a vendor's tools: Verilog, descriptions, scripts and a driver."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hdl import axi
from ..hdl.files import write_whole
from ..hdl.isa import INSTRUCTION_BYTES, Segment
from ..hdl.registers import (
    ERRORS,
    ID_VALUE,
    REGISTER_ADDR_BITS,
    REGISTERS,
    VERSION_VALUE,
    Register,
)
from ..hdl.top import MASTER, SLAVE
from ..hdl.verilog import TOP
from ..host.errors import WeftError

if TYPE_CHECKING:
    from ..hdl.config import Config

NAME = "weft_axi"
#: Vendor and library, with which catalogues of peripherals name what they hold.
VENDOR, LIBRARY = "weft", "accelerator"
MASTER_BUS, SLAVE_BUS = MASTER.rstrip("_"), SLAVE.rstrip("_")
CLOCK, RESET, INTERRUPT = "aclk", "aresetn", "irq"
#: Bytes of address space that the registers are given: the least that Vivado assigns.
SLAVE_BYTES = 4096
DRIVER = "weft_pynq.py"
DESCRIPTION = "weft.json"


class IpError(WeftError):
    """A peripheral that cannot be written; one sentence."""


@dataclass(frozen=True)
class Port:
    """A pin: its bus, what that bus calls it, its width; `output` from the peripheral's side."""

    name: str
    bus: str
    logical: str
    bits: int
    output: bool


@dataclass(frozen=True)
class Parameter:
    """A parameter of the Verilog, the pins it sets, and its value unless told."""

    name: str
    bits: int
    value: int
    pins: tuple[str, str]
    doc: str


#: What an integrator may set: the attributes of AXI transfers that depend on where they go.
PARAMETERS = tuple(
    Parameter(f"M_AXI_{name.upper()}", bits, value, (f"aw{name}", f"ar{name}"), doc)
    for name, bits, value, doc in (
        ("cache", 4, axi.CACHE_BUFFERABLE, "AWCACHE and ARCACHE: 3 non-cacheable, 15 coherent"),
        ("prot", 3, axi.PROT_DATA, "AWPROT and ARPROT: 0 secure, 2 non-secure"),
        ("qos", 4, 0, "AWQOS and ARQOS"),
    )
)


def ip_version() -> str:
    """Version as catalogues want it: major and minor."""
    return ".".join(version("weft").split(".")[:2])


def ports(config: Config) -> list[Port]:
    """Every pin of the peripheral."""
    found = [
        Port(CLOCK, "clock", "CLK", 1, False),
        Port(RESET, "reset", "RST", 1, False),
        Port(INTERRUPT, "interrupt", "INTERRUPT", 1, True),
    ]
    master = {**axi.AxiWrite(config).members, **axi.AxiRead(config).members}
    slave = axi.AxiLite(REGISTER_ADDR_BITS).members
    for prefix, bus, members, ours in (
        (MASTER, MASTER_BUS, master, "Out"),
        (SLAVE, SLAVE_BUS, slave, "In"),
    ):
        found += [
            Port(prefix + name, bus, name.upper(), member.shape, member.flow.name == ours)
            for name, member in members.items()
        ]
    return found


def wrapper(config: Config) -> str:
    """Verilog of the module :data:`NAME` around the machine.

    Its reset is active low, as AXI's is, and synchronous to its clock.
    """
    set_by = {MASTER + pin: parameter.name for parameter in PARAMETERS for pin in parameter.pins}
    parameters = ",\n".join(
        f"  parameter [{p.bits - 1}:0] {p.name} = {p.value}" for p in PARAMETERS
    )
    lines, inner = [], [f".clk({CLOCK})", f".rst(~{RESET})", ".retire()", f".irq({INTERRUPT})"]
    for port in ports(config):
        width = f" [{port.bits - 1}:0]" if port.bits > 1 else ""
        direction = "output" if port.output else "input"
        lines.append(f"{_attributes(port)}  {direction}{width} {port.name}")
        if port.bus in (MASTER_BUS, SLAVE_BUS):
            inner.append(f".{port.name}({'' if port.name in set_by else port.name})")
    constants = "".join(f"  assign {pin} = {name};\n" for pin, name in set_by.items())
    return (
        f"// Weft {config.rows}x{config.cols} as an AXI peripheral; configuration "
        f"{config.fingerprint:016x}.\n"
        f"module {NAME} #(\n{parameters}\n) (\n" + ",\n".join(lines) + "\n);\n"
        f"{constants}  {TOP} machine (\n    " + ",\n    ".join(inner) + "\n  );\nendmodule\n"
    )


def _attributes(port: Port) -> str:
    """What Vivado cannot tell from a pin's name."""
    about = {
        CLOCK: f"ASSOCIATED_BUSIF {MASTER_BUS}:{SLAVE_BUS}, ASSOCIATED_RESET {RESET}",
        RESET: "POLARITY ACTIVE_LOW",
        INTERRUPT: "SENSITIVITY LEVEL_HIGH",
    }.get(port.name)
    if about is None:
        return ""
    kind = f"xilinx.com:signal:{port.bus}:1.0"
    return (
        f'  (* X_INTERFACE_INFO = "{kind} {port.name} {port.logical}" *)\n'
        f'  (* X_INTERFACE_PARAMETER = "{about}" *)\n'
    )


def reset_value(config: Config, register: Register) -> int:
    """What a register holds after reset."""
    return {
        "ID": ID_VALUE,
        "VERSION": VERSION_VALUE,
        "CONFIG_LO": config.fingerprint & 0xFFFF_FFFF,
        "CONFIG_HI": config.fingerprint >> 32,
    }.get(register.name, register.init)


def description(config: Config) -> dict[str, Any]:
    """What the driver has to know of a machine; JSON."""
    return {
        "name": config.name,
        "fingerprint": f"{config.fingerprint:016x}",
        "addr_bits": config.addr_bits,
        "id": ID_VALUE,
        "version": VERSION_VALUE,
        "instruction_bytes": INSTRUCTION_BYTES,
        "registers": {name: register.address for name, register in REGISTERS.items()},
        "segments": [segment.name for segment in Segment],
        "errors": {
            str(int(code)): [code.name, info.meaning, info.advice] for code, info in ERRORS.items()
        },
    }


def write(config: Config, folder: Path) -> list[Path]:
    """The peripheral of a machine, in `folder`.

    Parameters
    ----------
    config
        The machine.
    folder
        Gets ``weft.v`` and ``weft_axi.v``; ``component.xml`` (IP-XACT 2009);
        ``package_ip.tcl`` and ``block_design.tcl`` for Vivado, ``weft_axi_hw.tcl`` for
        Platform Designer; ``weft_pynq.py`` and ``weft.json``, the driver; and the configuration.

    Raises
    ------
    IpError
        It cannot be written.
    """
    from ..tb.devices import machine_verilog
    from . import ipxact, vendor_scripts

    driver = Path(__file__).with_name("pynq_driver.py")
    files = {
        f"{TOP}.v": machine_verilog(config),
        f"{NAME}.v": wrapper(config),
        f"{TOP}.toml": config.to_toml(),
        "component.xml": ipxact.component(config),
        "package_ip.tcl": vendor_scripts.package(),
        "block_design.tcl": vendor_scripts.block_design(config),
        f"{NAME}_hw.tcl": vendor_scripts.platform_designer(config),
        DESCRIPTION: json.dumps(description(config), indent=1) + "\n",
        DRIVER: driver.read_text(encoding="utf-8"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(folder / name, text.encode())
    except OSError as error:
        raise IpError(f"cannot write to {folder}: {error.strerror}") from error
    return [folder / name for name in files]
