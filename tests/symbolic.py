"""Python functions of integers as hardware: every path of a function, run on a symbolic integer.

The function runs once for every way in which its branches on symbolic values can go; the result is
a tree of multiplexers over what the runs returned. Amaranth's arithmetic never overflows, so it is
that of Python's integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Mux, Value


class _Open(Exception):
    """The run came to a branch that it has no decision for."""

    def __init__(self, condition: Value):
        self.condition = condition


class _Path:
    """The decisions of one run."""

    def __init__(self, decisions: tuple[bool, ...]):
        self.pending = list(decisions)
        self.known: dict[Any, int] = {}

    def decide(self, condition: Value) -> bool:
        if not self.pending:
            raise _Open(condition)
        return self.pending.pop(0)


class Symbolic:
    """An integer that stands for a value of the hardware.

    A branch on it forks the run. It may be looked up in a dictionary or a set: then the run forks
    over its values.
    """

    def __init__(self, path: _Path, value: Value, key: Any, least: int, most: int):
        self._path = path
        self._value = value
        self._key = key  # equal for equal values
        self._least = least
        self._most = most

    def _new(self, value: Value, least: int, most: int, *key: Any) -> Symbolic:
        return Symbolic(self._path, value, (self._key, *key), least, most)

    def __and__(self, mask: int) -> Symbolic:
        return self._new((self._value & mask)[: mask.bit_length()], 0, mask, "&", mask)

    def __xor__(self, other: int) -> Symbolic:
        most = (1 << max(self._most.bit_length(), other.bit_length())) - 1
        return self._new(self._value ^ other, 0, most, "^", other)

    def __rshift__(self, by: int) -> Symbolic:
        return self._new(self._value >> by, self._least >> by, self._most >> by, ">>", by)

    def __sub__(self, other: int) -> Symbolic:
        return self._new(self._value - other, self._least - other, self._most - other, "-", other)

    def __mod__(self, other: int) -> Symbolic:
        return self._new(self._value % other, 0, other - 1, "%", other)

    def __lt__(self, other: int) -> bool:
        if self._most < other or self._least >= other:
            return self._most < other
        return self._path.decide(self._value < int(other))

    def __le__(self, other: int) -> bool:
        return self < other + 1

    def __gt__(self, other: int) -> bool:
        return not self <= other

    def __ge__(self, other: int) -> bool:
        return not self < other

    def __eq__(self, other: object) -> bool:
        if self._key in self._path.known:
            return self._path.known[self._key] == other
        assert isinstance(other, int)
        return self._path.decide(self._value == int(other))

    def __bool__(self) -> bool:
        return self != 0

    def __hash__(self) -> int:
        known = self._path.known
        if self._key not in known:
            tries = range(self._least, self._most)
            found = (value for value in tries if self._path.decide(self._value == value))
            known[self._key] = next(found, self._most)
        return hash(known[self._key])


def compiled(function: Callable[[Symbolic], int], argument: Value) -> Value:
    """What `function` returns for `argument`, as hardware."""

    most = (1 << len(argument)) - 1

    def tree(decisions: tuple[bool, ...]) -> Value:
        symbol = Symbolic(_Path(decisions), argument, "", 0, most)
        try:
            return Const(int(function(symbol)))
        except _Open as branch:
            condition = branch.condition
        return Mux(condition, tree((*decisions, True)), tree((*decisions, False)))

    return tree(())
