"""The command line: what it prints, what it writes, and how it refuses."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from weft.hdl import config as configs
from weft.hdl import verilog
from weft.hdl.config import PRESETS
from weft.hdl.isa import Opcode
from weft.host import compiler, frontend, interpreter, lenet
from weft.host import program as program_file
from weft.host.cli import main
from weft.host.datasets import DIGITS
from weft.host.errors import UnsupportedOperator
from weft.host.models import LENET_WEIGHTS
from weft.tb import tools

from . import networks

RUN_KEYS = {
    "backend", "config", "rows", "cols", "bus_bytes", "memory", "latency", "beat_interval",
    "images", "batch", "correct", "float_correct", "mismatches", "cycles", "predicted_cycles",
    "as_predicted", "cycles_per_image", "macs", "utilization", "bound_cycles", "host",
    "seconds",
}  # fmt: skip


@dataclass
class Outcome:
    """What a command left: exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module", autouse=True)
def quantized_once():
    """Each distinct LeNet is quantized once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lenet, "quantized", functools.cache(lenet.quantized))
        yield


@pytest.fixture
def weft(capsys):
    """The command, run in this process."""

    def call(*arguments) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        text = capsys.readouterr()
        code = end.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, text.out, text.err)

    return call


@pytest.fixture
def good(weft):
    """The output of a command that must succeed."""

    def call(*arguments) -> str:
        outcome = weft(*arguments)
        assert outcome.code == 0, outcome.err
        return outcome.out

    return call


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """LeNet for the tiny machine, compiled by the command."""
    path = tmp_path_factory.mktemp("compiled") / "lenet.weft"
    with pytest.raises(SystemExit) as end:
        main(["compile", "lenet", "--config", "tiny", "-o", str(path)])
    assert not end.value.code
    return path


# -- what works --------------------------------------------------------------------------------


def test_every_test_image_on_the_golden_machine(weft):
    outcome = weft("run", "lenet", "--backend", "golden", "--images", 360, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == 1
    values = json.loads(outcome.out)
    assert set(values) == RUN_KEYS
    assert values["images"] == 360
    assert values["mismatches"] == 0
    assert values["correct"] / 360 >= 0.985
    assert abs(values["correct"] - values["float_correct"]) / 360 <= 0.005
    assert (values["rows"], values["cols"], values["bus_bytes"]) == (16, 16, 16)
    assert values["cycles"] is values["as_predicted"] is None


def test_backends_agree_under_a_slow_memory(compiled, good, tmp_path):
    """The bytes of golden machine, model and RTL, and the cycles of the latter two."""
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", rng.integers(-128, 128, (2, 32, 32, 1), np.int8))
    memory = ("--latency", 20, "--beat-interval", 3)
    outputs, values = [], []
    for backend in ("golden", "model", "verilator"):
        y = tmp_path / f"{backend}.npy"
        run = ("run", compiled, "-b", backend, "-i", tmp_path / "x.npy", "-o", y, *memory)
        values.append(json.loads(good(*run, "--json")))
        outputs.append(np.load(y))
        assert (values[-1]["latency"], values[-1]["beat_interval"]) == (20, 3)
    golden, model, rtl = values
    assert [v["as_predicted"] for v in values] == [None, True, True]
    assert golden["cycles"] is None
    assert rtl["cycles"] == model["cycles"] == golden["predicted_cycles"] > 0
    assert all(np.array_equal(outputs[0], other) for other in outputs[1:])
    assert "memory latency 20, a beat every 3 cycles" in " ".join(good(*run).split())


def test_model_backend_counts_cycles(good):
    values = json.loads(good("run", "lenet", "-b", "model", "-c", "small", "--images", 2, "--json"))
    assert values["cycles"] == values["predicted_cycles"] == 2 * values["cycles_per_image"] > 0
    assert (values["mismatches"], values["as_predicted"]) == (0, True)
    assert values["utilization"] == pytest.approx(
        values["macs"] / (values["cycles_per_image"] * 64)
    )


def test_table(good):
    out = good("run", "lenet", "--backend", "model", "--images", 3)
    assert "conv1+pool1" in out
    assert "3 images" in out
    assert " 0 mismatching bytes" in out
    assert max(map(len, out.splitlines())) <= 80


def test_mismatches_fail(weft, monkeypatch):
    honest = interpreter.run_all

    def lying(graph, x):
        values = dict(honest(graph, x))
        values[graph.output] = values[graph.output] ^ 1
        return values

    monkeypatch.setattr(interpreter, "run_all", lying)
    outcome = weft("run", "lenet", "--backend", "golden", "--images", 1, "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["mismatches"] == 20
    assert outcome.err == "weft: 20 bytes differ from the reference\n"


def test_program_needs_no_torch(compiled, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here', name='torch')\n")
    network = lenet.quantized(PRESETS["tiny"], None, None)
    inputs = network.inputs[:3]
    np.save(tmp_path / "x.npy", inputs)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "weft.host.cli", "run", "--backend", "golden"]
    done = subprocess.run(
        [*command, str(compiled), "--input", "x.npy", "--output", "y.npy", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    values = json.loads(done.stdout)
    assert set(values) == RUN_KEYS
    assert (values["images"], values["config"], values["mismatches"]) == (3, "tiny", None)
    np.testing.assert_array_equal(
        np.load(tmp_path / "y.npy"), interpreter.run(network.graph, inputs)
    )
    refused = subprocess.run(
        [*command, "lenet", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr == "weft: quantizing a model needs torch: pip install -e '.[torch]'\n"


def test_program_on_its_own_machine(good, tmp_path):
    config = PRESETS["small"]
    graph = networks.lenet(config.multiplier_bits)
    compiler.compile(graph, config).save(tmp_path / "p.weft")
    x = np.random.default_rng(1).integers(-128, 128, (32, 32, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    run = ("run", tmp_path / "p.weft", "--backend", "golden", "-i", tmp_path / "x.npy")
    out = good(*run, "-o", tmp_path / "y.npy", "--config", "small")
    assert "1 input in" in out
    assert json.loads(good(*run, "--json"))["config"] == "small"
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), interpreter.run(graph, x[None]))


def test_config_list(good):
    out = good("config", "list")
    values = json.loads(good("config", "list", "--json"))
    assert set(values) == set(PRESETS)
    for name, config in PRESETS.items():
        assert f"│ {name} " in out
        assert configs.Config(**values[name]) == config


@pytest.mark.parametrize("name", PRESETS)
def test_config_show_round_trip(name, good, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(good("config", "show", name))
    assert configs.load(path) == PRESETS[name]
    assert good("config", "show", path) == path.read_text()
    shown = json.loads(good("config", "show", path, "--json"))
    assert int(shown.pop("fingerprint"), 16) == PRESETS[name].fingerprint
    assert configs.Config(**shown) == PRESETS[name]


def test_isa(good):
    out = good("isa")
    assert all(f"{opcode.name}:" in out or f"{opcode.name} " in out for opcode in Opcode)


ELSEWHERE = """
import numpy, torch
class Gate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (torch.nn.Conv2d(2, 4, 3) for _ in range(2))
    def forward(self, x):
        return torch.relu(self.a(x)) * torch.softmax(self.b(x), 1)
