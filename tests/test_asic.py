"""Verilog for a chip: memories as macros, area and delay on a cell library."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from weft.boards import asic
from weft.boards.asic import synthesize
from weft.boards.macros import Macros, behavioural
from weft.boards.tools import ToolError
from weft.hdl.config import PRESETS
from weft.hdl.multiplier import Multiplier
from weft.hdl.ram import Ram
from weft.hdl.verilog import convert
from weft.host import compiler, interpreter, lenet, run
from weft.host.cli import main
from weft.tb.devices import VerilatorDevice
from weft.tb.runner import simulate

from .cells import DFF_AREA, GATES, liberty

TINY = PRESETS["tiny"]


@pytest.fixture
def cells(tmp_path) -> Path:
    path = tmp_path / "round.lib"
    path.write_text(liberty())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the command writes without a library."""
    place = tmp_path_factory.mktemp("asic")
    with pytest.raises(SystemExit) as end:
        main(["build", "asic", "--config", "tiny", "-o", str(place), "--json"])
    assert not end.value.code
    return place


# -- memories ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_register", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_macros_contents_are_the_memory(parts, output_register):
    macros = Macros()
    ram = Ram(width=16, depth=20, granularity=16 // parts, output_register=output_register)
    text = convert(ram, "top", macros)
    ((name, wanted),) = macros.rams.items()
    env = {"LATENCY": ram.latency, "DEPTH": 20, "PARTS": parts}
    simulate(
        text + behavioural(name, wanted), "tests.bench_ram", simulator="icarus", env=env, name="ram"
    )


def test_the_machine_with_macros_runs_lenet(folder):
    """The two files as they are written; every byte of the result, and every cycle."""
    verilog = (folder / "weft.v").read_text() + (folder / "weft_rams.v").read_text()
    network = lenet.quantized(TINY, None, None)
    inputs = network.inputs[:2]
    report = run.run(
        compiler.compile(network.graph, TINY),
        VerilatorDevice(TINY, verilog=verilog),
        inputs,
        reference=interpreter.run_all(network.graph, inputs),
    )
    assert report.mismatches == 0
    assert report.as_predicted


def test_the_list_of_macros_is_what_the_verilog_asks_for(folder):
    design, rams = (folder / "weft.v").read_text(), (folder / "weft_rams.v").read_text()
    table = {entry["module"]: entry for entry in json.loads((folder / "macros.json").read_text())}
    assert set(re.findall(r"^  (weft_ram_\w+) \w+ \(", design, re.MULTILINE)) == set(table)
    assert set(re.findall(r"^module (\w+)", rams, re.MULTILINE)) == set(table)
    for module, entry in table.items():
        text = rams[rams.index(f"module {module} ") :]
        text = text[: text.index(");")]
        pins = re.findall(r"(input|output) (?:\[(\d+):0\] )?(\w+)", text)
        assert {name: [way, int(left or 0) + 1] for way, left, name in pins} == entry["ports"]
        instance = design[re.search(rf"^  {module} \w+ \(", design, re.MULTILINE).start() :]
        instance = instance[: instance.index(");")]
        assert sorted(re.findall(r"\.(\w+)\(", instance)) == sorted(entry["ports"])
    # What is left in the design are queues of a few words; no memory is lost.
    left = re.findall(r"^  reg [^;]*\] \S+ \[(\d+):0\]", design, re.MULTILINE)
    assert max(map(int, left)) < 32
    bits = sum(e["count"] * e["width"] * e["depth"] for e in table.values())
    scratchpads = TINY.act_bytes + TINY.wgt_bytes + TINY.par_bytes + TINY.tbl_bytes
    assert bits >= 8 * scratchpads + 32 * TINY.acc_depth * TINY.cols


def test_counts_are_of_instances_not_of_modules(folder):
    """32 byte lanes are one module, that of a bank of them another."""
    table = {entry["module"]: entry for entry in json.loads((folder / "macros.json").read_text())}
    lanes = TINY.act_banks * TINY.act_lanes
    assert table[f"weft_ram_8x{TINY.act_words // TINY.act_banks}"]["count"] == lanes


# -- area and delay ------------------------------------------------------------------------------


def test_area_and_delay_are_the_librarys(tmp_path, cells):
    found = synthesize(Multiplier(), cells, tmp_path)
    registers = 8 + 8 + 16
    assert found.library == "round"
    assert found.flip_flops == registers
    logic = found.area - DFF_AREA * registers
    gates = found.cells - registers
    smallest, largest = (f(area for area, *_ in GATES.values()) for f in (min, max))
    assert 8 * 8 * smallest < gates * smallest < logic < gates * largest
    assert 8 * 2 * 20 < found.delay_ps < 8 * 8 * 40
    assert not found.macros


def test_a_slower_library_is_slower(tmp_path, cells):
    """The numbers come from the library that is given, not from one read before."""
    slow = tmp_path / "slow.lib"
    slow.write_text(liberty(gates={k: (2 * a, f, 10 * d) for k, (a, f, d) in GATES.items()}))
    quick, late = (synthesize(Multiplier(), path, tmp_path / "m") for path in (cells, slow))
    assert late.delay_ps > 3 * quick.delay_ps
    assert late.area > 1.5 * quick.area - DFF_AREA * quick.flip_flops


def test_macros_are_counted_not_measured(tmp_path, cells):
    found = synthesize(Ram(width=8, depth=64), cells, tmp_path)
    assert found.macros == {"weft_ram_8x64": 1}
    assert (found.area, found.cells, found.delay_ps) == (0, 0, 0)


def test_the_command_reports(monkeypatch, tmp_path, cells, capsys):
    """All but the machine, which takes minutes: a multiplier stands for it."""
    monkeypatch.setattr(asic, "Weft", lambda config: Multiplier())
    with pytest.raises(SystemExit) as end:
        main(["build", "asic", "-c", "tiny", "--liberty", str(cells), "-o", str(tmp_path / "out")])
    assert not end.value.code
    report = json.loads((tmp_path / "out" / asic.REPORT).read_text())
    assert report["fingerprint"] == f"{TINY.fingerprint:016x}"
    told = " ".join(capsys.readouterr().out.split())
    assert f"tiny on round: area {report['area']:,.0f} in the library's unit" in told
    assert f"longest path {report['delay_ps'] / 1000:.2f} ns" in told
    assert "memories are not in it: none" in told
    monkeypatch.setattr(asic, "build", lambda *_, **__: report)
    with pytest.raises(SystemExit):
        main(["build", "asic", "-c", "tiny", "--liberty", str(cells), "--json"])
    assert json.loads(capsys.readouterr().out) == report


def test_the_pages_numbers_were_reported():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "asic.md").read_text(encoding="utf-8")
    for found in json.loads((root / "benchmarks" / "asic.json").read_text()):
        numbers = (f"{found[name]:,.0f}" for name in ("area", "cells", "flip_flops"))
        names = f"| `{found['config']}` | `{found['machine'][:6]}` | `{found['library']}` | "
        assert f"{names}{' | '.join(numbers)} | {found['delay_ps'] / 1000:.2f} ns |" in page
        assert f"Its {sum(found['macros'].values())} memories" in page


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the library"),
        ("hello", "is not a Liberty file: it has no library"),
        ("library (x) {}", "has no cell: give the library of a process' standard cells"),
        (liberty(flip_flops=False), "has no flip-flop"),
        (liberty(gates={"INV": GATES["INV"]}), "abc cannot use the library round"),
    ],
    ids=["missing", "text", "empty", "no flip-flop", "no gates"],
)
def test_refuses_a_library_that_cannot_be_used(tmp_path, text, message):
    library = tmp_path / "my.lib"
    if text is not None:
        library.write_text(text)
    with pytest.raises(ToolError, match=message):
        synthesize(Multiplier(), library, tmp_path / "out")
    assert not list(tmp_path.glob("out/cells-*"))


