"""Seeded weights, and batch norm statistics that fit them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import ModelError

try:
    import torch
    from torch import nn
except ModuleNotFoundError as _error:
    raise ModelError("building a network needs torch: pip install -e '.[torch]'") from _error

from . import images

if TYPE_CHECKING:
    from collections.abc import Callable

_SETTLING_BATCH = 2


def build(definition: Callable[..., nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """The model of `definition` for inputs of `shape`, in evaluation mode."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = definition(shape)
        _initialize(model)
        _settle(model, shape)
    return model.eval()


def _initialize(model: nn.Module) -> None:
    """Normal weights that keep the variance through ReLU, small biases, norms around 1 and 0."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan = module.weight[0].numel()
            module.weight.normal_(0, math.sqrt(2 / fan))
            if module.bias is not None:
                module.bias.uniform_(-0.1, 0.1)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.weight.uniform_(0.8, 1.2)
            module.bias.uniform_(-0.1, 0.1)


def _settle(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Set the running statistics of batch norms to those of some images."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = None  # average over the batches
    model.train()
    model(torch.from_numpy(images(_SETTLING_BATCH, shape)))
