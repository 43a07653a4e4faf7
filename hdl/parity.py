"""Parity bits in memories: one above every unit, so that the unit's bits and it sum to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat

if TYPE_CHECKING:
    from amaranth.hdl import Signal


def protect(value: Signal, unit: int) -> Cat:
    """`value` with a parity bit above every `unit` bits."""
    return Cat(Cat(part, part.xor()) for part in _parts(value, unit))


def strip(value: Signal, unit: int) -> Cat:
    """`value`, of units with parity, without the parity bits."""
    return Cat(part[:-1] for part in _parts(value, unit + 1))


def wrong(value: Signal, unit: int) -> Cat:
    """One bit for each of `value`'s units with parity: set where they do not sum to zero."""
    return Cat(part.xor() for part in _parts(value, unit + 1))


def _parts(value: Signal, bits: int) -> list:
    return [value[at : at + bits] for at in range(0, len(value), bits)]
