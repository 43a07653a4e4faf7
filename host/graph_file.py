"""Integer graphs as files: a safetensors container of the arrays, with the rest as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as container

from . import ir
from .errors import ModelError
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


def save_graph(graph: ir.Graph, path: str | Path) -> None:
    """Write `graph` to `path`, whole or not at all."""
    path = Path(path)
    arrays: list[np.ndarray] = []
    text = json.dumps(_encode(graph, arrays))
    tensors = {str(i): np.ascontiguousarray(array) for i, array in enumerate(arrays)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(container.save(tensors, metadata={"weft-graph": text}))
    temporary.replace(path)


def load_graph(path: str | Path) -> ir.Graph:
    """Read and verify a graph.

    Raises
    ------
    ModelError
        The file cannot be read, or holds no graph, or one that breaks a rule.
    """
    try:
        data = Path(path).read_bytes()
        arrays = container.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        graph = _decode(json.loads(header["__metadata__"]["weft-graph"]), arrays)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a graph file, or a damaged one") from error
    if not isinstance(graph, ir.Graph):
        raise ModelError(f"{path}: not a graph file, or a damaged one")
    verify(graph)
    return graph


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """`value` as JSON knows it, its arrays appended to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: _encode(getattr(value, name), arrays) for name in names}
        return {_TYPE: type(value).__name__, **fields}
    if isinstance(value, dict):
        return {key: _encode(entry, arrays) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(entry, arrays) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of :func:`_encode`; lists are tuples."""
    if isinstance(value, list):
        return tuple(_decode(entry, arrays) for entry in value)
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[str(value[_ARRAY])]
    fields = {key: _decode(entry, arrays) for key, entry in value.items()}
    return _TYPES[fields.pop(_TYPE)](**fields) if _TYPE in fields else fields
