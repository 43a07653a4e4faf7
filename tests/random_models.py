"""Random small torch models: maps, sequences of tokens and vectors, of sizes around the array's.

They are drawn from a ``random.Random``: one of a seed in campaigns, Hypothesis' in tests, whose
choices shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import nn
from weft.hdl.config import Config

from .torch_models import Function, trained_norm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh,
    "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid, "hardswish": nn.Hardswish,
    "leaky": nn.LeakyReLU,
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A model, and how to quantize it.

    Parameters
    ----------
    model
        In evaluation mode.
    inputs
        Calibration data [N, …].
    asymmetric
        Whether activations get zero points.
    """

    model: nn.Module
    inputs: torch.Tensor
    asymmetric: bool


def sample(rng: Random, config: Config) -> Sample:
    """A model whose sizes lie around those of `config`."""
    torch.manual_seed(rng.getrandbits(32))
    kind = rng.choice((_map, _map, _map, _map, _tokens, _vector))
    model, shape = kind(_Sizes(rng, config))
    inputs = torch.randn(4, *shape) * rng.choice((0.1, 1.0, 1.0, 30.0))
    return Sample(model.eval(), inputs, rng.random() < 0.5)


class _Sizes:
    """Draws sizes for a machine."""

    def __init__(self, rng: Random, config: Config):
        self.rng = rng
        self._edges = [1, 2, 3, 13]
        self._edges += [d + i for d in (config.rows, config.cols) for i in (-1, 0, 1)]

    def width(self) -> int:
        """Channels or features: 1, D − 1, D, D + 1, a prime, a bit more."""
        return self.rng.choice((*self._edges, self.rng.randint(1, 30)))

    def act(self) -> nn.Module:
        return ACTIVATIONS[self.rng.choice(("none", "relu", "relu", *ACTIVATIONS))]()

    def norm(self, channels: int) -> nn.Module:
        return trained_norm(channels) if self.rng.random() < 0.4 else nn.Identity()

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability


# -- maps --------------------------------------------------------------------------------------


def _map(sizes: _Sizes) -> tuple[nn.Module, tuple[int, ...]]:
    rng = sizes.rng
    shape = first = (sizes.width(), rng.randint(1, 14), rng.randint(1, 14))
    layers: list[nn.Module] = []
    kinds = (_conv, _conv, _conv, _pool, _residual, _branches, _activation)
    for _ in range(rng.randint(1, 5)):
        layer, shape = rng.choice(kinds)(sizes, shape)
        layers.append(layer)
    if sizes.chance(0.3):
        layers += [nn.AdaptiveAvgPool2d(1)]
        shape = shape[0], 1, 1
    if sizes.chance(0.4):
        hidden, out = sizes.width(), sizes.width()
        layers += [nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], hidden)]
        layers += [sizes.act(), nn.Linear(hidden, out)]
    return nn.Sequential(*layers), first


Shape = tuple[int, int, int]


def _conv(sizes: _Sizes, shape: Shape) -> tuple[nn.Module, Shape]:
    """Any kernel, stride, dilation, padding and groups; batch norm; an activation."""
    rng, (inner, *size) = sizes.rng, shape
    out, groups = sizes.width(), 1
    kind = rng.choice(("plain", "plain", "depthwise", "grouped"))
    if kind == "depthwise":
        out, groups = inner * rng.choice((1, 1, 2)), inner
    elif kind == "grouped" and inner % 2 == 0:
        out, groups = 2 * rng.randint(1, 8), 2
    kernel, stride, dilation, padding, after = ([0, 0] for _ in range(5))
    for axis in (0, 1):
        dilation[axis] = rng.choice((1, 1, 1, 2))
        padding[axis] = rng.choice((0, 0, 1, 1, 2))
        most = (size[axis] + 2 * padding[axis] - 1) // dilation[axis] + 1
        kernel[axis] = min(rng.choice((1, 1, 2, 3, 3, 5)), most)
        stride[axis] = rng.choice((1, 1, 2, 3))
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        after[axis] = (size[axis] + 2 * padding[axis] - reach) // stride[axis] + 1
    layer = nn.Conv2d(
        inner, out, (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]),
        (dilation[0], dilation[1]), groups, bias=sizes.chance(0.7),
    )  # fmt: skip
    return nn.Sequential(layer, sizes.norm(out), sizes.act()), (out, after[0], after[1])


