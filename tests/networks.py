"""Random integer networks: Hypothesis strategies over the IR, and a LeNet of random weights."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from weft.host.ir import Conv, Graph, Pool, Requant, Residual, Tensor


def requant(
    rng: np.random.Generator, channels: int, reduction: int, bits: int = 32, **kw
) -> Requant:
    """Parameters that spread sums of `reduction` INT8 products over most of INT8."""
    shift = bits - 2 + max(0, int(np.log2(reduction * 64)))
    return Requant(
        bias=rng.integers(-2000, 2001, channels),
        multiplier=rng.integers(1 << (bits - 2), 1 << (bits - 1), channels),
        shift=np.full(channels, min(shift, 62)),
        **kw,
    )


def conv(
    rng: np.random.Generator, name: str, source: Tensor, channels: int, bits: int = 32, **kw
) -> tuple[Conv, Tensor]:
    """A convolution of `source` with random weights, and its output tensor."""
    kernel = kw.pop("kernel", (1, 1))
    stride, dilation = kw.get("stride", (1, 1)), kw.get("dilation", (1, 1))
    padding, groups = kw.get("padding", (0, 0, 0, 0)), kw.get("groups", 1)
    low = kw.pop("low", -128)
    zero = kw.pop("zero_point", 0)
    inner = source.channels // groups
    weight = rng.integers(-127, 128, (channels, *kernel, inner)).astype(np.int8)
    height, width = (
        (size + before + after - d * (k - 1) - 1) // s + 1
        for size, before, after, d, k, s in (
            (source.height, padding[0], padding[2], dilation[0], kernel[0], stride[0]),
            (source.width, padding[1], padding[3], dilation[1], kernel[1], stride[1]),
        )
    )
    out = Tensor(f"{name}.out", height, width, channels, 1.0, zero)
    numbers = requant(rng, channels, kernel[0] * kernel[1] * inner, bits, low=low, zero_point=zero)
    return Conv(name, source.name, out.name, weight, numbers, **kw), out


def maxpool(name: str, source: Tensor, kernel: int, stride: int, pad: int = 0):
    """A max pool and its output tensor."""
    height, width = ((n + 2 * pad - kernel) // stride + 1 for n in (source.height, source.width))
    out = Tensor(f"{name}.out", height, width, source.channels, source.scale, source.zero_point)
    node = Pool(name, source.name, out.name, "max", (kernel, kernel), (stride, stride), (pad,) * 4)
    return node, out


def graph(name: str, source: Tensor, *pairs) -> Graph:
    """A graph of (node, output tensor) pairs in order."""
    tensors = {t.name: t for t in (source, *(t for _, t in pairs))}
    return Graph(name, source.name, pairs[-1][1].name, tensors, tuple(n for n, _ in pairs))


def lenet(bits: int = 32, seed: int = 0) -> Graph:
    """LeNet-5 with random weights."""
    rng = np.random.default_rng(seed)
    x = Tensor("x", 32, 32, 1, 1.0)
    c1, a = conv(rng, "conv1", x, 6, bits, kernel=(5, 5), low=0)
    p1, a2 = maxpool("pool1", a, 2, 2)
    c2, b = conv(rng, "conv2", a2, 16, bits, kernel=(5, 5), low=0)
    p2, b2 = maxpool("pool2", b, 2, 2)
    f1, c = conv(rng, "fc1", b2, 120, bits, kernel=(5, 5), low=0, kind="linear")
    f2, d = conv(rng, "fc2", c, 84, bits, low=0, kind="linear")
    f3, e = conv(rng, "fc3", d, 10, bits, kind="linear")
    pairs = [(c1, a), (p1, a2), (c2, b), (p2, b2), (f1, c), (f2, d), (f3, e)]
    return graph("lenet", x, *pairs)


def edges(size: int) -> st.SearchStrategy[int]:
    """Sizes around a dimension of the array: 1, D − 1, D, D + 1, a prime, two and a bit."""
    return st.sampled_from([1, 2, 3, size - 1, size, size + 1, 13, 2 * size + 3])


@st.composite
def gemms(draw, rows: int, cols: int, bits: int = 32) -> Graph:
    """M × K times K × N, requantized: a 1×1 convolution over a map of M pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    source = Tensor("x", 1, draw(edges(rows)), draw(edges(rows)), 1.0)
    return graph("gemm", source, conv(rng, "gemm", source, draw(edges(cols)), bits))


@st.composite
def convs(draw, rows: int, cols: int, bits: int = 32) -> Graph:
    """One convolution of any stride, padding, dilation, groups and zero points, perhaps pooled or
    with a residual.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    height, width = (
        draw(st.integers(d * (k - 1) + 1, 14)) for d, k in zip(dilation, kernel, strict=True)
    )
    source = Tensor(
        "x", height, width, groups * draw(edges(rows)), 1.0, draw(st.sampled_from([0, 0, 5, -128]))
    )
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    options = {
        "kernel": kernel,
        "dilation": dilation,
        "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "padding": padding,
        "groups": groups,
        "zero_point": draw(st.sampled_from([0, 0, -7, 9])),
        "low": draw(st.sampled_from([-128, 0])),
    }
    pairs = [conv(rng, "conv", source, groups * draw(edges(cols)), bits, **options)]
    kind = draw(st.sampled_from(["plain", "pool", "overlap", "residual"]))
    out = pairs[0][1]
    if kind == "pool" and min(out.height, out.width) >= 2:
        pairs.append(maxpool("pool", out, 2, 2))
    elif kind == "overlap" and min(out.height, out.width) >= 3:
        pairs.append(maxpool("pool", out, 3, 2, draw(st.integers(0, 1))))
    elif kind == "residual":
        second, end = conv(rng, "second", out, out.channels, bits, zero_point=3)
        residual = Residual(out.name, int(rng.integers(1 << 15, 1 << 17)), 18, out.zero_point)
        object.__setattr__(second, "residual", residual)
        pairs.append((second, end))
    return graph("net", source, *pairs)
