"""Which values of a canonical graph are INT8, and how their ranges are found.

A value is quantized unless the node that makes it is fused into its only reader: an activation or
a factor into the layer before it, a convolution or linear layer into the addition behind it, and a
chain of pointwise functions into one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchao.quantization.pt2e.observer import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from .aten import (
    ADD,
    AVG_POOL,
    CLAMP,
    CONV,
    KEEPERS,
    LINEAR,
    MATMUL,
    PAD,
    SCALE,
    SIZE,
    SOFTMAX,
    argument,
    constant,
    constants,
    is_tensor,
    operand,
    unsupported,
)
from .pointwise import Region, regions

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ANNOTATION = "quantization_annotation"
#: What a mask adds, at most, to scores that softmax is not to see.
HIDDEN = -1e4
#: Below this an activation's scale is taken for that of an all-zero tensor.
_EPS = 2.0**-24
#: Besides layers with weights, what a clamp or a factor behind it becomes part of.
_FUSING = {MATMUL, ADD, AVG_POOL, CLAMP, SCALE}


class Roles:
    """What each node of a canonical graph is to the quantizer and the lowering.

    Raises
    ------
    UnsupportedOperator
        A node makes something else than one tensor of real numbers.

    Attributes
    ----------
    regions
        Pointwise functions, by the name of their last node.
    inner
        Names of the other nodes of those regions.
    sums
        Names of the additions of two activations of the same shape.
    masks
        Names of the additions of constants that hide scores from softmax.
    """

    def __init__(self, module: GraphModule):
        found = regions(module)
        self.regions: dict[str, Region] = {node.name: region for node, region in found.items()}
        self._members = {member for region in found.values() for member in region.nodes}
        self.inner = {node.name for node in self._members - set(found)}
        self._fixed = constants(module.graph)
        nodes = [node for node in module.graph.nodes if node.op == "call_function"]
        self.sums = {node.name for node in nodes if self._is_sum(node)}
        self.masks = {node.name for node in nodes if self._is_mask(module, node)}
        for node in nodes:
            self._check(node)

    def computes(self, node: Node) -> bool:
        """Whether `node` makes an activation."""
        return node.op == "call_function" and is_tensor(node) and node not in self._fixed

    def activations(self, node: Node) -> list[Node]:
        """The tensors that `node` reads and that depend on the model's input."""
        return [n for n in node.all_input_nodes if is_tensor(n) and n not in self._fixed]

    def keeps_scale(self, node: Node) -> bool:
        """Whether `node` only moves values, adds zeros, or takes the largest."""
        if node.target == PAD and argument(node, 2, "value", 0):
            return False
        tensors = [n for n in node.all_input_nodes if is_tensor(n)]
        return node.target in KEEPERS and tensors == self.activations(node)

    def is_fused(self, node: Node) -> bool:
        """Whether `node`'s value exists only inside the node that reads it."""
        if node.name in self.inner or node.name in self.masks:
            return True
        if node in self._members or len(node.users) != 1:
            return False
        (user,) = node.users
        if (
            user in self._members
            or user.name in self.masks
            or not (has_weight(node) or node.target in _FUSING)
        ):
            return False
        if node.target == ADD and node.name not in self.sums:
            return False
        if user.name in self.sums:
            return fused_operand(user) is node
        return user.target in (CLAMP, SCALE)

    def _is_sum(self, node: Node) -> bool:
        sides = node.args[:2]
        return (
            node.target == ADD
            and node not in self._members
            and len(sides) == 2
            and set(sides) == set(self.activations(node))
            and all(n.meta["val"].shape == node.meta["val"].shape for n in self.activations(node))
        )

    def _is_mask(self, module: GraphModule, node: Node) -> bool:
        """Whether `node` adds 0 to some scores, and to the others what makes their exp 0."""
        if node.target != ADD or {user.target for user in node.users} != {SOFTMAX}:
            return False
        if len(self.activations(node)) != 1 or len(node.all_input_nodes) != 2:
            return False
        (mask,) = set(node.all_input_nodes) - set(self.activations(node))
        if mask.op != "get_attr" or node.meta["val"].shape != operand(node).meta["val"].shape:
            return False
        values = constant(module, mask)
        return bool(((values == 0) | (values <= HIDDEN)).all())

    def _check(self, node: Node) -> None:
        if is_tensor(node):
            real = node.meta["val"].is_floating_point()
            if not real and self.computes(node) and node.name not in self.inner:
                raise unsupported(node, f"it makes {node.meta['val'].dtype}, not real numbers")
        elif isinstance(node.meta.get("val"), (list, tuple)):
            raise unsupported(node, "it returns several tensors")
        elif node.target != SIZE and any(is_tensor(n) for n in node.all_input_nodes):
            raise unsupported(node, "it makes a number out of a tensor")


def has_weight(node: Node) -> bool:
    """Whether `node` is a layer with constant weights."""
    return node.target in (CONV, LINEAR) and operand(node, 1).op == "get_attr"


def fused_operand(add: Node) -> Node | None:
    """The convolution or linear layer that `add` is fused with, if there is one."""
    left, right = operand(add), operand(add, 1)
    if left is right:
        return None
    for side in (left, right):
        layer = operand(side) if side.target == SCALE else side
        if has_weight(layer) and len(side.users) == len(layer.users) == 1:
            return side
    return None


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
        self._scheme = torch.per_tensor_affine if asymmetric else torch.per_tensor_symmetric
        self._weight = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,
            quant_max=127,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_EPS),
        )
        self.roles: Roles | None = None

    def annotate(self, model: GraphModule) -> GraphModule:
        """Attach an annotation to every node that computes."""
        self.roles = roles = Roles(model)
        symmetric = _symmetric(model, roles)
        for node in model.graph.nodes:
            if node.op != "placeholder" and not roles.computes(node):
                continue
            inputs = {
                source: _activation(
                    torch.per_tensor_symmetric if source in symmetric else self._scheme
                )
                for source in roles.activations(node)
                if not roles.is_fused(source)
            }
            output = _activation(torch.per_tensor_symmetric if node in symmetric else self._scheme)
            if roles.keeps_scale(node):
                first, *others = inputs
                output = SharedQuantizationSpec((first, node))
                inputs |= dict.fromkeys(others, output)
            if has_weight(node):
                inputs[operand(node, 1)] = self._weight
            node.meta[_ANNOTATION] = QuantizationAnnotation(
                input_qspec_map=inputs,
                output_qspec=None if roles.is_fused(node) else output,
                _annotated=True,
            )
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: the graph is canonical."""


def _activation(scheme: torch.qscheme) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=scheme,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
    )


def _symmetric(model: GraphModule, roles: Roles) -> set[Node]:
    """The activations whose zero point must be 0: those that share a scale with a factor of a
    product of activations.
    """
    group: dict[Node, set[Node]] = {}
    for node in model.graph.nodes:
        group[node] = {node}
        if roles.computes(node) and roles.keeps_scale(node):
            for source in roles.activations(node):
                group[source] |= group[node]
                for member in group[source]:
                    group[member] = group[source]
    found: set[Node] = set()
    for node in model.graph.nodes:
        if node.target == MATMUL and roles.computes(node):
            for source in roles.activations(node):
                found |= group[source]
    return found
