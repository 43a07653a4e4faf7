"""Compiled networks on the golden machine equal the integer interpreter, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config
from weft.host import compiler, interpreter
from weft.host.errors import CompileError
from weft.host.golden import GoldenDevice
from weft.host.ir import Graph
from weft.host.run import run

from . import networks

ODD = Config(name="odd", rows=8, cols=12, bus_bits=64, vector_lanes=4)
WIDE = Config(name="wide", rows=12, cols=8, bus_bits=512, vector_lanes=8, acc_depth=128,
              wgt_bytes=4096, act_banks=2)  # fmt: skip
CONFIGS = [PRESETS["tiny"], PRESETS["small"], PRESETS["default"], PRESETS["large"], ODD, WIDE]
RANDOM = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def check_golden(graph: Graph, config: Config, seed: int = 0) -> None:
    """Compile and run on the golden machine, every layer compared."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (2, *graph.tensors[graph.input].shape)).astype(np.int8)
    program = compiler.compile(graph, config)
    inspect = compiler.compile(graph, config, inspect=True)
    report = run(
        program,
        GoldenDevice(config),
        x,
        reference=interpreter.run_all(graph, x),
        inspect=inspect,
    )
    assert report.mismatches == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
class TestRandom:
    @RANDOM
    @given(data=st.data())
    def test_gemm(self, config: Config, data: st.DataObject):
        bits = config.multiplier_bits
        check_golden(data.draw(networks.gemms(config.rows, config.cols, bits)), config)

    @RANDOM
    @given(data=st.data())
    def test_conv(self, config: Config, data: st.DataObject):
        bits = config.multiplier_bits
        check_golden(data.draw(networks.convs(config.rows, config.cols, bits)), config)

    def test_lenet(self, config: Config):
        check_golden(networks.lenet(config.multiplier_bits), config)


def test_reference_bound_of_lenet():
    program = compiler.compile(networks.lenet(), PRESETS["default"])
    assert sum(layer.bound_cycles for layer in program.layers) == 6787


@pytest.mark.parametrize("kernel", [(28, 28), (1, 40), (17, 3)])
def test_large_kernels_are_cut(kernel: tuple[int, int]):
    source = networks.Tensor("x", kernel[0], kernel[1], 3, 1.0)
    pair = networks.conv(np.random.default_rng(0), "fc", source, 20, kernel=kernel)
    check_golden(networks.graph("large_kernel", source, pair), ODD)


def test_too_wide_a_multiplier_is_refused():
    with pytest.raises(CompileError, match=r"conv1: a multiplier exceeds the 18 bits"):
        compiler.compile(networks.lenet(bits=32), PRESETS["tiny"])


def test_too_large_a_map_is_refused():
    source = networks.Tensor("x", 200, 200, 16, 1.0)
    pair = networks.conv(np.random.default_rng(0), "conv", source, 4)
    with pytest.raises(CompileError, match=r"tensor 'x' \(200×200×16\) does not fit .* act_bytes"):
        compiler.compile(networks.graph("big", source, pair), PRESETS["default"])
