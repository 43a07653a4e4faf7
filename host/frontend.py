"""From a torch model to the integer IR: export, calibrate, quantize, lower, verify."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.brief import one_line
from .errors import ModelError

try:
    import torch
except ModuleNotFoundError as _error:
    raise ModelError("quantizing a model needs torch: pip install -e '.[torch]'") from _error

from .verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import ModelProto
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

    from .ir import Graph
    from .views import View

_CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Quantized:
    """What quantization made.

    Parameters
    ----------
    graph
        The integer graph.
    module
        Torch's converted graph, a float simulation of `graph`.
    sources
        For tensors of `graph`, the node of `module` that quantizes each, and how that node's value
        lies in the tensor. Tensors that only rearrange another one are not among them.
    """

    graph: Graph
    module: GraphModule
    sources: dict[str, tuple[str, View]]


def quantize(
    model: torch.nn.Module,
    calibration: np.ndarray | torch.Tensor,
    *,
    name: str,
    asymmetric: bool = False,
    multiplier_bits: int = 32,
) -> Graph:
    """Quantize a torch model to the integer IR.

    Parameters
    ----------
    model
        A model of one input and one output; it is not changed.
    calibration
        Real inputs that show the ranges of the activations: [N, channels, height, width],
        [N, tokens, features] or [N, features].
    name
        What the graph is called.
    asymmetric
        Whether activations get a zero point.
    multiplier_bits
        Width of the machine's requantization multiplier.

    Raises
    ------
    ModelError
        The model cannot be exported, or does not fit the calibration data.
    UnsupportedOperator
        The model contains an operator that the front end does not know.
    """
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"{name} must be a torch.nn.Module, not {type(model).__name__}")
    inputs = _inputs(calibration)
    program = _export(copy.deepcopy(model).eval().cpu(), inputs, name)
    return quantize_exported(
        program, inputs, name=name, asymmetric=asymmetric, multiplier_bits=multiplier_bits
    )


def load_exported(path: str | Path) -> ExportedProgram:
    """Read what ``torch.export.save`` wrote, perhaps on another machine.

    The archive holds the graph and its weights; the model's source is not needed.

    Raises
    ------
    ModelError
        The file cannot be read, or is no such archive, or this torch cannot read it.
    """
    try:
        with _quiet():
            return torch.export.load(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise ModelError(
            f"{path} is not an archive of torch.export.save, or of another version of torch than "
            f"{torch.__version__}: {_first_line(error)}"
        ) from error


def _export(model: torch.nn.Module, inputs: torch.Tensor, name: str) -> ExportedProgram:
    """The program of `model` for batches of any size, or of one where it allows no other."""
    pairs = inputs[:2] if len(inputs) > 1 else inputs.repeat_interleave(2, dim=0)
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    with _quiet(), torch.no_grad():
        with suppress(Exception):
            return torch.export.export(model, (pairs,), dynamic_shapes=(batch,))
        try:
            return torch.export.export(model, (inputs[:1],))
        except Exception as error:
            raise ModelError(
                f"torch cannot export {name} for inputs of shape {list(inputs.shape[1:])}: "
                f"{_first_line(error)}"
            ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0])


def quantize_exported(
    program: ExportedProgram,
    calibration: np.ndarray | torch.Tensor,
    *,
    name: str,
    asymmetric: bool = False,
    multiplier_bits: int = 32,
) -> Graph:
    """As :func:`quantize`, for a program that ``torch.export.export`` made."""
    return simulate(
        program, calibration, name=name, asymmetric=asymmetric, multiplier_bits=multiplier_bits
    ).graph


def import_onnx(
    source: str | Path | ModelProto, *, name: str | None = None, multiplier_bits: int = 32
) -> Graph:
    """The integer graph of an ONNX model with QuantizeLinear and DequantizeLinear in it.

    Its scales are taken as they are, so there is nothing to calibrate.

    Parameters
    ----------
    source
        The file, or the model.
    name
        What the graph is called; by default as the file.
    multiplier_bits
        Width of the machine's requantization multiplier.

    Raises
    ------
    ModelError
        onnx is not installed; the file is no such model; or a value that the accelerator needs as
        INT8 has no scale.
    UnsupportedOperator
        An operator that neither the accelerator nor the host computes, or whose form is unknown.
    """
    _check_bits(multiplier_bits)
    with _quiet():
        from .qdq.importer import imported

        return imported(source, name=name, multiplier_bits=multiplier_bits).graph


def simulate(
    program: ExportedProgram,
    calibration: np.ndarray | torch.Tensor,
    *,
    name: str,
    asymmetric: bool = False,
    multiplier_bits: int = 32,
) -> Quantized:
    """As :func:`quantize_exported`, with torch's own simulation of the result beside it."""
    if not isinstance(program, torch.export.ExportedProgram):
        raise ModelError(f"{name} must be a torch.export program, not {type(program).__name__}")
    _check_bits(multiplier_bits)
    inputs = _inputs(calibration)
    for key, values in program.state_dict.items():
        if not torch.isfinite(values.sum(dtype=torch.float64)):
            raise ModelError(f"{name}: {key} contains a value that is not finite")
    with _quiet():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        from .aten import shape
        from .canonical import canonicalize
        from .lowering import lower
        from .quantizer import Int8Quantizer

        module = program.module(check_guards=False)
        canonicalize(module)
        entry = next(node for node in module.graph.nodes if node.op == "placeholder")
        if tuple(inputs.shape[1:]) != shape(entry):
            raise ModelError(
                f"{name} takes inputs of shape {list(shape(entry))}, "
                f"but the calibration data have {list(inputs.shape[1:])}"
            )
        size = entry.meta["val"].shape[0]
        quantizer = Int8Quantizer(asymmetric=asymmetric)
        module = prepare_pt2e(module, quantizer)
        with torch.no_grad():
            for batch in _batches(inputs, size if isinstance(size, int) else None):
                module(batch)
        if not all(_saw_finite_values(part) for part in module.modules()):
            raise ModelError(f"{name}: its values on the calibration data are not finite")
        module = convert_pt2e(module, fold_quantize=False)
    assert quantizer.roles is not None, "prepare_pt2e annotates"
    lowered = lower(
        module,
        quantizer.roles,
        name=name,
        input_shape=tuple(inputs.shape[1:]),
        multiplier_bits=multiplier_bits,
    )
    verify(lowered.graph, multiplier_bits=multiplier_bits)
    return Quantized(lowered.graph, module, lowered.sources)


