"""Reading an ONNX file: whether it is one, and whether it is of a kind that can be imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError

try:
    import onnx
    from onnx import checker, inliner
except ModuleNotFoundError as _error:
    raise ModelError("reading an ONNX model needs onnx: pip install -e '.[onnx]'") from _error

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

#: The opset that brought QuantizeLinear.
FIRST_OPSET = 10


def read(source: str | Path | ModelProto) -> ModelProto:
    """A model from a file, its weights loaded, its functions inlined.

    Raises
    ------
    ModelError
        The file cannot be read, is no ONNX model, or breaks a rule of ONNX.
    """
    name = str(source) if isinstance(source, (str, Path)) else "the ONNX model"
    if isinstance(source, (str, Path)):
        try:
            model = onnx.load(source)
        except OSError as error:
            raise ModelError(f"cannot read {source}: {error.strerror or error}") from error
        except Exception as error:
            raise ModelError(f"{source} is no ONNX model, or a damaged one") from error
    elif isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
    else:
        raise ModelError(f"an ONNX model is a file or a ModelProto, not {type(source).__name__}")
    if not model.graph.node:
        raise ModelError(f"{name} is no ONNX model, or an empty one")
    try:
        checker.check_model(model)
        model = inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(f"{name} is not valid ONNX: {_first_line(error)}") from error
    if opset(model) < FIRST_OPSET:
        raise ModelError(
            f"{name} is of opset {opset(model)}, but QuantizeLinear exists from {FIRST_OPSET} on"
        )
    return model


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operators that `model` uses."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def ends(graph: GraphProto) -> tuple[str, tuple[int, ...], str]:
    """Name and shape, for a batch of one, of the input; name of the output.

    Raises
    ------
    ModelError
        There is not one of each, or a size other than the batch is not fixed.
    """
    stored = {entry.name for entry in graph.initializer}
    stored |= {entry.values.name for entry in graph.sparse_initializer}
    inputs = [entry for entry in graph.input if entry.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(
            f"the model must take one tensor and return one, not {len(inputs)} and "
            f"{len(graph.output)}"
        )
    (entry,) = inputs
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    if len(sizes) not in (2, 3, 4) or min(sizes[1:]) < 1:
        raise ModelError(
            f"input {entry.name!r} must be [N, channels, height, width], [N, tokens, features] or "
            f"[N, features] with fixed sizes but N, not {sizes} (0: not fixed)"
        )
    return entry.name, (1, *sizes[1:]), graph.output[0].name


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
