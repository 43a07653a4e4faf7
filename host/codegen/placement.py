"""Free room in ACT, in banks that nobody else uses where there are some."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...hdl.config import Config


def find(taken: list[tuple[int, int]], sizes: list[int], config: Config) -> list[int] | None:
    """Free addresses for areas of `sizes` bytes, or None.

    Each area starts a bank that nobody else uses, if there is room, so that units seldom meet.
    """
    places = _free(taken, sizes, config, fresh=True)
    return _free(taken, sizes, config, fresh=False) if places is None else places


def find_groups(
    taken: list[tuple[int, int]],
    sizes: dict[str, int],
    groups: list[list[str]],
    config: Config,
    *,
    fresh: bool,
) -> dict[str, int] | None:
    """Free addresses for areas of `sizes` bytes, those of a group one behind the other."""
    found = _free(taken, [sum(sizes[r] for r in group) for group in groups], config, fresh=fresh)
    if found is None:
        return None
    out: dict[str, int] = {}
    for group, base in zip(groups, found, strict=True):
        for role in group:
            out[role] = base
            base += sizes[role]
    return out


def _free(
    taken: list[tuple[int, int]], sizes: list[int], config: Config, *, fresh: bool
) -> list[int] | None:
    """Free addresses for areas of `sizes` bytes, in banks of their own if `fresh`, or None."""
    bank, lanes = config.act_bank_bytes, config.act_lanes
    taken = [
        (start // bank * bank, -(-end // bank) * bank) if fresh
        else (start, -(-end // lanes) * lanes)
        for start, end in taken
    ]  # fmt: skip
    result: dict[int, int] = {}
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[index]
        starts = range(0, config.act_bytes, bank)
        if not fresh:
            starts = sorted({0, *starts, *(end for _, end in taken)})
        base = next(
            (
                base
                for base in starts
                if base + size <= config.act_bytes
                and all(base + size <= start or base >= end for start, end in taken)
            ),
            None,
        )
        if base is None:
            return None
        result[index] = base
        end = base + size
        taken.append((base, -(-end // bank) * bank if fresh else -(-end // lanes) * lanes))
    return [result[i] for i in range(len(sizes))]
