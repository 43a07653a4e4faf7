"""MobileNetV2: inverted residuals around depthwise convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from .plain import CLASSES

#: Expansion, channels, blocks and stride of each stage.
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter depthwise by 3×3, narrow by 1×1 without activation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        wide = inputs * expansion
        body = [*_conv(wide, wide, 3, stride, wide), *_conv(wide, outputs)[:-1]]
        self.body = nn.Sequential(*(_conv(inputs, wide) if expansion > 1 else []), *body)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, height / stride, width / stride]."""
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Sequential):
    """MobileNetV2 of width 1.0 for 224×224 images.

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018.
    """

    def __init__(self, shape: tuple[int, ...]):
        layers = _conv(shape[0], 32, 3, 2)
        inputs = 32
        for expansion, outputs, count, stride in _STAGES:
            for index in range(count):
                step = 1 if index else stride
                layers.append(InvertedResidual(inputs, outputs, expansion, step))
                inputs = outputs
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, CLASSES)]
        super().__init__(*layers, *_conv(inputs, 1280), *head)
