"""When the GEMM core does what: the cycle contract of WEIGHT and MATMUL as a recurrence.

The RTL twins are ``hdl/weight_unit.py``, ``hdl/planner.py`` and ``hdl/matmul_unit.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ...hdl.isa import Instruction

#: Cycles from a vector's launch to its ACT read.
ACT_READ = 1
#: Cycles from a tile's decision to the first of its WGT reads.
WGT_READ = 1
#: Cycles from a vector's launch to its entry into the array.
ENTRY = 6
#: Cycles from a tile's first launch to the decision on the next; by how much a launch may precede
#: ``decision + rows``.
OFFSET = 3
#: Cycles for which WEIGHT looks at an instruction before it can start.
LOOK_AHEAD = 2
#: Cycles between two launches into one entry, where the second reads it.
RMW = 4
_NEVER = -(1 << 40)


def accumulate_cycle(config: Config, launch: int) -> int:
    """The cycle in which column 0 reads the entry of the vector launched in cycle `launch`."""
    return launch + ENTRY + config.rows


def done_cycle(config: Config, launch: int) -> int:
    """The cycle in which the last column writes the entry of the vector launched in `launch`."""
    return accumulate_cycle(config, launch) + config.cols + 2


@dataclass(frozen=True, eq=False)
class MatmulTimes:
    """Cycles of one MATMUL instruction's events.

    Parameters
    ----------
    weight_start, weight_done
        `ready` and `done` of the WEIGHT part.
    start, done
        `ready` and `done` of the MATMUL part.
    decisions
        For each tile: the decision to load it, int64. Row p of it (counted from the last) is read
        from WGT in cycle ``decision + WGT_READ + p``.
    launches
        For each tile: launch of its first vector. Vector m is read from ACT in cycle
        ``launch + ACT_READ + m``.
    vectors
        Vectors in a tile.
    weight_stalls, stalls
        Cycles in which `stall` is up for this instruction.
    """

    weight_start: int
    weight_done: int
    start: int
    done: int
    decisions: np.ndarray
    launches: np.ndarray
    vectors: int
    weight_stalls: int
    stalls: int


class MatmulTiming:
    """The GEMM core's clock; call :meth:`step` for each MATMUL instruction in program order.

    Cycles count from any origin, before which the core was reset and idle.

    Parameters
    ----------
    config
        The machine.
    """

    def __init__(self, config: Config):
        self._config = config
        self._weight_start = _NEVER  # of the instruction before
        self._start = _NEVER
        self._planned = _NEVER  # last lane of the instruction before
        # Of the tile before:
        self._decision = _NEVER
        self._taken = _NEVER
        self._first_launch = _NEVER
        self._last_launch = _NEVER
        self._vectors = 0
        self._last_entry = 0

    def step(
        self,
        instruction: Instruction,
        *,
        weight_valid: int = 0,
        weight_go: int = 0,
        valid: int = 0,
        go: int = 0,
    ) -> MatmulTimes:
        """The times of the next instruction.

        Parameters
        ----------
        instruction
            A MATMUL.
        weight_valid, valid
            First cycle in which the instruction is at the head of its queue, had the one before
            left it already.
        weight_go, go
            First cycle in which its semaphores are ready; they stay so.
        """
        i, config = instruction, self._config
        rows, depth = config.rows, config.acc_depth
        vectors = i.oy * i.ox
        per_block = -(-i.ky * i.kx * i.kc // rows)
        tiles = per_block * i.blocks
        decisions = np.empty(tiles, np.int64)
        launches = np.empty(tiles, np.int64)

        weight_head = max(weight_valid, self._weight_start + 1)
        weight_start = max(weight_head + LOOK_AHEAD, weight_go, self._decision)
        head = max(valid, self._start + 1)
        planned = max(head, self._planned)  # lane 0 is planned in the next cycle or later

        decision, taken = self._decision, self._taken
        first, last = self._first_launch, self._last_launch
        weight_stalls, start = 0, go
        entry = 0
        for tile in range(tiles):
            waiting_since = max(decision + rows, weight_start)
            decision = max(weight_start + 1, decision + 1, first + OFFSET)
            weight_stalls += max(0, decision - waiting_since)
            decisions[tile] = decision

            planned = max(planned + 1, taken) + rows - 1
            taken = max(planned + 1, last)
            if tile == 0:
                taken = start = max(taken, go, head)
            block, in_block = divmod(tile, per_block)
            entry = (i.acc + block * vectors) % depth
            first = max(taken + 1, decision + rows - OFFSET)
            if in_block or i.accumulate:
                behind = (self._last_entry - entry) % depth
                if behind < self._vectors:
                    first = max(first, last - behind + RMW)
            launches[tile] = first
            last = first + vectors - 1
            self._vectors = vectors
            self._last_entry = (entry + vectors - 1) % depth

        self._weight_start, self._start = weight_start, start
        self._decision, self._taken, self._planned = decision, taken, planned
        self._first_launch, self._last_launch = first, last
        return MatmulTimes(
            weight_start=weight_start,
            weight_done=decision + rows,
            start=start,
            done=done_cycle(config, last),
            decisions=decisions,
            launches=launches,
            vectors=vectors,
            weight_stalls=weight_stalls,
            stalls=last - start - tiles * vectors,
        )
