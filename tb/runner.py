"""Run the cocotb tests of a module on one component, through a build cache."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from amaranth.back import rtlil, verilog
from cocotb_tools import config as cocotb_config
from cocotb_tools.runner import Runner, get_runner

from ..host.device import DeviceError
from . import cache, tools

if TYPE_CHECKING:
    from amaranth.lib import wiring

ROOT = Path(__file__).resolve().parent.parent
TOP = "top"

#: Warnings that Amaranth's exported Verilog raises without meaning anything.
VERILATOR_ARGS = ("-Wno-fatal", "-Wno-lint", "-Wno-style", "--x-assign", "unique", "-O3")
LOG_TAIL = 60


class BuildFailed(DeviceError):
    """The simulator refused the Verilog, or the C++ did not compile; ends with the log's tail."""


class SimulationFailed(DeviceError):
    """Tests of a bench failed, or it ended without a result.

    Attributes
    ----------
    failures
        Names of the tests that failed.
    log
        The file with the whole output.
    """

    def __init__(self, message: str, failures: Sequence[str], log: Path):
        super().__init__(message)
        self.failures = tuple(failures)
        self.log = log


def simulate(
    component: wiring.Component | str,
    test_module: str,
    *,
    simulator: str = "verilator",
    env: Mapping[str, object] | None = None,
    name: str | None = None,
    top: str = TOP,
    waves: Path | None = None,
    build_args: Sequence[str] = (),
    testcase: str | None = None,
) -> Path:
    """Run every ``@cocotb.test()`` of `test_module` on `component`; builds are cached.

    Clock and reset ports are called ``clk`` and ``rst``.

    Parameters
    ----------
    component
        An Amaranth component, or Verilog text whose top module is `top`.
    test_module
        Import path of the bench, for instance "tests.bench_array".
    simulator
        "verilator" or "icarus".
    env
        Variables for the bench.
    name
        What the run is called in the log directory.
    waves
        Where to write a waveform, if anywhere: FST, or VCD if it ends in ".vcd" (Verilator).
    build_args
        Further arguments of the simulator's build.
    testcase
        Run only this test.

    Returns
    -------
    pathlib.Path
        The log file.

    Raises
    ------
    SimulationFailed
        A test failed.
    BuildFailed
        The simulator could not build it.
    SimulatorNotFound
        There is no such simulator here.
    """
    tool = tools.find(simulator)
    built = build(component, tool, top=top, waves=waves, build_args=build_args)
    folder = _run_directory(name or test_module.rpartition(".")[2])
    log = folder / "log.txt"
    results = folder / "results.xml"
    arguments: dict[str, Any] = {}
    if waves is not None and simulator == "verilator":
        arguments["test_args"] = ["--trace-file", str(waves.absolute())]
    elif waves is not None:
        arguments["plusargs"] = [f"+dumpfile_path={waves.absolute()}"]
    if waves is not None:
        waves.absolute().parent.mkdir(parents=True, exist_ok=True)
    crash = ""
    with _process_environment(tool):
        try:
            _runner(simulator).test(
                test_module=test_module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=built,
                test_dir=folder,
                results_xml=str(results),
                log_file=log,
                testcase=testcase,
                waves=waves is not None,
                extra_env={k: str(v) for k, v in (env or {}).items()},
                **arguments,
            )
        except (RuntimeError, SystemExit) as error:
            crash = str(error)
    _judge(test_module, results, log, crash)
    return log


def build(
    component: wiring.Component | str,
    tool: tools.Tool,
    *,
    top: str = TOP,
    waves: Path | None = None,
    build_args: Sequence[str] = (),
) -> Path:
    """Directory with `component` built for cocotb by `tool`, from the cache if it is there."""
    simulator = tool.identity.split()[0]
    args = [*build_args]
    if simulator == "verilator":
        args = [*VERILATOR_ARGS, *args]
        if waves is not None and waves.suffix != ".vcd":
            args.append("--trace-fst")
    if isinstance(component, str):
        source = component
    else:
        source = rtlil.convert(component, name=top, emit_src=False)
    kind = "text" if isinstance(component, str) else "rtlil"
    name = cache.key(
        *(tool.identity, version("cocotb"), top, kind, source, str(waves is not None), *args)
    )

    def make(directory: Path) -> None:
        text = source
        if not isinstance(component, str):
            text = verilog.convert(component, name=top, emit_src=False, strip_internal_attrs=True)
        file = directory / f"{top}.v"
        file.write_text(text)
        log = directory / "build.log"
        with _process_environment(tool):
            try:
                _runner(simulator).build(
                    sources=[file],
                    hdl_toplevel=top,
                    build_dir=directory,
                    build_args=args,
                    waves=waves is not None,
                    timescale=("1ns", "1ps"),
                    log_file=log,
                )
            except (RuntimeError, SystemExit) as error:
                raise BuildFailed(
                    f"{simulator} could not build {top}: {error}\n{tail(log)}"
                ) from error

    return cache.cached("cocotb", name, make)


def tail(log: Path, lines: int = LOG_TAIL) -> str:
    """The last lines of a log file."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _judge(test_module: str, results: Path, log: Path, crash: str) -> None:
    """Raise SimulationFailed unless `results` says that tests ran and all passed."""
    if not results.is_file():
        raise SimulationFailed(
            f"{test_module} ended without results {crash}\n{tail(log)}\nsee {log}", (), log
        )
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failures = [
        case.get("name", "?")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if failures:
        names = ", ".join(failures)
        raise SimulationFailed(
            f"{test_module}: {len(failures)} of {len(cases)} tests failed: {names}\n"
            f"{tail(log)}\nsee {log}",
            failures,
            log,
        )
    if not cases or crash:
        why = crash or "no test in it ran"
        raise SimulationFailed(f"{test_module}: {why}\n{tail(log)}\nsee {log}", (), log)


def _runner(simulator: str) -> Runner:
    return get_runner(simulator)


def _run_directory(name: str) -> Path:
    """A new directory for one run's log; those of earlier runs go when there are many."""
    runs = tools.cache_directory() / "runs"
    runs.mkdir(exist_ok=True)
    old = sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime)
    for entry in old[:-200]:
        shutil.rmtree(entry, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))


@contextlib.contextmanager
def _process_environment(tool: tools.Tool) -> Iterator[None]:
    """The environment that cocotb's runner copies: the tool's, our root, no trace of pytest."""
    saved = dict(os.environ)
    path = list(sys.path)
    os.environ.update(tool.variables())
    # A cached build may come from an environment that is gone, with its libraries.
    libraries = [str(cocotb_config.libs_dir), os.environ.get("LD_LIBRARY_PATH")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    # Under pytest the runner would exit on its own and rename the results.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    os.environ.setdefault("COCOTB_LOG_LEVEL", "WARNING")
    os.environ.setdefault("GPI_LOG_LEVEL", "ERROR")
    sys.path.insert(0, str(ROOT))
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(saved)
