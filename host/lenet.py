"""LeNet-5 with its test images, trained, quantized and ready to compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import datasets, interpreter
from .errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from ..hdl.config import Config
    from .ir import Graph


@dataclass(frozen=True, eq=False)
class Network:
    """A quantized network and what it is judged by.

    Attributes
    ----------
    graph
        The integer graph.
    inputs
        Quantized test images, int8 [N, height, width, channels].
    labels
        Their classes, int64 [N].
    float_predictions
        The classes that the float model gives, int64 [N].
    """

    graph: Graph
    inputs: np.ndarray
    labels: np.ndarray
    float_predictions: np.ndarray


def quantized(config: Config, data: Path | None = None, weights: Path | None = None) -> Network:
    """LeNet-5, quantized for `config`'s requantizer.

    Parameters
    ----------
    data
        Directory of MNIST's IDX files; by default the embedded digits.
    weights
        Trained weights; by default the embedded ones, trained on the digits.

    Raises
    ------
    ModelError
        torch is not installed, or the weights cannot be read.
    DatasetError
        The data cannot be read.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModelError("quantizing a model needs torch: pip install -e '.[torch]'") from error
    from . import frontend, models

    dataset = datasets.load(data)
    model = models.lenet5(weights)
    graph = frontend.quantize(
        model, dataset.calibration, name="lenet", multiplier_bits=config.multiplier_bits
    )
    with torch.inference_mode():
        scores = model(torch.from_numpy(dataset.images)).numpy()
    return Network(
        graph, interpreter.quantize_input(graph, dataset.images), dataset.labels, scores.argmax(1)
    )