torch.manual_seed(0)
gate = Gate().eval()
torch.export.save(torch.export.export(gate, (torch.randn(1, 2, 8, 8),)), "gate.pt2")
numpy.save("want.npy", gate(torch.from_numpy(numpy.load("x.npy"))).detach().numpy())
"""


def test_archive_of_another_process(tmp_path, good, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32))
    subprocess.run([sys.executable, "-c", ELSEWHERE], check=True)
    want = np.load("want.npy").transpose(0, 2, 3, 1)
    for flags in ([], ["--asymmetric"]):
        out = good(
            "compile", "gate.pt2", "--calibration", "x.npy", "-c", "tiny", "-o", "gate.weft", *flags
        )
        assert out.splitlines()[0].startswith("gate.weft: ")
        host = [line.split("│")[1:5] for line in out.splitlines() if line.startswith("│")]
        assert [[word.strip() for word in words[:2]] for words in host] == [
            ["softmax", "softmax"], ["mul", "mul"], ["total", ""]
        ]  # fmt: skip
        out = good("run", "gate.weft", "-b", "model", "-i", "x.npy", "-o", "y.npy")
        assert "bytes moved" in out
        got = np.load("y.npy")
        assert (got.dtype, got.shape) == (np.float32, want.shape)
        assert np.abs(got - want).max() < 0.05 * want.max()
        zero_points = {program_file.load("gate.weft").input.zero_point}
        assert (zero_points == {0}) != bool(flags)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of a small convolution for inputs [2, 8, 8]."""
    path = tmp_path_factory.mktemp("archive") / "m.pt2"
    made = torch.export.export(torch.nn.Conv2d(2, 4, 3).eval(), (torch.randn(1, 2, 8, 8),))
    torch.export.save(made, path)
    return path