def _pool(sizes: _Sizes, shape: Shape) -> tuple[nn.Module, Shape]:
    rng, (channels, *size) = sizes.rng, shape
    kernel = [min(rng.choice((1, 2, 2, 3)), n) for n in size]
    padding = [rng.choice((0, 0, k // 2)) for k in kernel]
    stride = [rng.choice((1, 2, 2, 3)) for _ in size]
    after = [(n + 2 * p - k) // s + 1
             for n, p, k, s in zip(size, padding, kernel, stride, strict=True)]  # fmt: skip
    kind = nn.MaxPool2d if sizes.chance(0.6) else nn.AvgPool2d
    layer = kind(tuple(kernel), tuple(stride), tuple(padding))
    return layer, (channels, after[0], after[1])


def _same(sizes: _Sizes, inner: int, out: int) -> nn.Module:
    """A convolution that keeps height and width."""
    side, groups = sizes.rng.choice((1, 3)), inner if inner == out and sizes.chance(0.3) else 1
    layer = nn.Conv2d(inner, out, side, padding=side // 2, groups=groups, bias=sizes.chance(0.7))
    return nn.Sequential(layer, sizes.norm(out), sizes.act())


def _residual(sizes: _Sizes, shape: Shape) -> tuple[nn.Module, Shape]:
    """x + f(x), f of one or two convolutions; an activation behind."""
    channels, middle = shape[0], sizes.width()
    body = _same(sizes, channels, channels)
    if sizes.chance(0.5):
        body = nn.Sequential(_same(sizes, channels, middle), _same(sizes, middle, channels))
    first = sizes.chance(0.5)
    layer = Function(
        lambda m, x: m.act(m.body(x) + x if first else x + m.body(x)), body=body, act=sizes.act()
    )
    return layer, shape


def _branches(sizes: _Sizes, shape: Shape) -> tuple[nn.Module, Shape]:
    """Convolutions of x, and perhaps x itself, joined along channels."""
    widths = [sizes.width() for _ in range(sizes.rng.randint(1, 3))]
    bodies = nn.ModuleList(_same(sizes, shape[0], width) for width in widths)
    keep = len(widths) == 1 or sizes.chance(0.5)
    order = -1 if sizes.chance(0.5) else 1

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        parts = [body(x) for body in m.bodies] + [x] * keep  # pyright: ignore
        return torch.cat(parts[::order], 1)

    return Function(forward, bodies=bodies), (sum(widths) + shape[0] * keep, *shape[1:])


def _activation(sizes: _Sizes, shape: Shape) -> tuple[nn.Module, Shape]:
    return sizes.act(), shape


# -- sequences and vectors ---------------------------------------------------------------------


def _tokens(sizes: _Sizes) -> tuple[nn.Module, tuple[int, ...]]:
    """Blocks of a transformer: attention, layer norms, a perceptron, residuals."""
    rng = sizes.rng
    heads, depth = rng.choice((1, 2, 4)), rng.choice((4, 8, 8))
    width, hidden = heads * depth, sizes.width()
    layers: list[nn.Module] = [nn.Linear(first := sizes.width(), width)]
    for _ in range(rng.randint(0, 2)):
        body: nn.Module = nn.Sequential(
            nn.Linear(width, hidden), sizes.act(), nn.Linear(hidden, width)
        )
        if sizes.chance(0.5):
            body = Function(
                lambda m, x: m.o(_attend(m.q(x), m.k(x), m.v(x), heads)),
                **{name: nn.Linear(width, width) for name in "qkvo"},
            )
        norm = nn.LayerNorm(width) if sizes.chance(0.5) else nn.Identity()
        layers.append(Function(lambda m, x: m.norm(x + m.body(x)), body=body, norm=norm))
    layers.append(nn.Linear(width, sizes.width()))
    return nn.Sequential(*layers), (rng.randint(1, 9), first)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (y.unflatten(2, (heads, -1)).transpose(1, 2) for y in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _vector(sizes: _Sizes) -> tuple[nn.Module, tuple[int, ...]]:
    """A perceptron."""
    width = first = sizes.width()
    layers: list[nn.Module] = []
    for _ in range(sizes.rng.randint(1, 4)):
        layers += [nn.Linear(width, after := sizes.width()), sizes.act()]
        width = after
    return nn.Sequential(*layers, nn.Linear(width, sizes.width())), (first,)
