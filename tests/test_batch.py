"""Several images at a time: bytes as one by one, and weights loaded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config, load
from weft.host import batch as batch_module
from weft.host import compiler, interpreter, lenet
from weft.host import program as program_file
from weft.host.batch import Batch, batched, regions
from weft.host.device import open_device
from weft.host.errors import CompileError
from weft.host.fuse import fuse
from weft.host.golden import GoldenDevice
from weft.host.ir import Concat, Graph, Pool, Residual, Table
from weft.host.program import ProgramError
from weft.host.run import Report, run
from weft.host.timing.machine import predict

from . import networks
from .test_compiler import CONFIGS, CRAMPED, RANDOM, attention, check_golden

FEW = settings(RANDOM, max_examples=6)

ODD = load(Path(__file__).with_name("configs") / "odd.toml")
DEFAULT = PRESETS["default"]


def run_lenet(config: Config, backend: str, batch: int, images: int) -> Report:
    """The trained LeNet, every layer compared (all but the last on the golden machine)."""
    network = lenet.quantized(config)
    inputs = network.inputs[:images]
    device = open_device(backend, config, latency=50)
    try:
        return run(
            compiler.compile(network.graph, config, batch=batch),
            device,
            inputs,
            reference=interpreter.run_all(network.graph, inputs),
            inspect=compiler.compile(network.graph, config, batch=batch, inspect=True),
            checker=GoldenDevice(config),
        )
    finally:
        device.close()


# -- bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [2, 3, 16])
@pytest.mark.parametrize("config", [PRESETS["tiny"], PRESETS["small"], ODD], ids=lambda c: c.name)
def test_lenet_on_rtl(config: Config, batch: int):
    """Bytes are the interpreter's and every counter is the model's, the last batch not full."""
    report = run_lenet(config, "verilator", batch, batch + 1 if batch < 16 else 16)
    assert report.mismatches == 0
    assert report.as_predicted


@pytest.mark.parametrize("config", [*CONFIGS[2:4], CRAMPED], ids=lambda c: c.name)
def test_lenet_on_golden(config: Config):
    check_golden(networks.lenet(config.multiplier_bits), config, batch=4)


@pytest.mark.parametrize("config", [*CONFIGS[:3], CRAMPED], ids=lambda c: c.name)
@pytest.mark.parametrize(("tokens", "heads", "depth"), [(16, 2, 16), (7, 1, 64)])
def test_attention(config: Config, tokens: int, heads: int, depth: int):
    """Products of activations are those of an image; the host's calls take all of them."""
    graph = attention(0, tokens, heads, depth, config.multiplier_bits)
    check_golden(graph, config, batch=3)


def branches(seed: int, bits: int, size: int, channels: tuple[int, int], classes: int) -> Graph:
    """All kinds of layers: parts that are joined, residuals, tables, pools of whole maps, fully
    connected layers whose result comes back to the images' own maps, and a map that waits so long.
    """
    rng = np.random.default_rng(seed)
    first, second = channels
    x = networks.Tensor("x", size, size, first, 1.0, 3)
    same = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}
    a = networks.conv(rng, "a", x, first, bits, **same)
    b = networks.conv(rng, "b", a[1], first, bits, groups=first, **same)
    added = replace(b[0], residual=Residual(a[1].name, 1 << 16, 18, 0)), b[1]
    c = networks.conv(rng, "c", x, second, bits)
    joined = networks.Tensor("joined", size, size, 2 * first + second, 1.0)
    cat = Concat("cat", (b[1].name, c[1].name, b[1].name), "joined"), joined
    pooled = networks.maxpool("pool", joined, 2, 2)
    table = rng.integers(-128, 128, 256).astype(np.int8)
    looked = networks.Tensor("looked", *pooled[1].shape, 1.0)
    look = Table("look", pooled[1].name, "looked", table), looked
    half = size // 2
    whole = networks.conv(rng, "whole", looked, classes, bits, kernel=(half, half))
    turned = networks.Tensor("turned", 1, 1, classes, 1.0)
    turn = Table("turn", whole[1].name, "turned", table[::-1].copy()), turned
    mixed = networks.conv(rng, "mixed", turned, classes, bits)
    again = replace(mixed[0], residual=Residual(whole[1].name, 1 << 16, 18, 0)), mixed[1]
    mean = networks.Tensor("mean", 1, 1, first, 1.0)
    numbers = networks.requant(rng, first, size * size, bits)
    average = Pool("mean", a[1].name, "mean", "avg", (size, size), (size, size), requant=numbers)
    ends = networks.Tensor("ends", 1, 1, first + 2 * classes, 1.0)
    end = Concat("end", (mixed[1].name, "mean", mixed[1].name), "ends"), ends
    last = networks.conv(rng, "last", ends, 2, bits)
    return networks.graph(
        "branches", x, a, added, c, cat, pooled, look, whole, turn, again, (average, mean), end,
        last,
    )  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
class TestAllKinds:
    @FEW
    @given(data=st.data())
    def test_branches(self, config: Config, data: st.DataObject):
        graph = branches(
            data.draw(st.integers(0, 1000)),
            config.multiplier_bits,
            data.draw(st.sampled_from([2, 4, 6])),
            data.draw(st.sampled_from([(3, 5), (8, 16), (16, 32)])),
            data.draw(st.sampled_from([7, 64, 100])),
        )
        check_golden(graph, config, batch=data.draw(st.sampled_from([2, 3, 5])))


