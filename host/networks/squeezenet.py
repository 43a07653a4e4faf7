"""SqueezeNet 1.1: fire modules, which concatenate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .plain import CLASSES


class Fire(nn.Module):
    """A 1×1 convolution that squeezes, then 1×1 and 3×3 convolutions side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 2 · expand, height, width]."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1(x)), self.relu(self.expand3(x))], 1)


class SqueezeNet(nn.Sequential):
    """SqueezeNet 1.1 for 224×224 images.

    Source: Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016;
    version 1.1 from the authors' repository.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(
            nn.Conv2d(shape[0], 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
            nn.Dropout(), nn.Conv2d(512, CLASSES, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
