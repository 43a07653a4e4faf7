"""From a quantized ONNX model to the integer IR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# What registers torch's quantizing operators comes before what names them.
from ..quantizer import Roles  # isort: skip
from ..errors import ModelError
from ..lowering import lower
from ..verify import verify
from . import model as reader
from .compute import COMPUTE
from .moves import MOVES
from .scales import complete
from .walk import Walk

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..ir import Graph
    from ..views import View


@dataclass(frozen=True)
class Imported:
    """What the importer made.

    Parameters
    ----------
    graph
        The integer graph.
    sources
        For tensors of `graph`, the integer value of the ONNX model that each is, and how that
        value lies in the tensor; uint8 levels are 128 more than the tensor's.
    """

    graph: Graph
    sources: dict[str, tuple[str, View]]


def imported(
    source: str | Path | ModelProto, *, name: str | None = None, multiplier_bits: int = 32
) -> Imported:
    """The integer graph of a quantized model, and what its tensors are there.

    Raises
    ------
    ModelError
        The file is no such model, or a value that the accelerator needs has no scale.
    UnsupportedOperator
        An operator that neither the accelerator nor the host computes.
    """
    model = reader.read(source)
    first, size, last = reader.ends(model.graph)
    walk = Walk(reader.opset(model))
    for entry in model.graph.initializer:
        walk.stored(entry)
    walk.placeholder(first, size)
    if not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}:
        raise ModelError(
            "the model is not quantized: it has no QuantizeLinear; quantize it, or compile the "
            "torch model with calibration data"
        )
    for index, node in enumerate(model.graph.node):
        walk.visit(node, index, {**COMPUTE, **MOVES})
    module = walk.finish(last)
    complete(module)
    title = name or (Path(source).stem if isinstance(source, (str, Path)) else model.graph.name)
    lowered = lower(
        module,
        Roles(module),
        name=title or "onnx",
        input_shape=size[1:],
        multiplier_bits=multiplier_bits,
    )
    verify(lowered.graph, multiplier_bits=multiplier_bits)
    names = walk.quantized
    known = {
        key: (names[node], view) for key, (node, view) in lowered.sources.items() if names.get(node)
    }
    return Imported(lowered.graph, known)
