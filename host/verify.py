"""The rules of the integer IR, checked from the actual numbers.

Among them the proof that nothing overflows: every accumulator fits INT32 in any order of
summation, and every requantization fits 64 bits.
"""

from __future__ import annotations

import json
import math

import numpy as np

from ..hdl.brief import one_line
from ..hdl.numerics import RESIDUAL_MULTIPLIER_BITS
from . import operators
from .errors import VerifyError
from .ir import (
    Concat,
    Conv,
    Graph,
    Host,
    MatMul,
    Node,
    Pool,
    Requant,
    Residual,
    Table,
    Tensor,
    sources,
)
from .rescale import MAX_SHIFT
from .typecheck import check_types

_INT32 = 1 << 31
_INT64 = 1 << 63
#: As many bytes as a segment can have.
_MOST_ELEMENTS = 1 << 32


def verify(graph: Graph, *, multiplier_bits: int = 32) -> None:
    """Check `graph`.

    Raises
    ------
    VerifyError
        Names the first node or tensor that breaks a rule, and the rule.
    """
    _check_parts(graph)
    ready = {graph.input}
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise VerifyError(f"{node.name}: two nodes have this name")
        names.add(node.name)
        for source in sources(node):
            if source not in ready:
                raise VerifyError(f"{node.name}: reads {source!r}, which nothing has written yet")
        if node.output not in graph.tensors:
            raise VerifyError(f"{node.name}: writes {node.output!r}, which is not a tensor")
        if node.output in ready:
            raise VerifyError(f"{node.name}: writes {node.output!r}, which is already written")
        ready.add(node.output)
        _check_node(graph, node, multiplier_bits)
    for name in graph.tensors:
        if name not in ready:
            raise VerifyError(f"{name}: no node writes this tensor")
    if not graph.nodes or graph.output == graph.input:
        raise VerifyError(f"{graph.name}: the graph computes nothing")


def verify_part(graph: Graph) -> None:
    """Check the nodes of `graph` by themselves, whatever writes the tensors that they read.

    Raises
    ------
    VerifyError
        As :func:`verify`.
    """
    _check_parts(graph)
    for node in graph.nodes:
        for name in (*sources(node), node.output):
            if name not in graph.tensors:
                raise VerifyError(f"{node.name}: {name!r} is not a tensor")
        _check_node(graph, node, 32)


def _check_node(graph: Graph, node: Node, bits: int) -> None:
    match node:
        case Conv():
            _check_conv(graph, node, bits)
        case Pool():
            _check_pool(graph, node, bits)
        case MatMul():
            _check_matmul(graph, node, bits)
        case Concat():
            _check_concat(graph, node)
        case Table():
            _check_table(graph, node)
        case Host():
            _check_host(graph, node)


def _check_parts(graph: Graph) -> None:
    """Types of everything, and the tensors."""
    try:
        check_types(graph, Graph, "graph")
    except TypeError as error:
        raise VerifyError(str(error)) from error
    for end in (graph.input, graph.output):
        if end not in graph.tensors:
            raise VerifyError(f"{graph.name}: {end!r} is not a tensor of the graph")
    for name, tensor in graph.tensors.items():
        if tensor.name != name:
            raise VerifyError(f"{name}: the tensor under this name is called {tensor.name!r}")
        if min(tensor.shape) < 1:
            raise VerifyError(f"{name}: shape {list(tensor.shape)} must be positive")
        if math.prod(tensor.shape) > _MOST_ELEMENTS:
            raise VerifyError(f"{name}: shape {list(tensor.shape)} is more than 2^32 elements")
        if not (np.isfinite(tensor.scale) and tensor.scale > 0):
            raise VerifyError(f"{name}: scale must be positive and finite, not {tensor.scale}")
        if not -128 <= tensor.zero_point <= 127:
            raise VerifyError(f"{name}: zero point {tensor.zero_point} does not fit INT8")


def _check_conv(graph: Graph, node: Conv, bits: int) -> None:
    source, target = graph.tensors[node.input], graph.tensors[node.output]
    weight = node.weight
    if weight.dtype != np.int8 or weight.ndim != 4 or not weight.size:
        raise VerifyError(f"{node.name}: weight must be int8 [out, ky, kx, in / groups]")
    if weight.min() < -127:
        raise VerifyError(f"{node.name}: weights must lie within ±127")
    out, kernel_h, kernel_w, depth = weight.shape
    if node.groups < 1 or depth * node.groups != source.channels or out % node.groups:
        raise VerifyError(
            f"{node.name}: {out} filters of {depth} channels in {node.groups} groups do not fit "
            f"an input of {source.channels} channels"
        )
    _check_geometry(node, source, target, (kernel_h, kernel_w), node.dilation)
    if out != target.channels:
        raise VerifyError(f"{node.name}: {out} filters for {target.channels} output channels")
    flat = weight.reshape(out, -1)
    total, size = flat.sum(axis=1, dtype=np.int64), np.abs(flat).sum(axis=1, dtype=np.int64)
    above, below = (size + total) // 2, (size - total) // 2  # sums of positive, of negative weights
    low, high = -128 * above - 127 * below, 127 * above + 128 * below
    _check_requant(graph, node, node.requant, bits, 128 * size, low, high)


