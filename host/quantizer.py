"""Which values of a canonical graph are INT8, and how their ranges are found.

A value is quantized unless the node that makes it is fused into its only reader: an activation
into the layer before it, and a convolution or linear layer into the addition behind it.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.observer import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from .aten import ADD, AVG_POOL, CLAMP, CONV, FLATTEN, LINEAR, MAX_POOL, operand

_ANNOTATION = "quantization_annotation"
#: Below this an activation's scale is taken for that of an all-zero tensor.
_EPS = 2.0**-24


def fused_operand(add: Node) -> Node | None:
    """The convolution or linear layer that `add` is fused with, if there is one."""
    left, right = operand(add), operand(add, 1)
    if left is right:
        return None
    for side in (left, right):
        if side.target in (CONV, LINEAR) and len(side.users) == 1:
            return side
    return None


def is_fused(node: Node) -> bool:
    """Whether `node`'s value exists only inside the node that reads it."""
    if len(node.users) != 1 or node.target not in (CONV, LINEAR, ADD, AVG_POOL, CLAMP):
        return False
    (user,) = node.users
    if user.target == ADD:
        return fused_operand(user) is node
    return user.target == CLAMP


class Int8Quantizer(Quantizer):
    """Annotates a canonical graph for ``prepare_pt2e``.

    Weights are INT8, symmetric per output channel within ±127; activations are INT8 per tensor;
    max pooling and flattening keep the scale of their input. Biases stay real: the lowering
    derives them as INT32 at scale s_x·s_w.

    Parameters
    ----------
    asymmetric
        Whether activations have a zero point; by default it is 0.
    """

    def __init__(self, *, asymmetric: bool = False):
        scheme = torch.per_tensor_affine if asymmetric else torch.per_tensor_symmetric
        self._activation = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=scheme,
            observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
        )
        self._weight = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,
            quant_max=127,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_EPS),
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        """Attach an annotation to every node that computes."""
        for node in model.graph.nodes:
            if node.op == "placeholder":
                self._set(node, {})
            elif node.op == "call_function":
                self._set(node, self._inputs(node))
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: the graph is canonical."""

    def _inputs(self, node: Node) -> dict[Node, QuantizationSpec]:
        sides = (0, 1) if node.target == ADD else (0,)
        inputs = {
            operand(node, side): self._activation
            for side in sides
            if not is_fused(operand(node, side))
        }
        if node.target in (CONV, LINEAR):
            inputs[operand(node, 1)] = self._weight
        return inputs

    def _set(self, node: Node, inputs: dict) -> None:
        output = None if is_fused(node) else self._activation
        if node.target in (MAX_POOL, FLATTEN):
            output = SharedQuantizationSpec((operand(node), node))
        node.meta[_ANNOTATION] = QuantizationAnnotation(
            input_qspec_map=inputs, output_qspec=output, _annotated=True
        )