def _refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["build", *arguments])
    assert end.value.code == 1
    return capsys.readouterr().err


def test_refuses_before_it_begins(tmp_path, cells, capsys):
    assert "--liberty goes with asic" in _refused(capsys, "axi-ip", "--liberty", str(cells))
    assert "--clock-mhz go with a board" in _refused(capsys, "asic", "--clock-mhz", "90")
    missing = str(tmp_path / "none.lib")
    assert f"cannot read the library {missing}" in _refused(capsys, "asic", "--liberty", missing)


def test_refuses_a_folder_that_cannot_be(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(asic, "Weft", lambda config: Multiplier())
    (tmp_path / "file").write_text("")
    assert "cannot write to" in _refused(capsys, "asic", "-o", str(tmp_path / "file" / "x"))


# -- what the flows read -------------------------------------------------------------------------


def test_the_flows_files_exist(folder):
    librelane = json.loads((folder / "config.json").read_text())
    named = [name.removeprefix("dir::") for name in librelane["VERILOG_FILES"]]
    named.append(librelane["PNR_SDC_FILE"].removeprefix("dir::"))
    makefile = (folder / "config.mk").read_text()
    named += re.findall(r"\$\(DESIGN_HOME\)/(\S+)", makefile)
    assert set(named) == {"weft.v", "weft_rams.v", "weft.sdc"}
    assert all((folder / name).is_file() for name in named)
    assert f"DESIGN_NAME = {librelane['DESIGN_NAME']}\n" in makefile
    assert f"module {librelane['DESIGN_NAME']}(" in (folder / "weft.v").read_text()
    assert f"get_ports {librelane['CLOCK_PORT']}]" in (folder / "weft.sdc").read_text()