def test_branches_have_all_kinds_of_regions():
    """What the test above is to reach: joint layers amid those that go image by image."""
    found = planned(branches(0, 32, 4, (8, 16), 100), DEFAULT, 3)
    assert found.joint == {"whole", "turn", "mixed"}
    ops = fuse(found, DEFAULT)
    assert [[ops[step].name for step in region] for region in regions(ops)] == [
        ["a", "b", "c", "pool+look"], ["whole"], ["turn"], ["mixed"], ["mean", "last"],
    ]  # fmt: skip


# -- cycles and weights ------------------------------------------------------------------------


def planned(graph: Graph, config: Config, images: int) -> Batch:
    return batched(graph, frozenset(), config, images)


def test_sixteen_images_of_lenet():
    report = run_lenet(DEFAULT, "verilator", 16, 16)
    assert report.mismatches == 0
    assert report.as_predicted
    assert report.bound_cycles == 2854
    assert report.cycles_per_image is not None
    assert report.cycles_per_image <= 2900
    cycles = [layer.cycles for layer in report.layers]
    assert sum(cycles) == report.cycles  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert cycles[1] > 16 * 900, "a layer's cycles are those of all its stretches"


def test_decision_has_the_numbers(monkeypatch):
    """The table in docs/decisions/011-batch.md, by the timing model."""
    page = Path(__file__).parents[1] / "docs" / "decisions" / "011-batch.md"
    block = page.read_text("utf-8").partition("<!-- lenet -->")[2].partition("<!-- /lenet -->")[0]
    head, _, *rows = (line.split("|")[2:-1] for line in block.strip().splitlines())
    bounds, chosen, alone = ([int(cell.replace(",", "")) for cell in row] for row in rows)
    graph = networks.lenet()

    def an_image(images: int) -> tuple[int, int]:
        program = compiler.compile(graph, DEFAULT, batch=images)
        cycles = predict(DEFAULT, program.code, latency=50).cycles
        bound = sum(layer.bound_cycles for layer in program.layers)
        return -(-bound // images), round(cycles / images)

    counts = [int(cell) for cell in head]
    assert [an_image(n) for n in counts] == [*zip(bounds, chosen, strict=True)]
    monkeypatch.setattr(batch_module, "_joint", lambda *_: False)
    assert [an_image(n)[1] for n in counts] == alone


def test_one_image_is_no_batch():
    graph = networks.lenet()
    found = planned(graph, DEFAULT, 1)
    assert found.stacked is found.one is graph
    assert not found.joint


def test_weights_are_loaded_once():
    """Fully connected layers read as many bytes for 16 images as for one, LeNet's convolutions one
    image's weights and all images' maps.
    """
    graph = networks.lenet()
    one, many = (compiler.compile(graph, DEFAULT, batch=n) for n in (1, 16))
    for a, b in zip(one.layers[2:], many.layers[2:], strict=True):
        assert a.read_bytes == b.read_bytes
    weights = one.layers[0].read_bytes - 32 * 32
    assert many.layers[0].read_bytes == weights + 16 * 32 * 32
    assert many.layers[1].read_bytes == one.layers[1].read_bytes
    assert many.macs == 16 * one.macs


@pytest.mark.parametrize(
    ("height", "kernel", "padding", "joint"),
    [
        (3, 3, 0, True),
        (1, 1, 0, True),
        (3, 1, 0, True),  # one pixel after the other
        (3, 2, 0, False),  # windows of the taller map would reach over a border
        (3, 3, 1, False),
        (20, 20, 0, True),  # a stride that no instruction has
    ],
)
def test_what_is_done_at_once(height: int, kernel: int, padding: int, joint: bool):
    source = networks.Tensor("x", height, 1, 40, 1.0)
    pair = networks.conv(np.random.default_rng(0), "conv", source, 50, kernel=(kernel, 1),
                         padding=(padding, 0, padding, 0))  # fmt: skip
    graph = networks.graph("one", source, pair)
    assert ("conv" in planned(graph, DEFAULT, 3).joint) == joint
    check_golden(graph, DEFAULT, batch=3)


def test_no_images():
    with pytest.raises(CompileError, match="lenet: a batch has 1 to 9999 images, not 0"):
        compiler.compile(networks.lenet(), DEFAULT, batch=0)


# -- programs ----------------------------------------------------------------------------------


def test_files_keep_the_batch(tmp_path):
    config = PRESETS["tiny"]
    graph = attention(1, 20, 2, 16, config.multiplier_bits)
    program = compiler.compile(graph, config, batch=3)
    assert program.calls
    program.save(tmp_path / "p.weft")
    loaded = program_file.load(tmp_path / "p.weft", config)
    assert loaded.batch == 3
    assert loaded.input_shape == (1, 20, 32)
    x = np.random.default_rng(0).integers(-128, 128, (4, 1, 20, 32)).astype(np.int8)
    report = run(loaded, GoldenDevice(config), x, reference=interpreter.run_all(graph, x))
    assert report.mismatches == 0
    assert (report.images, report.batches) == (4, 2)
    assert np.stack(report.outputs).shape == (4, 1, 20, 32)
    with pytest.raises(ProgramError, match=r"must be int8 \(3, 1, 20, 32\), not int8 \(2, 1, 20"):
        loaded.pack_input(x[:2])


def test_a_batch_does_not_depend_on_its_place():
    """Images that differ in one only differ in its output."""
    program = compiler.compile(networks.lenet(), DEFAULT, batch=3)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (3, 32, 32, 1)).astype(np.int8)
    y = x.copy()
    y[1] = rng.integers(-128, 128, (32, 32, 1))
    device = GoldenDevice(DEFAULT)
    first, second = (
        program.images(program.output, program.execute(device, images)[0]) for images in (x, y)
    )
    assert [np.array_equal(a, b) for a, b in zip(first, second, strict=True)] == [True, False, True]
