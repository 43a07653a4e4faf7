"""IP-XACT (IEEE 1685-2009, the edition that Vivado reads) of the machine as a peripheral."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Xml

from ..hdl.read_engine import READ_BURSTS
from ..hdl.registers import REGISTERS, Register
from ..hdl.verilog import TOP
from ..hdl.write_engine import WRITE_BURSTS
from .axi_ip import (
    CLOCK,
    INTERRUPT,
    LIBRARY,
    MASTER_BUS,
    NAME,
    PARAMETERS,
    RESET,
    SLAVE_BUS,
    SLAVE_BYTES,
    VENDOR,
    Port,
    ip_version,
    ports,
    reset_value,
)

if TYPE_CHECKING:
    from ..hdl.config import Config

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
XILINX = "http://www.xilinx.com"
#: Families that Vivado may use it for.
FAMILIES = (
    *("artix7", "kintex7", "virtex7", "spartan7", "zynq", "kintexu", "virtexu", "kintexuplus"),
    *("virtexuplus", "artixuplus", "zynquplus", "versal"),
)
_SPACE, _MAP, _BLOCK = "memory", "registers", "control"
_FILES = "verilog"
#: IP-XACT's word for how software may use a register.
_ACCESS = {"ro": "read-only", "rw": "read-write", "w1": "write-only", "w1c": "read-write"}
_BIT = re.compile(r"\bbit (\d+) (\w+)")


def component(config: Config) -> str:
    """The text of ``component.xml``."""
    Xml.register_namespace("spirit", SPIRIT)
    Xml.register_namespace("xilinx", XILINX)
    root = Xml.Element(_tag("component"))
    _add(root, "vendor", VENDOR)
    _add(root, "library", LIBRARY)
    _add(root, "name", NAME)
    _add(root, "version", ip_version())
    _bus_interfaces(root, config)
    space = _add(_add(root, "addressSpaces"), "addressSpace")
    _add(space, "name", _SPACE)
    _add(space, "range", f"0x{1 << config.addr_bits:x}", format="long")
    _add(space, "width", str(config.bus_bits), format="long")
    _memory_map(root, config)
    _model(root, config)
    _file_sets(root)
    _add(root, "description", _about(config))
    _parameters(root, config)
    _vendor_extensions(root, config)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _about(config: Config) -> str:
    return (
        f"Weft: INT8 systolic array {config.rows}x{config.cols}, "
        f"{config.bus_bits}-bit AXI4 master, AXI4-Lite registers"
    )


def _tag(name: str) -> str:
    return f"{{{SPIRIT}}}{name}"


def _add(
    parent: Xml.Element, tag: str, text: str | None = None, /, **attributes: str
) -> Xml.Element:
    child = Xml.SubElement(parent, _tag(tag), {_tag(k): v for k, v in attributes.items()})
    child.text = text
    return child


def _parameter(parent: Xml.Element, name: str, value: str, **attributes: str) -> None:
    found = _add(parent, "parameter")
    _add(found, "name", name)
    _add(found, "value", value, **attributes)


def _bus_interfaces(root: Xml.Element, config: Config) -> None:
    interfaces = _add(root, "busInterfaces")
    pins = ports(config)
    _bus(
        interfaces, MASTER_BUS, "interface:aximm", "master", pins, space=True,
        PROTOCOL="AXI4", DATA_WIDTH=config.bus_bits, ADDR_WIDTH=config.addr_bits, ID_WIDTH=1,
        HAS_BURST=1, SUPPORTS_NARROW_BURST=0, MAX_BURST_LENGTH=config.burst_beats,
        NUM_READ_OUTSTANDING=READ_BURSTS, NUM_WRITE_OUTSTANDING=WRITE_BURSTS,
    )  # fmt: skip
    _bus(interfaces, SLAVE_BUS, "interface:aximm", "slave", pins, PROTOCOL="AXI4LITE")
    _bus(
        interfaces, CLOCK, "signal:clock", "slave", pins,
        ASSOCIATED_BUSIF=f"{MASTER_BUS}:{SLAVE_BUS}", ASSOCIATED_RESET=RESET,
    )  # fmt: skip
    _bus(interfaces, RESET, "signal:reset", "slave", pins, POLARITY="ACTIVE_LOW")
    _bus(interfaces, INTERRUPT, "signal:interrupt", "master", pins, SENSITIVITY="LEVEL_HIGH")


def _bus(
    parent: Xml.Element,
    name: str,
    kind: str,
    role: str,
    pins: list[Port],
    *,
    space: bool = False,
    **parameters: object,
) -> None:
    """A bus interface; its pins are those of the bus, or the one of its name."""
    bus = _add(parent, "busInterface")
    _add(bus, "name", name)
    library, _, what = kind.partition(":")
    for tag, suffix in (("busType", ""), ("abstractionType", "_rtl")):
        names = {"vendor": "xilinx.com", "library": library, "name": what + suffix}
        _add(bus, tag, **names, version="1.0")
    mode = _add(bus, role)
    if space:
        _add(mode, "addressSpaceRef", addressSpaceRef=_SPACE)
    elif role == "slave" and library == "interface":
        _add(mode, "memoryMapRef", memoryMapRef=_MAP)
    maps = _add(bus, "portMaps")
    for pin in pins:
        if name in (pin.bus, pin.name):
            pair = _add(maps, "portMap")
            _add(_add(pair, "logicalPort"), "name", pin.logical)
            _add(_add(pair, "physicalPort"), "name", pin.name)
    about = _add(bus, "parameters")
    for key, value in parameters.items():
        _parameter(about, key, str(value), id=f"BUSIFPARAM_VALUE.{name.upper()}.{key}")


def _memory_map(root: Xml.Element, config: Config) -> None:
    memory_map = _add(_add(root, "memoryMaps"), "memoryMap")
    _add(memory_map, "name", _MAP)
    block = _add(memory_map, "addressBlock")
    _add(block, "name", _BLOCK)
    _add(block, "baseAddress", "0x0", format="long")
    _add(block, "range", str(SLAVE_BYTES), format="long")
    _add(block, "width", "32", format="long")
    _add(block, "usage", "register")
    for register in REGISTERS.values():
        _register(block, register, reset_value(config, register))


def _register(block: Xml.Element, register: Register, value: int) -> None:
    found = _add(block, "register")
    _add(found, "name", register.name)
    _add(found, "description", register.doc)
    _add(found, "addressOffset", f"0x{register.address:03x}")
    _add(found, "size", "32", format="long")
    constant = register.access == "ro" and value != 0
    _add(found, "volatile", str(register.access != "rw" and not constant).lower())
    _add(found, "access", _ACCESS[register.access])
    _add(_add(found, "reset"), "value", f"0x{value:x}", format="long")
    bits = [(int(place), name) for place, name in _BIT.findall(register.doc)]
    for offset, name, width in [(at, name, 1) for at, name in bits] or [
        (0, "value", register.bits)
    ]:
        field = _add(found, "field")
        _add(field, "name", name)
        _add(field, "bitOffset", str(offset))
        _add(field, "bitWidth", str(width), format="long")
        _add(field, "access", _ACCESS[register.access])
        if register.access == "w1c":
            _add(field, "modifiedWriteValue", "oneToClear")


def _model(root: Xml.Element, config: Config) -> None:
    model = _add(root, "model")
    views = _add(model, "views")
    for purpose in ("synthesis", "simulation"):
        view = _add(views, "view")
        _add(view, "name", f"verilog_{purpose}")
        _add(view, "envIdentifier", f"verilogSource:vivado.xilinx.com:{purpose}")
        _add(view, "language", "verilog")
        _add(view, "modelName", NAME)
        _add(_add(view, "fileSetRef"), "localName", _FILES)
    pins = _add(model, "ports")
    for port in ports(config):
        pin = _add(pins, "port")
        _add(pin, "name", port.name)
        wire = _add(pin, "wire")
        _add(wire, "direction", "out" if port.output else "in")
        if port.bits > 1:
            vector = _add(wire, "vector")
            _add(vector, "left", str(port.bits - 1), format="long")
            _add(vector, "right", "0", format="long")
    settings = _add(model, "modelParameters")
    for parameter in PARAMETERS:
        setting = _add(settings, "modelParameter", dataType="integer")
        _add(setting, "name", parameter.name)
        _add(
            setting, "value", str(parameter.value), format="long", resolve="generated",
            id=f"MODELPARAM_VALUE.{parameter.name}",
        )  # fmt: skip


def _file_sets(root: Xml.Element) -> None:
    files = _add(_add(root, "fileSets"), "fileSet")
    _add(files, "name", _FILES)
    for name in (f"{TOP}.v", f"{NAME}.v"):
        file = _add(files, "file")
        _add(file, "name", name)
        _add(file, "fileType", "verilogSource")


def _parameters(root: Xml.Element, config: Config) -> None:
    parameters = _add(root, "parameters")
    for setting in PARAMETERS:
        parameter = _add(parameters, "parameter")
        _add(parameter, "name", setting.name)
        _add(parameter, "description", setting.doc)
        _add(
            parameter, "value", str(setting.value), format="long", resolve="user",
            id=f"PARAM_VALUE.{setting.name}", minimum="0", maximum=str((1 << setting.bits) - 1),
            rangeType="long",
        )  # fmt: skip
    for name, value in (
        ("VERSION", ip_version()),
        ("CONFIGURATION", config.name),
        ("FINGERPRINT", f"{config.fingerprint:016x}"),
        ("Component_Name", NAME),
    ):
        _parameter(parameters, name, value, id=f"PARAM_VALUE.{name}")


def _vendor_extensions(root: Xml.Element, config: Config) -> None:
    """What Vivado's catalogue shows."""
    core = Xml.SubElement(_add(root, "vendorExtensions"), f"{{{XILINX}}}coreExtensions")

    def add(parent: Xml.Element, name: str, text: str | None = None) -> Xml.Element:
        child = Xml.SubElement(parent, f"{{{XILINX}}}{name}")
        child.text = text
        return child

    families = add(core, "supportedFamilies")
    for name in FAMILIES:
        add(families, "family", name).set(f"{{{XILINX}}}lifeCycle", "Production")
    add(add(core, "taxonomies"), "taxonomy", "/Weft")
    add(core, "displayName", f"Weft {config.rows}x{config.cols}")
    add(core, "coreRevision", "1")
