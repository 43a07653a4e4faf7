"""When the GEMM core does what: the cycle contract of WEIGHT and MATMUL as a recurrence.

The RTL twins are ``hdl/weight_unit.py``, ``hdl/planner.py`` and ``hdl/matmul_unit.py``.

A tile's times are sums and maxima of those of the tile before it. So once every time of a tile
lies the same number of cycles after its predecessor's, the tiles that follow the same rule go on
at that distance, and are not computed one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...hdl.accumulator import RMW_LATENCY
from ...hdl.ports import ACT_READ_LATENCY
from ...hdl.weight_unit import LAUNCH_STAGES, OFFSET
from .account import TileHistory

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ...hdl.isa import Instruction

#: Cycles from a vector's launch to its entry into the array.
ENTRY = LAUNCH_STAGES + ACT_READ_LATENCY
#: Cycles for which WEIGHT looks at an instruction before it can start.
LOOK_AHEAD = 2
_NEVER = -(1 << 40)


def accumulate_cycle(config: Config, launch: int) -> int:
    """The cycle in which column 0 reads the entry of the vector launched in cycle `launch`."""
    return launch + ENTRY + config.rows


def done_cycle(config: Config, launch: int) -> int:
    """The cycle in which the last column writes the entry of the vector launched in `launch`."""
    return accumulate_cycle(config, launch) + config.cols + 2


class MatmulTimes(NamedTuple):
    """Cycles of one MATMUL instruction's events.

    Parameters
    ----------
    weight_start, weight_done
        `ready` and `done` of the WEIGHT part.
    start, done
        `ready` and `done` of the MATMUL part.
    before
        Decision on the last tile of the instruction before.
    decided, launched
        The last tile's decision, and the last vector's launch.
    stalled
        `stall` of the WEIGHT part is up in cycle `decided`.
    tiles
        All tiles, in runs at even distances. Of each run: decision and launch of the first tile,
        how many there are, and cycles from each to the next.
    vectors
        Vectors in a tile.
    weight_stalls, stalls
        Cycles in which `stall` is up for this instruction.
    """

    weight_start: int
    weight_done: int
    start: int
    done: int
    before: int
    decided: int
    launched: int
    stalled: bool
    tiles: list[int]
    vectors: int
    weight_stalls: int
    stalls: int

    @property
    def streamed(self) -> int:
        """Vectors in all."""
        return self.launched - self.start - self.stalls

    @property
    def decisions(self) -> np.ndarray:
        """For each tile: the decision to load it, int64.

        Row p of it (counted from the last) is read from WGT in cycle
        ``decision + DECIDE_STAGES + p``.
        """
        return self._times(0)

    @property
    def launches(self) -> np.ndarray:
        """For each tile: launch of its first vector, int64.

        Vector m is read from ACT in cycle ``launch + LAUNCH_STAGES + m``.
        """
        return self._times(1)

    def _times(self, which: int) -> np.ndarray:
        runs = np.array(self.tiles, np.int64).reshape(-1, 4)
        count = runs[:, 2]
        number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(runs[:, which], count) + number * np.repeat(runs[:, 3], count)

    def weight_waits(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """WEIGHT's stalls as intervals: for each tile the cycles after `since` up to `until`."""
        until = self.decisions
        since = np.maximum(np.append(self.before, until[:-1]) + rows, self.weight_start)
        return np.minimum(since, until), until

    def waits(self) -> tuple[np.ndarray, np.ndarray]:
        """MATMUL's stalls as intervals: for each tile the cycles after `since` up to `until`."""
        launches = self.launches
        since = np.append(self.start, launches[:-1] + self.vectors - 1)
        return since, launches - 1


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
        fields, config = instruction.fields, self._config
        rows, depth = config.rows, config.acc_depth
        vectors = fields["oy"] * fields["ox"]
        per_block = -(-fields["ky"] * fields["kx"] * fields["kc"] // rows)
        count = per_block * fields["blocks"]
        acc, accumulate = fields["acc"], fields["accumulate"]

        weight_head = max(weight_valid, self._weight_start + 1)
        weight_start = max(weight_head + LOOK_AHEAD, weight_go, self._decision)
        head = max(valid, self._start + 1)

        before = decision = self._decision
        planned = max(head, self._planned)  # lane 0 is planned in the next cycle or later
        taken, first, last = self._taken, self._first_launch, self._last_launch
        last_entry, last_vectors = self._last_entry, self._vectors
        weight_stalls, start, stall = 0, go, 0
        tiles: list[int] = []
        tile = 0
        while tile < count:
            old = decision, planned, taken, first, last
            decision = max(weight_start + 1, decision + 1, first + OFFSET)
            stall = max(0, decision - max(old[0] + rows, weight_start))
            weight_stalls += stall
            planned = max(planned + 1, taken) + rows - 1
            taken = max(planned + 1, last)
            if tile == 0:
                taken = start = max(taken, go, head)
            in_block = tile % per_block
            entry = (acc + tile // per_block * vectors) % depth
            first = max(taken + 1, decision + rows - OFFSET)
            if in_block or accumulate:
                behind = (last_entry - entry) % depth
                if behind < last_vectors:
                    first = max(first, last - behind + RMW_LATENCY)
            tiles += (decision, first, 1, 0)
            last = first + vectors - 1
            last_entry, last_vectors = (entry + vectors - 1) % depth, vectors
            tile += 1

            # The block's other tiles follow the rule of this one.
            more = per_block - 1 - in_block
            step = first - old[3]
            if (
                in_block
                and more
                and (decision - old[0], planned - old[1], taken - old[2], last - old[4])
                == (step, step, step, step)
            ):
                tiles += (decision + step, first + step, more, step)
                skipped = more * step
                decision, planned, taken = decision + skipped, planned + skipped, taken + skipped
                first, last = first + skipped, last + skipped
                stall = max(0, step - rows)
                weight_stalls += more * stall
                tile += more

        self._weight_start, self._start = weight_start, start
        self._decision, self._taken, self._planned = decision, taken, planned
        self._first_launch, self._last_launch = first, last
        self._last_entry, self._vectors = last_entry, last_vectors
        return MatmulTimes(
            weight_start=weight_start,
            weight_done=decision + rows,
            start=start,
            done=done_cycle(config, last),
            before=before,
            decided=decision,
            launched=last,
            stalled=stall > 0,
            tiles=tiles,
            vectors=vectors,
            weight_stalls=weight_stalls,
            stalls=last - start - count * vectors,
        )


def weight_history(
    instructions: list[int],
    starts: list[int],
    dones: list[int],
    late: list[tuple[int, int, int, int]],
    matmuls: list[MatmulTimes],
    rows: int,
) -> TileHistory:
    """The history of WEIGHT, whose parts of the instructions have the times `matmuls`."""
    # The cycle of a start counts as busy, even while the tile before waits for the array.
    nexts = [*starts[1:], _NEVER]
    cuts = [
        int(times.stalled and times.decided == start)
        for times, start in zip(matmuls, nexts, strict=False)
    ]

    def spans(n: int) -> tuple[np.ndarray, np.ndarray]:
        since, until = matmuls[n].weight_waits(rows)
        until[-1] -= cuts[n]
        return since, until

    stalls = [times.weight_stalls - cut for times, cut in zip(matmuls, cuts, strict=True)]
    ends = [times.decided for times in matmuls]
    return TileHistory(instructions, starts, dones, late, stalls, ends, spans)


def matmul_history(
    instructions: list[int],
    starts: list[int],
    dones: list[int],
    late: list[tuple[int, int, int, int]],
    matmuls: list[MatmulTimes],
) -> TileHistory:
    """The history of MATMUL, whose parts of the instructions have the times `matmuls`."""
    stalls = [times.stalls for times in matmuls]
    ends = [times.launched for times in matmuls]
    return TileHistory(
        instructions, starts, dones, late, stalls, ends, lambda n: matmuls[n].waits()
    )