def test_compile_says_what_it_made(archive, good, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(3, 2, 8, 8)))
    out = good(
        *("compile", archive, "--calibration", tmp_path / "x.npy", "-c", "tiny", "--json"),
        *("-o", tmp_path / "m.weft"),
    )
    values = json.loads(out)
    program = program_file.load(tmp_path / "m.weft")
    assert values["instructions"] == len(program.instructions())
    assert values["constant_bytes"] == len(program.const)
    assert values["predicted_cycles"] > 0
    assert (values["host"], values["config"]) == ([], "tiny")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            np.zeros((3, 2, 8, 9), np.float32),
            "takes inputs of shape [2, 8, 8], but the calibration",
        ),
        (np.zeros((0, 2, 8, 8), np.float32), "with N ≥ 1, not [0, 2, 8, 8]"),
        (np.zeros((3, 2, 8, 8), "c8"), "must be an array of real numbers"),
        (np.full((3, 2, 8, 8), np.nan), "contain a value that is not finite"),
        (np.array("text"), "must be an array of real numbers"),
    ],
)
def test_calibration_that_does_not_fit(inputs, reason, archive, weft, tmp_path):
    np.save(tmp_path / "x.npy", inputs)
    command = "compile", archive, "--calibration", tmp_path / "x.npy", "-o", tmp_path / "m.weft"
    outcome = weft(*command)
    assert outcome.err.count("\n") <= 2  # with the step that was begun
    assert outcome.code == 1
    assert reason in outcome.err
    assert not (tmp_path / "m.weft").exists()


