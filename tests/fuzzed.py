"""One case of the host's fuzz: damage something, use it, and insist on our own errors.

Whatever comes from outside is used as it is, or refused with one sentence. A case is its seed;
:func:`case` raises AssertionError, or whatever came out, where that was not so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from weft.hdl.config import Config, ConfigError
from weft.hdl.config import load as load_config
from weft.host import cli, compiler, datasets, interpreter, program, shapes
from weft.host.device import DeviceError
from weft.host.disasm import listing
from weft.host.errors import WeftError
from weft.host.golden import GoldenDevice
from weft.host.graph_file import load_graph, save_graph
from weft.host.ir import Conv, Graph
from weft.host.run import run
from weft.host.verify import verify

from . import corpus
from .draws import cost
from .mutations import DTYPES, TEXTS, damaged, foreign, mutated, weird_array

#: What may come out.
REFUSALS = (WeftError, ConfigError, DeviceError)
#: A graph or program that costs more is not run: it would take long, as it should.
MOST_ELEMENTS, MOST_MACS, MOST_CYCLES = 200_000, 3_000_000, 300_000


def case(seed: int, folder: Path) -> str:
    """Run the case of `seed` with files in the empty `folder`; returns its sort and its outcome."""
    rng = Random(f"fuzz {seed}")
    name = rng.choices([*KINDS], [share for share, _ in KINDS.values()])[0]
    try:
        outcome = KINDS[name][1](rng, folder)
    except REFUSALS as error:
        _check_sentence(str(error))
        outcome = "refused"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "a file is left"
    return f"{name} {outcome}"


def _check_sentence(text: str) -> None:
    """One line that a reader can take in."""
    assert text.strip()
    assert len(text) < 2000, f"{len(text)} characters: {text[:200]}"
    assert text.isprintable(), repr(text)


# -- programs ----------------------------------------------------------------------------------


def _program_bytes(rng: Random) -> bytes:
    files = corpus.programs()
    data = rng.choice(files)
    kind = rng.random()
    if kind < 0.2:
        return damaged(rng, data, files + corpus.graph_files())
    if kind < 0.25:
        return foreign(rng, corpus.graph_files())
    if kind < 0.35:
        return _damaged_header(rng, data)
    header, tensors = corpus.opened(data, "weft")
    if kind < 0.6:
        changed = mutated(rng, tensors)
        changed = changed if isinstance(changed, dict) else {}
        tensors = {str(k): v for k, v in changed.items() if isinstance(v, np.ndarray)}
    else:
        header = mutated(rng, header)
    if rng.random() < 0.2:
        code = bytearray(tensors.get("code", np.zeros(0)).tobytes())
        for _ in range(rng.randint(1, 3) if code else 0):
            code[rng.randrange(len(code))] ^= 1 << rng.randrange(8)
        tensors["code"] = np.frombuffer(bytes(code), np.uint8)
    if isinstance(header, dict):
        return corpus.signed(header, tensors)
    return corpus.closed(header, tensors, "weft")


def _damaged_header(rng: Random, data: bytes) -> bytes:
    """A container whose own header lies about what follows it."""
    size = int.from_bytes(data[:8], "little")
    header = mutated(rng, json.loads(data[8 : 8 + size]))
    text = json.dumps(header).encode()
    length = rng.choice((len(text), len(text), len(text) + 1, 1 << 60, (1 << 64) - 1))
    return length.to_bytes(8, "little") + text + data[8 + size :]


def _program(rng: Random, folder: Path) -> str:
    path = folder / "p.weft"
    path.write_bytes(_program_bytes(rng))
    made = program.load(path)
    listing(made)
    made.save(folder / "again.weft")
    again = program.load(folder / "again.weft")
    assert dataclasses.replace(made, calls=()) == dataclasses.replace(again, calls=())
    cycles = sum(cost(i.opcode, dict(i.fields), made.config) for i in made.instructions()
                 if i.unit is not None)  # fmt: skip
    if cycles > MOST_CYCLES or sum(made.sizes) > 1 << 24:
        return "accepted"
    x = np.zeros(made.input.shape, np.int8)
    segments, _ = made.execute(GoldenDevice(made.config), x)
    made.unpack(made.output, segments)
    return "run"


# -- configurations ----------------------------------------------------------------------------


def _toml(values: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


def _config(rng: Random, folder: Path) -> str:
    base = rng.choice(corpus.configurations())
    path = folder / "c.toml"
    kind = rng.random()
    if kind < 0.4:
        values = mutated(rng, dataclasses.asdict(base))
        known = {field.name for field in dataclasses.fields(Config)}
        values = values if isinstance(values, dict) else {}
        config = Config(**{key: value for key, value in values.items() if key in known})
    else:
        if kind < 0.5:
            path.write_bytes(foreign(rng, [base.to_toml().encode()]))
        elif kind < 0.7:
            texts = [c.to_toml().encode() for c in corpus.configurations()]
            path.write_bytes(damaged(rng, base.to_toml().encode(), texts))
        else:
            values = mutated(rng, dataclasses.asdict(base))
            path.write_text(_toml(values if isinstance(values, dict) else {}), encoding="utf-8")
        source = path if rng.random() < 0.95 else rng.choice(TEXTS)
        config = load_config(source)
    path.write_text(config.to_toml(), encoding="utf-8")
    assert load_config(path) == config
    if rng.random() < 0.9:
        return "accepted"
    return _run_graph(rng, rng.choice(corpus.graphs()), config)


# -- graphs ------------------------------------------------------------------------------------


def _graph_file(rng: Random, folder: Path) -> str:
    files = corpus.graph_files()
    data = rng.choice(files)
    kind = rng.random()
    if kind < 0.15:
        data = damaged(rng, data, files + corpus.programs())
    elif kind < 0.2:
        data = foreign(rng, corpus.programs())
    elif kind < 0.3:
        data = _damaged_header(rng, data)
    else:
        entry, tensors = corpus.opened(data, "weft-graph")
        data = corpus.closed(mutated(rng, entry), tensors, "weft-graph")
    path = folder / "g"
    path.write_bytes(data)
    graph = load_graph(path)
    save_graph(graph, folder / "again")
    load_graph(folder / "again")
    return _run_graph(rng, graph, rng.choice(corpus.CONFIGS))


def _graph_object(rng: Random, folder: Path) -> str:
    graph = mutated(rng, rng.choice(corpus.graphs()))
    verify(graph)
    save_graph(graph, folder / "g")
    return _run_graph(rng, graph, rng.choice(corpus.CONFIGS))


def _run_graph(rng: Random, graph: Graph, config: Config) -> str:
    """What passes the verifier gives the same bytes compiled as interpreted."""
    elements = sum(tensor.height * tensor.width * tensor.channels
                   for tensor in graph.tensors.values())  # fmt: skip
    work = sum(
        node.weight[0].size * np.prod(graph.tensors[node.output].shape, dtype=object)
        for node in graph.nodes
        if isinstance(node, Conv)
    )
    if elements > MOST_ELEMENTS or work > MOST_MACS:
        return "accepted"
    x = np.random.default_rng(rng.getrandbits(32))
    x = x.integers(-128, 128, (1, *graph.tensors[graph.input].shape)).astype(np.int8)
    want = interpreter.run_all(graph, x)
    inspect = compiler.compile(graph, config, inspect=True)
    device = GoldenDevice(config)
    report = run(inspect, device, x, reference=want, inspect=inspect)
    assert report.mismatches == 0
    return "run"


# -- inputs ------------------------------------------------------------------------------------


def _array(rng: Random, like: np.ndarray) -> Any:
    """Something instead of an array such as `like`."""
    if rng.random() < 0.5:
        out = like
        for _ in range(rng.randint(1, 2)):
            out = weird_array(rng, out)
        return out
    shape = tuple(rng.choice((0, 1, 2, 5, 7)) for _ in range(rng.randrange(6)))
    return rng.choice(
        (
            np.zeros(shape, rng.choice(DTYPES)),
            np.full(like.shape, rng.choice((np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324))),
            np.full(shape, None, object),
            np.full(shape, "a"),
            np.zeros(shape, "M8[s]"),
            np.zeros(shape, [("a", np.int8)]),
            np.broadcast_to(np.float32(0), (1 << 40, 3)),
            like.tolist(),
            [[1, 2], [3]],
            rng.choice((None, 3, 2.5, "text", b"bytes", {}, [], [None])),
        )
    )


def _inputs(rng: Random, folder: Path) -> str:
    del folder
    graph = rng.choice(corpus.graphs())
    shape = graph.tensors[graph.input].shape
    kind = rng.randrange(4)
    if kind == 0:
        h, w, c = shape
        like = np.random.default_rng(rng.getrandbits(32)).normal(size=(2, c, h, w))
        got = interpreter.quantize_input(graph, _array(rng, like))
        assert got.dtype == np.int8
        assert got.shape[1:] == shape
        return "run"
    x = _array(rng, np.zeros((2, *shape), np.int8))
    if kind == 1:
        interpreter.run(graph, x)
        return "run"
    config = rng.choice(corpus.CONFIGS)
    made = _compiled(graph, config)
    if kind == 2:
        made.pack_input(_array(rng, np.zeros(shape, np.int8)))
    else:
        run(made, GoldenDevice(config), x)
    return "run"


def _compiled(graph: Graph, config: Config) -> program.Program:
    key = graph.name, config.name
    if key not in _PROGRAMS:
        _PROGRAMS[key] = compiler.compile(graph, config)
    return _PROGRAMS[key]


_PROGRAMS: dict[tuple[str, str], program.Program] = {}


# -- commands ----------------------------------------------------------------------------------


def command(arguments: list[str]) -> tuple[int, str]:
    """The exit code of `weft`, and what it wrote to stderr."""
    said = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            cli.main(arguments)
        except SystemExit as exit:
            code = exit.code
    return code or 0, said.getvalue()


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _command(rng: Random, folder: Path) -> str:
    """A command on damaged files: exit code 0, or 1 and a sentence and no output."""
    files, paths = corpus.programs(), {}
    at = rng.randrange(len(files))
    header, _ = corpus.opened(files[at], "weft")
    sound = rng.random() < 0.5  # then only the input is damaged
    paths["p.weft"] = files[at] if sound else _program_bytes(rng)
    x = np.zeros((1, *header["input"]["shape"]), np.int8)
    array = x if rng.random() < 0.3 else _array(rng, x)
    if isinstance(array, np.ndarray) and array.nbytes > 1 << 24:
        array = x
    data = _npy(np.asarray(array, object) if isinstance(array, list) else array)
    paths["x.npy"] = damaged(rng, data, [data]) if rng.random() < 0.3 else data
    paths["c.toml"] = damaged(rng, corpus.configurations()[0].to_toml().encode(), [data])
    for name, content in paths.items():
        (folder / name).write_bytes(content)
    place = {name: str(folder / name) for name in paths}
    output = folder / "y.npy"
    choices = [["disasm", place["p.weft"]], ["config", "show", place["c.toml"], "--json"]]
    if sound:
        backend = rng.choice(("golden", "golden", "model", "other"))
        latency = rng.choice(("50", "1", "-1", "x", str(1 << 70)))
        choices = [["run", place["p.weft"], "--input", place["x.npy"], "--backend", backend,
                    "--output", str(output), "--latency", latency]]  # fmt: skip
    code, said = command(rng.choice(choices))
    assert code in (0, 1, 2), (code, said)
    if code == 1:
        *_, last = said.splitlines()
        assert last.startswith("weft: "), said
        _check_sentence(last)
    assert output.exists() == (code == 0 and sound)
    assert {path.name for path in folder.iterdir()} - {"y.npy"} == {*paths}
    return f"exit {code}"


# -- archives of torch -------------------------------------------------------------------------


def _archives() -> tuple[bytes, ...]:
    """A small model as ``torch.export.save`` writes it."""
    if not _ARCHIVES:
        import torch
        from torch import nn

        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
        file = io.BytesIO()
        torch.export.save(torch.export.export(model, (torch.zeros(1, 1, 3, 3),)), file)
        _ARCHIVES.append(file.getvalue())
    return tuple(_ARCHIVES)


_ARCHIVES: list[bytes] = []


def _archive(rng: Random, folder: Path) -> str:
    """A .pt2: bytes of the archive changed, or of one of the files in it."""
    import zipfile

    from weft.host import frontend

    (data,) = _archives()
    if rng.random() < 0.4:
        data = damaged(rng, data, [data]) if rng.random() < 0.8 else foreign(rng, [data])
    else:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            entries = old.infolist()
            changed = rng.choice(entries).filename
            for entry in entries:
                content = old.read(entry)
                if entry.filename == changed and entry.filename.endswith(".json"):
                    content = json.dumps(mutated(rng, json.loads(content))).encode()
                elif entry.filename == changed:
                    content = damaged(rng, content, [data])
                new.writestr(entry.filename, content)
        data = out.getvalue()
    path = folder / "m.pt2"
    path.write_bytes(data)
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        exported = frontend.load_exported(path)
        x = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
        verify(frontend.quantize_exported(exported, x, name="m"))
    finally:
        logging.disable(previous)
    return "run"


# -- LeNet's data, names of layers -------------------------------------------------------------


def _data(rng: Random, folder: Path) -> str:
    """MNIST's files and trained weights."""
    if rng.random() < 0.4:
        from weft.host.models import LENET_WEIGHTS, lenet5

        weights = LENET_WEIGHTS.read_bytes()
        data = damaged(rng, weights, [weights]) if rng.random() < 0.5 else (
            _damaged_header(rng, weights)
        )  # fmt: skip
        (folder / "w").write_bytes(data)
        lenet5(folder / "w")
        return "run"
    images = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(5 * 28 * 28)
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5])
    for name, data in (("images-idx3", images), ("labels-idx1", labels)):
        if rng.random() < 0.7:
            data = damaged(rng, data, [images, labels])
        if packed := rng.random() < 0.4:
            data = gzip.compress(data, 1)
            data = damaged(rng, data, [images]) if rng.random() < 0.4 else data
        (folder / f"t10k-{name}-ubyte{'.gz' * packed}").write_bytes(data)
    datasets.load(folder)
    return "run"


def _text(rng: Random, folder: Path) -> str:
    """Layers by name."""
    del folder
    texts = [b"gemm:13x7x16", b"conv:9x8x4,k=3x2,s=2,p=1,n=8,g=2", b"conv:1x1x1,n=1"]
    text = damaged(rng, rng.choice(texts), [*texts, b"999999", b"0", b","]).decode("latin-1")
    graph = shapes.graph(text, rng.choice((18, 32)))
    return _run_graph(rng, graph, rng.choice(corpus.CONFIGS))


#: Sorts of cases: how often each comes, and what it does.
KINDS: dict[str, tuple[int, Callable[[Random, Path], str]]] = {
    "program": (300, _program),
    "configuration": (200, _config),
    "graph file": (200, _graph_file),
    "graph object": (150, _graph_object),
    "input": (200, _inputs),
    "command": (60, _command),
    "data": (40, _data),
    "text": (40, _text),
    "archive": (6, _archive),
}
