"""What `weft run` does: run LeNet or a program file on a device, and report."""

from __future__ import annotations

import io
import json as jsonlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..hdl.brief import one_line
from ..hdl.files import write_whole
from .device import open_device
from .errors import ModelError, WeftError
from .interpreter import to_levels, to_real
from .progress import Bar, status

if TYPE_CHECKING:
    from pathlib import Path

    from ..hdl.config import Config
    from .program import Program
    from .run import Report

_out = Console()

#: Test images that a run takes by default: as many as finish in seconds.
_IMAGES = {"golden": 360, "model": 360, "verilator": 16, "icarus": 1, "board": 1}
#: Backends without signals: nothing to build, no waveforms.
SIGNALLESS = ("golden", "model", "board")


def run_lenet(
    backend: str,
    config: Config,
    images: int | None,
    batch: int,
    latency: int,
    beat_interval: int,
    watchdog: int,
    data: Path | None,
    weights: Path | None,
    trace: Path | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Quantize LeNet-5, compile it, run it, and compare every layer with the reference.

    `options` are those of the backend alone.

    Raises
    ------
    WeftError, DeviceError
        What `weft` prints; also where a byte differs, after the report.
    """
    from . import compiler, interpreter, lenet
    from .report import layer_table, summary
    from .run import run

    with status("Quantizing LeNet-5 to INT8", json):
        network = lenet.quantized(config, data, weights)
    with status("Compiling", json):
        program = compiler.compile(network.graph, config, batch=batch)
        inspect = compiler.compile(network.graph, config, batch=batch, inspect=True)
    count = min(images or max(_IMAGES.get(backend, 16), batch), len(network.inputs))
    inputs = network.inputs[:count]
    with status("Computing the reference", json):
        reference = interpreter.run_all(network.graph, inputs)
    with status(_preparing(backend), json):
        device = open_device(
            backend,
            config,
            latency=latency,
            beat_interval=beat_interval,
            watchdog=watchdog,
            trace=trace,
            **options,
        )
    try:
        with Bar(f"Running on {backend}", count, json) as step:
            report = run(
                program,
                device,
                inputs,
                reference=reference,
                inspect=inspect,
                latency=latency,
                beat_interval=beat_interval,
                memory=getattr(device, "description", None),
                progress=step,
            )
    finally:
        device.close()
    predicted = np.array([out.reshape(-1).argmax() for out in report.outputs])
    correct = int(np.count_nonzero(predicted == network.labels[:count]))
    float_correct = int(
        np.count_nonzero(network.float_predictions[:count] == network.labels[:count])
    )
    values = summary(report, backend=backend, correct=correct, float_correct=float_correct)
    if json:
        print(jsonlib.dumps(values))
    else:
        _out.print(layer_table(report))
        _out.print(
            f"{_count(count, 'image')} in {report.seconds:.1f} s on {backend}, "
            f"{_memory(report)}: {report.mismatches} mismatching bytes\n"
            f"accuracy: float {float_correct / count:.2%}, INT8 {correct / count:.2%}",
            highlight=False,
        )
    if report.mismatches:
        raise WeftError(f"{report.mismatches} bytes differ from the reference")


def run_program(
    path: Path,
    backend: str,
    config: Config | None,
    images: int | None,
    latency: int,
    beat_interval: int,
    watchdog: int,
    input: Path | None,
    output: Path | None,
    trace: Path | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Run a program file over the inputs in a .npy file, on `config` or the machine it is for.

    `options` are those of the backend alone.

    Raises
    ------
    WeftError, DeviceError
        What `weft` prints.
    """
    from .program import load
    from .report import host_table, layer_table, summary
    from .run import run

    program = load(path, config)
    if input is None:
        raise WeftError(f"{path} needs --input X.npy: {_wanted(program)}")
    given = read_npy(input)
    real = given.dtype.kind == "f"
    inputs = _inputs(program, given, input)[:images]
    if output is not None:
        require_place(output)
    with status(_preparing(backend), json):
        device = open_device(
            backend,
            config or program.config,
            latency=latency,
            beat_interval=beat_interval,
            watchdog=watchdog,
            trace=trace,
            **options,
        )
    try:
        with Bar(f"Running on {backend}", len(inputs), json) as step:
            report = run(
                program,
                device,
                inputs,
                latency=latency,
                beat_interval=beat_interval,
                memory=getattr(device, "description", None),
                progress=step,
            )
    finally:
        device.close()
    if output is not None:
        outputs = np.stack(report.outputs)
        if real:
            outputs = to_real(program.output, outputs).astype(np.float32)
        _write_npy(output, outputs)
    if json:
        print(jsonlib.dumps(summary(report, backend=backend)))
    else:
        _out.print(layer_table(report))
        if report.host_calls:
            _out.print(host_table(report.host_calls))
        _out.print(
            f"{_count(report.images, 'input')} in {report.seconds:.1f} s on {backend}, "
            f"{_memory(report)}" + (f"; outputs in {output}" if output else ""),
            highlight=False,
        )


def _wanted(program: Program) -> str:
    """What a program takes as input."""
    height, width, channels = program.input_shape
    if height > 1:
        real = f"[N, {channels}, {height}, {width}]"
    else:
        real = f"[N, {width}, {channels}]" if width > 1 else f"[N, {channels}]"
    return f"int8 [N, {height}, {width}, {channels}], or real numbers {real}"


def _inputs(program: Program, given: np.ndarray, path: Path) -> np.ndarray:
    """INT8 levels [N, height, width, channels] of what a file holds."""
    shape = program.input_shape
    wrong = f"{path} must be {_wanted(program)}, not {given.dtype} {list(given.shape)}"
    if given.dtype.kind == "f" and given.size:
        if np.isnan(given).any():
            raise WeftError(f"{path} contains a value that is not a number")
        try:
            return to_levels(given, program.input, shape, program.name)
        except ModelError as error:
            raise WeftError(wrong) from error
    if given.dtype != np.int8 or given.shape[-3:] != shape or given.ndim > 4 or not given.size:
        raise WeftError(wrong)
    return given.reshape(-1, *shape)


def _preparing(backend: str) -> str:
    slow = backend not in SIGNALLESS
    return f"Preparing {backend}{' (the first time builds the simulator)' if slow else ''}"


def _memory(report: Report) -> str:
    if report.memory is not None:
        return report.memory
    pace = f", a beat every {report.beat_interval} cycles" if report.beat_interval > 1 else ""
    return f"memory latency {report.latency}{pace}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


# -- files -------------------------------------------------------------------------------------


def require_place(path: Path) -> None:
    """Refuse a file that cannot be made, before the work whose result it is to hold."""
    if path.is_dir():
        raise WeftError(f"cannot write {path}: it is a directory")
    if not path.parent.is_dir():
        raise WeftError(f"cannot write {path}: there is no directory {path.parent}")
    replaced = path.is_file() or not path.exists()
    if (replaced and not os.access(path.resolve().parent, os.W_OK)) or (
        path.exists() and not os.access(path, os.W_OK)
    ):
        raise WeftError(f"cannot write {path}: permission denied")


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy parses headers as Python, and raises what that raises
        reason = getattr(error, "strerror", None) or one_line(str(error).partition("\n")[0])
        raise WeftError(f"cannot read {path} as a .npy array: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise WeftError(f"cannot read {path} as a .npy array: it is an archive of several")
    return array


def _write_npy(path: Path, array: np.ndarray) -> None:
    data = io.BytesIO()
    np.save(data, array)
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        raise WeftError(f"cannot write {path}: {error.strerror}") from error
