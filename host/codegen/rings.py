"""Ring allocation of weights and parameters on chip, with memory of what is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Ring:
    """Hands out a memory in a circle and remembers what has not been overwritten since.

    Parameters
    ----------
    size
        Units in the memory.
    align
        Every entry starts at a multiple of this, and takes a multiple of it.
    """

    def __init__(self, size: int, align: int):
        self._size = size
        self._align = align
        self._next = 0
        self._entries: dict[Hashable, tuple[int, int]] = {}

    def span(self, count: int) -> int:
        """Units that `count` of them take."""
        return -(-count // self._align) * self._align

    def find(self, key: Hashable) -> int | None:
        """Where the entry called `key` starts, if it is still there."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def take(self, key: Hashable, count: int) -> tuple[int, int]:
        """A new place for `count` units under `key`: its first unit, and the one after its last."""
        span = self.span(count)
        start = self._next if self._next + span <= self._size else 0
        end = self._next = start + span
        self._entries = {k: e for k, e in self._entries.items() if e[1] <= start or e[0] >= end}
        self._entries[key] = start, end
        return start, end
