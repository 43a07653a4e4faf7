"""The exported Verilog: names, size, determinism, lint, and writing it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from weft.hdl import verilog
from weft.hdl.axi import AxiLite, AxiRead, AxiWrite
from weft.hdl.config import PRESETS, Config, load
from weft.hdl.merge import merge_modules
from weft.hdl.registers import REGISTER_ADDR_BITS
from weft.tb.tools import find_icarus

from .lint import ENDS, complaints, lint, rules

CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def text() -> str:
    return verilog.export(CONFIG)


@pytest.fixture(scope="module")
def file(text, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("verilog") / "weft.v"
    path.write_text(text)
    return path


def test_pins_have_the_names_that_tools_recognise(text):
    header = re.search(r"^module weft\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    assert header
    pins = {pin.strip() for pin in header[1].split(",")}
    expected = {"clk", "rst", "irq", "retire"}
    for signature in (AxiRead(CONFIG), AxiWrite(CONFIG)):
        expected |= {f"m_axi_{name}" for name in signature.members}
    expected |= {f"s_axil_{name}" for name in AxiLite(REGISTER_ADDR_BITS).members}
    assert pins == expected
    assert {"m_axi_awaddr", "m_axi_wlast", "m_axi_rready", "s_axil_bresp"} < pins


def test_equal_modules_are_one(text):
    """The PEs differ in what the array's edges leave out of them, and in nothing else."""
    modules = re.findall(r"^module (\S+?)\(", text, re.MULTILINE)
    assert len(modules) == len(set(modules)) < 90
    assert all(re.fullmatch(r"weft(_[a-z0-9_]+)?", module) for module in modules)
    instances = re.findall(r"^  (weft_pe_\d) \S+ \($", text, re.MULTILINE)
    assert len(instances) == CONFIG.rows * CONFIG.cols
    assert len(set(instances)) <= 9
    assert set(re.findall(r"^  (weft_\w+) \S+ +\($", text, re.MULTILINE)) == {
        module for module in modules if module != "weft"
    }


