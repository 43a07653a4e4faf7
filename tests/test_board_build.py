"""weft build and weft flash: what they ask of the tools, and what they say when something is wrong.

The tools are scripts here that write what the real ones would; the design they get is real.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from amaranth.hdl import UnusedElaboratable
from weft.boards import build as builder
from weft.boards import tools as toolchain
from weft.boards.board import BoardError, find
from weft.boards.build import bitstream as board_file
from weft.boards.build import build, check_fit, flash, least
from weft.boards.pll import settings
from weft.boards.tools import ToolError
from weft.hdl.config import PRESETS, load
from weft.host.cli import main

from .bare_boards import bare

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import board_tables  # pyright: ignore[reportMissingImports]

TINY = PRESETS["tiny"]
CELLS = {"LUT4": 900, "CCU2C": 50, "TRELLIS_FF": 700, "MULT18X18D": 20, "DP16KD": 30, "BB": 16}

YOSYS = """
script = sys.argv[sys.argv.index("-p") + 1]
assert "read_rtlil top.il" in script and "stat -json" in script
assert "EHXPLLL" in open("top.il").read()
json.dump({"design": {"num_cells_by_type": %s}}, open("cells.json", "w"))
open("top.json", "w").write("{}")
"""
NEXTPNR = """
a = dict(zip(sys.argv[1:], sys.argv[2:]))
assert a["--package"] == "CABGA381" and a["--lpf"] == "top.lpf"
seed = int(a["--seed"])
clock = {"achieved": %s + seed %% 3, "constraint": 50.0}
json.dump({"fmax": {"$glbnet$clk": clock}}, open(a["--report"], "w"))
open(a["--textcfg"], "w").write(f"seed {seed}")
"""
ECPPACK = """
a = dict(zip(sys.argv[1:], sys.argv[2:]))
open(a["--bit"], "w").write(open(a["--input"]).read())
"""


BOARD = bare("ulx3s")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts tools on PATH; without arguments the ones that work."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name: str, body: str) -> None:
        script = folder / name
        script.write_text(f"#!{sys.executable}\nimport json, sys\n{body}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    put("yosys", YOSYS % CELLS)
    put("nextpnr-ecp5", NEXTPNR % 60)
    put("ecppack", ECPPACK)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return put


def test_builds_the_fastest_of_several_seeds(tools, tmp_path):
    report = build(BOARD, TINY, tmp_path / "out", seeds=3)
    assert report["fmax_per_seed"] == [61, 62, 60]
    assert report["fmax_mhz"] == 61
    assert {k: report[k] for k in ("luts", "ffs", "dsps", "brams")} == {
        "luts": 1000, "ffs": 700, "dsps": 20, "brams": 30,
    }  # fmt: skip
    assert Path(report["bitstream"]).read_text() == "seed 2"
    assert load(tmp_path / "out" / "weft.toml").fingerprint == TINY.fingerprint
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    constraints = (tmp_path / "out" / "top.lpf").read_text()
    assert 'LOCATE COMP "sdram_0__clk__io" SITE "F19"' in constraints


@pytest.mark.parametrize(
    ("name", "nextpnr", "place", "packer", "pack"),
    [
        (
            "tang-nano-20k",
            "nextpnr-himbaechel-gowin",
            "--device GW2AR-LV18QN88C8/I7 --vopt family=GW2A-18C --seed 1 --timing-allow-fail "
            "--freq 27 --report timing-1.json --json top.json "
            "--vopt cst=top.cst --write top-1.json",
            "gowin_pack",
            "-d GW2A-18C -o top.fs top-1.json",
        ),
        (
            "icebreaker",
            "nextpnr-ice40",
            "--up5k --package sg48 --seed 1 --timing-allow-fail --freq 12 --report timing-1.json "
            "--json top.json --pcf top.pcf --asc top-1.asc",
            "icepack",
            "top-1.asc top.bin",
        ),
        (
            "orangecrab",
            "nextpnr-ecp5",
            "--25k --package CSFBGA285 --speed 8 --seed 1 --timing-allow-fail --freq 48 "
            "--report timing-1.json --json top.json --lpf top.lpf --textcfg top-1.config",
            "ecppack",
            "--freq 38.8 --compress --input top-1.config --bit top.bit",
        ),
    ],
)
def test_every_family_has_its_tools(tools, tmp_path, name, nextpnr, place, packer, pack):
    board = bare(name)
    clock = {"achieved": 80.0, "constraint": board.clock_mhz}
    tools("yosys", "open('cells.json', 'w').write('{\"design\": {\"num_cells_by_type\": {}}}')")
    tools(
        nextpnr,
        f"assert sys.argv[1:] == {place.split()}\n"
        f"json.dump({{'fmax': {{'clock': {clock}}}}}, open('timing-1.json', 'w'))",
    )
    tools(packer, f"assert sys.argv[1:] == {pack.split()}; open({board_file(board)!r}, 'w')")
    report = build(board, load(board.config), tmp_path / "out")
    assert Path(report["bitstream"]).is_file()
    assert (tmp_path / "out" / f"top.{board.family.constraints}").stat().st_size > 100


def test_without_seeds_it_ends_after_synthesis(tools, tmp_path):
    tools("nextpnr-ecp5", "sys.exit(1)")
    report = build(BOARD, TINY, tmp_path / "out", seeds=0)
    assert report["luts"] == 1000
    assert (report["fmax_mhz"], report["bitstream"]) == (None, None)
    assert not (tmp_path / "out" / "top.bit").exists()


def test_the_documents_tables_are_those_of_the_results():
    page = board_tables.PAGE.read_text(encoding="utf-8")
    assert board_tables.page(page, json.loads(board_tables.RESULTS.read_text())) == page, (
        "run tools/board_tables.py"
    )


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("nextpnr-ecp5", NEXTPNR % 40, r"reaches 41.0 MHz of 50: try more --seeds"),
        ("nextpnr-ecp5", "print('ERROR: no room'); sys.exit(1)", "nextpnr-ecp5 failed: no room;"),
        (
            "nextpnr-ecp5",
            "print('Info:   TRELLIS_COMB: 84000/83640 100%'); sys.exit(1)",
            "tiny does not fit ulx3s: it takes 84000 cells TRELLIS_COMB of 83640, 360 too many",
        ),
        ("yosys", "sys.exit(3)", "yosys failed; see .*yosys.log"),
        (
            "yosys",
            YOSYS % {**CELLS, "DP16KD": 300},
            "takes 300 block RAMs of 208, 92 too many",
        ),
    ],
)
def test_says_what_went_wrong(tools, tmp_path, name, body, text):
    tools(name, body)
    with pytest.raises((BoardError, ToolError), match=text) as caught:
        build(BOARD, TINY, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_machine_too_large_is_refused_at_once(tmp_path):
    with pytest.raises(BoardError) as caught:
        build(BOARD, PRESETS["default"], tmp_path / "out")
    assert str(caught.value) == (
        "default does not fit ulx3s: it takes 256 multipliers of 156, 100 too many; the largest "
        "preset that may fit is small, or packed = true, which halves the array's"
    )
    assert not (tmp_path / "out").exists()
    packed = dataclasses.replace(PRESETS["default"], packed=True)
    check_fit(BOARD, packed, least(BOARD, packed))
    check_fit(BOARD, TINY, least(BOARD, TINY))


def test_a_missing_tool_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ToolError, match=r"yosys is not installed: .*pip install"):
        build(BOARD, TINY, tmp_path / "out")
    with pytest.raises(BoardError, match="run weft build ulx3s first"):
        flash(BOARD, tmp_path)
    (tmp_path / "top.bit").write_text("")
    with pytest.raises(BoardError, match="openFPGALoader is not on PATH"):
        flash(BOARD, tmp_path)


def test_without_the_definitions_of_boards_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "weft.boards.ulx3s", None)
    with pytest.raises(BoardError, match="amaranth-boards: pip install"):
        find("ulx3s")


def test_flashes(tools, tmp_path):
    (tmp_path / "top.bit").write_text("bits")
    tools("openFPGALoader", "assert sys.argv[1:3] == ['-b', 'ulx3s']; open(sys.argv[3]).read()")
    flash(BOARD, tmp_path)
    tools("openFPGALoader", "print('unable to open ftdi device'); sys.exit(1)")
    with pytest.raises(BoardError, match=r"cannot load .*: unable to open ftdi device"):
        flash(BOARD, tmp_path)


REPORT = {"bitstream": "top.bit", "fmax_mhz": 51.26, "luts": 12345, "ffs": 678, "dsps": 9,
          "brams": 10, "seconds": 61.4}  # fmt: skip


def test_the_command_builds_and_reports(tmp_path, monkeypatch, capsys):
    """All but the build itself, whose arguments these are."""
    asked = []

    def stands_in(board, machine, folder, *, seeds, progress):
        with progress("Synthesizing"):
            asked.append((board.name, board.clock_mhz, machine.name, folder, seeds))
        return REPORT

    monkeypatch.setattr(builder, "build", stands_in)

    def told(*options: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["build", "ulx3s", *options])
        assert not end.value.code
        return capsys.readouterr().out

    text = told("-c", "tiny", "--clock-mhz", "40", "--seeds", "2", "-o", str(tmp_path))
    assert " ".join(text.split()) == (
        "top.bit: tiny at 40 MHz of 51.3; 12,345 LUTs, 678 flip-flops, 9 multipliers, "
        "10 block RAMs; 61 s"
    )
    assert json.loads(told("--json")) == REPORT
    board = find("ulx3s")
    usual = board.name, board.clock_mhz, board.config
    assert asked == [
        ("ulx3s", 40, "tiny", tmp_path, 2),
        (*usual, builder.folder(board, load(board.config)), 1),
    ]


def test_the_command_flashes_what_was_built(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(builder, "flash", lambda board, folder: asked.append((board, folder)))
    for options in (["--folder", str(tmp_path)], ["-c", "tiny"]):
        with pytest.raises(SystemExit) as end:
            main(["flash", "ulx3s", *options])
        assert not end.value.code
    board = find("ulx3s")
    assert [place for _, place in asked] == [tmp_path, builder.folder(board, TINY)]
    assert {found.name for found, _ in asked} == {"ulx3s"}


def test_clocks_are_made_within_the_limits_of_the_data_sheet():
    for wanted in (25, 40, 50, 60, 62.5, 75, 100):
        found = settings(25, wanted)
        frequency = found.frequency(25)
        assert abs(frequency - wanted) / wanted <= 0.005
        assert 400 <= frequency * found.output <= 800
        assert found.output % 4 == 0
        assert 25 / found.reference >= 3.125
    assert (settings(25, 50).reference, settings(25, 50).feedback) == (1, 2)
    with pytest.raises(ValueError, match=r"no clock near 3 MHz"):
        settings(25, 3)


@pytest.mark.parametrize(
    ("clock_mhz", "text"),
    [
        (1e9, r"ulx3s: no clock near 1e\+09 MHz can be made of 25 MHz"),
        (100, r"ulx3s: its SDRAM follows at most 75 MHz, not 100"),
        (10, r"ulx3s: baud must be at most a 6th of the clock"),
    ],
)
def test_a_clock_that_cannot_be_is_refused_at_once(tmp_path, recwarn, clock_mhz, text):
    """Nothing is left behind, and nobody complains of designs that were not used."""
    board = dataclasses.replace(BOARD, clock_mhz=clock_mhz)
    with pytest.raises(BoardError, match=text):
        build(board, TINY, tmp_path / "out")
    with pytest.raises(BoardError, match=text):
        board.plan(TINY)
    gc.collect()
    assert not (tmp_path / "out").exists()
    assert not [warning for warning in recwarn if warning.category is UnusedElaboratable]