def test_a_folder_that_cannot_be_written_to(archive, weft, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    outcome = weft("compile", archive, "--calibration", "x.npy", "-o", tmp_path / "m.weft")
    refuse(outcome, f"cannot write {tmp_path / 'm.weft'}: permission denied")


def test_disasm(compiled, good):
    lines = good("disasm", compiled).splitlines()
    for opcode in (Opcode.LOAD, Opcode.MATMUL, Opcode.DRAIN, Opcode.STORE, Opcode.END):
        assert any(opcode.name in line for line in lines)


def test_verilog(good, tmp_path):
    shown = json.loads(good("verilog", "--config", "tiny", "-o", tmp_path / "a" / "b", "--json"))
    assert shown["top"] == "weft"
    assert int(shown["fingerprint"], 16) == PRESETS["tiny"].fingerprint
    files = {Path(name).name: Path(name).read_text() for name in shown["files"]}
    assert set(files) == {"weft.v", "weft.toml", "weft.vlt"}
    assert "module weft(" in files["weft.v"]
    assert configs.load(tmp_path / "a" / "b" / "weft.toml") == PRESETS["tiny"]


def test_verilog_lists_what_it_wrote(weft, tmp_path, monkeypatch):
    (tmp_path / "weft.v").write_text("x" * 1234)
    monkeypatch.setattr(verilog, "write", lambda config, folder: [folder / "weft.v"])
    command = "verilog", "--config", "tiny", "-o", tmp_path
    assert weft(*command).out.split() == [str(tmp_path / "weft.v"), "1,234", "bytes"]

    def fail(config, folder):
        raise verilog.ExportError("yosys cannot convert weft: out of memory")

    monkeypatch.setattr(verilog, "write", fail)
    refuse(weft(*command, "--json"), "yosys cannot convert weft: out of memory")


def test_version(good):
    assert good("--version").startswith("weft 0.")


COMMANDS = ((), ("run",), ("bench",), ("profile",), ("compile",), ("disasm",), ("isa",),
            ("verilog",), ("config",), ("config", "list"), ("config", "show"))  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_a_terminal(command, good):
    out = good(*command, "--help")
    assert max(map(len, out.splitlines())) <= 80
    assert "\b" not in out
    assert f"Usage: {' '.join(('weft', *command))}" in out


# -- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def workplace(tmp_path, monkeypatch, compiled):
    """A current directory full of wrong files."""
    monkeypatch.chdir(tmp_path)
    good_toml = PRESETS["tiny"].to_toml()
    Path("illegal.toml").write_text(good_toml.replace("rows = 4", "rows = 5"))
    Path("broken.toml").write_text("rows = [\n")
    Path("unknown.toml").write_text("lanes = 3\n")
    Path("text.toml").write_text('rows = "4"\n')
    Path("latin.toml").write_bytes(b'name = "\xe9"\n')
    data = compiled.read_bytes()
    Path("p.weft").write_bytes(data)
    Path("cut.weft").write_bytes(data[: len(data) // 2])
    Path("flipped.weft").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Path("noise.weft").write_bytes(bytes(range(256)) * 9)
    Path("empty.weft").touch()
    shutil.copy(DIGITS, "foreign.weft")
    np.save("x.npy", np.zeros((1, 32, 32, 1), np.int8))
    np.save("shape.npy", np.zeros((1, 28, 28, 1), np.int8))
    np.save("rank.npy", np.zeros((1, 1, 32, 32, 1), np.int8))
    np.save("none.npy", np.zeros((0, 32, 32, 1), np.int8))
    np.save("float.npy", np.zeros((1, 32, 32, 1), np.float32))
    np.save("nan.npy", np.full((1, 1, 32, 32), np.nan, np.float32))
    np.save("object.npy", np.array([{}], object), allow_pickle=True)
    np.savez("several.npy.npz", x=np.zeros(3))
    Path("several.npy.npz").rename("several.npy")
    Path("pickle.npy").write_bytes(b"\x80\x04N.")
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:200])
    Path("file").write_text("in the way")
    Path("corrupt.pt2").write_bytes(b"no archive")
    Path("corrupt.onnx").write_bytes(bytes(range(256)))
    Path("empty.onnx").touch()
    for name in ("corrupt", "short", "labels"):
        Path(name).mkdir()
    Path("corrupt/t10k-images-idx3-ubyte").write_bytes(b"not an IDX file at all")
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (5, 28, 28))
    Path("short/t10k-images-idx3-ubyte").write_bytes(header + bytes(100))
    Path("labels/t10k-images-idx3-ubyte").write_bytes(header + bytes(5 * 28 * 28))
    return tmp_path


