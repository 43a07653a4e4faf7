"""Random programs: golden machine, model and RTL agree in memory, status, cycles, counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config, load
from weft.hdl.registers import Error
from weft.host import compiler, interpreter
from weft.host.golden import GoldenDevice
from weft.host.run import run
from weft.tb.devices import VerilatorDevice

from . import networks
from .campaigns import programs as campaign
from .programs import Bench, Generator

ODD = load(Path(__file__).with_name("configs") / "odd.toml")
CONFIGS = [PRESETS["tiny"], PRESETS["small"], ODD, PRESETS["default"]]
PROGRAMS = 50
#: Seeds of `make verify` that ever failed, and why.
FAILED_ONCE: dict[int, str] = {}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("latency", [1, 50])
def test_exact(config: Config, latency: int):
    bench = Bench(config, latency=latency)
    first = 0 if latency == 1 else PROGRAMS // 2
    differences = [text for k in range(PROGRAMS // 2) for text in bench.differences(first + k)]
    bench.close()
    assert not differences, differences[0]


def test_seeds_that_failed_once():
    for seed, reason in FAILED_ONCE.items():
        assert not campaign.check(range(seed, seed + 1)), reason


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_data_under_random_stalls(config: Config):
    generator, golden = Generator(config), GoldenDevice(config)
    for seed in range(4):
        device = VerilatorDevice(config, latency=7, stalls=seed + 1)
        for k in range(8):
            program = generator.program(1000 + 8 * seed + k)
            expected, got = golden.run(program.job), device.run(program.job)
            assert got.error == Error.NONE, f"seed {program.seed}"
            assert got.segments == expected.segments, f"seed {program.seed}"
        device.close()
        golden = GoldenDevice(config)


@pytest.mark.parametrize("config", CONFIGS[:3], ids=lambda c: c.name)
def test_random_networks(config: Config):
    """GEMMs and convolutions around the array's edges: every layer's bytes, and the cycles."""
    device = VerilatorDevice(config, latency=50)
    sizes = config.rows, config.cols, config.multiplier_bits
    strategy = st.one_of(networks.gemms(*sizes), networks.convs(*sizes))

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
    @given(graph=strategy, seed=st.integers(0, 2**32 - 1))
    def check(graph, seed):
        shape = graph.tensors[graph.input].shape
        x = np.random.default_rng(seed).integers(-128, 128, (1, *shape)).astype(np.int8)
        report = run(
            compiler.compile(graph, config),
            device,
            x,
            reference=interpreter.run_all(graph, x),
            inspect=compiler.compile(graph, config, inspect=True),
        )
        assert report.mismatches == 0
        assert report.cycles == report.predicted_cycles

    check()
    device.close()