def _check_pool(graph: Graph, node: Pool, bits: int) -> None:
    source, target = graph.tensors[node.input], graph.tensors[node.output]
    _check_geometry(node, source, target, node.kernel, (1, 1))
    if source.channels != target.channels:
        raise VerifyError(f"{node.name}: pools {source.channels} channels into {target.channels}")
    if node.mode == "max":
        if any(pad >= node.kernel[i % 2] for i, pad in enumerate(node.padding)):
            raise VerifyError(f"{node.name}: a window lies wholly in the padding")
        if node.requant is not None:
            raise VerifyError(f"{node.name}: max pooling has no requantization")
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise VerifyError(f"{node.name}: max pooling must keep scale and zero point")
        return
    if node.mode != "avg" or node.requant is None:
        raise VerifyError(f"{node.name}: mode must be 'max', or 'avg' with a requantization")
    taps = np.full(source.channels, node.kernel[0] * node.kernel[1], np.int64)
    _check_requant(graph, node, node.requant, bits, taps * 128, taps * -128, taps * 127)


def _check_matmul(graph: Graph, node: MatMul, bits: int) -> None:
    a, b = graph.tensors[node.input], graph.tensors[node.other]
    out, heads = graph.tensors[node.output], node.heads
    if a.zero_point or b.zero_point:
        raise VerifyError(f"{node.name}: both operands must have zero point 0")
    if heads < 1 or b.channels % heads:
        raise VerifyError(f"{node.name}: {b.channels} channels are not {heads} heads")
    if node.transposed:
        inner = b.channels // heads
        want = [(1, a.width, heads * inner), (1, b.width, heads * inner), (heads, a.width, b.width)]
    else:
        inner = a.channels
        want = [(heads, a.width, inner), (1, inner, b.channels), (1, a.width, b.channels)]
    if [a.shape, b.shape, out.shape] != want:
        raise VerifyError(
            f"{node.name}: {list(a.shape)} and {list(b.shape)} in {heads} heads do not give "
            f"{list(out.shape)}"
        )
    most = np.full(out.channels, inner << 14, np.int64)
    least = np.full(out.channels, -inner * 127 * 128, np.int64)
    _check_requant(graph, node, node.requant, bits, most, least, most)
    for column in (node.requant.bias, node.requant.multiplier, node.requant.shift):
        if (column != column[:1]).any():
            raise VerifyError(f"{node.name}: every channel must be requantized alike")


def _check_concat(graph: Graph, node: Concat) -> None:
    out = graph.tensors[node.output]
    parts = [graph.tensors[name] for name in node.inputs]
    if not parts or sum(part.channels for part in parts) != out.channels:
        raise VerifyError(f"{node.name}: the inputs' channels do not add up to {out.channels}")
    for part in parts:
        if part.shape[:2] != out.shape[:2]:
            raise VerifyError(
                f"{node.name}: {part.name!r} is {list(part.shape)}, the output {list(out.shape)}"
            )
        if (part.scale, part.zero_point) != (out.scale, out.zero_point):
            raise VerifyError(f"{node.name}: {part.name!r} has not the output's scale, zero point")


def _check_table(graph: Graph, node: Table) -> None:
    if graph.tensors[node.input].shape != graph.tensors[node.output].shape:
        raise VerifyError(f"{node.name}: a pointwise function keeps the shape")
    if node.table.dtype != np.int8 or node.table.shape != (256,):
        raise VerifyError(f"{node.name}: the table must be int8 [256]")