REFUSED = [
    ("run resnet", "unknown target 'resnet'"),
    ("run lenet --backend spice", "unknown backend 'spice'; there are "),
    ("run lenet --config huge", "'huge' is neither a preset (tiny, small"),
    ("run lenet --config missing.toml", "'missing.toml' is neither a preset"),
    ("run lenet --config illegal.toml", "illegal.toml: rows must be a multiple of 4"),
    ("run lenet --config broken.toml", "cannot read configuration broken.toml"),
    ("run lenet --config latin.toml", "cannot read configuration latin.toml"),
    ("config show unknown.toml", "unknown.toml: unknown key 'lanes'"),
    ("config show text.toml", "text.toml: rows must be an integer, not '4'"),
    ("run lenet --input x.npy", "--input and --output go with a program file"),
    ("run lenet --backend golden --trace t.fst", "golden gives no signals to --trace"),
    ("run lenet --backend model --netlist", "model simulates no --netlist; take verilator"),
    ("run lenet --board ulx3s", "--board and --port go with --backend board"),
    ("run lenet --backend board --board nexys", "unknown board 'nexys'; there are ulx3s"),
    ("run p.weft --input x.npy --batch 2", "--batch goes with lenet; give it to weft compile"),
    ("run lenet --trace no/t.fst", "cannot write no/t.fst"),
    ("run missing.weft --input x.npy", "cannot read missing.weft"),
    ("run noise.weft --input x.npy", "noise.weft: not a program file"),
    ("run empty.weft --input x.npy", "empty.weft: not a program file"),
    ("run foreign.weft --input x.npy", "foreign.weft: not a program file"),
    ("run cut.weft --input x.npy", "cut.weft: not a program file"),
    ("run flipped.weft --input x.npy", "flipped.weft: the file is damaged"),
    ("disasm cut.weft", "cut.weft: not a program file"),
    ("run p.weft --input x.npy --config default", "compiled for configuration 'tiny'"),
    ("run p.weft --input x.npy --config huge", "'huge' is neither a preset"),
    ("run p.weft", "p.weft needs --input X.npy: int8 [N, 32, 32, 1]"),
    ("run p.weft --data corrupt", "--data and --weights go with lenet"),
    ("run p.weft --input shape.npy", "not int8 [1, 28, 28, 1]"),
    ("run p.weft --input rank.npy", "not int8 [1, 1, 32, 32, 1]"),
    ("run p.weft --input none.npy", "not int8 [0, 32, 32, 1]"),
    ("run p.weft --input float.npy", "or real numbers [N, 1, 32, 32], not float32 [1, 32, 32, 1]"),
    ("run p.weft --input nan.npy", "nan.npy contains a value that is not a number"),
    ("run p.weft --input missing.npy", "cannot read missing.npy as a .npy array: No such file"),
    ("run p.weft --input object.npy", "cannot read object.npy as a .npy array"),
    ("run p.weft --input pickle.npy", "cannot read pickle.npy as a .npy array"),
    ("run p.weft --input several.npy", "it is an archive of several"),
    ("run p.weft --input cut.npy", "cannot read cut.npy as a .npy array"),
    ("run p.weft --input x.npy --output no/y.npy", "there is no directory no"),
    ("run p.weft --input x.npy --output corrupt", "cannot write corrupt: it is a directory"),
    ("run lenet --data missing --json", "missing is not a directory"),
    ("run lenet --data corrupt --json", "is not an IDX file"),
    ("run lenet --data short --json", "is damaged"),
    ("run lenet --data labels --json", "has no t10k-labels-idx1-ubyte"),
    ("run lenet --weights file --json", "cannot read LeNet-5 weights file"),
    ("compile resnet -o y.weft", "unknown network 'resnet'"),
    ("compile m.pt2 -o y.weft", "m.pt2 needs --calibration X.npy"),
    ("compile m.pt2 --calibration x.npy -o y.weft", "cannot read m.pt2"),
    ("compile corrupt.pt2 --calibration x.npy -o y.weft", "corrupt.pt2 is not an archive of torch"),
    ("compile m.pt2 --calibration missing.npy -o y.weft", "cannot read missing.npy"),
    ("compile lenet --calibration x.npy -o y.weft", "go with an archive"),
    ("compile m.onnx --calibration x.npy -o y.weft", "go with an archive"),
    ("compile m.onnx -o y.weft", "cannot read m.onnx: No such file"),
    ("compile corrupt.onnx -o y.weft", "corrupt.onnx is no ONNX model"),
    ("compile empty.onnx -o y.weft", "empty.onnx is no ONNX model"),
    ("compile mlp --weights w -o y.weft", "--data and --weights go with lenet"),
    ("compile lenet -o no/y.weft", "cannot write no/y.weft: there is no directory no"),
    ("compile lenet -o file/y.weft", "cannot write file/y.weft: there is no directory file"),
    ("compile lenet -o corrupt", "cannot write corrupt: it is a directory"),
    ("verilog -o file", "cannot write Verilog to file: file is not a directory"),
    ("verilog -o file/out", "cannot write Verilog to file/out: file is not a directory"),
    ("verilog -o out --config illegal.toml", "rows must be a multiple of 4"),
]


