"""Networks that are one chain of layers: MLP, AlexNet and VGG-16."""

from __future__ import annotations

from torch import nn

CLASSES = 1000


def mlp(shape: tuple[int, ...]) -> nn.Module:
    """1024-512-512-10 on flattened 32×32 images."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((shape[0], 512), (512, 512)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def alexnet(shape: tuple[int, ...]) -> nn.Module:
    """AlexNet in one tower, as torchvision has it, for 224×224 images.

    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014.
    The adaptive pooling that torchvision puts before the classifier does nothing at 224×224, and
    is left out.
    """
    height, width = (_pool(_pool(_pool((size + 4 - 11) // 4 + 1))) for size in shape[1:])
    return nn.Sequential(
        nn.Conv2d(shape[0], 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Dropout(), nn.Linear(256 * height * width, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, CLASSES),
    )  # fmt: skip


def _pool(size: int) -> int:
    return (size - 3) // 2 + 1


def vgg16(shape: tuple[int, ...]) -> nn.Module:
    """VGG-16 (configuration D, without batch norm) for 224×224 images.

    Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
    Recognition, 2015.
    """
    layers: list[nn.Module] = []
    channels = shape[0]
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    features = 512 * (shape[1] // 32) * (shape[2] // 32)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(features, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, CLASSES),
    )  # fmt: skip
