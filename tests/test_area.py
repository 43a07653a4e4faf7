"""weft area: the table of measurements, what it says, and frames a second from it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from weft.boards import area as measured
from weft.boards.area import Area, AreaError, Memory, chosen, load, save
from weft.hdl.config import PRESETS
from weft.hdl.config import load as load_config
from weft.host.cli import main

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import area as tool  # noqa: E402  # pyright: ignore[reportMissingImports]

TINY, SMALL = PRESETS["tiny"], PRESETS["small"]
TOOLS = {"yosys": "0.70", "nextpnr-ecp5": "0.11"}
ON_BOARD = Area(
    config="tiny",
    fingerprint=f"{TINY.fingerprint:016x}",
    machine="0123456789ab",
    fpga="LFE5U-85F",
    board="ulx3s",
    luts=30_000,
    ffs=10_000,
    dsps=20,
    brams=60,
    fmax_mhz=(60.0, 50.0, 52.0),
    tools=TOOLS,
    memory=Memory(latency=14, beat_interval=4, size=32 << 20),
    limit_mhz=75.0,
)
ALONE = dataclasses.replace(
    ON_BOARD,
    config="small",
    fingerprint=f"{SMALL.fingerprint:016x}",
    board=None,
    memory=None,
    limit_mhz=None,
)
CYCLES: measured.Cycles = {
    "lenet": {str(ON_BOARD.setting): 52_000},
    "mlp": {str(ON_BOARD.setting): 5_200_000_000, "elsewhere": 1},
    "vgg16": {str(ON_BOARD.setting): None},
    "alexnet": {"elsewhere": 1},
}


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "area.json"
    save([ALONE, ON_BOARD], CYCLES, path)
    monkeypatch.setattr(measured.load, "__defaults__", (path,))
    return path


def run(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["area", *arguments])
    said = capsys.readouterr()
    assert bool(end.value.code) == bool(said.err)
    return said.err or said.out


# -- the numbers ---------------------------------------------------------------------------------


def test_the_table_is_read_as_it_was_written(table):
    areas, cycles = load(table)
    assert areas == [ALONE, ON_BOARD]
    assert cycles == CYCLES


def test_frames_are_clocks_by_cycles():
    assert ON_BOARD.fmax == ON_BOARD.clock_mhz == 52.0
    assert ON_BOARD.frames(CYCLES) == {"lenet": 1000.0, "mlp": 0.01, "vgg16": None}
    assert not ALONE.frames(CYCLES)
    limited = dataclasses.replace(ON_BOARD, limit_mhz=26.0)
    assert limited.frames(CYCLES)["lenet"] == 500.0


def test_cycles_are_of_one_machine_and_one_memory():
    others = [
        dataclasses.replace(ON_BOARD, fingerprint="0" * 16),
        *(
            dataclasses.replace(ON_BOARD, memory=dataclasses.replace(ON_BOARD.memory, **change))
            for change in ({"latency": 15}, {"beat_interval": 5}, {"size": 16 << 20})
        ),
    ]
    assert not any(other.frames(CYCLES) for other in others)


# -- the command ---------------------------------------------------------------------------------


def test_shows_area_and_frames(table, capsys):
    told = run(capsys)
    for word in ("012345", "30,000", "10,000", "52.0", "LFE5U-85F, alone", "tiny on ulx3s"):
        assert word in told
    rows = {line.split()[1]: line.split()[3] for line in told.splitlines() if line[:1] == "│"}
    assert {name: rows[name] for name in ("lenet", "mlp", "alexnet")} == {
        "lenet": "1,000", "mlp": "0.01", "alexnet": "–",
    }  # fmt: skip
    assert "does not fit" in told
    assert "Measured with yosys 0.70, nextpnr-ecp5 0.11" in told


def test_shows_one_configuration(table, capsys, tmp_path):
    (tmp_path / "mine.toml").write_text(TINY.to_toml())
    told = run(capsys, "--config", str(tmp_path / "mine.toml"))
    assert "ulx3s" in told
    assert "alone" not in told
    found = json.loads(run(capsys, "--board", "ulx3s", "--json"))
    assert [(row["config"], row["fmax_median_mhz"]) for row in found] == [("tiny", 52.0)]
    assert found[0]["frames"]["lenet"] == 1000.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "large"], "nothing was measured of large; there is small on LFE5U-85F"),
        (["--config", "small", "--board", "ulx3s"], "nothing was measured of small on ulx3s"),
        (["--board", "de10"], "nothing was measured of de10"),
        (["--config", "huge"], "'huge' is neither a preset"),
    ],
)
def test_refuses_what_was_not_measured(table, capsys, arguments, message):
    assert message in run(capsys, *arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the measurements"),
        ("[]", "are damaged"),
        ('{"areas": [{"config": "tiny"}], "cycles": {}}', "are damaged"),
        ('{"areas": [{"config": "tiny", "fmax_mhz": []}], "cycles": {}}', "has no frequency"),
    ],
)
def test_refuses_a_damaged_table(tmp_path, text, message):
    path = tmp_path / "area.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AreaError, match=message):
        load(path)


def test_an_empty_table_says_so():
    with pytest.raises(AreaError, match="nothing was measured of any machine; there is nothing"):
        chosen([], None, None)


# -- what fills it -------------------------------------------------------------------------------


def _placed(folder: Path, name: str, **fmax: float) -> None:
    used = {"TRELLIS_COMB": 30_000, "TRELLIS_FF": 10_000, "MULT18X18D": 20, "DP16KD": 60}
    report = {
        "fmax": {clock: {"achieved": mhz, "constraint": 50.0} for clock, mhz in fmax.items()},
        "utilization": {cell: {"used": n, "available": 10 * n} for cell, n in used.items()},
    }
    (folder / name).write_text(json.dumps(report))


def test_reads_what_weft_build_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "_version", TOOLS.__getitem__)
    (tmp_path / "weft.toml").write_text(TINY.to_toml())
    _placed(tmp_path, "timing-1.json", core=60.0)
    (tmp_path / "report.json").write_text(
        json.dumps({"board": "ulx3s", "config": "tiny", "fmax_per_seed": [60.0, 50.0, 52.0]})
    )
    found = tool.read(tmp_path, None)
    assert dataclasses.replace(found, machine=ON_BOARD.machine) == ON_BOARD
    assert len(found.machine) == 12


@pytest.mark.parametrize("part", [None, "array"])
def test_reads_what_a_machine_alone_left(tmp_path, monkeypatch, part):
    monkeypatch.setattr(tool, "_version", TOOLS.__getitem__)
    for seed, mhz in enumerate((60.0, 50.0, 52.0), 1):
        _placed(tmp_path, f"report-{seed}.json", clk=mhz, other=200.0)
    found = tool.read(tmp_path, "small", part)
    assert dataclasses.replace(found, machine=ALONE.machine) == dataclasses.replace(
        ALONE, part=part
    )
    assert found.name == ("small, array" if part else "small")


def test_refuses_a_folder_without_a_run(tmp_path):
    with pytest.raises(AreaError, match="has no timing of nextpnr"):
        tool.read(tmp_path, None)


def test_cycles_are_the_timing_models():
    """LeNet, a sixteenth of the bus' pace: weights take most of the time."""
    cycles = tool.cycles_of("lenet", ON_BOARD, TINY)
    beats = 9_000
    assert ON_BOARD.memory is not None
    assert cycles > ON_BOARD.memory.beat_interval * beats
    smaller = dataclasses.replace(
        ON_BOARD, memory=dataclasses.replace(ON_BOARD.memory, size=1 << 16)
    )
    assert tool.cycles_of("lenet", smaller, TINY) is None


def test_the_page_has_the_tables():
    text = tool.PAGE.read_text(encoding="utf-8")
    for marker, block in tool.blocks(*load()).items():
        (shown,) = tool.pattern(marker).findall(text)
        assert shown == block, f"{marker}: run `python tools/area.py`"


def test_the_table_is_of_machines_that_there_are():
    """What was measured of presets and boards has their present configuration."""
    areas, cycles = load()
    for area in areas:
        if area.config in PRESETS:
            assert area.fingerprint == f"{load_config(area.config).fingerprint:016x}"
    settings = {area.setting for area in areas}
    assert all(set(places) <= settings for places in cycles.values())