def refuse(outcome: Outcome, reason: str) -> None:
    """Exit code 1, nothing on stdout, one sentence on stderr that gives the reason."""
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("weft: ")
    assert reason in outcome.err


@pytest.mark.parametrize(("command", "reason"), REFUSED, ids=[c for c, _ in REFUSED])
def test_refused(command, reason, weft, workplace):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    refuse(weft(*command.split()), reason)
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("run lenet --images 0", "--images"),
        ("run lenet --images many", "--images"),
        ("run lenet --latency -1", "--latency"),
        ("run lenet --latency 1.5", "--latency"),
        ("run lenet --beat-interval 0", "--beat-interval"),
        ("run lenet --colour red", "--colour"),
        ("compile lenet", "--output"),
        ("verilog", "--output"),
        ("run", "target"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_usage(command, option, weft):
    outcome = weft(*command.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("Usage: weft")
    assert option in outcome.err.splitlines()[-1]


@pytest.fixture
def bare_path(tmp_path, monkeypatch):
    """PATH with nothing but what builds Verilator's output."""
    for program in ("perl", "make", "ar", "g++"):
        found = shutil.which(program)
        assert found is not None
        (tmp_path / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def test_no_icarus(weft, bare_path):
    outcome = weft("run", "lenet", "--backend", "icarus", "--config", "tiny", "--json")
    refuse(outcome, "there is no iverilog on PATH: install Icarus Verilog")


def test_no_verilator(weft, bare_path, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tools, "version", absent)
    outcome = weft("run", "lenet", "--config", "tiny", "--json")
    refuse(outcome, "there is no Verilator on PATH, and the Python package verilator is not")


@pytest.mark.parametrize("program", ["perl", "make", "ar", "g++"])
def test_no_build_tool(program, weft, bare_path):
    (bare_path / program).unlink()
    outcome = weft("run", "lenet", "--config", "tiny", "--json")
    refuse(outcome, "C++ compiler" if program == "g++" else f"Verilator needs {program}")


def test_foreign_weights(weft, tmp_path):
    refuse(weft("run", "lenet", "--weights", DIGITS, "--json"), "does not hold LeNet-5 weights")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(LENET_WEIGHTS.read_bytes()[:-9])
    refuse(weft("run", "lenet", "--weights", cut, "--json"), "cannot read LeNet-5 weights")


def test_a_machine_of_half_a_kibibyte(weft, tmp_path):
    """LeNet passes through a scratchpad smaller than any of its layers' inputs."""
    text = PRESETS["tiny"].to_toml().replace("acc_depth = 512", "acc_depth = 32")
    (tmp_path / "cramped.toml").write_text(text.replace("act_bytes = 32768", "act_bytes = 512"))
    outcome = weft("run", "lenet", "--config", tmp_path / "cramped.toml", "--json",
                   "--backend", "golden", "--images", 1)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["mismatches"] == 0


def test_unsupported_operator():
    class Largest(torch.nn.Module):
        def forward(self, x):
            return x.topk(2)[0]

    images = np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(UnsupportedOperator) as error:
        frontend.quantize(Largest(), images, name="largest")
    assert "topk" in str(error.value)
    assert "\n" not in str(error.value)
