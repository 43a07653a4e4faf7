"""Sound graphs and program files, small and of every sort, for tests that damage them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import numpy as container
from weft.hdl.config import PRESETS, Config, load
from weft.host import arrays, compiler, norms
from weft.host.graph_file import save_graph
from weft.host.ir import Concat, Graph, Host, MatMul, Pool, Requant, Residual, Table, Tensor
from weft.host.program import _digest
from weft.host.views import canonical

from . import networks

CONFIGS = (PRESETS["tiny"], load(Path(__file__).with_name("configs") / "odd.toml"))
_BITS = 18


@cache
def graphs() -> tuple[Graph, ...]:
    """Verified graphs that together have every node, with every option, for all of CONFIGS."""
    rng = np.random.default_rng(0)
    x = Tensor("x", 7, 6, 5, 0.5, 3)
    first, a = networks.conv(rng, "first", x, 8, _BITS, kernel=(3, 2), padding=(1, 0, 1, 1), low=0)
    pool, p = networks.maxpool("pool", a, 3, 2, 1)
    deep, d = networks.conv(rng, "deep", p, 8, _BITS, kernel=(3, 3), padding=(1,) * 4, groups=8)
    deep = replace(deep, residual=Residual(p.name, 1 << 16, 17, p.zero_point))
    classes, c = networks.conv(rng, "classes", d, 10, _BITS, kernel=(d.height, d.width),
                               kind="linear")  # fmt: skip
    plain = networks.graph("plain", x, (first, a), (pool, p), (deep, d), (classes, c))

    s = Tensor("s", 4, 4, 8, 0.5)
    dilated, e = networks.conv(rng, "dilated", s, 8, _BITS, kernel=(2, 2), dilation=(2, 1),
                               padding=(1, 0, 1, 1), stride=(1, 1))  # fmt: skip
    e = replace(e, scale=0.5)
    mean = replace(networks.requant(rng, 8, 4, _BITS), bias=np.zeros(8, np.int64))
    average = (
        Pool("average", "s", "m", "avg", (2, 2), (1, 1), (0, 0, 1, 1), mean),
        Tensor("m", 4, 4, 8, 0.5),
    )
    table = Table("gelu", "m", "t", rng.integers(-128, 128, 256).astype(np.int8), "gelu")
    joined = networks.graph(
        "joined", s, (dilated, e), average, (table, Tensor("t", 4, 4, 8, 0.5)),
        (Concat("join", (e.name, "t", "s"), "y"), Tensor("y", 4, 4, 24, 0.5)),
    )  # fmt: skip
    return plain, joined, _attention(rng), _host()


def _attention(rng: np.random.Generator) -> Graph:
    """Scores, softmax and context of two heads, and a layer norm."""
    x = Tensor("x", 1, 5, 16, 0.1)
    q, k, v = (networks.conv(rng, name, x, 16, _BITS, kind="linear") for name in "qkv")
    scores, soft = Tensor("scores", 2, 5, 5, 0.1), Tensor("soft", 2, 5, 5, 1 / 128)
    out, last = Tensor("out", 1, 5, 16, 0.1), Tensor("last", 1, 5, 16, 0.1)

    def alike(channels: int) -> Requant:
        return Requant(*(np.full(channels, n) for n in (0, 1 << (_BITS - 2), _BITS + 6)))

    product = MatMul("qk", q[1].name, k[1].name, "scores", alike(5), 2, True)
    context = MatMul("sv", "soft", v[1].name, "out", alike(16), 2, False)
    return networks.graph(
        "attention", x, q, k, v, (product, scores),
        (norms.softmax("softmax", scores, soft), soft), (context, out),
        (norms.layer_norm("norm", out, last, np.ones(16), np.zeros(16), 1e-5), last),
    )  # fmt: skip


def _host() -> Graph:
    """Operators of the host: a gather of each kind, sum, concatenation, and one of torch's."""
    shape = 1, 4, 8
    a, b, c, d, e = (Tensor(name, *shape, 0.5) for name in "abcde")
    view = canonical((1, 4, 8))[1]
    index = np.random.default_rng(0).permutation(32)
    sides = {"result": view.as_json()}
    y, wide = Tensor("y", 1, 8, 8, 0.5), canonical((1, 8, 8))[1]
    function = Host(
        "sigmoid", ("c",), "d", "aten.sigmoid.default",
        {"views": [view.as_json()], **sides, "arguments": [{"input": 0}], "keywords": {}},
    )  # fmt: skip
    return networks.graph(
        "host", a, (arrays.gather("mix", a, b, index), b),
        (arrays.logical("sum", "add", [(a, view), (b, view)], c, **sides), c),
        (function, d), (arrays.gather("turn", d, e, np.arange(31, -1, -1)), e),
        (arrays.logical("cat", "cat", [(c, view), (e, view)], y, axis=1,
                        result=wide.as_json()), y),
    )  # fmt: skip


@cache
def programs() -> tuple[bytes, ...]:
    """Program files of :func:`graphs` for all of CONFIGS, some for inspection."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.weft"
        for config in CONFIGS:
            for number, graph in enumerate(graphs()):
                compiler.compile(graph, config, inspect=number % 2 == 1).save(path)
                out.append(path.read_bytes())
    return tuple(out)


@cache
def graph_files() -> tuple[bytes, ...]:
    """Files of :func:`graphs`."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        for graph in graphs():
            save_graph(graph, Path(folder) / "g")
            out.append((Path(folder) / "g").read_bytes())
    return tuple(out)


@cache
def configurations() -> tuple[Config, ...]:
    """The presets, and one whose rows are not its columns."""
    return *PRESETS.values(), CONFIGS[1]


def opened(data: bytes, key: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON under `key` and the arrays of a file like those above."""
    size = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + size])["__metadata__"][key]
    return json.loads(text), dict(container.load(data))


def closed(entry: object, tensors: dict[str, np.ndarray], key: str) -> bytes:
    """The inverse of :func:`opened`."""
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return container.save(whole, metadata={key: json.dumps(entry)})


def signed(header: dict, tensors: dict[str, np.ndarray]) -> bytes:
    """A program file whose digest is right, whatever it says."""
    header = {name: value for name, value in header.items() if name != "digest"}
    numbers = sorted((name for name in tensors if name.isdigit()), key=int)
    parts = [tensors[name].tobytes() for name in ("code", "const", *numbers) if name in tensors]
    return closed({**header, "digest": _digest(header, *parts)}, tensors, "weft")
