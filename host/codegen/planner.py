"""Plans a network: a tensor stays in ACT for as long as it lives if there is room beside what it
lives with; else its home is DRAM, and the operations that read or write it pass it through ACT in
tiles, two buffers in turn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...hdl.isa import Segment
from ..errors import CompileError
from .cost import Costs
from .cuts import Cutter
from .lifetimes import Lifetimes
from .placement import find
from .plan import OpPlan, Plan
from .views import Home, View, dram_pitch, whole

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..batch import Batch
    from ..fuse import Op

#: How much longer than its ideal an operation may take before other plans are tried.
_WORSE = 1.02


class _NoRoom(Exception):
    """An operation that finds no room beside what lives on chip."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


def plan(batch: Batch, ops: tuple[Op, ...], config: Config) -> Plan:
    """Plan the operations of `batch`.

    Raises
    ------
    CompileError
        An operation does not fit this machine, however it is cut.
    """
    planner = _Planner(batch, ops, config)
    return planner.improve(planner.feasible(planner.lifetimes.in_dram()))


class _Planner:
    """Tries homes for tensors."""

    def __init__(self, batch: Batch, ops: tuple[Op, ...], config: Config):
        self._batch = batch
        self._graph = batch.one
        self._ops = ops
        self._config = config
        self.lifetimes = Lifetimes(batch, ops, config)
        self._cutter = Cutter(batch, config, self.lifetimes, Costs(batch, config))

    def feasible(self, in_dram: set[str]) -> Plan:
        """The first plan that fits, with the largest tensors sent to DRAM where room is short."""
        while True:
            try:
                return self.attempt(in_dram)
            except _NoRoom as failure:
                alive = self.lifetimes.alive(failure.step, in_dram)
                if not alive:
                    raise CompileError(
                        f"{self._ops[failure.step].name}: one row of its output with the inputs it "
                        f"needs does not fit the activation scratchpad of {self._config.act_bytes} "
                        "bytes; choose a larger act_bytes"
                    ) from None
                in_dram = in_dram | {alive[0]}

    def improve(self, best: Plan) -> Plan:
        """Send a tensor to DRAM wherever the room that it leaves gains more than its transfers."""
        for step in range(len(self._ops)):
            while best.ops[step].cost > best.ops[step].ideal * _WORSE:
                homes = {root for root in self.lifetimes.births if root in best.homes}
                trials = [
                    self.feasible({*homes, name}) for name in self.lifetimes.alive(step, homes)
                ]
                trial = min(trials, key=lambda plan: plan.cost, default=best)
                if trial.cost >= best.cost:
                    break
                best = trial
        return best

    def attempt(self, in_dram: set[str]) -> Plan:
        """A plan in which the roots of `in_dram`, and no others, live in DRAM."""
        result = Plan(self._batch)
        for root in self.lifetimes.births:
            if root in in_dram:
                self._settle(root, result)
        for step, op in enumerate(self._ops):
            if op.on_host:
                result.ops.append(OpPlan(0, 0, 0, 0))
                continue
            taken = [
                self._extent(view)
                for name, view in result.views.items()
                if self.lifetimes.roots[name][0] == name and self.lifetimes.deaths[name] >= step
            ]
            born = [root for root in self.lifetimes.births if self.lifetimes.births[root] == step]
            for root in born:
                if root in in_dram:
                    continue
                view = self._keep(op, root, step, result, taken)
                if view is None:
                    raise _NoRoom(step)
                taken.append(self._extent(view))
                graph = self._batch.stacked if root in self.lifetimes.stacked else self._graph
                for name, channel in self.lifetimes.members(root):
                    tensor = graph.tensors[name]
                    result.views[name] = replace(
                        view, tensor=tensor, box=whole(tensor), origin=view.origin + channel
                    )
            chosen = self._cutter.cut(op, result, taken)
            if chosen is None:
                raise _NoRoom(step)
            result.ops.append(replace(chosen, times=1 if op.joint else self._batch.images))
        return result

    def _extent(self, view: View) -> tuple[int, int]:
        start, end = view.span(view.box.rows)
        return start, end + self.lifetimes.slack(view.tensor.name)

    def _settle(self, root: str, result: Plan) -> None:
        """Give `root` and what is part of it homes in DRAM, for all images."""
        tensor, config = self._batch.stacked.tensors[root], self._config
        segment, offset = Segment.SCRATCH, result.scratch_bytes
        if root in (self._graph.input, self._graph.output):
            segment = Segment.INPUT if root == self._graph.input else Segment.OUTPUT
            offset = 0
        if root in self.lifetimes.transposed:
            pitch = dram_pitch(tensor.width, config)
            home = Home(tensor, segment, offset, tensor.channels * pitch, 1, pitch)
        else:
            pitch = dram_pitch(tensor.width * tensor.channels, config)
            home = Home(tensor, segment, offset, pitch, tensor.channels)
        if segment == Segment.SCRATCH:
            result.scratch_bytes += home.bytes
        for name, channel in self.lifetimes.members(root):
            part = self._batch.stacked.tensors[name]
            result.homes[name] = replace(home, tensor=part, offset=offset + channel)

    def _keep(
        self, op: Op, root: str, step: int, result: Plan, taken: list[tuple[int, int]]
    ) -> View | None:
        """A place in ACT for `root`, which `op` writes: over its residual if that dies here."""
        tensor = self.lifetimes.stored(root)
        pitch = self.lifetimes.pitch(tensor, tensor.width)
        other = result.views.get(op.residual or "")
        if (
            other is not None
            and root == op.output
            and op.residual != op.input
            and len(op.nodes) == 1
            and self.lifetimes.roots[op.residual or ""][0] == op.residual
            and self.lifetimes.deaths[op.residual or ""] == step
            and (other.row_pitch, other.pixel_pitch) == (pitch, tensor.channels)
        ):
            return replace(other, tensor=tensor, box=whole(tensor))
        base = find(taken, [self.lifetimes.size(root)], self._config)
        if base is None:
            return None
        return View.at(base[0], tensor, whole(tensor), pitch, tensor.channels)
