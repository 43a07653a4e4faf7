"""Latencies of the on-chip memories, and when ACT's ports get in each other's way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...hdl.config import Config

#: Cycles from an ACT read request to its data.
ACT_READ = 5
#: Cycles from a WGT or PAR read request to its data.
ROW_READ = 2
#: Cycles from two reads, and from two writes, that meet in a bank of ACT to `conflict`.
READ_CONFLICT = 3
WRITE_CONFLICT = 2


def window(
    config: Config, base: int, lanes: Iterable[int], jumps: Sequence[int] | None = None
) -> list[int]:
    """ACT addresses of the given lanes of a window at `base`; lane i jumps by jumps[i] words."""
    offsets = [i + (config.act_lanes * jumps[i] if jumps is not None else 0) for i in lanes]
    return [(base + offset) % config.act_bytes for offset in offsets]


def banks(config: Config, addresses: Iterable[int]) -> set[int]:
    """The banks of ACT that hold `addresses`."""
    return {address // config.act_bank_bytes for address in addresses}


def meet(sets: Sequence[set[int]]) -> bool:
    """Whether any two of the ports that use these banks in a cycle meet in one."""
    return len(set().union(*sets)) < sum(len(used) for used in sets)
