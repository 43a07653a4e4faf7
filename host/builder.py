"""The integer graph while it grows, and values brought into the form that a node reads."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from .arrays import gather
from .ir import Conv, Graph, Node, Requant, Tensor, sources
from .pending import Value
from .views import View, canonical, dense

if TYPE_CHECKING:
    from collections.abc import Container

Shape = tuple[int, int, int]


class Builder:
    """Nodes and tensors in order; every name once.

    Attributes
    ----------
    layer
        The layer that values are brought into form for.
    """

    def __init__(self) -> None:
        self.layer = ""
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[Node] = []
        self._makers: dict[str, Node] = {}

    def tensor(self, name: str, shape: Shape, scale: float, zero_point: int) -> Tensor:
        """A new tensor, called `name` or the like."""
        made = Tensor(_unique(name, self._tensors), *shape, scale, zero_point)
        self._tensors[made.name] = made
        return made

    def node_name(self, name: str) -> str:
        """`name`, or the like where a node has it already."""
        return _unique(name, {node.name for node in self._nodes})

    def add(self, node: Node) -> None:
        """Append a node."""
        self._nodes.append(node)
        self._makers[node.output] = node

    def graph(self, name: str, first: str, last: str) -> Graph:
        """The graph, without nodes that nothing reads."""
        needed, nodes = {last}, []
        for node in reversed(self._nodes):
            if node.output in needed:
                nodes.append(node)
                needed.update(sources(node))
        needed.add(first)
        tensors = {key: tensor for key, tensor in self._tensors.items() if key in needed}
        return Graph(name, first, last, tensors, tuple(reversed(nodes)))

    # -- forms ---------------------------------------------------------------------------------

    def aligned(self, value: Value, shape: Shape, view: View) -> Tensor:
        """A tensor of `shape` that torch, through the whole `view`, sees as `value`."""
        if value.tensor.shape == shape and value.view.equals(view):
            return value.tensor
        index = view.write(value.view.indices()[None], shape)[0]
        return self.moved(value.tensor, index)

    def whole(self, value: Value) -> Value:
        """`value` in a tensor of its own elements only, each once."""
        tensor = value.tensor
        if value.view.whole(tensor.height * tensor.width * tensor.channels):
            return value
        shape, view = canonical(value.view.size)
        return Value(self.aligned(value, shape, view), view)

    def strided(self, value: Value) -> Value:
        """`value` such that torch's axes have strides."""
        if value.view.strided:
            return value
        shape, view = canonical(value.view.size)
        return Value(self.aligned(value, shape, view), view)

    def map(self, value: Value) -> Tensor:
        """A map of a value [1, channels, height, width]."""
        return self.aligned(value, *canonical(value.view.size))

    def rows(self, value: Value, axis: int) -> tuple[Tensor, View]:
        """A tensor with torch's `axis` as its channels, and the view of its pixels (axis last).

        The view is that of a tensor of one channel.
        """
        value = self.strided(value)
        pixels = pixel_view(value, axis)
        if pixels is not None:
            return value.tensor, pixels
        size = value.view.size
        shape, view = canonical(size)
        if shape[2] != size[axis] or (size[0] != 1 and axis % len(size) != len(size) - 1):
            rest = [count for at, count in enumerate(size) if at != axis % len(size)]
            shape = 1, math.prod(rest), size[axis]
            view = spread(dense(tuple(rest)), size[axis], axis)
        tensor = self.aligned(value, shape, view)
        pixels = pixel_view(Value(tensor, view), axis)
        assert pixels is not None, (size, axis)
        return tensor, pixels

    def moved(self, source: Tensor, index: np.ndarray) -> Tensor:
        """The elements `index` [height, width, channels] of `source`; −1 reads zero."""
        part = self._slice(source, index)
        if part is not None:
            return part
        name = f"{self.layer}.gather"
        made = self.tensor(name, index.shape, source.scale, source.zero_point)  # pyright: ignore[reportArgumentType]
        self.add(gather(self.node_name(name), source, made, index))
        return made

    def _slice(self, source: Tensor, index: np.ndarray) -> Tensor | None:
        """Some channels of a convolution's result, made by that many of its filters."""
        conv = self._makers.get(source.name)
        if not isinstance(conv, Conv) or conv.groups > 1 or conv.residual is not None:
            return None
        if index.shape[:2] != source.shape[:2]:
            return None
        first, count = int(index[0, 0, 0]), index.shape[2]
        pixels = np.arange(source.height * source.width) * source.channels
        want = pixels[:, None] + first + np.arange(count)
        if first + count > source.channels or not np.array_equal(want.ravel(), index.ravel()):
            return None
        part = slice(first, first + count)
        numbers = conv.requant
        requant = Requant(
            numbers.bias[part], numbers.multiplier[part], numbers.shift[part],
            numbers.zero_point, numbers.low, numbers.high,
        )  # fmt: skip
        name = f"{conv.name}[{first}:{first + count}]"
        shape = source.height, source.width, count
        made = self.tensor(name, shape, source.scale, source.zero_point)
        self.add(
            dataclasses.replace(
                conv,
                name=self.node_name(name),
                output=made.name,
                weight=conv.weight[part],
                requant=requant,
            )
        )
        return made


def pixel_view(value: Value, axis: int) -> View | None:
    """How torch sees the pixels of a value whose `axis` is the channels, if it is so.

    Each pixel occurs once; the view is that of a tensor of one channel, without `axis`.
    """
    view, tensor = value.view, value.tensor
    channels = tensor.channels
    axis %= len(view.size)
    if not view.strided or view.shape[axis] != channels:
        return None
    if channels > 1 and view.strides[axis] != 1:
        return None
    others = [a for a in range(len(view.shape)) if a != axis]
    steps = [view.strides[a] if view.shape[a] > 1 else 0 for a in others]
    if view.offset % channels or any(step % channels for step in steps):
        return None
    size = tuple(view.shape[a] for a in others)
    strides = tuple(step // channels for step in steps)
    pixels = View(size, strides, view.offset // channels, size)
    return pixels if pixels.whole(tensor.height * tensor.width) else None


def spread(pixels: View, channels: int, axis: int) -> View:
    """The view of a tensor whose pixels torch sees as `pixels`, its channels at `axis`."""
    strides = [stride * channels for stride in pixels.strides]
    size = list(pixels.size)
    axis %= len(size) + 1
    strides.insert(axis, 1)
    size.insert(axis, channels)
    return View(tuple(size), tuple(strides), pixels.offset * channels, tuple(size))


def _unique(name: str, taken: Container[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
