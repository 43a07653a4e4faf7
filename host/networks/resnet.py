"""ResNet-18 and ResNet-50.

Source: He et al., Deep Residual Learning for Image Recognition, 2016; the stride of a bottleneck is
in its 3×3 convolution (version 1.5, as in torchvision).
"""

from __future__ import annotations

from torch import Tensor, nn

from .plain import CLASSES


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """A residual block around `body`, its shortcut a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, body: list[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(*body)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _conv(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, height / stride, width / stride]."""
        return self.relu(self.body(x) + self.shortcut(x))


def basic(inputs: int, width: int, stride: int) -> Block:
    """Two 3×3 convolutions."""
    body = [*_conv(inputs, width, 3, stride), nn.ReLU(), *_conv(width, width, 3)]
    return Block(inputs, width, stride, body)


def bottleneck(inputs: int, width: int, stride: int) -> Block:
    """1×1, 3×3 and 1×1 convolutions, the last four times as wide."""
    body = [
        *_conv(inputs, width, 1), nn.ReLU(),
        *_conv(width, width, 3, stride), nn.ReLU(),
        *_conv(width, 4 * width, 1),
    ]  # fmt: skip
    return Block(inputs, 4 * width, stride, body)


def _resnet(channels: int, counts: tuple[int, ...], block, expansion: int) -> nn.Module:
    layers = [*_conv(channels, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    inputs = 64
    for stage, count in enumerate(counts):
        width = 64 << stage
        for index in range(count):
            layers.append(block(inputs, width, 2 if stage and not index else 1))
            inputs = expansion * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)]
    return nn.Sequential(*layers, *head)


def resnet18(shape: tuple[int, ...]) -> nn.Module:
    """ResNet-18 for 224×224 images."""
    return _resnet(shape[0], (2, 2, 2, 2), basic, 1)


def resnet50(shape: tuple[int, ...]) -> nn.Module:
    """ResNet-50 for 224×224 images."""
    return _resnet(shape[0], (3, 4, 6, 3), bottleneck, 4)
