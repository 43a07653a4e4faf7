"""What the timing model says of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...hdl.counters import cause_register
from ...hdl.isa import Unit
from ..program import stretches
from .account import total

if TYPE_CHECKING:
    from ..program import Layer
    from .account import UnitAccount, UnitHistory

#: What each unit did in each cycle of a stretch.
Account = dict[Unit, "UnitAccount"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of a run.

    Attributes
    ----------
    cycles
        From START to the end, as the CYCLES register.
    counts
        The other counter registers by name, but for those of the account.
    histories
        What each unit did.
    """

    cycles: int
    counts: dict[str, int]
    histories: dict[Unit, UnitHistory]

    @cached_property
    def timeline(self) -> dict[Unit, np.ndarray]:
        """For each unit's instructions in program order: index in the program, cycle of the start,
        cycle of completion; int64 [n, 3].
        """
        return {
            unit: np.array([h.instructions, h.starts, h.dones], np.int64).T
            for unit, h in self.histories.items()
        }

    @cached_property
    def retired(self) -> np.ndarray:
        """One row (cycle since START, unit) per completed instruction, by cycle, then unit."""
        rows = [
            np.stack([spans[:, 2], np.full(len(spans), unit)], axis=1)
            for unit, spans in self.timeline.items()
        ]
        flat = np.concatenate(rows)
        return flat[np.lexsort((flat[:, 1], flat[:, 0]))]

    @cached_property
    def counters(self) -> dict[str, int]:
        """Every counter register by name."""
        out = {"CYCLES": self.cycles, **self.counts}
        for unit, account in self.account().items():
            for cause, cycles in account.causes.items():
                out[cause_register(unit, cause)] = cycles
        return out

    def account(self, begin: int = 0, end: int | None = None) -> Account:
        """What each unit did in the cycles after `begin` up to `end`, of the whole run by default.

        The causes of each unit sum to ``end - begin``.
        """
        return self.accounts([begin, self.cycles if end is None else end])[0]

    def accounts(self, times: Sequence[int]) -> list[Account]:
        """The account between each two of `times`, which ascend."""
        moments = np.array(times, np.int64)
        units = {unit: h.accounts(moments) for unit, h in self.histories.items()}
        return [
            {unit: accounts[i] for unit, accounts in units.items()} for i in range(len(times) - 1)
        ]

    def by_layer(self, layers: Sequence[Layer]) -> list[Account]:
        """The account of each layer: from the end of what was before to its own, in all of its
        stretches.

        Parameters
        ----------
        layers
            Those that the run computes, of ``Program.layers``.
        """
        parts = stretches(layers, self.timeline[Unit.VECTOR][:, 2], self.cycles)
        accounts = self.accounts([0, *(end for _, end in parts)])
        mine: list[list[Account]] = [[] for _ in layers]
        for (index, _), account in zip(parts, accounts, strict=True):
            mine[index].append(account)
        return [{unit: total(a[unit] for a in some) for unit in Unit} for some in mine]
