"""A few hundred cases of the host's fuzz; and what the fuzz once found, each by itself."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from weft.hdl.config import PRESETS, Config, ConfigError, load
from weft.host import commands, datasets, device, interpreter, program, shapes, verify
from weft.host.errors import ModelError, VerifyError, WeftError
from weft.host.ir import Graph, Host, MatMul, Tensor
from weft.host.views import View, canonical

from . import corpus, fuzzed, networks
from .campaigns import fuzz
from .mutations import damaged, mutated

#: Cases of `make test`; each sort is among them.
CASES = 400


def test_cases(capsys):
    assert fuzz.main(["--count", str(CASES), "--jobs", "1"]) == 0, capsys.readouterr().out
    outcomes = capsys.readouterr().out
    for kind in fuzzed.KINDS:
        assert f" {kind} " in outcomes


def test_failures_are_told(monkeypatch, capsys):
    """Foreign errors, hangs, files that are left, unreadable sentences."""

    def wrong(rng: Random, folder) -> str:
        del rng
        number = len(seen)
        seen.append(number)
        if number == 0:
            raise KeyError("foreign")
        if number == 1:
            (folder / ".part").touch()
        if number == 2:
            raise WeftError("two\nlines")
        if number == 3:
            raise WeftError("x" * 3000)
        if number == 4:
            while True:
                pass
        raise WeftError("a sentence")

    seen: list[int] = []
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzzed, "KINDS", {"wrong": (1, wrong)})
    fuzz.signal.signal(fuzz.signal.SIGALRM, fuzz._hang)
    outcomes, failed = fuzz.check(range(6))
    assert outcomes == {"wrong refused": 1}
    reasons = ["KeyError: 'foreign'", "a file is left", "two", "3000 characters", "takes longer"]
    assert [seed for seed, _ in failed] == [0, 1, 2, 3, 4]
    for (_, text), reason in zip(failed, reasons, strict=True):
        assert reason in text
    del capsys


def test_memory_is_bounded(monkeypatch, capfd):
    monkeypatch.setattr(fuzzed, "KINDS", {"greedy": (1, lambda *_: str(np.ones(1 << 40).size))})
    assert fuzz.main(["--count", "1", "--jobs", "1"]) == 1
    assert "MemoryError" in capfd.readouterr().out


def test_damage_is_of_every_sort():
    """Every part of a tree is changed sooner or later; bytes change length, place and value."""
    tree = {"a": [1, 2.0, "x"], "b": (np.zeros(3, np.int8), {"c": None})}
    rng = Random(0)
    kinds: Counter[str] = Counter()
    for _ in range(2000):
        made = mutated(rng, tree)
        kinds[type(made).__name__] += 1
        if isinstance(made, dict):
            kinds["a"] += str(made.get("a")) != str(tree["a"])
            kinds["b"] += str(made.get("b")) != str(tree["b"])
            kinds["keys"] += {*made} != {*tree}
    assert min(kinds[key] for key in ("dict", "list", "int", "str", "a", "b", "keys")) > 10
    sizes = Counter(np.sign(len(damaged(rng, bytes(99), [b"other"])) - 99) for _ in range(500))
    assert min(sizes.values()) > 20
    assert tree["a"] == [1, 2.0, "x"]


@pytest.mark.parametrize("seed", [7, 99])
def test_a_seed_is_a_case(seed, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(
        fuzzed, "KINDS", {"x": (1, lambda rng, _: found.append(rng.random()) or "done")}
    )
    for _ in range(2):
        assert fuzzed.case(seed, tmp_path) == "x done"
    assert found[0] == found[1]


# -- what it found -----------------------------------------------------------------------------


def single(node: Host, a: Tensor, y: Tensor) -> Graph:
    return Graph("g", a.name, y.name, {a.name: a, y.name: y}, (node,))


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("aten.save.default", [{"input": 0}, "stolen.pt"]),
        ("aten.from_file.default", ["stolen", True, 8]),
        ("aten.sigmoid_.default", [{"input": 0}]),
        ("aten.nothing.default", [{"input": 0}]),
        ("aten.sigmoid.default", [3]),
        ("aten.sum.default", [{"input": 0}]),
    ],
)
def test_files_name_only_operators_that_compute(operator, arguments, tmp_path, monkeypatch):
    """``aten::save`` takes a tensor and writes a file; a program file could name it."""
    monkeypatch.chdir(tmp_path)
    a, y = Tensor("a", 1, 1, 8, 1.0), Tensor("y", 1, 1, 8, 1.0)
    view = canonical((1, 8))[1].as_json()
    attributes = {"views": [view], "result": view, "arguments": arguments, "keywords": {}}
    graph = single(Host("call", ("a",), "y", operator, attributes), a, y)
    verify.verify(graph)
    with pytest.raises(ModelError, match=r"^call: "):
        interpreter.run(graph, np.zeros((1, 1, 1, 8), np.int8))
    assert not [*tmp_path.iterdir()]


def test_sizes_that_nobody_has_are_seen_before_memory_is_asked_for():
    a, y = Tensor("a", 1, 1, 8, 1.0), Tensor("y", 1 << 20, 1 << 20, 1 << 20, 1.0)
    gather = Host("g", ("a",), "y", "gather", {"offset": 0, "strides": [0, 0, 0]})
    with pytest.raises(VerifyError, match=r"y: shape .* is more than 2\^32 elements"):
        verify.verify(single(gather, a, y))
    y = Tensor("y", 1, 1, 8, 1.0)
    again = [[1 << 30], [0], 0, [1 << 30]]
    attributes = {"views": [again], "result": canonical((1, 8))[1].as_json()}
    with pytest.raises(VerifyError, match="shows more than 67108864 elements"):
        verify.verify(single(Host("s", ("a",), "y", "cat", {**attributes, "axis": 0}), a, y))
    source, out = Tensor("x", 4, 4, 8, 1.0), Tensor("p", 1, 1, 8, 1.0)
    node, _ = networks.maxpool("pool", source, 2, 1)
    far = {"padding": (0, 0, 1 << 40, 1 << 40), "stride": (1 << 41, 1 << 41)}
    object.__setattr__(node, "output", "p")
    for name, value in far.items():
        object.__setattr__(node, name, value)
    with pytest.raises(VerifyError, match=r"with padding is more than 2\^32 elements"):
        verify.verify(networks.graph("g", source, (node, out)))
    images = np.broadcast_to(np.float32(0), (1 << 40, 3))
    with pytest.raises(ModelError, match="wants images of shape"):
        interpreter.quantize_input(corpus.graphs()[0], images)


def test_whole_views_are_those_that_show_every_element_once():
    rng = np.random.default_rng(0)
    whole = 0
    for _ in range(3000):
        shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 4)))
        strides = tuple(int(n) for n in rng.choice([0, 1, 2, 3, 4, 6, 9], len(shape)))
        view = View(shape, strides, int(rng.random() < 0.1), shape)
        elements = int(np.prod(shape))
        want = sorted(view.indices().reshape(-1).tolist()) == [*range(elements)]
        assert view.whole(elements) == want, view
        assert not view.whole(elements + 1)
        whole += want
    assert whole > 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"rows = {'9' * 5000}", "cannot read configuration"),
        ("rows = " + "[" * 5000, "it is nested"),
        (f"rows = {1 << 70}", "rows has more than 64 bits"),
        ('name = "a\\nendmodule"', "name must be printable"),
        (f"rows = {'[' * 50}{']' * 50}", "rows must be an integer, not"),
    ],
)
def test_configurations_of_no_use(text, message, tmp_path):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path / "c.toml")
    assert len(str(error.value)) < 600


def test_paths_that_no_file_can_have():
    with pytest.raises(ConfigError, match="File name too long"):
        load("a" * 5000)


def test_a_name_cannot_end_the_comment_that_holds_it():
    with pytest.raises(ConfigError, match="name must be printable"):
        Config(name="x\nmodule weft(); endmodule //")


def test_nested_headers(tmp_path):
    header, tensors = corpus.opened(corpus.programs()[0], "weft")
    deep: list = []
    for _ in range(700):
        deep = [deep]
    path = tmp_path / "p.weft"
    path.write_bytes(corpus.closed({**header, "layers": deep, "digest": ""}, tensors, "weft"))
    with pytest.raises(program.ProgramError, match="damaged"):
        program.load(path)


@pytest.mark.parametrize("backend", device.backends())
def test_latencies_have_an_end(backend):
    """Also where nothing waits for the memory: the report predicts cycles at its latency."""
    for values in ({"latency": 1 << 70}, {"beat_interval": 1 << 70}):
        with pytest.raises(device.DeviceError, match=r"must be . to 1048576 cycles, not"):
            device.open_device(backend, PRESETS["tiny"], **values)


def test_headers_of_arrays_that_python_cannot_parse(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3, np.int8))
    path.write_bytes(path.read_bytes().replace(b"(3,)", b"(3, "))
    with pytest.raises(WeftError, match=r"cannot read .* as a \.npy array"):
        commands.read_npy(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stride", "ab", r"graph.nodes\[0\].stride must be a tuple of 2, not 'ab'"),
        ("stride", (1.0, 1), r"stride\[0\] must be an integer of 64 bits, not 1.0"),
        ("groups", True, "groups must be an integer of 64 bits, not True"),
        ("groups", 1 << 64, "groups must be an integer of 64 bits, not 1844"),
        ("name", 7, "name must be a printable name of 1 to 200 characters, not 7"),
        ("name", "a\nb", "name must be a printable name of 1 to 200 characters, not 'a"),
        ("weight", None, "weight must be an array of numbers, not None"),
        ("weight", np.array([None]), "weight must be an array of numbers, not array"),
        ("residual", "x", "residual must be a Residual or None, not 'x'"),
        ("requant", None, "requant must be a Requant, not None"),
    ],
)
def test_types_of_graphs(name, value, message):
    graph = networks.lenet()
    object.__setattr__(graph.nodes[0], name, value)
    with pytest.raises(VerifyError, match=message):
        verify.verify(graph)


def test_attributes_of_other_types():
    a, y = Tensor("a", 1, 1, 8, 1.0), Tensor("y", 1, 1, 8, 1.0)
    far = {"offset": 0, "strides": [1 << 70, 0, 1]}
    for attributes in ({"offset": 0, "strides": 3}, {"offset": {1, 2}}, {"views": 3}, far):
        with pytest.raises(VerifyError, match=r"^g: "):
            verify.verify(single(Host("g", ("a",), "y", "gather", attributes), a, y))


@pytest.mark.parametrize(
    ("operator", "change", "message"),
    [
        ("cat", {"views": [[[1, 8], [1 << 80, 1], 0, [1, 8]]]}, "is not a view"),
        ("cat", {"axis": -1}, "cat has the number of an axis"),
        ("add", {"constant": 7}, "add's constant is its operand 0 or 1"),
    ],
)
def test_attributes_out_of_range(operator, change, message):
    a, y = Tensor("a", 1, 1, 8, 1.0), Tensor("y", 1, 1, 8, 1.0)
    view = canonical((1, 8))[1].as_json()
    attributes = {"views": [view], "result": view, "axis": 1}
    constants = (np.ones(8),) if operator == "add" else ()
    verify.verify(single(Host("g", ("a",), "y", operator, attributes, constants), a, y))
    node = Host("g", ("a",), "y", operator, {**attributes, **change}, constants)
    with pytest.raises(VerifyError, match=message):
        verify.verify(single(node, a, y))


def test_columns_without_channels():
    graph = corpus.graphs()[2]
    product = next(node for node in graph.nodes if isinstance(node, MatMul))
    object.__setattr__(product, "requant", replace(product.requant, bias=np.array(0)))
    try:
        with pytest.raises(VerifyError, match="qk: requantization must have 5 channels"):
            verify.verify(graph)
    finally:
        corpus.graphs.cache_clear()


def test_layers_too_large_for_memory():
    with pytest.raises(WeftError, match="has 999,998,000,001 numbers in one array"):
        shapes.graph("gemm:1x999999x999999")
    with pytest.raises(WeftError, match="is no shape"):
        shapes.graph("gemm:" + "9" * 5000)


def test_compressed_files_that_hold_more_than_any_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_MOST_BYTES", 1 << 20)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(WeftError, match="has more than 1 MiB"):
        datasets.load(tmp_path)
