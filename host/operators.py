"""What the host computes itself: the operators of :class:`~.ir.Host` nodes.

The interpreter and the host runtime call the same functions, so both get the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import arrays, fallback, norms
from .ir import Host, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np


@dataclass(frozen=True)
class Operator:
    """A host operator.

    Parameters
    ----------
    check
        Takes the node, its input tensors and its output tensor; raises ValueError with the rule
        that they break.
    run
        Takes the same and the int8 inputs [N, height, width, channels]; returns the int8 output.
    """

    check: Callable[[Host, Sequence[Tensor], Tensor], None]
    run: Callable[[Host, Sequence[Tensor], Tensor, Sequence[np.ndarray]], np.ndarray]


def apply(node: Host, tensors: Mapping[str, Tensor], values: Sequence[np.ndarray]) -> np.ndarray:
    """The output of a verified node.

    Parameters
    ----------
    node
        The node.
    tensors
        The graph's tensors.
    values
        int8 [N, height, width, channels] of each of the node's inputs.

    Returns
    -------
    numpy.ndarray
        int8 [N, height, width, channels] of the output.

    Raises
    ------
    ModelError
        The operator is one of torch's, and torch is not installed.
    """
    inputs = [tensors[name] for name in node.inputs]
    return _operator(node).run(node, inputs, tensors[node.output], values)


def check(node: Host, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError with the first rule that `node` breaks."""
    _operator(node).check(node, [tensors[name] for name in node.inputs], tensors[node.output])


def _operator(node: Host) -> Operator:
    if node.operator.startswith(fallback.PREFIX):
        return Operator(fallback.check, fallback.run)
    if node.operator not in OPERATORS:
        raise ValueError(f"there is no host operator {node.operator!r}")
    return OPERATORS[node.operator]


OPERATORS: dict[str, Operator] = {
    "softmax": Operator(norms.check_softmax, norms.run_softmax),
    "layer_norm": Operator(norms.check_layer_norm, norms.run_layer_norm),
    "gather": Operator(arrays.check_gather, arrays.run_gather),
    "cat": Operator(arrays.check_cat, arrays.run_cat),
    **dict.fromkeys(arrays.BINARY, Operator(arrays.check_binary, arrays.run_binary)),
}
