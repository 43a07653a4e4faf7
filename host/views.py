"""How an array of torch lies in the bytes of a tensor, without moving any of them.

Transposes, slices, splits into attention heads and most reshapes only change strides. The lowering
keeps a :class:`View` of each value and makes a node only where a consumer cannot read it as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..hdl.brief import brief

#: Axes, and elements, that a view may have; an axis of stride 0 shows elements again and again.
MOST_AXES, MOST_ELEMENTS = 32, 1 << 26
#: Elements from one to the next along an axis, even along one of a single element.
MOST_STRIDE = 1 << 36


@dataclass(frozen=True)
class View:
    """Element i of `size`, counted in C order, is element i of the strided array.

    Parameters
    ----------
    shape, strides, offset
        The strided array, in elements of the tensor's (height, width, channels) in C order; of one
        image, so the first axis is usually 1.
    size
        What torch sees: `shape`, or another shape of as many elements.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    size: tuple[int, ...]

    @property
    def strided(self) -> bool:
        """Whether torch's axes are those of the strided array."""
        return self.shape == self.size

    def indices(self) -> np.ndarray:
        """Which element of the tensor each element is, int64 of `size`."""
        total = np.full((1,) * len(self.shape), self.offset, np.int64)
        for axis, (count, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(count, dtype=np.int64) * stride
            total = total + steps.reshape((-1,) + (1,) * (len(self.shape) - axis - 1))
        return total.reshape(self.size)

    def equals(self, other: View) -> bool:
        """Whether both show the same elements in the same order."""
        if self.size != other.size:
            return False
        if self.shape == other.shape and self.offset == other.offset:
            pairs = zip(self.shape, self.strides, other.strides, strict=True)
            if all(count == 1 or a == b for count, a, b in pairs):
                return True
        return bool(np.array_equal(self.indices(), other.indices()))

    def whole(self, elements: int) -> bool:
        """Whether it shows each of `elements` elements once."""
        reach = 1  # of the axes so far, which must continue where the ones within them end
        for stride, count in sorted(zip(self.strides, self.shape, strict=True)):
            if count > 1 and stride != reach:
                return False
            reach *= count
        return self.offset == 0 and reach == elements

    def dense(self, elements: int) -> bool:
        """As :meth:`whole`, for views that repeat elements only by strides of 0."""
        pairs = zip(self.shape, self.strides, strict=True)
        return math.prod(self.size) == elements and all(n == 1 or stride for n, stride in pairs)

    def read(self, values: np.ndarray) -> np.ndarray:
        """Torch's array [N, *size] from `values` [N, height, width, channels]."""
        return values.reshape(len(values), -1)[:, self.indices()]

    def write(self, array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Values [N, *shape] of the tensor from torch's `array` [N, *size], which is whole."""
        out = np.empty((len(array), math.prod(shape)), array.dtype)
        out[:, self.indices().reshape(-1)] = array.reshape(len(array), -1)
        return out.reshape(len(array), *shape)

    def as_json(self) -> list[Any]:
        """What :func:`from_json` reads."""
        return [list(self.shape), list(self.strides), self.offset, list(self.size)]


def from_json(entry: Any) -> View:
    """The view in a JSON value.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        shape, strides, offset, size = entry
        view = View(tuple(shape), tuple(strides), offset, tuple(size))
        numbers = (*view.shape, *view.strides, view.offset, *view.size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{brief(entry)} is not a view") from error
    whole = all(isinstance(n, int) and 0 <= n <= MOST_STRIDE for n in numbers)
    axes = max(len(shape), len(size)) <= MOST_AXES and len(shape) == len(strides)
    if not whole or not axes or math.prod(shape) != math.prod(size):
        raise ValueError(f"{brief(entry)} is not a view")
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"{brief(entry)} shows more than {MOST_ELEMENTS} elements")
    return view


def canonical(size: tuple[int, ...]) -> tuple[tuple[int, int, int], View]:
    """The tensor shape, and the view, in which an array of `size` is stored.

    [1, channels, height, width] is a map, [1, tokens, features] a sequence, [1, features] a vector;
    anything else is stored in its own order, its inner axes as one.
    """
    inner = size[1:] if size and size[0] == 1 else size
    if len(inner) == 3 and size[0] == 1 and len(size) == 4:
        channels, height, width = inner
        strides = (channels * height * width, 1, width * channels, channels)
        return (height, width, channels), View(size, strides, 0, size)
    if len(inner) < 3:
        inner = (1,) * (3 - len(inner)) + tuple(inner)
    shape = (inner[0], math.prod(inner[1:-1]), inner[-1])
    return shape, dense(size)


def dense(size: tuple[int, ...]) -> View:
    """The view of an array stored in its own C order."""
    strides = tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
    return View(size, strides, 0, size)
