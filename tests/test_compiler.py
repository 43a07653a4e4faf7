"""Compiled networks on the golden machine equal the integer interpreter, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config
from weft.host import compiler, interpreter
from weft.host.device import DeviceError
from weft.host.errors import CompileError
from weft.host.golden import GoldenDevice
from weft.host.ir import Graph, Pool
from weft.host.run import run

from . import networks

ODD = Config(name="odd", rows=8, cols=12, bus_bits=64, vector_lanes=4)
WIDE = Config(name="wide", rows=12, cols=8, bus_bits=512, vector_lanes=8, acc_depth=128,
              wgt_bytes=4096, act_banks=2)  # fmt: skip
CRAMPED = Config(name="cramped", rows=4, cols=8, bus_bits=64, vector_lanes=4, act_bytes=2048,
                 act_banks=4, wgt_bytes=2048, acc_depth=64, par_entries=64)  # fmt: skip
CONFIGS = [
    PRESETS["tiny"],
    PRESETS["small"],
    PRESETS["default"],
    PRESETS["large"],
    ODD,
    WIDE,
    CRAMPED,
]
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


def test_too_small_a_scratchpad_is_refused():
    source = networks.Tensor("x", 64, 64, 512, 1.0)
    pair = networks.conv(np.random.default_rng(0), "conv", source, 4, kernel=(3, 3))
    config = Config(name="cramped", rows=4, cols=4, vector_lanes=4, act_bytes=2048)
    with pytest.raises(CompileError, match=r"conv: .* does not fit .* choose a larger act_bytes"):
        compiler.compile(networks.graph("big", source, pair), config)


def test_resident_weights_count_their_padding():
    """Matrices of 4 rows take 16 rows of weight memory each where a bus beat is as long."""
    config = Config(name="beats", rows=4, cols=4, bus_bits=512, vector_lanes=4, wgt_bytes=1024,
                    acc_depth=32)  # fmt: skip
    source = networks.Tensor("x", 8, 8, 32, 1.0)
    pair = networks.conv(np.random.default_rng(0), "depthwise", source, 32, groups=32)
    check_golden(networks.graph("padded", source, pair), config)


@pytest.mark.parametrize(
    ("shape", "window", "depth"),
    [
        ((1, 1500), (1, 1), 4096),
        ((1, 1500), (1, 4), 4096),
        ((2500, 1), (1, 1), 1024),
        ((1, 2500), (1, 2), 1024),
    ],
)
def test_long_maps_are_cut(shape: tuple[int, int], window: tuple[int, int], depth: int):
    config = Config(name="long", acc_depth=depth)
    rng = np.random.default_rng(0)
    source = networks.Tensor("x", *shape, 3, 1.0, 5)
    kernel = (min(shape[0], 3), min(shape[1], 3))
    first, out = networks.conv(rng, "conv", source, 4, kernel=kernel, padding=(1, 0, 1, 0))
    size = out.height // window[0], out.width // window[1]
    pooled = networks.Tensor("pooled", *size, 4, out.scale, out.zero_point)
    pool = Pool("pool", out.name, pooled.name, "max", window, window)
    check_golden(networks.graph("long", source, (first, out), (pool, pooled)), config)


def test_long_strides_are_cut():
    source = networks.Tensor("x", 1, 8000, 2, 1.0)
    node, out = networks.conv(np.random.default_rng(0), "conv", source, 4, stride=(1, 15))
    check_golden(networks.graph("strides", source, (node, out)), PRESETS["default"])


def test_pool_of_many_channels():
    source = networks.Tensor("x", 2, 2, 5000, 1.0)
    pair = networks.maxpool("pool", source, 2, 2)
    check_golden(networks.graph("channels", source, pair), PRESETS["default"])


@pytest.mark.parametrize("depth", [2, 4, 32])
def test_many_small_transfers_fit_the_semaphores(depth: int):
    """Weights and parameters of every channel by itself, far ahead of their last user."""
    config = Config(name="tokens", rows=4, cols=4, vector_lanes=1, par_entries=128, acc_depth=64,
                    queue_depth=depth)  # fmt: skip
    source = networks.Tensor("x", 1, 8, 300, 1.0)
    pair = networks.conv(np.random.default_rng(0), "depthwise", source, 300, kernel=(1, 7),
                         groups=300)  # fmt: skip
    check_golden(networks.graph("tokens", source, pair), config)


def test_another_machine_is_refused():
    program = compiler.compile(networks.lenet(), PRESETS["default"])
    x = np.zeros((1, 32, 32, 1), np.int8)
    with pytest.raises(DeviceError, match="compiled for configuration 'default', but the device"):
        run(program, GoldenDevice(PRESETS["large"]), x)
