"""Compiled networks on the golden machine equal the integer interpreter, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config
from weft.hdl.isa import Opcode
from weft.host import compiler, interpreter
from weft.host.batch import batched
from weft.host.codegen.tiling import Reach
from weft.host.device import DeviceError
from weft.host.errors import CompileError
from weft.host.fuse import fuse
from weft.host.golden import GoldenDevice
from weft.host.ir import Concat, Graph, MatMul, Pool, Requant, Residual, Table
from weft.host.program import ProgramError, load
from weft.host.run import run

from . import corpus, networks

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
BATCHES = st.sampled_from([1, 1, 1, 2, 3])
RANDOM = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def check_golden(graph: Graph, config: Config, seed: int = 0, batch: int = 1) -> None:
    """Compile and run on the golden machine, every layer compared.

    There is one image more than in a batch.
    """
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (batch + 1, *graph.tensors[graph.input].shape)).astype(np.int8)
    program = compiler.compile(graph, config, batch=batch)
    inspect = compiler.compile(graph, config, batch=batch, inspect=True)
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
        graph = data.draw(networks.gemms(config.rows, config.cols, bits))
        check_golden(graph, config, batch=data.draw(BATCHES))

    @RANDOM
    @given(data=st.data())
    def test_conv(self, config: Config, data: st.DataObject):
        bits = config.multiplier_bits
        graph = data.draw(networks.convs(config.rows, config.cols, bits))
        check_golden(graph, config, batch=data.draw(BATCHES))

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


@pytest.mark.parametrize("config", [PRESETS["tiny"], PRESETS["default"]], ids=lambda c: c.name)
def test_averages_of_large_windows(config: Config):
    """More taps than POOL has: a convolution with ones, what is outside being the zero point."""
    source = networks.Tensor("x", 19, 21, 5, 0.1, -7)
    out = networks.Tensor("y", 2, 2, 5, 0.1, 3)
    bits = config.multiplier_bits
    numbers = networks.requant(np.random.default_rng(0), 5, 20 * 17 // 64, bits, zero_point=3)
    window = {"kernel": (20, 17), "stride": (1, 3), "padding": (1, 0, 1, 0)}
    node = Pool("average", "x", "y", "avg", **window, requant=numbers)
    check_golden(networks.graph("average", source, (node, out)), config)


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


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_overlapping_windows_of_accumulators(config: Config):
    """Where the vector unit has most to do, the array computes twice what chunks share."""
    source = networks.Tensor("x", 14, 37, 3, 1.0)
    bits = config.multiplier_bits
    pair = networks.conv(np.random.default_rng(1), "conv", source, 24, bits, kernel=(1, 1))
    graph = networks.graph("pooled", source, pair, networks.maxpool("pool", pair[1], 3, 2))
    (op,) = fuse(batched(graph, frozenset(), config, 1), config)
    assert op.windows == (Reach(3, 2), Reach(3, 2))
    check_golden(graph, config)


def test_a_slow_array_computes_nothing_twice():
    source = networks.Tensor("x", 15, 15, 256, 1.0)
    pair = networks.conv(np.random.default_rng(1), "conv", source, 16, kernel=(3, 3))
    graph = networks.graph("pooled", source, pair, networks.maxpool("pool", pair[1], 3, 2))
    (op,) = fuse(batched(graph, frozenset(), PRESETS["default"], 1), PRESETS["default"])
    assert op.staged


def test_rows_to_be_pooled_leave_the_array_s_bank():
    """A source in three of four banks: what the vector unit reads and writes shares the last."""
    source = networks.Tensor("x", 13, 13, 512, 1.0)
    pair = networks.conv(np.random.default_rng(1), "conv", source, 32, kernel=(1, 1))
    pool = networks.maxpool("pool", pair[1], 13, 13, 1)
    graph = networks.graph("pooled", source, pair, pool)
    program = compiler.compile(graph, PRESETS["default"])
    bank = PRESETS["default"].act_bank_bytes
    instructions = program.instructions()
    sources = [i.local + i.rows * i.length for i in instructions if i.opcode == Opcode.LOAD]
    results = [i.dst for i in instructions if i.opcode in (Opcode.DRAIN, Opcode.POOL)]
    assert 2 * bank < max(sources) <= 3 * bank <= min(results)


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


def test_a_dilation_that_no_instruction_holds_is_refused():
    source = networks.Tensor("x", 33, 3, 4, 1.0)
    layer = networks.conv(
        np.random.default_rng(0), "far", source, 4, kernel=(3, 3), dilation=(16, 1)
    )
    with pytest.raises(CompileError, match="far: dilation is 16, the machine handles at most 15"):
        compiler.compile(networks.graph("far", source, layer), PRESETS["default"])


def test_another_machine_is_refused():
    program = compiler.compile(networks.lenet(), PRESETS["default"])
    x = np.zeros((1, 32, 32, 1), np.int8)
    for wrong, told in ((x[0], r"shape \(32, 32, 1\)"), ([0], r"\[0\]")):
        with pytest.raises(ProgramError, match=rf"runs on int8 \[N, .* not on {told}"):
            run(program, GoldenDevice(PRESETS["default"]), wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DeviceError, match="compiled for configuration 'default', but the device"):
        run(program, GoldenDevice(PRESETS["large"]), x)


def alike(requant: Requant) -> Requant:
    """The requantization of the first channel for all of them."""
    first = {n: np.full_like(a, a[0]) for n, a in vars(requant).items() if np.ndim(a)}
    return replace(requant, **first)


def attention(seed: int, tokens: int, heads: int, depth: int, bits: int) -> Graph:
    """Scores, a table in the place of softmax, context, projection and residual."""
    rng = np.random.default_rng(seed)
    width = heads * depth
    x = networks.Tensor("x", 1, tokens, width, 1.0)
    query, key, value = (networks.conv(rng, name, x, width, bits) for name in "qkv")
    scores = networks.Tensor("scores", heads, tokens, tokens, 1.0)
    weights = networks.Tensor("weights", heads, tokens, tokens, 1.0)
    context = networks.Tensor("context", 1, tokens, width, 1.0)
    numbers = [
        alike(networks.requant(rng, n, k, bits)) for n, k in ((tokens, depth), (width, tokens))
    ]
    table = rng.integers(-128, 128, 256).astype(np.int8)
    last, out = networks.conv(rng, "o", context, width, bits)
    last = replace(last, residual=Residual("x", 1 << 16, 18, 0))
    return networks.graph(
        "attention", x, query, key, value,
        (MatMul("qk", "q.out", "k.out", "scores", numbers[0], heads, True), scores),
        (Table("table", "scores", "weights", table), weights),
        (MatMul("av", "weights", "v.out", "context", numbers[1], heads, False), context),
        (last, out),
    )  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("tokens", "heads", "depth"), [(16, 2, 16), (33, 3, 32), (7, 1, 64)])
def test_attention(config: Config, tokens: int, heads: int, depth: int):
    """On the machine where operands lie on bus beats, else on the host between its runs."""
    check_golden(attention(0, tokens, heads, depth, config.multiplier_bits), config)


@pytest.mark.parametrize("config", [PRESETS["tiny"], PRESETS["default"]], ids=lambda c: c.name)
def test_programs_with_calls_are_saved(config: Config, tmp_path):
    """`tiny` leaves products of activations to the host; its program does so after loading too."""
    graph = attention(1, 20, 2, 16, config.multiplier_bits)
    program = compiler.compile(graph, config)
    assert bool(program.calls) == (config.name == "tiny")
    program.save(tmp_path / "a.weft")
    loaded = load(tmp_path / "a.weft", config)
    x = np.random.default_rng(0).integers(-128, 128, (1, 1, 20, 32)).astype(np.int8)
    report = run(loaded, GoldenDevice(config), x, reference=interpreter.run_all(graph, x))
    assert report.mismatches == 0


def change_call(call: dict) -> None:
    call["graph"] = call["graph"]["nodes"][0]


def change_ports(call: dict) -> None:
    call["ports"] = call["ports"][::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_call, "its description is not complete: a call of the host is no single node"),
        (change_ports, "its description is not complete: the ports of .* are not its tensors"),
        (lambda call: call.update(after=9), "'.*' is called after run 9 of "),
        (lambda call: call["graph"].update(output="nothing"), "its description is not legal: "),
    ],
)
def test_forged_calls_are_refused(tmp_path, change, message: str):
    """A program whose digest is right, but whose calls of the host are not."""
    config = PRESETS["tiny"]
    compiler.compile(attention(1, 20, 2, 16, config.multiplier_bits), config).save(tmp_path / "p")
    header, tensors = corpus.opened((tmp_path / "p").read_bytes(), "weft")
    change(header["calls"][0])
    (tmp_path / "p").write_bytes(corpus.signed(header, tensors))
    with pytest.raises(ProgramError, match=message):
        load(tmp_path / "p")


JOINED = [
    [8, 16],  # on bus beats: parts lie in DRAM or on chip
    [3, 5],  # only on chip
    [1, 2, 30],
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_concatenation_may_be_the_last(config: Config, batch: int):
    """Of its parts, one is joined of such that lie on no bus beats: it is stored as a whole."""
    rng = np.random.default_rng(0)
    beat = config.bus_bytes
    x = networks.Tensor("x", 5, 4, 6, 1.0)
    parts = [
        networks.conv(rng, f"p{i}", x, n, config.multiplier_bits)
        for i, n in enumerate([3, beat - 3, beat])
    ]
    first, second, third = (out.name for _, out in parts)
    inner, outer = (networks.Tensor(f"joined{n}", 5, 4, n * beat, 1.0) for n in (1, 2))
    nodes = [
        (Concat("inner", (first, second), inner.name), inner),
        (Concat("outer", (inner.name, third), outer.name), outer),
    ]
    check_golden(networks.graph("last", x, *parts, *nodes), config, batch=batch)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("channels", JOINED, ids=str)
@pytest.mark.parametrize("size", [4, 16])
def test_concatenation(config: Config, channels: list[int], size: int):
    """Read by a convolution and a pool, with a part that is read by itself, and the input."""
    rng = np.random.default_rng(0)
    bits = config.multiplier_bits
    x = networks.Tensor("x", size, size, channels[0], 1.0)
    parts = [networks.conv(rng, f"p{i}", x, n, bits) for i, n in enumerate(channels)]
    inputs = (*(out.name for _, out in parts), "x", parts[0][1].name)
    total = sum(channels) + 2 * channels[0]
    joined = networks.Tensor("joined", size, size, total, 1.0)
    after = networks.conv(rng, "after", joined, 8, bits, kernel=(3, 3), padding=(1, 1, 1, 1))
    pooled = networks.maxpool("pool", joined, 2, 2)
    alone = networks.conv(rng, "alone", parts[-1][1], 8, bits)
    end = networks.conv(rng, "end", pooled[1], 8, bits, stride=(1, 1))
    graph = networks.graph(
        "joined", x, *parts, (Concat("cat", inputs, "joined"), joined), after, pooled, alone, end
    )
    check_golden(graph, config)
