"""Single layers as networks: ``gemm:MxKxN`` and ``conv:HxWxC,k=KHxKW,s=S,p=P,n=N``, random data."""

from __future__ import annotations

import math
import re
import zlib
from typing import Any

import numpy as np

from ..hdl.brief import brief
from .errors import WeftError
from .ir import Conv, Graph, Requant, Tensor
from .verify import verify

#: What a user may write, for messages.
FORMS = "gemm:MxKxN or conv:HxWxC,k=KHxKW,s=S,p=P,n=N"
_SIZE = r"([1-9]\d{0,5})"
_GEMM = re.compile(rf"gemm:{_SIZE}x{_SIZE}x{_SIZE}")
_CONV = re.compile(rf"conv:{_SIZE}x{_SIZE}x{_SIZE}((?:,[a-z]=[\dx]*)*)")
#: Options of a convolution: default, and the least allowed.
_PAIRS = {"k": ("1", 1), "s": ("1", 1), "p": ("0", 0), "d": ("1", 1)}
_SINGLES = {"g": ("1", 1), "n": ("", 1)}
#: Numbers that the input, the output or the weights may have.
MOST_ELEMENTS = 1 << 30
#: Deviation of a random weight, of a random activation, and of the outputs to aim at.
_WEIGHT, _ACTIVATION, _TARGET = 73, 74, 50


def is_shape(text: str) -> bool:
    """Whether `text` is meant as a shape."""
    return text.startswith(("gemm:", "conv:"))


def graph(text: str, multiplier_bits: int = 32) -> Graph:
    """The network of one layer that `text` describes, with random weights that depend on it alone.

    Parameters
    ----------
    text
        ``gemm:MxKxN`` is an M×K matrix of activations times K×N weights. A convolution has a kernel
        ``k``, stride ``s``, padding ``p`` and dilation ``d`` (each one number, or rows x columns),
        groups ``g`` and output channels ``n``; only ``n`` has no default.
    multiplier_bits
        Width of the machine's requantization multiplier.

    Raises
    ------
    WeftError
        `text` describes no layer.
    """
    if found := _GEMM.fullmatch(text):
        m, k, n = map(int, found.groups())
        source, size, weight = Tensor("x", 1, m, k, 1.0), (1, m), (n, 1, 1, k)
        options: dict[str, Any] = {"kind": "linear"}
    elif found := _CONV.fullmatch(text):
        height, width, channels = map(int, found.groups()[:3])
        source = Tensor("x", height, width, channels, 1.0)
        weight, options, size = _convolution(text, source, found[4])
    else:
        raise WeftError(f"{brief(text)} is no shape; write {FORMS}")
    out = Tensor("y", *size, weight[0], 1.0)
    most = max(math.prod(array) for array in (source.shape, out.shape, weight))
    if most > MOST_ELEMENTS:
        raise WeftError(
            f"{brief(text)} has {most:,} numbers in one array, more than {MOST_ELEMENTS:,}"
        )
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    values = rng.integers(-127, 128, weight, np.int8)
    requant = _requant(rng, values, multiplier_bits)
    name = text.partition(":")[0]
    node = Conv(name, source.name, out.name, values, requant, **options)
    made = Graph(text, source.name, out.name, {t.name: t for t in (source, out)}, (node,))
    verify(made, multiplier_bits=multiplier_bits)
    return made


def inputs(made: Graph, count: int = 1) -> np.ndarray:
    """Random inputs for a network of :func:`graph`, int8 [count, height, width, channels]."""
    rng = np.random.default_rng(zlib.crc32(made.name.encode()) + 1)
    return rng.integers(-128, 128, (count, *made.tensors[made.input].shape), np.int8)


def _convolution(
    text: str, source: Tensor, given: str
) -> tuple[tuple[int, int, int, int], dict[str, Any], tuple[int, int]]:
    """Weight shape, fields of the node, and height and width of the output."""
    values = dict(part.split("=") for part in given.split(",")[1:])
    if unknown := sorted(values.keys() - _PAIRS.keys() - _SINGLES.keys()):
        raise WeftError(f"{brief(text)} has an unknown option {unknown[0]!r}; write {FORMS}")

    def numbers(key: str, default: str, least: int, most: int) -> tuple[int, int]:
        parts = values.get(key, default).split("x")
        valid = all(re.fullmatch(r"\d{1,6}", part) and int(part) >= least for part in parts)
        if not valid or len(parts) > most:
            raise WeftError(f"{brief(text)} has no valid {key}=…; write {FORMS}")
        return int(parts[0]), int(parts[-1])

    kernel, stride, padding, dilation = (numbers(k, *v, 2) for k, v in _PAIRS.items())
    groups, channels = (numbers(k, *v, 1)[0] for k, v in _SINGLES.items())
    if channels % groups or source.channels % groups:
        raise WeftError(f"{brief(text)} has channels that {groups} groups do not divide")
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            (source.height, source.width), kernel, stride, padding, dilation, strict=True
        )
    )
    if min(height, width) < 1:
        raise WeftError(f"{brief(text)} has no output: its kernel is larger than its padded input")
    options = {
        "stride": stride,
        "padding": (*padding, *padding),
        "dilation": dilation,
        "groups": groups,
    }
    return (channels, *kernel, source.channels // groups), options, (height, width)


def _requant(rng: np.random.Generator, weight: np.ndarray, bits: int) -> Requant:
    """Numbers that spread the sums of random products over INT8."""
    channels = len(weight)
    deviation = _WEIGHT * _ACTIVATION * math.sqrt(weight[0].size)
    return Requant(
        bias=rng.integers(-1000, 1001, channels),
        multiplier=rng.integers(1 << (bits - 2), 1 << (bits - 1), channels),
        shift=np.full(channels, bits - 1 + int(math.log2(deviation / _TARGET))),
    )
