"""Configurations: the presets are legal, and each illegal field is refused in one sentence."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config, ConfigError, load, pow2_ceil

REFUSED = [
    ({"name": ""}, "name must be printable, 1 to 200 characters, not ''"),
    ({"name": 7}, "name must be printable, 1 to 200 characters, not 7"),
    ({"rows": 8.0}, "rows must be an integer, not 8.0"),
    ({"queue_depth": True}, "queue_depth must be an integer, not True"),
    ({"rows": 0}, "rows must be a multiple of 4 from 4 to 64, not 0"),
    ({"rows": 6}, "rows must be a multiple of 4 from 4 to 64, not 6"),
    ({"cols": 68}, "cols must be a multiple of 4 from 4 to 64, not 68"),
    ({"bus_bits": 32}, "bus_bits must be 64, 128, 256 or 512, not 32"),
    ({"vector_lanes": 0}, "vector_lanes must be 1 to 16 and divide cols = 16, not 0"),
    ({"vector_lanes": 3}, "vector_lanes must be 1 to 16 and divide cols = 16, not 3"),
    (
        {"cols": 32, "vector_lanes": 32},
        "vector_lanes must be 1 to 16 and divide cols = 32, not 32",
    ),
    ({"multiplier_bits": 7}, "multiplier_bits must be 8 to 32, not 7"),
    ({"multiplier_bits": 33}, "multiplier_bits must be 8 to 32, not 33"),
    ({"addr_bits": 31}, "addr_bits must be 32 to 64, not 31"),
    ({"addr_bits": 65}, "addr_bits must be 32 to 64, not 65"),
    ({"queue_depth": 1}, "queue_depth must be 2 to 32, not 1"),
    (
        {"cols": 8, "wgt_bytes": 1 << 20},
        "wgt_bytes must be a power of two from 256 to 524288, not 1048576",
    ),
    ({"queue_depth": 33}, "queue_depth must be 2 to 32, not 33"),
    ({"act_bytes": 512}, "act_bytes must be a power of two from 1024 to 1048576, not 512"),
    ({"act_bytes": 2 << 20}, "act_bytes must be a power of two from 1024 to 1048576, not 2097152"),
    ({"act_bytes": 96 << 10}, "act_bytes must be a power of two from 1024 to 1048576, not 98304"),
    ({"wgt_bytes": 256}, "wgt_bytes must be a power of two from 512 to 1048576, not 256"),
    ({"wgt_bytes": 2 << 20}, "wgt_bytes must be a power of two from 512 to 1048576, not 2097152"),
    ({"acc_depth": 16}, "acc_depth must be a power of two from 32 to 4096, not 16"),
    ({"acc_depth": 8192}, "acc_depth must be a power of two from 32 to 4096, not 8192"),
    ({"acc_depth": 1000}, "acc_depth must be a power of two from 32 to 4096, not 1000"),
    ({"par_entries": 32}, "par_entries must be a power of two from 64 to 4096, not 32"),
    ({"par_entries": 8192}, "par_entries must be a power of two from 64 to 4096, not 8192"),
    ({"tables": 3}, "tables must be 0, 1, 2, 4 or 8, not 3"),
    ({"tables": 16}, "tables must be 0, 1, 2, 4 or 8, not 16"),
    ({"act_banks": 1}, "act_banks must be 2, 4, 8 or 16, not 1"),
    ({"act_banks": 6}, "act_banks must be 2, 4, 8 or 16, not 6"),
    ({"burst_beats": 4}, "burst_beats must be a power of two from 8 to 256, not 4"),
    ({"burst_beats": 48}, "burst_beats must be a power of two from 8 to 256, not 48"),
    ({"burst_beats": 512}, "burst_beats must be a power of two from 8 to 256, not 512"),
    (
        {"bus_bits": 512, "burst_beats": 128, "read_beats": 256},
        "burst_beats = 128 times 64 bytes exceeds AXI's 4096 bytes a burst",
    ),
    ({"read_beats": 127}, "read_beats must be 128 (two bursts) to 4096, not 127"),
    ({"parity": 1}, "parity must be true or false, not 1"),
    ({"packed": "no"}, "packed must be true or false, not 'no'"),
    ({"read_beats": 4097}, "read_beats must be 128 (two bursts) to 4096, not 4097"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_refusals(fields, message):
    with pytest.raises(ConfigError) as error:
        Config(**fields)
    assert str(error.value) == message


def test_every_field_is_refused_somewhere():
    named = {message.split()[0] for _, message in REFUSED}
    assert named == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_presets_fit_the_instruction_fields(config):
    assert config.act_bytes <= 1 << 20
    assert config.wgt_rows <= 1 << 16
    assert config.acc_depth <= 1 << 12
    assert config.par_entries <= 1 << 12
    assert config.act_lanes >= max(config.rows, config.bus_bytes, config.vector_lanes)
    assert config.act_words * config.act_lanes == config.act_bytes
    assert config.act_bank_bytes % config.act_lanes == 0
    assert config.wgt_rows >= 2 * config.rows
    assert config.cols % config.vector_lanes == 0
    assert config.act_bank_bytes * config.act_banks == config.act_bytes


def test_derived_sizes():
    config = Config(rows=12, cols=20, vector_lanes=4, bus_bits=64)
    assert config.bus_bytes == 8
    assert config.act_lanes == 16
    assert config.wgt_row_bytes == 32
    assert config.tile_bytes == 12 * 32
    assert config.wgt_rows == 65536 // 32
    assert config.acc_half == 512
    assert config.psum_bits == 20
    assert config.par_bytes == 16384
    assert config.tbl_bytes == 512


@given(st.integers(1, 1 << 20))
def test_pow2_ceil(value):
    power = pow2_ceil(value)
    assert power & (power - 1) == 0
    assert power >= value > power // 2


@pytest.mark.parametrize("rows", [4, 12, 16, 64])
def test_psum_bits_hold_the_extremes(rows):
    most = rows * 128 * 128
    assert most <= 1 << Config(rows=rows).psum_bits - 1
    assert most > 1 << Config(rows=rows).psum_bits - 3


def test_fingerprint_ignores_what_programs_do_not_depend_on():
    base = Config()
    assert dataclasses.replace(base, name="other", packed=True).fingerprint == base.fingerprint
    changes = {
        "rows": 8, "cols": 8, "bus_bits": 64, "act_bytes": 65536, "act_banks": 8,
        "wgt_bytes": 32768, "acc_depth": 512, "par_entries": 512, "vector_lanes": 4,
        "multiplier_bits": 18, "queue_depth": 8, "burst_beats": 32, "read_beats": 128,
        "addr_bits": 40, "tables": 0, "parity": True,
    }  # fmt: skip
    assert set(changes) | {"name", "packed"} == {field.name for field in dataclasses.fields(Config)}
    prints = {dataclasses.replace(base, **{k: v}).fingerprint for k, v in changes.items()}
    assert len(prints | {base.fingerprint}) == len(changes) + 1


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_toml_round_trip(tmp_path, config):
    path = tmp_path / "machine.toml"
    path.write_text(config.to_toml())
    assert load(path) == config


def test_presets_by_name():
    assert load("tiny") is PRESETS["tiny"]
    assert set(PRESETS) == {"tiny", "small", "default", "large"}


def test_missing_keys_take_defaults_and_the_file_names_it(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("rows = 8\n")
    assert load(path) == Config(name="mine", rows=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = 6", "{path}: rows must be a multiple of 4 from 4 to 64, not 6"),
        ('rows = "8"', "{path}: rows must be an integer, not '8'"),
        ("[rows]\nx = 1", "{path}: rows must be an integer, not {{'x': 1}}"),
        ("row = 8", "{path}: unknown key 'row'; known keys are acc_depth, act_banks, act_bytes, "),
        ("rows = ", "cannot read configuration {path}: "),
        ("\xff", "cannot read configuration {path}: 'utf-8' codec can't decode"),
    ],
)
def test_toml_errors(tmp_path, text, message):
    path = tmp_path / "machine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(message.format(path=path))
    assert "\n" not in str(error.value)


def test_neither_preset_nor_file(tmp_path):
    with pytest.raises(ConfigError) as error:
        load("huge")
    assert str(error.value) == (
        "'huge' is neither a preset (tiny, small, default, large) nor a TOML file"
    )
    with pytest.raises(ConfigError, match="neither a preset"):
        load(tmp_path)
