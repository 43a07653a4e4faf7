"""A plan: where every tensor lives, and how every operation is cut to fit on chip."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .views import Home, View, whole

if TYPE_CHECKING:
    from ..batch import Batch


@dataclass(frozen=True)
class Buffers:
    """A place in ACT through which a tensor passes in tiles: `count` buffers of `size` bytes."""

    base: int
    size: int
    count: int


@dataclass(frozen=True)
class OpPlan:
    """How one operation is cut.

    Attributes
    ----------
    height, width
        Output rows and columns of a tile.
    depth
        Output channels that are worked on together, for tensors that pass through ACT.
    cost, ideal
        About how many cycles it takes, and how many if it were not cut.
    source, residual, target
        Where the tiles of inputs and output pass through ACT; None where they live there.
    stage
        Address of the rows that a staged pool reads.
    times
        How often it runs: once for each image of a batch, unless for all at once.
    """

    height: int
    width: int
    depth: int
    cost: int
    ideal: int = 0
    source: Buffers | None = None
    residual: Buffers | None = None
    target: Buffers | None = None
    stage: int = 0
    times: int = 1


@dataclass
class Plan:
    """Homes in DRAM, views in ACT, and a plan for each operation.

    Homes are those of all images of the batch, stacked; so are views of tensors that outlive an
    image's turn.
    """

    batch: Batch
    homes: dict[str, Home] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    ops: list[OpPlan] = field(default_factory=list)
    scratch_bytes: int = 0

    @property
    def cost(self) -> int:
        """About how many cycles all of them take."""
        return sum(op.cost * op.times for op in self.ops)

    def home(self, name: str, image: int | None) -> Home:
        """The home of an image's tensor, or with None of all images'."""
        return self.part(self.homes[name], image)

    def part(self, home: Home, image: int | None) -> Home:
        """An image's part of a home of all of them, or with None all of it."""
        if image is None:
            return home
        tensor = self.batch.one.tensors[home.tensor.name]
        offset = home.offset + image * tensor.height * home.row_pitch
        return replace(home, tensor=tensor, offset=offset)

    def view(self, name: str, image: int | None) -> View:
        """The view of an image's tensor, or with None of all images'."""
        view, tensor = self.views[name], self.batch.one.tensors[name]
        if image is None or view.tensor.height == tensor.height:
            return view
        origin = view.origin + image * tensor.height * view.row_pitch
        return replace(view, tensor=tensor, box=whole(tensor), origin=origin)
