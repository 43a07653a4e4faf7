"""ONNX operators that compute, as torch operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..aten import (
    ADD,
    AVG_POOL,
    BATCH_NORM,
    CLAMP,
    CONV,
    LAYER_NORM,
    LINEAR,
    MATMUL,
    MAX_POOL,
    PAD,
    SOFTMAX,
    aten,
)
from .walk import Levels

if TYPE_CHECKING:
    from torch.fx import Node as FxNode

    from .walk import Call, Emit, Walk


# -- windows -----------------------------------------------------------------------------------


class _Windows:
    """Kernel, stride, dilation and padding of a convolution or pool of maps or sequences.

    Sequences [N, channels, length] are maps of one row.
    """

    def __init__(self, walk: Walk, call: Call, kernel: list[int]):
        self.flat = len(walk.size(call.inputs[0])) == 3
        rank = len(kernel)
        if rank != len(walk.size(call.inputs[0])) - 2 or rank not in (1, 2):
            raise call.unsupported("maps [N, channels, height, width] or sequences are its inputs")
        self.source = walk.node(call.inputs[0])
        self.kernel = self._two(kernel, 1)
        self.stride = self._two(call.get("strides", [1] * rank), 1)
        self.dilation = self._two(call.get("dilations", [1] * rank), 1)
        if self.flat:
            self.source = walk.emit(aten.unsqueeze.default, self.source, 2)
        self.size = walk.size(self.source)[2:]
        pads = call.get("pads", [0] * (2 * rank))
        first, last = self._two(pads[:rank], 0), self._two(pads[rank:], 0)
        self.padding = (*first, *last)  # top, left, bottom, right
        self._automatic(call.get("auto_pad", "NOTSET"))
        if call.get("ceil_mode", 0):
            self._ceil()

    def _two(self, values: list[int], row: int) -> tuple[int, int]:
        along = tuple(int(v) for v in values)
        return (row, *along) if self.flat else along  # pyright: ignore[reportReturnType]

    def _reach(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def _automatic(self, mode: str) -> None:
        if mode == "VALID":
            self.padding = (0, 0, 0, 0)
        elif mode.startswith("SAME"):
            first, last = [], []
            for axis in (0, 1):
                count = -(-self.size[axis] // self.stride[axis])
                extra = (count - 1) * self.stride[axis] + self._reach(axis) - self.size[axis]
                small, large = max(extra, 0) // 2, -(-max(extra, 0) // 2)
                first.append(small if mode == "SAME_UPPER" else large)
                last.append(large if mode == "SAME_UPPER" else small)
            self.padding = (*first, *last)

    def _ceil(self) -> None:
        """As much more padding behind as the last window needs that begins inside."""
        padding = list(self.padding)
        for axis in (0, 1):
            size, before, step = self.size[axis], padding[axis], self.stride[axis]
            rest = size + before + padding[axis + 2] - self._reach(axis)
            count = -(-rest // step) + 1
            if (count - 1) * step >= size + before:
                count -= 1
            last = (count - 1) * step + self._reach(axis) - size - before
            padding[axis + 2] = max(last, padding[axis + 2])
        self.padding = tuple(padding)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def symmetric(self) -> bool:
        return self.padding[:2] == self.padding[2:]

    @property
    def counts(self) -> tuple[int, int]:
        """Sizes of the result."""
        rest = [
            self.size[a] + self.padding[a] + self.padding[a + 2] - self._reach(a) for a in (0, 1)
        ]
        if min(rest) < 0:
            raise ValueError(f"its windows do not fit {list(self.size)}")
        return rest[0] // self.stride[0] + 1, rest[1] // self.stride[1] + 1

    def padded(self, walk: Walk) -> FxNode:
        """The input with zeros around it; afterwards the padding is 0."""
        top, left, bottom, right = self.padding
        self.padding = (0, 0, 0, 0)
        return walk.emit(PAD, self.source, [left, right, top, bottom])

    def result(self, walk: Walk, node: FxNode) -> FxNode:
        """A map as what came in: sequences lose their row."""
        return walk.emit(aten.squeeze.dim, node, 2) if self.flat else node


def _conv(walk: Walk, call: Call) -> FxNode:
    weight = call.inputs[1]
    if not isinstance(weight, np.ndarray | Levels):
        raise call.unsupported("its weights must be constants")
    size = walk.size(weight)
    at = _Windows(walk, call, list(call.get("kernel_shape", size[2:])))
    if tuple(size[2:]) != (at.kernel[1:] if at.flat else at.kernel):
        raise ValueError(f"kernel_shape is not that of the weights, {list(size)}")
    if at.flat:
        weight = _row(weight)
    source = at.source if at.symmetric else at.padded(walk)
    made = walk.emit(
        CONV, source, walk.weights(weight), _bias(walk, call, 2), list(at.stride),
        list(at.padding[:2]), list(at.dilation), int(call.get("group", 1)),
    )  # fmt: skip
    return at.result(walk, made)


def _row(weight: Any) -> Any:
    """Weights of a sequence as those of a map of one row."""
    size = weight.values.shape if isinstance(weight, Levels) else weight.shape
    size = (*size[:2], 1, *size[2:])
    if isinstance(weight, Levels):
        return weight.reshaped(size) or weight.real.reshape(size)
    return weight.reshape(size)


def _bias(walk: Walk, call: Call, position: int) -> FxNode | None:
    bias = call.array(position)
    return None if bias is None else walk.node(bias.astype(np.float32))


def _transposed_conv(walk: Walk, call: Call) -> FxNode:
    weight = call.array(1)
    assert weight is not None
    at = _Windows(walk, call, list(weight.shape[2:]))
    plain = call.get("auto_pad", "NOTSET") == "NOTSET" and call.get("output_shape") is None
    if at.flat or not at.symmetric or not plain:
        raise call.unsupported("only symmetric explicit padding of maps is known")
    return walk.emit(
        aten.conv_transpose2d.input, at.source, walk.node(weight), _bias(walk, call, 2),
        list(at.stride), list(at.padding[:2]), list(call.get("output_padding", [0, 0])),
        int(call.get("group", 1)), list(at.dilation),
    )  # fmt: skip


def _max_pool(walk: Walk, call: Call) -> FxNode:
    if any(call.outputs[1:]):
        raise call.unsupported("indices have no form here")
    at = _Windows(walk, call, call.get("kernel_shape"))
    size = *walk.size(at.source)[:2], *at.counts
    made = walk.emit_sized(
        MAX_POOL, size, at.source, list(at.kernel), list(at.stride), list(at.padding),
        list(at.dilation),
    )  # fmt: skip
    return at.result(walk, made)


def _average_pool(walk: Walk, call: Call) -> FxNode:
    at = _Windows(walk, call, call.get("kernel_shape"))
    source, included = at.source, bool(call.get("count_include_pad", 0))
    if at.dilation != (1, 1) or (call.get("ceil_mode", 0) and any(at.padding)):
        raise call.unsupported("dilation, and rounding sizes up, are not known")
    if not at.symmetric:
        if not included:
            raise call.unsupported("unequal padding that is not counted is not known")
        source = at.padded(walk)
    made = walk.emit(
        AVG_POOL, source, list(at.kernel), list(at.stride), list(at.padding[:2]), False, included
    )
    return at.result(walk, made)


def _global(target: Any) -> Emit:
    def rule(walk: Walk, call: Call) -> FxNode:
        source = walk.node(call.inputs[0])
        flat = len(walk.size(source)) == 3
        if flat:
            source = walk.emit(aten.unsqueeze.default, source, 2)
        made = walk.emit(target, source, list(walk.size(source)[2:]))
        return walk.emit(aten.squeeze.dim, made, 2) if flat else made

    return rule


# -- products ----------------------------------------------------------------------------------


def _gemm(walk: Walk, call: Call) -> FxNode:
    weight = call.inputs[1]
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    if call.get("transA", 0) or not isinstance(weight, np.ndarray | Levels):
        raise call.unsupported("its second operand must be constant, the first not transposed")
    if not call.get("transB", 0):
        weight = _turned(weight)
    weight = (
        Levels(weight.values, weight.scale * alpha, weight.axis)
        if isinstance(weight, Levels)
        else weight * np.float32(alpha)
    )
    bias = call.array(2)
    if bias is not None:
        outputs = walk.size(weight)[0]
        bias = np.broadcast_to(bias.astype(np.float32) * beta, (1, outputs)).reshape(-1)
    bias = None if bias is None else walk.node(bias.astype(np.float32))
    return walk.emit(LINEAR, walk.node(call.inputs[0]), walk.weights(weight), bias)


def _turned(weight: Any) -> Any:
    return weight.transposed((1, 0)) if isinstance(weight, Levels) else weight.T


def _matmul(walk: Walk, call: Call) -> FxNode:
    left, right = call.inputs
    constant = isinstance(right, np.ndarray | Levels)
    if constant and len(walk.size(right)) == 2:
        return walk.emit(LINEAR, walk.node(left), walk.weights(_turned(right)), None)
    return walk.emit(MATMUL, walk.node(left), walk.node(right))


# -- element by element ------------------------------------------------------------------------


def _binary(target: Any) -> Emit:
    def rule(walk: Walk, call: Call) -> FxNode:
        if len(call.inputs) != 2:
            raise call.unsupported("it is known of two operands")
        left, right = call.inputs
        if _number(right) is not None and target in _WITH_NUMBERS:
            return walk.emit(target, walk.node(left), _number(right))
        return walk.emit(target, walk.node(left), walk.node(right))

    return rule


_WITH_NUMBERS = {ADD, aten.mul.Tensor, aten.div.Tensor, aten.sub.Tensor}


def _number(value: Any) -> float | None:
    """A constant of one element and no more axes than an activation has."""
    if isinstance(value, Levels):
        value = value.real
    if not isinstance(value, np.ndarray) or value.size != 1 or value.ndim > 1:
        return None
    return float(value.reshape(()))


def _unary(target: Any, **attributes: float) -> Emit:
    """An operator of one tensor, and of attributes with these defaults."""

    def rule(walk: Walk, call: Call) -> FxNode:
        numbers = [float(call.get(key, default)) for key, default in attributes.items()]
        return walk.emit(target, walk.node(call.inputs[0]), *numbers)

    return rule


def _power(walk: Walk, call: Call) -> FxNode:
    exponent = _number(call.inputs[1])
    if exponent is None:
        raise call.unsupported("its exponent must be one number")
    exponent = int(exponent) if exponent == int(exponent) else exponent
    return walk.emit(aten.pow.Tensor_Scalar, walk.node(call.inputs[0]), exponent)


def _clip(walk: Walk, call: Call) -> FxNode:
    bounds = [call.array(i, key) for i, key in ((1, "min"), (2, "max"))]
    least, most = (None if b is None else float(b.reshape(())) for b in bounds)
    return walk.emit(CLAMP, walk.node(call.inputs[0]), least, most)


def _hard_sigmoid(walk: Walk, call: Call) -> FxNode:
    scaled = walk.emit(aten.mul.Tensor, walk.node(call.inputs[0]), float(call.get("alpha", 0.2)))
    moved = walk.emit(ADD, scaled, float(call.get("beta", 0.5)))
    return walk.emit(CLAMP, moved, 0.0, 1.0)


def _gelu(walk: Walk, call: Call) -> FxNode:
    form = call.get("approximate", "none")
    return walk.emit(aten.gelu.default, walk.node(call.inputs[0]), approximate=form)


def _prelu(walk: Walk, call: Call) -> FxNode:
    slope = call.array(1)
    assert slope is not None
    source = walk.node(call.inputs[0])
    if slope.size == 1:
        return walk.emit(aten.leaky_relu.default, source, float(slope.reshape(())))
    rank = len(walk.size(source)) - 1
    if slope.shape[1:] != (1,) * (rank - 1) or slope.ndim not in (1, rank):
        raise call.unsupported("its slope must be one number, or one a channel")
    return walk.emit(aten.prelu.default, source, walk.node(slope.reshape(-1)))


# -- along axes --------------------------------------------------------------------------------


def _softmax(target: Any) -> Emit:
    def rule(walk: Walk, call: Call) -> FxNode:
        source = walk.node(call.inputs[0])
        rank = len(walk.size(source))
        axis = int(call.get("axis", 1 if walk.opset < 13 else -1)) % rank
        if walk.opset < 13 and axis != rank - 1:
            raise call.unsupported("before opset 13 it is known along the last axis")
        return walk.emit(target, source, axis)

    return rule


def _layer_norm(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    size = walk.size(source)
    axis = int(call.get("axis", -1)) % len(size)
    scale, bias = call.array(1), call.array(2)
    assert scale is not None
    arrays = [
        None if a is None else walk.node(np.broadcast_to(a, size[axis:]).astype(np.float32))
        for a in (scale, bias)
    ]
    return walk.emit(LAYER_NORM, source, list(size[axis:]), *arrays, _epsilon(call))


def _epsilon(call: Call) -> float:
    return float(call.get("epsilon", 1e-5))


def _batch_norm(walk: Walk, call: Call) -> FxNode:
    if call.get("training_mode", 0):
        raise call.unsupported("it is in training mode")
    gamma, beta, mean, variance = (walk.node(call.array(i)) for i in range(1, 5))
    arguments = gamma, beta, mean, variance, False, 0.0, _epsilon(call), False
    return walk.emit(BATCH_NORM, walk.node(call.inputs[0]), *arguments)


def _instance_norm(walk: Walk, call: Call) -> FxNode:
    gamma, beta = (walk.node(call.array(i)) for i in (1, 2))
    arguments = gamma, beta, None, None, True, 0.0, _epsilon(call), False
    return walk.emit(aten.instance_norm.default, walk.node(call.inputs[0]), *arguments)


def _reduce(target: Any) -> Emit:
    def rule(walk: Walk, call: Call) -> FxNode:
        source = walk.node(call.inputs[0])
        axes = call.integers(1, "axes")
        if axes is None and call.get("noop_with_empty_axes", 0):
            return source
        rank = len(walk.size(source))
        axes = sorted(axis % rank for axis in axes or range(rank))
        if 0 in axes:
            raise call.unsupported("it must leave the batch alone")
        return walk.emit(target, source, axes, bool(call.get("keepdims", 1)))

    return rule


def _where(walk: Walk, call: Call) -> FxNode:
    if not isinstance(call.inputs[0], np.ndarray):
        raise call.unsupported("its condition must be a constant")
    return walk.emit(aten.where.self, *(walk.node(value) for value in call.inputs))


COMPUTE: dict[str, Emit] = {
    "Conv": _conv,
    "ConvTranspose": _transposed_conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(AVG_POOL),
    "GlobalMaxPool": _global(MAX_POOL),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _binary(ADD),
    "Sum": _binary(ADD),
    "Sub": _binary(aten.sub.Tensor),
    "Mul": _binary(aten.mul.Tensor),
    "Div": _binary(aten.div.Tensor),
    "Min": _binary(aten.minimum.default),
    "Max": _binary(aten.maximum.default),
    "Pow": _power,
    "Relu": _unary(aten.relu.default),
    "Clip": _clip,
    "Sigmoid": _unary(aten.sigmoid.default),
    "Tanh": _unary(aten.tanh.default),
    "Erf": _unary(aten.erf.default),
    "Exp": _unary(aten.exp.default),
    "Log": _unary(aten.log.default),
    "Sqrt": _unary(aten.sqrt.default),
    "Abs": _unary(aten.abs.default),
    "Neg": _unary(aten.neg.default),
    "Reciprocal": _unary(aten.reciprocal.default),
    "Sin": _unary(aten.sin.default),
    "Cos": _unary(aten.cos.default),
    "Floor": _unary(aten.floor.default),
    "Ceil": _unary(aten.ceil.default),
    "Round": _unary(aten.round.default),
    "Softplus": _unary(aten.softplus.default),
    "Mish": _unary(aten.mish.default),
    "HardSwish": _unary(aten.hardswish.default),
    "Elu": _unary(aten.elu.default, alpha=1.0),
    "Celu": _unary(aten.celu.default, alpha=1.0),
    "LeakyRelu": _unary(aten.leaky_relu.default, alpha=0.01),
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Softmax": _softmax(SOFTMAX),
    "LogSoftmax": _softmax(aten.log_softmax.int),
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "ReduceMean": _reduce(aten.mean.dim),
    "ReduceSum": _reduce(aten.sum.dim_IntList),
    "ReduceMax": _reduce(aten.amax.default),
    "ReduceMin": _reduce(aten.amin.default),
    "Where": _where,
}
