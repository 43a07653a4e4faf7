"""The trained, quantized LeNet on the RTL: every byte, and the cycles promised."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from weft.hdl.config import PRESETS, Config, load
from weft.host import compiler, interpreter, lenet
from weft.host.device import open_device
from weft.host.run import Report, run
from weft.host.timing.machine import predict

from . import networks

ODD = load(Path(__file__).with_name("configs") / "odd.toml")
LATENCY = 50


def run_lenet(config: Config, backend: str, images: int, *, inspect: bool = True) -> Report:
    network = lenet.quantized(config)
    inputs = network.inputs[:images]
    device = open_device(backend, config, latency=LATENCY)
    try:
        return run(
            compiler.compile(network.graph, config),
            device,
            inputs,
            reference=interpreter.run_all(network.graph, inputs),
            inspect=compiler.compile(network.graph, config, inspect=True) if inspect else None,
        )
    finally:
        device.close()


@pytest.mark.parametrize("config", [PRESETS["tiny"], PRESETS["small"], ODD], ids=lambda c: c.name)
def test_other_configurations(config: Config):
    report = run_lenet(config, "verilator", 2)
    assert report.mismatches == 0
    assert report.cycles == report.predicted_cycles


@pytest.mark.parametrize("latency", [1, 50])
def test_rows_of_many_bursts(latency: int):
    """LOADs that wait behind three bursts of one row, and FETCH, which does not."""
    config = PRESETS["tiny"]
    source = networks.Tensor("x", 1, 13, 24, 1.0)
    pair = networks.conv(np.random.default_rng(0), "conv", source, 24, config.multiplier_bits,
                         kernel=(1, 16), padding=(0, 18, 0, 0), stride=(1, 2))  # fmt: skip
    graph = networks.graph("bursts", source, pair)
    program = compiler.compile(graph, config)
    x = np.ones(source.shape, np.int8)
    device = open_device("verilator", config, latency=latency)
    result = device.run(program.job(x)).require()
    device.close()
    expected = interpreter.run_all(graph, x[None])[graph.output][0]
    assert np.array_equal(program.unpack(program.output, result.segments), expected)
    assert result.counters == predict(config, program.code, latency=latency).counters


class TestDefault:
    def test_verilator(self):
        report = run_lenet(PRESETS["default"], "verilator", 16)
        assert report.mismatches == 0
        assert report.cycles_per_image == report.predicted_cycles / 16
        assert report.bound_cycles == 6787
        assert report.cycles_per_image <= 7200

    def test_icarus_shows_the_same_cycles(self):
        report = run_lenet(PRESETS["default"], "icarus", 1, inspect=False)
        assert report.mismatches == 0
        assert report.cycles == report.predicted_cycles

    @pytest.mark.speed
    def test_speed(self):
        """At least 100,000 cycles a second of processor time."""
        config = PRESETS["default"]
        network = lenet.quantized(config)
        program = compiler.compile(network.graph, config)
        device = open_device("verilator", config, latency=LATENCY)
        job = program.job(network.inputs[0])
        device.run(job)
        begin = time.process_time()
        cycles = sum(device.run(job).require().counters["CYCLES"] for _ in range(20))
        assert cycles / (time.process_time() - begin) >= 100_000
        device.close()

    @pytest.mark.parametrize("latency", [1, 100])
    def test_latency_costs_little(self, latency: int):
        config = PRESETS["default"]
        program = compiler.compile(lenet.quantized(config).graph, config)
        cycles = {n: predict(config, program.code, latency=n).cycles for n in (LATENCY, latency)}
        assert abs(cycles[latency] - cycles[LATENCY]) <= 200


def test_all_images_on_golden():
    config = PRESETS["default"]
    network = lenet.quantized(config)
    report = run_lenet(config, "golden", 360)
    assert report.mismatches == 0
    predicted = np.array([out.reshape(-1).argmax() for out in report.outputs])
    accuracy = np.mean(predicted == network.labels)
    assert accuracy >= 0.985
    assert abs(accuracy - np.mean(network.float_predictions == network.labels)) <= 0.005