def _saw_finite_values(part: object) -> bool:
    """Whether `part` is no observer, or one of finite values or none."""
    least, most = getattr(part, "min_val", None), getattr(part, "max_val", None)
    if least is None or most is None or not least.numel():
        return True
    # Before any value, the range is empty: from infinity to minus infinity.
    return bool((least > -math.inf).all() and (most < math.inf).all())


def _check_bits(multiplier_bits: int) -> None:
    if not 8 <= multiplier_bits <= 32:
        raise ModelError(f"multiplier_bits must be 8 to 32, not {multiplier_bits}")


def _inputs(calibration: np.ndarray | torch.Tensor) -> torch.Tensor:
    try:
        array = np.asarray(calibration)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray("no array")
    if array.dtype.kind not in "biuf":
        raise ModelError(
            f"calibration data must be an array of real numbers, not {type(calibration).__name__}"
        )
    inputs = torch.as_tensor(array, dtype=torch.float32)
    if inputs.ndim not in (2, 3, 4) or 0 in inputs.shape:
        raise ModelError(
            "calibration data must be [N, channels, height, width], [N, tokens, features] or "
            f"[N, features] with N ≥ 1, not {list(inputs.shape)}"
        )
    if not torch.isfinite(inputs).all():
        raise ModelError("calibration data contain a value that is not finite")
    return inputs


def _batches(inputs: torch.Tensor, size: int | None) -> Iterator[torch.Tensor]:
    """`inputs` in batches, all of exactly `size` where the program was exported for one."""
    for batch in inputs.split(size or _CALIBRATION_BATCH):
        missing = (size or 0) - len(batch)
        yield (
            torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
            if missing > 0
            else batch
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch logs besides raising, and torchao of parts that are not installed."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
