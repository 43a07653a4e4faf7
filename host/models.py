"""Torch definitions of the embedded models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..hdl.brief import one_line
from .errors import ModelError

try:
    import torch
    from torch import nn
except ModuleNotFoundError as _error:
    raise ModelError("the embedded models need torch: pip install -e '.[torch]'") from _error

from safetensors import SafetensorError
from safetensors.torch import load_file

if TYPE_CHECKING:
    from torch import Tensor

LENET_WEIGHTS = Path(__file__).parent / "data" / "lenet.safetensors"


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling, for 1×32×32 images in [0, 1] and ten classes.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.relu = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.pool2 = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [N, 10] of images [N, 1, 32, 32]."""
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)


def lenet5(weights: Path | None = None) -> LeNet5:
    """LeNet-5 in evaluation mode.

    Parameters
    ----------
    weights
        A safetensors file, as ``examples/train_lenet.py`` writes it; by default the embedded
        weights, trained on the embedded digits.

    Raises
    ------
    ModelError
        The file is missing, broken, or holds other tensors.
    """
    path = LENET_WEIGHTS if weights is None else weights
    model = LeNet5()
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read LeNet-5 weights {path}: {one_line(error)}") from error
    except RuntimeError as error:
        first = one_line(str(error).splitlines()[-1])
        raise ModelError(f"{path} does not hold LeNet-5 weights: {first}") from error
    return model.eval()
