"""How an operation is cut: the cheapest tiles whose buffers fit beside what lives on chip."""

from __future__ import annotations

from dataclasses import replace
from math import gcd, lcm
from typing import TYPE_CHECKING

from .emit import transposed_pitch
from .geometry import stage_depth
from .matmul import columns, heads
from .placement import find, find_groups
from .plan import Buffers, OpPlan
from .tiling import blocks
from .views import window_pitch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...hdl.config import Config
    from ..batch import Batch
    from ..fuse import Op
    from ..ir import MatMul
    from .cost import Costs
    from .geometry import Tile
    from .lifetimes import Lifetimes
    from .plan import Plan

#: How much longer an operation takes whose buffers share banks, about.
_SHARED = 1.15
#: How much longer an operation takes that stores from banks in which rows wait to be pooled, about.
_STORED = 1.02


class Cutter:
    """Cuts the operations of a batch for a machine."""

    def __init__(self, batch: Batch, config: Config, lifetimes: Lifetimes, costs: Costs):
        self._graph = batch.one
        self._config = config
        self._lifetimes = lifetimes
        self._costs = costs
        self._cuts: dict[tuple, OpPlan | None] = {}

    def cut(self, op: Op, result: Plan, taken: list[tuple[int, int]]) -> OpPlan | None:
        """The cheapest way to cut `op` that fits beside what is `taken`."""
        there = tuple(name in result.homes for name in (*op.inputs, op.output))
        key = op.name, there, tuple(sorted(taken))
        if key not in self._cuts:
            self._cuts[key] = self._search(op, result, taken)
        return self._cuts[key]

    def _search(self, op: Op, result: Plan, taken: list[tuple[int, int]]) -> OpPlan | None:
        if op.matmul is not None:
            return self._fit_product(op, op.matmul, result, taken)
        best: OpPlan | None = None
        for height, width, depth in self._shapes(op, result):
            cuts = self._costs.tiles(op, height, width)
            cost = self._costs.cycles(op, result.homes, cuts, depth)
            if best is None or cost < best.cost:
                best = (
                    self._fit(op, result, taken, cuts, OpPlan(height, width, depth, cost)) or best
                )
        return best

    def _shapes(self, op: Op, result: Plan) -> Iterator[tuple[int, int, int]]:
        """Sizes of tiles worth trying, large ones first."""
        graph, config = self._costs.graph(op), self._config
        out = graph.tensors[op.output]
        if not any(name in result.homes for name in (*op.inputs, op.output)) and not op.staged:
            yield out.height, out.width, out.channels
            return
        rows = _parts(out.height)
        depths = [out.channels]
        if op.output in result.homes or op.residual in result.homes:
            depths += self._depths(op)
        if op.staged:
            assert op.conv is not None
            assert op.pool is not None
            conv = graph.tensors[op.conv.output]
            most = config.acc_half // conv.width
            stride, overlap = op.pool.stride[0], op.pool.kernel[0] - op.pool.stride[0]
            rows = [
                h
                for h in rows
                if h * stride + overlap <= most and (h * stride >= overlap or h == out.height)
            ]
        for height in rows:
            for depth in depths:
                yield height, out.width, depth
        if op.staged:
            return
        align = config.bus_bytes // gcd(config.bus_bytes, out.channels)
        if op.output in result.homes and result.homes[op.output].channel_pitch > 1:
            align = config.bus_bytes
        parts = _parts(out.width) if out.height == 1 else _halves(out.width)
        for width in dict.fromkeys(-(-part // align) * align for part in parts):
            if width < out.width:
                for depth in dict.fromkeys((depths[0], *depths[-2:])):
                    yield 1, width, depth

    def _fit_product(
        self, op: Op, node: MatMul, result: Plan, taken: list[tuple[int, int]]
    ) -> OpPlan | None:
        """A product of activations, cut to as many pixels of a head as fit."""
        config, graph = self._config, self._graph
        bus = config.bus_bytes
        homes = [result.homes[name] for name in (op.input, op.output) if name in result.homes]
        align = lcm(*(bus // gcd(bus, home.pixel_pitch) for home in homes))
        widths = [-(-part // align) * align for part in _parts(graph.tensors[op.input].width)]
        for width in dict.fromkeys(widths):
            parts = heads(node, graph, width)
            roles = {
                "source": (op.input, [part.source for part in parts]),
                "target": (op.output, [part.target for part in parts]),
            }
            sizes = {
                role: max(box.width * box.depth for box in boxes)
                for role, (name, boxes) in roles.items()
                if name in result.homes
            }
            sizes = {r: -(-n // config.act_lanes) * config.act_lanes for r, n in sizes.items()}
            places = find(taken, [2 * size for size in sizes.values()], config)
            if places is None:
                continue
            buffers = {
                role: Buffers(base, size, 2)
                for (role, size), base in zip(sizes.items(), places, strict=True)
            }
            cost = sum(
                -(-part.reduction // config.rows)
                * -(-part.target.depth // columns(config))
                * max(part.source.width, config.rows)
                for part in parts
            )
            return OpPlan(1, width, 0, cost, cost, buffers.get("source"), None,
                          buffers.get("target"))  # fmt: skip
        return None

    def _depths(self, op: Op) -> list[int]:
        """Numbers of output channels, fewer than all, that can be worked on by themselves."""
        config, out = self._config, self._costs.graph(op).tensors[op.output]
        if op.conv is None or out.channels % config.bus_bytes:
            return []
        if op.staged and stage_depth(self._costs.tiles(op, 1, out.width), config) > config.cols:
            return []
        step = lcm(config.cols, config.bus_bytes)
        ends = [(b.first, b.first + b.count - 1) for b in blocks(op.conv, config)]
        return [
            d
            for d in (8 * step, 4 * step, 2 * step, step)
            if d < out.channels and all(first // d == last // d for first, last in ends)
        ]

    def _fit(
        self,
        op: Op,
        result: Plan,
        taken: list[tuple[int, int]],
        cuts: list[Tile],
        cut: OpPlan,
    ) -> OpPlan | None:
        """This cut with its buffers, if they fit."""
        config, graph = self._config, self._costs.graph(op)
        depth = cut.depth
        out = graph.tensors[op.output]
        turns = min(len(cuts) * -(-out.channels // depth), 2)
        sizes: dict[str, int] = {}
        if op.input in result.homes:
            windows = [
                t.source.height * window_pitch(op, self._graph, t.source.width, config)
                for t in cuts
            ]
            sizes["source"] = max(windows) + self._lifetimes.slack(op.input)
        for name, role in ((op.residual, "residual"), (op.output, "target")):
            if name is not None and name in result.homes:
                boxes = [t.conv if role == "residual" else t.out for t in cuts]
                area = max(b.height * b.width for b in boxes)
                if result.homes[name].channel_pitch > 1:
                    area = transposed_pitch(area, config)
                sizes[role] = area * min(depth, out.channels)
        if op.staged:
            stage = max(t.stage.height * t.stage.width for t in cuts)
            sizes["stage"] = stage * stage_depth(cuts, config)
        lanes = config.act_lanes
        sizes = {role: -(-size // lanes) * lanes for role, size in sizes.items()}
        pairs = {
            "source": min(len(cuts), 2),
            "residual": turns,
            "target": turns,
            "stage": 1,
        }
        single = pairs | {"source": 1}
        waits = cut.cost + self._costs.loads(op, cuts) if op.input in result.homes else cut.cost
        apart = [[role] for role in sizes]
        vector = [["stage", "target"], *([r] for r in sizes if r not in ("stage", "target"))]
        ways = [
            (pairs, cut.cost, apart, True),
            (
                single,
                waits,
                apart,
                True,
            ),  # one buffer is filled while nothing happens
            (pairs, int(cut.cost * _SHARED), apart, False),
            (single, int(waits * _SHARED), apart, False),
        ]
        if "stage" in sizes and "target" in sizes:  # the vector unit's may share banks
            ways.insert(1, (pairs, int(cut.cost * _STORED), vector, True))
        found = next(
            (
                (counts, cost, places)
                for counts, cost, groups, fresh in ways
                if (places := find_groups(taken, {r: sizes[r] * counts[r] for r in sizes}, groups,
                                     config, fresh=fresh)) is not None
            ),
            None,
        )  # fmt: skip
        if found is None:
            return None
        counts, cost, places = found
        buffers = {role: Buffers(base, sizes[role], counts[role]) for role, base in places.items()}
        return replace(
            cut,
            cost=cost,
            source=buffers.get("source"), residual=buffers.get("residual"),
            target=buffers.get("target"),
            stage=buffers["stage"].base if "stage" in buffers else 0, ideal=self._costs.ideal(op),
        )  # fmt: skip


def _halves(size: int) -> list[int]:
    """⌈size / 2⌉, ⌈size / 4⌉, … 1."""
    out = []
    while size > 1:
        size = -(-size // 2)
        out.append(size)
    return out


def _parts(size: int) -> list[int]:
    """⌈size / n⌉ for n = 1, 2, …, each once."""
    out: list[int] = []
    n = 1
    while True:
        part = -(-size // n)
        if not out or part != out[-1]:
            out.append(part)
        if part == 1:
            return out
        n = max(n + 1, -(-size // max(1, part - 1)))
