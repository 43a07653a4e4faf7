"""Random programs: golden machine, model and RTL agree in memory, status, cycles, counters."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config, load
from weft.hdl.isa import PEERS, Unit
from weft.host import compiler, interpreter
from weft.host.run import run
from weft.tb.devices import VerilatorDevice

from . import dense, networks, reach
from .campaigns import programs as campaign
from .programs import EXTREME_SIZES, EXTREMES, Generator
from .side_by_side import STALLS, Bench

ODD, WIDE = (load(Path(__file__).with_name("configs") / f"{name}.toml") for name in ("odd", "wide"))
CONFIGS = [PRESETS["tiny"], PRESETS["small"], ODD, PRESETS["default"], WIDE]
#: On each configuration 200: without stalls, and half as many with each sort.
PROGRAMS = 80
#: Seeds of `make verify` that ever failed, and why.
FAILED_ONCE: dict[int, str] = {}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("stalls", STALLS)
def test_alike(config: Config, stalls: str):
    """Memory, status and every write of every instruction; cycles and counters without stalls."""
    bench = Bench(config)
    first = 1000 * [*STALLS].index(stalls)
    for k in range(PROGRAMS if stalls == "none" else PROGRAMS // 2):
        differences = bench.differences(first + k, latency=(1, 7, 50)[k % 3], stalls=stalls)
        assert not differences, differences[0]
    bench.close()


@pytest.mark.parametrize("config", [CONFIGS[0], ODD], ids=lambda c: c.name)
def test_dense(config: Config):
    """Results that hang on every bit of sums, multipliers, residuals and shifts."""
    bench = Bench(config)
    for seed in range(12):
        differences = bench.compare(dense.program(config, seed), latency=7)
        assert not differences, differences[0]
    bench.close()


@pytest.mark.parametrize("config", [CONFIGS[0], ODD], ids=lambda c: c.name)
def test_tokens(config: Config):
    """Each semaphore up to all that it counts, and taken in the cycles in which it is posted."""
    generator, bench = Generator(config), Bench(config)
    for k, producer, consumer in product((0, 1), Unit, Unit):
        if consumer in PEERS[producer]:
            for chase in (False, True):
                program = generator.tokens(k, producer, consumer, chase=chase)
                differences = bench.compare(program, latency=(1, 7)[k])
                assert not differences, differences[0]
    bench.close()


@pytest.mark.parametrize("config", [CONFIGS[0], ODD], ids=lambda c: c.name)
@pytest.mark.parametrize("stalls", STALLS)
def test_transfers(config: Config, stalls: str):
    """LOADs and STOREs alone, many at a time, with fields at their edges."""
    generator, bench = Generator(config), Bench(config)
    for seed in range(10):
        differences = bench.compare(generator.transfers(seed), latency=30, stalls=stalls)
        assert not differences, differences[0]
    bench.close()


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name):
    generator, bench = Generator(CONFIGS[0]), Bench(CONFIGS[0])
    differences = bench.compare(generator.assemble(0, EXTREMES[name], EXTREME_SIZES))
    bench.close()
    assert not differences, differences[0]


def test_pitches_and_lengths():
    """By every bit."""
    bench = Bench(CONFIGS[0])
    for program in (*reach.pitches(CONFIGS[0]), *reach.lengths(CONFIGS[0])):
        differences = bench.compare(program, latency=1)
        assert not differences, differences[0]
    bench.close()


def test_what_random_fields_rarely_reach():
    """Every stride and every count at its ends."""
    bench = Bench(CONFIGS[0])
    for program in reach.programs(CONFIGS[0]):
        differences = bench.compare(program, latency=1)
        assert not differences, differences[0]
    bench.close()


def test_seeds_that_failed_once():
    for seed, reason in FAILED_ONCE.items():
        assert not campaign.again(seed), reason


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
