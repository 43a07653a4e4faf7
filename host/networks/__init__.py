"""Example networks at their published sizes, with seeded weights and seeded inputs.

The weights are random, so the networks predict nothing; their shapes, operators and ranges of
activations are those of the real ones. Only `lenet` is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from .. import datasets

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@dataclass(frozen=True)
class Example:
    """One of :data:`NETWORKS`.

    Parameters
    ----------
    name
        Its key.
    shape
        Shape of one input: (channels, height, width), (tokens, features) or (features,).
    samples
        Makes that many inputs, float32 [N, *shape], for calibration and to run.
    definition
        "module:function" of the torch model, relative to this package.
    trained
        Whether the function returns a trained model, of the published shape only.
    """

    name: str
    shape: tuple[int, ...]
    samples: Callable[[int, tuple[int, ...]], np.ndarray]
    definition: str
    trained: bool = False

    def build(self, shape: tuple[int, ...] | None = None) -> nn.Module:
        """The torch model in evaluation mode, the same weights each time.

        Parameters
        ----------
        shape
            Of one input, where it is not the published one; a trained model has only that.

        Raises
        ------
        ModelError
            torch is not installed.
        """
        from .building import build

        module, _, function = self.definition.partition(":")
        definition = getattr(import_module(module, __name__), function)
        return definition() if self.trained else build(definition, shape or self.shape)

    def inputs(self, count: int = 2, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """`count` inputs, float32 [count, *shape], the same each time."""
        return self.samples(count, shape or self.shape)


def images(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth random images, float32 [count, channels, height, width], mean 0 and variance 1."""
    channels, height, width = shape
    rng = np.random.default_rng(count)
    out = np.zeros((count, channels, height, width))
    for cells in (4, 8, 32):
        grid = rng.normal(size=(count, channels, cells + 1, cells + 1)) / np.sqrt(cells)
        for axis, size in ((2, height), (3, width)):
            at = np.linspace(0, cells, size, endpoint=False)
            left, part = at.astype(int), at % 1
            if axis == 2:
                part = part[:, None]
            low, high = (np.take(grid, left + step, axis) for step in (0, 1))
            grid = low * (1 - part) + high * part
        out += grid
    out -= out.mean(axis=(1, 2, 3), keepdims=True)
    return (out / out.std(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


def noise(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Normal random numbers, float32 [count, *shape]."""
    return np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)


def digits(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The first embedded digits, flattened where `shape` is (1024,); float32 [count, *shape]."""
    return datasets.load().images[:count].reshape(-1, *shape)


NETWORKS: dict[str, Example] = {
    example.name: example
    for example in (
        Example("lenet", (1, 32, 32), digits, "..models:lenet5", trained=True),
        Example("mlp", (1024,), digits, ".plain:mlp"),
        Example("alexnet", (3, 224, 224), images, ".plain:alexnet"),
        Example("vgg16", (3, 224, 224), images, ".plain:vgg16"),
        Example("squeezenet", (3, 224, 224), images, ".squeezenet:SqueezeNet"),
        Example("resnet18", (3, 224, 224), images, ".resnet:resnet18"),
        Example("resnet50", (3, 224, 224), images, ".resnet:resnet50"),
        Example("mobilenetv2", (3, 224, 224), images, ".mobilenet:MobileNetV2"),
        Example("bert_layer", (128, 768), noise, ".bert:EncoderLayer"),
    )
}
