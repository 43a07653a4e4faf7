"""Running a program over inputs on a device, and comparing every byte with the reference."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.brief import brief
from ..hdl.isa import Unit
from .calls import HostCall, host_calls
from .device import DeviceError
from .program import ProgramError, stretches
from .timing.machine import predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from .device import Device, Result
    from .program import Program, Segments
    from .timing.prediction import Account, Prediction


@dataclass
class LayerReport:
    """One layer's account, summed over the images.

    Attributes
    ----------
    macs, bound_cycles
        Of one batch.
    cycles
        From the completion of what was before to its own; None on devices that do not count.
    mismatches
        Bytes of its output that differ from the reference; None if not compared.
    """

    name: str
    kind: str
    macs: int
    bound_cycles: int
    cycles: int | None = None
    mismatches: int | None = None


@dataclass
class Report:
    """What came of running a program over a set of inputs.

    `memory` says what the device's memory is where it is not the one that the timing model knows.
    `device_seconds` is the processor time of this thread while the device ran the program.
    """

    program: Program
    latency: int = 50
    beat_interval: int = 1
    memory: str | None = None
    outputs: list[np.ndarray] = field(default_factory=list)
    layers: list[LayerReport] = field(default_factory=list)
    cycles: int | None = None
    mismatches: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    device_seconds: float = 0.0

    @property
    def images(self) -> int:
        """Inputs that were run."""
        return len(self.outputs)

    @property
    def batches(self) -> int:
        """How often the program ran; the last batch may have had fewer images."""
        return -(-self.images // self.program.batch)

    @cached_property
    def predictions(self) -> list[Prediction]:
        """What the timing model says of each run of the machine for one batch."""
        return [
            predict(
                self.program.config, code, latency=self.latency, beat_interval=self.beat_interval
            )
            for code in self.program.runs
        ]

    @cached_property
    def accounts(self) -> list[Account | None]:
        """For each of the program's layers what each unit does in it, for one batch, by the timing
        model; None for layers on the host.
        """
        out: list[Account | None] = [None] * len(self.program.layers)
        for number, prediction in enumerate(self.predictions):
            mine = _layers_of(self.program, number)
            accounts = prediction.by_layer([self.program.layers[i] for i in mine])
            for index, account in zip(mine, accounts, strict=True):
                out[index] = account
        return out

    @cached_property
    def host_calls(self) -> list[HostCall]:
        """What the host computes for one batch, and what that costs the accelerator."""
        return host_calls(self.program, self.predictions)

    @property
    def predicted_cycles(self) -> int | None:
        """What the timing model says of `cycles`; None if it does not know the memory."""
        if self.memory is not None:
            return None
        return sum(prediction.cycles for prediction in self.predictions) * self.batches

    @property
    def as_predicted(self) -> bool | None:
        """Whether every counter of the device is what the model says; None if it does not count,
        or the model does not know its memory.
        """
        if self.cycles is None or self.memory is not None:
            return None
        total = Counter[str]()
        for prediction in self.predictions:
            total.update({name: self.batches * n for name, n in prediction.counters.items()})
        return self.counters == dict(total)

    @property
    def cycles_per_image(self) -> float | None:
        """Mean cycles of one input."""
        return None if self.cycles is None else self.cycles / max(1, self.images)

    @property
    def bound_cycles(self) -> int:
        """The reference bound for one input, rounded up: an equal part of its batch's."""
        return -(-sum(layer.bound_cycles for layer in self.layers) // self.program.batch)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input."""
        return self.program.macs // self.program.batch

    @property
    def utilization(self) -> float | None:
        """Useful multiply-accumulates over those the array could have done in the time."""
        if not self.cycles_per_image:
            return None
        config = self.program.config
        return self.macs / (self.cycles_per_image * config.rows * config.cols)


def run(
    program: Program,
    device: Device,
    inputs: np.ndarray,
    *,
    reference: dict[str, np.ndarray] | None = None,
    inspect: Program | None = None,
    checker: Device | None = None,
    latency: int = 50,
    beat_interval: int = 1,
    memory: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run `program` on `device` for each of `inputs`, a batch at a time.

    Parameters
    ----------
    inputs
        int8 [N, height, width, channels]; the last batch is filled up with zeros.
    reference
        Every tensor of the network by name, int8 [N, …], as the interpreter computes them.
    inspect
        The same network compiled for as many images with ``inspect=True``; run besides, to compare
        every layer.
    checker
        A second device, that runs `inspect` at the same time.
    latency, beat_interval
        Those of the device's memory, for the prediction.
    memory
        What that memory is instead, if it is not the one that the timing model knows.
    progress
        Called with the number of inputs finished.

    Raises
    ------
    DeviceError
        The machine stopped with an error, or is not the one that `program` was compiled for.
    ProgramError
        An input of the wrong shape or type.
    """
    if device.config.fingerprint != program.config.fingerprint:
        raise DeviceError(
            f"{program.name} was compiled for configuration {program.config.name!r}, "
            f"but the device is a {device.config.name!r}; compile it again"
        )
    if not isinstance(inputs, np.ndarray) or inputs.ndim != 4:
        given = f"shape {inputs.shape}" if isinstance(inputs, np.ndarray) else brief(inputs)
        raise ProgramError(
            f"{program.name} runs on int8 [N, height, width, channels], not on {given}"
        )
    start = time.perf_counter()
    report = Report(program, latency, beat_interval, memory)
    report.layers = [
        LayerReport(layer.name, layer.kind, layer.macs, layer.bound_cycles)
        for layer in program.layers
    ]
    with ThreadPoolExecutor(1) as pool:
        for first in range(0, len(inputs), program.batch):
            x = inputs[first : first + program.batch]
            count = len(x)
            x = np.pad(x, ((0, program.batch - count), *[(0, 0)] * (x.ndim - 1)))
            expected = {n: t[first : first + count] for n, t in (reference or {}).items()}
            checked = None
            if inspect is not None and checker is not None:
                checked = pool.submit(inspect.execute, checker, x)
            begin = time.thread_time()
            segments, results = program.execute(device, x)
            report.device_seconds += time.thread_time() - begin
            out = program.images(program.output, segments)[:count]
            report.outputs += list(out)
            if all(result.counters for result in results):
                _add_counters(report, results)
            if reference is not None:
                report.mismatches = (report.mismatches or 0) + int(
                    np.count_nonzero(out != expected[program.output.name])
                )
            if reference is not None and inspect is not None:
                segments, _ = checked.result() if checked else inspect.execute(device, x)
                _compare_layers(report, inspect, segments, expected)
            if progress is not None:
                progress(first + count)
    report.seconds = time.perf_counter() - start
    return report


def _add_counters(report: Report, results: list[Result]) -> None:
    """Add the counters of each run for one batch."""
    for result in results:
        report.cycles = (report.cycles or 0) + result.counters["CYCLES"]
        for name, value in result.counters.items():
            report.counters[name] = report.counters.get(name, 0) + value
    if all(len(result.retired) for result in results):
        _add_layer_cycles(report, results)


def _layers_of(program: Program, number: int) -> list[int]:
    """Indices of the layers that the machine computes in a run."""
    return [
        index
        for index, layer in enumerate(program.layers)
        if layer.run == number and not layer.on_host
    ]


def _add_layer_cycles(report: Report, results: list[Result]) -> None:
    """Split each run's cycles where its layers' stretches end; its end goes to the last."""
    for number, result in enumerate(results):
        mine = _layers_of(report.program, number)
        done, total = result.completions(Unit.VECTOR), result.counters["CYCLES"]
        before = 0
        for index, end in stretches([report.program.layers[i] for i in mine], done, total):
            row = report.layers[mine[index]]
            row.cycles = (row.cycles or 0) + end - before
            before = end


def _compare_layers(
    report: Report, inspect: Program, segments: Segments, expected: dict[str, np.ndarray]
) -> None:
    """Count the bytes in which the layers of a batch differ from what is expected."""
    for row, layer in zip(report.layers, inspect.layers, strict=True):
        if layer.dump is None:
            continue
        want = expected[layer.dump.name]
        got = inspect.images(layer.dump, segments)[: len(want)]
        wrong = int(np.count_nonzero(got != want))
        row.mismatches = (row.mismatches or 0) + wrong
        report.mismatches = (report.mismatches or 0) + wrong