def _check_host(graph: Graph, node: Host) -> None:
    try:
        json.dumps(node.attributes)
    except (TypeError, ValueError, RecursionError) as error:
        raise VerifyError(f"{node.name}: its attributes are not JSON: {one_line(error)}") from error
    try:
        operators.check(node, graph.tensors)
    except ValueError as error:
        raise VerifyError(f"{node.name}: {error}") from error
    except (TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise VerifyError(
            f"{node.name}: its attributes are not those of {node.operator}: {one_line(error)}"
        ) from error


def _check_geometry(
    node: Conv | Pool,
    source: Tensor,
    target: Tensor,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    if min(*kernel, *node.stride, *dilation) < 1 or min(node.padding) < 0:
        raise VerifyError(f"{node.name}: kernel, stride and dilation start at 1, padding at 0")
    height, width = (source.shape[i] + node.padding[i] + node.padding[i + 2] for i in (0, 1))
    if height * width * source.channels > _MOST_ELEMENTS:
        raise VerifyError(f"{node.name}: its input with padding is more than 2^32 elements")
    for axis, what in enumerate(("height", "width")):
        padded = source.shape[axis] + node.padding[axis] + node.padding[axis + 2]
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        if padded < reach:
            raise VerifyError(
                f"{node.name}: a kernel reaching {reach} does not fit the padded {what} {padded}"
            )
        size = (padded - reach) // node.stride[axis] + 1
        if size != target.shape[axis]:
            raise VerifyError(
                f"{node.name}: output {what} is {size}, but {node.output!r} "
                f"has {target.shape[axis]}"
            )


def _check_requant(
    graph: Graph,
    node: Node,
    requant: Requant,
    bits: int,
    partial: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Ranges of the numbers, and overflow for accumulators within [low, high] per channel.

    `partial` bounds the magnitude of every partial sum.
    """
    target = graph.tensors[node.output]
    columns = (requant.bias, requant.multiplier, requant.shift)
    if any(column.shape != (target.channels,) for column in columns):
        raise VerifyError(f"{node.name}: requantization must have {target.channels} channels")
    if any(column.dtype != np.int64 for column in columns):
        raise VerifyError(f"{node.name}: bias, multiplier and shift must be int64")
    if requant.zero_point != target.zero_point:
        raise VerifyError(
            f"{node.name}: requantizes to zero point {requant.zero_point}, "
            f"but {node.output!r} has {target.zero_point}"
        )
    if not -128 <= requant.low <= requant.high <= 127:
        raise VerifyError(f"{node.name}: clamp [{requant.low}, {requant.high}] is not within INT8")
    if requant.multiplier.min() < 0 or requant.multiplier.max() >= 1 << (bits - 1):
        raise VerifyError(f"{node.name}: a multiplier does not fit {bits} signed bits")
    if requant.shift.min() < 1 or requant.shift.max() > MAX_SHIFT:
        raise VerifyError(f"{node.name}: shifts must be 1 to {MAX_SHIFT}")
    least, most = low + requant.bias, high + requant.bias
    bad = (partial >= _INT32) | (least < -_INT32) | (most >= _INT32)
    bad |= (requant.bias < -_INT32) | (requant.bias >= _INT32)
    if bad.any():
        raise VerifyError(
            f"{node.name}: the accumulator of channel {int(bad.argmax())} can overflow INT32"
        )
    term = np.zeros(target.channels, object)
    if isinstance(node, Conv) and node.residual is not None:
        term = _residual_bound(graph, node, node.residual, requant)
    extreme = np.maximum(np.abs(least), np.abs(most)).astype(object)
    half = np.array([1 << (int(s) - 1) for s in requant.shift], object)
    total = extreme * requant.multiplier.astype(object) + term + half
    if max(total) >= _INT64:
        raise VerifyError(
            f"{node.name}: the requantization of channel {int(total.argmax())} can overflow 64 bits"
        )


def _residual_bound(graph: Graph, node: Conv, operand: Residual, requant: Requant) -> np.ndarray:
    """Largest magnitude of the residual's term per channel, after checking its numbers."""
    source, target = graph.tensors[operand.input], graph.tensors[node.output]
    if source.shape != target.shape:
        raise VerifyError(
            f"{node.name}: residual {operand.input!r} is {list(source.shape)}, "
            f"the output {list(target.shape)}"
        )
    if operand.zero_point != source.zero_point:
        raise VerifyError(f"{node.name}: the residual's zero point is not {operand.input!r}'s")
    limit = 1 << (RESIDUAL_MULTIPLIER_BITS - 1)
    if not -limit <= operand.multiplier < limit:
        raise VerifyError(
            f"{node.name}: the residual's multiplier does not fit {RESIDUAL_MULTIPLIER_BITS} bits"
        )
    if not 0 <= operand.shift <= requant.shift.min():
        raise VerifyError(f"{node.name}: the residual's shift must be 0 to the smallest shift")
    widest = max(127 - operand.zero_point, 128 + operand.zero_point)
    return np.array(
        [widest * abs(operand.multiplier) << (int(s) - operand.shift) for s in requant.shift],
        object,
    )