def test_every_run_writes_the_same_bytes(text):
    code = (
        "import sys; from weft.hdl import config, verilog; "
        "sys.stdout.write(verilog.export(config.PRESETS['tiny']))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == text


def test_nothing_of_this_machine_is_in_it(text):
    assert not re.search(r"(/home|/root|/usr|/work|\.py\b|src =)", text)
    assert f"{CONFIG.fingerprint:016x}" in text.splitlines()[0]


def test_verilator_lint_is_clean(file):
    report = lint(verilog.LINT, file)
    assert report.returncode == 0, report.stderr
    assert not rules(report.stderr), report.stderr


@pytest.mark.parametrize("bus_bits", [128, 256, 512])
def test_lint_is_clean_at_every_bus_width(bus_bits: int):
    config = Config(rows=4, cols=8, bus_bits=bus_bits, vector_lanes=1, act_bytes=16384)
    assert complaints(config) == ""


@pytest.mark.parametrize("name", ENDS)
def test_lint_is_clean_at_the_ends_of_configurations(name: str):
    assert complaints(ENDS[name]) == ""


@pytest.mark.parametrize(("preset", "more"), [("tiny", True), ("default", False)])
def test_lint_is_clean_on_presets(preset: str, more: bool):
    """`make verify` does all of them."""
    name = "tiny with parity, packed" if more else preset
    assert complaints(replace(PRESETS[preset], name=name, parity=more, packed=more)) == ""


def test_the_handbook_gives_every_waivers_reason():
    """As the comment before the rules in the file of waivers."""
    page = (Path(__file__).parent.parent / "docs" / "robustness.md").read_text()
    table = dict(re.findall(r"^\| (\w+(?:, \w+)*) \| (.*) \|$", page, re.MULTILINE))
    groups = re.findall(
        r"((?:^// .*\n)+)((?:^lint_off -rule \w+\n)+)", verilog.LINT.read_text(), re.MULTILINE
    )
    for comment, lines in groups:
        names = ", ".join(re.findall(r"-rule (\w+)", lines))
        assert table[names] == " ".join(re.findall(r"// (.*)", comment))
    explained = sum(lines.count("lint_off") for _, lines in groups)
    assert explained == verilog.LINT.read_text().count("lint_off")


def test_every_waiver_is_needed(file):
    waived = set(re.findall(r"^lint_off -rule (\w+)$", verilog.LINT.read_text(), re.MULTILINE))
    assert rules(lint(file).stderr) == waived


def test_icarus_compiles_it_without_a_warning(file, tmp_path):
    command = [find_icarus().executable, "-g2005", "-Wall", "-s", "weft", "-o", tmp_path / "weft"]
    report = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    assert report.stderr == ""


def test_write(tmp_path, monkeypatch):
    monkeypatch.setattr(verilog, "export", lambda config: f"// {config.name}\n")
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        files = verilog.write(CONFIG, folder)
        assert [path.name for path in files] == ["weft.v", "weft.toml", "weft.vlt"]
        assert sorted(folder.iterdir()) == sorted(files)
    assert (folder / "weft.v").read_text() == "// tiny\n"
    assert load(folder / "weft.toml") == CONFIG


def test_write_refuses_what_is_no_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(verilog, "export", lambda config: "")
    (tmp_path / "file").write_text("")
    with pytest.raises(verilog.ExportError, match=r"cannot write Verilog to .*file'"):
        verilog.write(CONFIG, tmp_path / "file")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setattr(verilog, "export", lambda config: "new")
    (tmp_path / "weft.v").write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(verilog.ExportError, match="No space left on device"):
        verilog.write(CONFIG, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weft.v"]
    assert (tmp_path / "weft.v").read_text() == "old"


def module(name: str, operation: str, ports: str = "\\a \\y") -> str:
    first, second = ports.split()
    return (
        f"module {name}\n\n  wire width 1 input 0  {first}\n\n  wire width 1 output 1  {second}\n\n"
        f"  cell ${operation} $1\n    connect \\A {first}\n    connect \\Y {second}\n  end\n\nend\n"
    )


def parent(name: str, *cells: str) -> str:
    body = "".join(f"  cell {cell}\n    connect \\a \\x\n  end\n\n" for cell in cells)
    return f"module {name}\n\n  wire width 1 \\x\n\n{body}end\n"


def test_merging_sees_equality_through_the_hierarchy():
    il = parent("\\top", "\\top.p_0 \\p_0", "\\top.p_1 \\p_1", "\\top.q \\q")
    il += parent("\\top.p_0", "\\top.p_0.c \\c") + module("\\top.p_0.c", "not")
    il += parent("\\top.p_1", "\\top.p_1.c \\c") + module("\\top.p_1.c", "not")
    il += parent("\\top.q", "\\top.q.c \\c") + module("\\top.q.c", "pos")
    merged = merge_modules(il)
    names = re.findall(r"^module (\S+)", merged, re.MULTILINE)
    assert names == ["\\top", "\\top_p", "\\top_p_c", "\\top_q", "\\top_q_c"]
    assert re.findall(r"^  cell (\\\S+ \S+)", merged, re.MULTILINE) == [
        *("\\top_p \\p_0", "\\top_p \\p_1", "\\top_q \\q"),
        *("\\top_p_c \\c", "\\top_q_c \\c"),
    ]


def test_merging_looks_through_generated_port_names_and_port_order():
    il = parent("\\top", "\\top.a_0 \\a_0", "\\top.a_1 \\a_1")
    il = il.replace("connect \\a \\x", "connect \\port$7$0 \\x", 1)
    il = il.replace("connect \\a \\x", "connect \\port$9$1 \\x", 1)
    il += module("\\top.a_0", "not", "\\port$7$0 \\y")
    il += module("\\top.a_1", "not", "\\port$9$1 \\y")
    merged = merge_modules(il)
    assert re.findall(r"^module (\S+)", merged, re.MULTILINE) == ["\\top", "\\top_a"]
    assert merged.count("connect \\port_0 \\x") == 2
    assert "port$" not in merged
