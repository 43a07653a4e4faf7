"""Integer graphs as files: a safetensors container of the arrays, with the rest as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as container

from ..hdl.brief import brief
from ..hdl.files import write_whole
from . import ir
from .errors import ModelError, VerifyError
from .verify import verify

_TYPES = {
    kind.__name__: kind
    for kind in (
        *(ir.Tensor, ir.Requant, ir.Residual, ir.Conv, ir.Pool, ir.Concat),
        *(ir.MatMul, ir.Table, ir.Host, ir.Graph),
    )
}
#: Keys of JSON objects that stand for one of _TYPES, or for an array.
_TYPE, _ARRAY = "$type", "$array"
#: Fields that are JSON already.
_PLAIN = {"attributes"}
_KEY = "weft-graph"
FORMAT_VERSION = 1


def save_graph(graph: ir.Graph, path: str | Path) -> None:
    """Write `graph` to `path`, whole or not at all.

    Raises
    ------
    ModelError
        The file cannot be written.
    """
    path = Path(path)
    arrays: list[np.ndarray] = []
    text = json.dumps({"format": FORMAT_VERSION, "graph": encode(graph, arrays)})
    tensors = {str(i): np.ascontiguousarray(array) for i, array in enumerate(arrays)}
    try:
        write_whole(path, container.save(tensors, metadata={_KEY: text}))
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def load_graph(path: str | Path) -> ir.Graph:
    """Read and verify a graph.

    Raises
    ------
    ModelError
        The file cannot be read, or holds no graph, or one that breaks a rule.
    """
    damaged = f"{path}: not a graph file, or a damaged one"
    try:
        with safe_open(path, framework="numpy") as file:
            entry = json.loads((file.metadata() or {})[_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if entry["format"] != FORMAT_VERSION:
            raise ModelError(
                f"{path}: graph format {brief(entry['format'])} is not format {FORMAT_VERSION}, "
                "the one this version reads; quantize the model again"
            )
        graph = decode(entry["graph"], arrays)
        if not isinstance(graph, ir.Graph):
            raise ModelError(damaged)
        verify(graph)
    except VerifyError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (
        *(SafetensorError, LookupError, TypeError, ValueError),
        *(AttributeError, ArithmeticError, RecursionError),
    ) as error:
        raise ModelError(damaged) from error
    return graph


def encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """`value` as JSON knows it, its arrays appended to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {
            name: getattr(value, name) if name in _PLAIN else encode(getattr(value, name), arrays)
            for name in names
        }
        return {_TYPE: type(value).__name__, **fields}
    if isinstance(value, dict):
        return {key: encode(entry, arrays) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [encode(entry, arrays) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of :func:`encode`; lists are tuples."""
    if isinstance(value, list):
        return tuple(decode(entry, arrays) for entry in value)
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[str(value[_ARRAY])]
    fields = {
        key: entry if key in _PLAIN else decode(entry, arrays) for key, entry in value.items()
    }
    return _TYPES[fields.pop(_TYPE)](**fields) if _TYPE in fields else fields
