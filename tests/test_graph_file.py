"""Integer graphs survive their files; other files are refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from weft.host import arrays, ir
from weft.host.errors import ModelError
from weft.host.graph_file import load_graph, save_graph
from weft.host.views import canonical

from . import networks


def same(a: object, b: object) -> bool:
    """Whether two parts of a graph are equal, arrays and their types included."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return (
            isinstance(b, tuple)
            and len(a) == len(b)
            and all(same(x, y) for x, y in zip(a, b, strict=True))
        )
    return type(a) is type(b) and a == b


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs") / "graph"


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.one_of(networks.convs(8, 8), networks.gemms(8, 8)))
def test_round_trip(path, graph: ir.Graph):
    save_graph(graph, path)
    assert same(graph, load_graph(path))


def test_every_node_survives(path):
    numbers = networks.requant(np.random.default_rng(0), 8, 16)
    tensors = {name: ir.Tensor(name, 1, 4, 8, 0.5) for name in "abcd"} | {
        "s": ir.Tensor("s", 2, 4, 4, 0.25),
        "y": ir.Tensor("y", 1, 4, 16, 0.5),
    }
    exponentials = np.minimum(np.exp(-np.arange(256) / 4) * 2**24, 2**24).astype(np.int64)
    graph = ir.Graph(
        "all", "a", "y", tensors,
        (
            ir.Table("table", "a", "b", np.arange(-128, 128, dtype=np.int8), "gelu"),
            ir.Pool("pool", "b", "c", "max", (1, 1), (1, 1)),
            ir.MatMul("scores", "b", "c", "s", dataclasses.replace(
                numbers, **{k: getattr(numbers, k)[:1].repeat(4)
                            for k in ("bias", "multiplier", "shift")}), 2, True),
            ir.Host("softmax", ("c",), "d", "softmax", {"axis": 3}, (exponentials,) * 2),
            ir.Concat("concat", ("d", "b"), "y"),
        ),
    )  # fmt: skip
    save_graph(graph, path)
    assert same(graph, load_graph(path))


def rewrite(source, target, change) -> None:
    """Write `source` to `target` with its arrays and JSON changed."""
    with safe_open(source, framework="numpy") as file:
        entry = json.loads(file.metadata()["weft-graph"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(arrays, entry)
    save_file(arrays, target, metadata={"weft-graph": json.dumps(entry)})


DAMAGED = "not a graph file, or a damaged one"
CHANGES = [
    (lambda _a, e: e.update(format=9), "graph format 9 is not format 1"),
    (lambda _a, e: e["graph"]["nodes"][0].update(colour=1), DAMAGED),
    (lambda _a, e: e["graph"]["nodes"][0].update(stride="ab"), "stride must be a tuple of 2"),
    (lambda _a, e: e["graph"].pop("output"), DAMAGED),
    (lambda _a, e: e.update(graph=e["graph"]["nodes"][0]), DAMAGED),
    (lambda _a, e: e["graph"]["nodes"][0].update(output="x"), "conv1: writes 'x'"),
    (lambda a, _e: a.pop("0"), DAMAGED),
    (lambda a, _e: a.update({"0": a["0"].astype(np.int16)}), "conv1: weight must be int8"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_changed_files_are_refused(path, change, message):
    save_graph(networks.lenet(), path)
    changed = path.with_name("changed")
    rewrite(path, changed, change)
    with pytest.raises(ModelError, match=message):
        load_graph(changed)


def test_views_and_indices_of_the_host_survive(path):
    a, b, y = ir.Tensor("a", 1, 4, 8, 0.5), ir.Tensor("b", 4, 1, 8, 0.5), ir.Tensor("y", 4, 1, 8, 2)
    view = canonical((1, 4, 8))[1]
    pairs = [(a, view), (a, view)]
    index = np.random.default_rng(0).permutation(32)
    nodes = (
        arrays.gather("mix", a, b, index),
        arrays.logical("sum", "add", pairs, y, result=view.as_json()),
    )
    graph = ir.Graph("host", "a", "y", {t.name: t for t in (a, b, y)}, nodes)
    save_graph(graph, path)
    got = load_graph(path)
    assert same(got.nodes, graph.nodes)
    assert got.nodes[1].attributes == nodes[1].attributes


def test_no_folder(path):
    with pytest.raises(ModelError, match="cannot write"):
        save_graph(networks.lenet(), path.parent / "no" / "folder")


def test_refused(path):
    save_graph(networks.lenet(), path)
    data = path.read_bytes()
    other = path.with_name("other")
    for content in (b"", b"x" * 40, data[:-1], data.replace(b"Graph", b"Conv?")):
        other.write_bytes(content)
        with pytest.raises(ModelError, match="not a graph file, or a damaged one"):
            load_graph(other)
    with pytest.raises(ModelError, match="cannot read"):
        load_graph(path.with_name("missing"))
