"""Where every tensor lives, and how every operation is cut to fit on chip.

A tensor stays in ACT for as long as it lives if there is room beside what it lives with; else its
home is DRAM, and the operations that read or write it pass it through ACT in tiles, two buffers in
turn. Tiles are chosen by estimated time: array, bus and vector unit work side by side, and the
slowest of them counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import gcd, lcm
from typing import TYPE_CHECKING

from ...hdl.isa import Segment
from ...hdl.write_engine import WRITE_BURSTS, write_burst_beats
from ..batch import regions
from ..errors import CompileError
from ..ir import Concat
from .emit import transposed_pitch
from .geometry import tiles
from .matmul import columns, heads
from .tiling import blocks, chunks, most_chunk
from .views import Home, View, dram_pitch, readers, row_pitch, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...hdl.config import Config
    from ..batch import Batch
    from ..fuse import Op
    from ..ir import Conv, Graph, MatMul, Tensor
    from .geometry import Tile

#: Cycles that a vector instruction spends beside its elements, about.
VECTOR_OVERHEAD = 24
#: Cycles that a tile's last results take until they are stored, about.
_TAIL = 200
#: How much longer than its ideal an operation may take before other plans are tried.
_WORSE = 1.02
#: How much longer an operation takes whose buffers share banks, about.
_SHARED = 1.15
#: How much longer an operation takes that stores from banks in which rows wait to be pooled, about.
_STORED = 1.02
#: Cycles that a tile costs beside its work, about.
_PER_TILE = 20
#: Cycles that a store costs beside its beats, about, for the array.
_PER_STORE = 2
#: Latency up to which short write bursts, of which WRITE_BURSTS are under way, cost nothing.
_LATENCY = 100


@dataclass(frozen=True)
class Buffers:
    """A place in ACT through which a tensor passes in tiles: `count` buffers of `size` bytes."""

    base: int
    size: int
    count: int

    @property
    def end(self) -> int:
        """The byte after the last buffer."""
        return self.base + self.size * self.count


@dataclass(frozen=True)
class OpPlan:
    """How one operation is cut.

    Attributes
    ----------
    height, width
        Output rows and columns of a tile.
    depth
        Output channels that are worked on together, for tensors that pass through ACT.
    cost, ideal
        About how many cycles it takes, and how many if it were not cut.
    source, residual, target
        Where the tiles of inputs and output pass through ACT; None where they live there.
    stage
        Address of the rows that a staged pool reads.
    times
        How often it runs: once for each image of a batch, unless for all at once.
    """

    height: int
    width: int
    depth: int
    cost: int
    ideal: int = 0
    source: Buffers | None = None
    residual: Buffers | None = None
    target: Buffers | None = None
    stage: int = 0
    times: int = 1


@dataclass
class Plan:
    """Homes in DRAM, views in ACT, and a plan for each operation.

    Homes are those of all images of the batch, stacked; so are views of tensors that outlive an
    image's turn.
    """

    batch: Batch
    homes: dict[str, Home] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    ops: list[OpPlan] = field(default_factory=list)
    scratch_bytes: int = 0

    @property
    def cost(self) -> int:
        """About how many cycles all of them take."""
        return sum(op.cost * op.times for op in self.ops)

    def home(self, name: str, image: int | None) -> Home:
        """The home of an image's tensor, or with None of all images'."""
        return self.part(self.homes[name], image)

    def part(self, home: Home, image: int | None) -> Home:
        """An image's part of a home of all of them, or with None all of it."""
        if image is None:
            return home
        tensor = self.batch.one.tensors[home.tensor.name]
        offset = home.offset + image * tensor.height * home.row_pitch
        return replace(home, tensor=tensor, offset=offset)

    def view(self, name: str, image: int | None) -> View:
        """The view of an image's tensor, or with None of all images'."""
        view, tensor = self.views[name], self.batch.one.tensors[name]
        if image is None or view.tensor.height == tensor.height:
            return view
        origin = view.origin + image * tensor.height * view.row_pitch
        return replace(view, tensor=tensor, box=whole(tensor), origin=origin)


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
    return planner.improve(planner.feasible(planner.in_dram()))


class _Planner:
    """Tensors that are concatenated live in the map that they become part of, their root.

    A root is stacked, so that it holds all images of the batch, if it outlives an image's turn: if
    operations of several regions touch it, or one that takes all images at once.
    """

    def __init__(self, batch: Batch, ops: tuple[Op, ...], config: Config):
        graph = batch.one
        self._batch = batch
        self._graph = graph
        self._ops = ops
        self._config = config
        self._roots = roots(graph, ops)
        self._transposed = {
            op.matmul.other for op in ops if op.matmul is not None and op.matmul.transposed
        }
        births: dict[str, int] = {graph.input: -1}
        deaths: dict[str, int] = {graph.output: len(ops)}
        for step, op in enumerate(ops):
            births.setdefault(op.output, step)
            for name in op.inputs:
                deaths[name] = step
        self.births: dict[str, int] = {}
        self.deaths: dict[str, int] = {}
        for name, (root, _) in self._roots.items():
            birth = births.get(name, len(ops))
            self.births[root] = min(self.births.get(root, birth), birth)
            death = max(deaths.get(name, -1), birth if name in births else -1)
            self.deaths[root] = max(self.deaths.get(root, -1), death)
        self._stacked = self._stack() if batch.images > 1 else set[str]()
        self._pinned = {root for root in self.births if not self._on_beats(root)}
        self._tile_costs: dict[tuple[str, int, int], tuple[int, int, int, int]] = {}
        self._block_counts: dict[str, Counter[tuple[int, int]]] = {}
        self._ideals: dict[str, int] = {}
        self._slacks: dict[str, int] = {}
        self._tilings: dict[tuple[str, int, int], list[Tile]] = {}
        self._cuts: dict[tuple, OpPlan | None] = {}

    def _stack(self) -> set[str]:
        """The stacked roots; they live from the begin of a region to the end of one."""
        ends = {self._roots[name][0] for name in (self._graph.input, self._graph.output)}
        region_of = {step: region for region in regions(self._ops) for step in region}
        touched: dict[str, set[range]] = {root: set() for root in self.births}
        joint = set[str]()
        for step, op in enumerate(self._ops):
            for name in (*op.inputs, op.output):
                root = self._roots[name][0]
                touched[root].add(region_of[step])
                joint |= {root} if op.joint else set()
        stacked = {root for root in self.births if len(touched[root]) > 1} | joint | ends
        for root in stacked:
            if self.births[root] in region_of:
                self.births[root] = region_of[self.births[root]].start
            if self.deaths[root] in region_of:
                self.deaths[root] = region_of[self.deaths[root]].stop - 1
        return stacked

    def _stored(self, root: str) -> Tensor:
        """`root` as it lies in ACT."""
        return (self._batch.stacked if root in self._stacked else self._graph).tensors[root]

    def _of(self, op: Op) -> Graph:
        """The graph with the tensors that `op` works on."""
        return self._batch.graph(op.nodes[0].name)

    def _on_beats(self, root: str) -> bool:
        """Whether the parts of `root`, if it has any, lie on bus beats, so that it can in DRAM."""
        members, bus = self._members(root), self._config.bus_bytes
        return len(members) == 1 or not any(
            channel % bus or self._graph.tensors[name].channels % bus for name, channel in members
        )

    def in_dram(self) -> set[str]:
        """The roots that live in DRAM in any case: the network's ends, what the host or a product
        of activations reads there, what must outlive a run of the machine, what is too large.
        """
        graph = self._graph
        names = {graph.input, graph.output}
        for step, op in enumerate(self._ops):
            if op.matmul is not None:
                names.add(op.matmul.other)
            if op.on_host:
                names |= {*op.inputs, op.output}
                names |= {n for n in self.births if self.births[n] < step < self.deaths[n]}
        half = self._config.act_bytes // 2
        names |= {n for n in self.births if self.size(n) > half}
        return {self._roots[name][0] for name in names} - self._pinned

    def size(self, root: str) -> int:
        """Bytes of a root kept in ACT."""
        tensor = self._stored(root)
        return tensor.height * self._pitch(tensor, tensor.width) + self._slack(root)

    def _slack(self, name: str) -> int:
        """Bytes behind a tensor that windows may read besides, where reductions are rounded up."""
        if name not in self._slacks:
            rounded = any(
                part.inner_count % self._config.rows
                for node in readers(name, self._graph)
                if node.weight[0, :, :, 0].size > 1
                for part in blocks(node, self._config)
            )
            self._slacks[name] = self._config.rows if rounded else 0
        return self._slacks[name]

    def _pitch(self, tensor: Tensor, width: int) -> int:
        nodes = readers(tensor.name, self._graph)
        return row_pitch(width * tensor.channels, tensor.channels, nodes, self._config)

    def _alive(self, step: int, in_dram: set[str]) -> list[str]:
        """The tensors that live on chip during an operation, largest first."""
        names = [
            name
            for name in self.births
            if self.births[name] <= step <= self.deaths[name] and name not in in_dram | self._pinned
        ]
        return sorted(names, key=lambda name: -self.size(name))

    def feasible(self, in_dram: set[str]) -> Plan:
        """The first plan that fits, with the largest tensors sent to DRAM where room is short."""
        while True:
            try:
                return self.attempt(in_dram)
            except _NoRoom as failure:
                alive = self._alive(failure.step, in_dram)
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
                homes = {root for root in self.births if root in best.homes}
                trials = [self.feasible({*homes, name}) for name in self._alive(step, homes)]
                trial = min(trials, key=lambda plan: plan.cost, default=best)
                if trial.cost >= best.cost:
                    break
                best = trial
        return best

    def attempt(self, in_dram: set[str]) -> Plan:
        """A plan in which the roots of `in_dram`, and no others, live in DRAM."""
        result = Plan(self._batch)
        for root in self.births:
            if root in in_dram:
                self._settle(root, result)
        for step, op in enumerate(self._ops):
            if op.on_host:
                result.ops.append(OpPlan(0, 0, 0, 0))
                continue
            taken = [
                self._extent(view)
                for name, view in result.views.items()
                if self._roots[name][0] == name and self.deaths[name] >= step
            ]
            born = [root for root in self.births if self.births[root] == step]
            for root in born:
                if root in in_dram:
                    continue
                view = self._keep(op, root, step, result, taken)
                if view is None:
                    raise _NoRoom(step)
                taken.append(self._extent(view))
                graph = self._batch.stacked if root in self._stacked else self._graph
                for name, channel in self._members(root):
                    tensor = graph.tensors[name]
                    result.views[name] = replace(
                        view, tensor=tensor, box=whole(tensor), origin=view.origin + channel
                    )
            chosen = self._cut(op, result, taken)
            if chosen is None:
                raise _NoRoom(step)
            result.ops.append(replace(chosen, times=1 if op.joint else self._batch.images))
        return result

    def _extent(self, view: View) -> tuple[int, int]:
        start, end = view.span(view.box.rows)
        return start, end + self._slack(view.tensor.name)

    def _members(self, root: str) -> list[tuple[str, int]]:
        """The tensors that live in `root`, itself among them, and their first channels."""
        return [(name, c) for name, (other, c) in self._roots.items() if other == root]

    def _settle(self, root: str, result: Plan) -> None:
        """Give `root` and what is part of it homes in DRAM, for all images."""
        tensor, config = self._batch.stacked.tensors[root], self._config
        segment, offset = Segment.SCRATCH, result.scratch_bytes
        if root in (self._graph.input, self._graph.output):
            segment = Segment.INPUT if root == self._graph.input else Segment.OUTPUT
            offset = 0
        if root in self._transposed:
            pitch = dram_pitch(tensor.width, config)
            home = Home(tensor, segment, offset, tensor.channels * pitch, 1, pitch)
        else:
            pitch = dram_pitch(tensor.width * tensor.channels, config)
            home = Home(tensor, segment, offset, pitch, tensor.channels)
        if segment == Segment.SCRATCH:
            result.scratch_bytes += home.bytes
        for name, channel in self._members(root):
            part = self._batch.stacked.tensors[name]
            result.homes[name] = replace(home, tensor=part, offset=offset + channel)

    def _keep(
        self, op: Op, root: str, step: int, result: Plan, taken: list[tuple[int, int]]
    ) -> View | None:
        """A place in ACT for `root`, which `op` writes: over its residual if that dies here."""
        tensor = self._stored(root)
        pitch = self._pitch(tensor, tensor.width)
        other = result.views.get(op.residual or "")
        if (
            other is not None
            and root == op.output
            and op.residual != op.input
            and len(op.nodes) == 1
            and self._roots[op.residual or ""][0] == op.residual
            and self.deaths[op.residual or ""] == step
            and (other.row_pitch, other.pixel_pitch) == (pitch, tensor.channels)
        ):
            return replace(other, tensor=tensor, box=whole(tensor))
        base = find(taken, [self.size(root)], self._config)
        if base is None:
            return None
        return View.at(base[0], tensor, whole(tensor), pitch, tensor.channels)

    # -- tiles ---------------------------------------------------------------------------------

    def _cut(self, op: Op, result: Plan, taken: list[tuple[int, int]]) -> OpPlan | None:
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
            cuts = self._tiles(op, height, width)
            cost = self._cost(op, result.homes, cuts, depth)
            if best is None or cost < best.cost:
                best = (
                    self._fit(op, result, taken, cuts, OpPlan(height, width, depth, cost)) or best
                )
        return best

    def _tiles(self, op: Op, height: int, width: int) -> list[Tile]:
        key = op.name, height, width
        if key not in self._tilings:
            cuts = tiles(op, self._of(op), height, width, self._config.bus_bytes)
            self._tilings[key] = cuts
        return self._tilings[key]

    def _shapes(self, op: Op, result: Plan) -> Iterator[tuple[int, int, int]]:
        """Sizes of tiles worth trying, large ones first."""
        graph, config = self._of(op), self._config
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
        config, out = self._config, self._of(op).tensors[op.output]
        if op.conv is None or out.channels % config.bus_bytes:
            return []
        if op.staged and stage_depth(self._tiles(op, 1, out.width), config) > config.cols:
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
        config, graph = self._config, self._of(op)
        depth = cut.depth
        out = graph.tensors[op.output]
        turns = min(len(cuts) * -(-out.channels // depth), 2)
        sizes: dict[str, int] = {}
        if op.input in result.homes:
            windows = [t.source.height * self.window_pitch(op, t.source.width) for t in cuts]
            sizes["source"] = max(windows) + self._slack(op.input)
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
        waits = cut.cost + self._loads(op, cuts) if op.input in result.homes else cut.cost
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
                if (places := _place(taken, {r: sizes[r] * counts[r] for r in sizes}, groups,
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
            stage=buffers["stage"].base if "stage" in buffers else 0, ideal=self._ideal(op),
        )  # fmt: skip

    def window_pitch(self, op: Op, width: int) -> int:
        """Row pitch of a tile of `width` input columns."""
        return window_pitch(op, self._graph, width, self._config)

    def _ideal(self, op: Op) -> int:
        if op.name not in self._ideals:
            out = self._of(op).tensors[op.output]
            one = self._tiles(op, out.height, out.width)
            self._ideals[op.name] = self._cost(op, {}, one, out.channels)
        return self._ideals[op.name]

    def _cost(self, op: Op, homes: dict[str, Home], cuts: list[Tile], depth: int) -> int:
        """About how many cycles `op` takes, cut like this."""
        config, graph = self._config, self._of(op)
        bus = config.bus_bytes
        out = graph.tensors[op.output]
        loads = stores = vector = array = startup = 0
        if op.input in homes:
            loads = self._loads(op, cuts)
        if op.pool is not None and (op.conv is None or op.staged):
            lanes = -(-out.channels // config.vector_lanes)
            taps = op.pool.kernel[0] * op.pool.kernel[1]
            vector += lanes * out.height * out.width * taps + len(cuts) * VECTOR_OVERHEAD
        if op.conv is not None:
            channels = graph.tensors[op.conv.output].channels
            for index, tile in enumerate(cuts):
                size = tile.conv.height, tile.conv.width
                a, v, weights, pieces = self._tile_cost(op, *size)
                array, vector = array + a, vector + v
                if index == 0:
                    startup = loads // (len(cuts) * pieces)
                if index == 0 or weights > config.wgt_rows * 3 // 4:
                    loads += weights * config.wgt_row_bytes // bus
                if op.residual in homes:
                    loads += size[0] * size[1] * channels // bus
        if op.output in homes:
            stores = self._stores(out, homes[op.output], min(depth, out.channels))
        steady = max(array, loads, stores, vector)
        groups = -(-out.channels // depth)
        if op.output == graph.output:  # nothing hides the last transfer
            startup += stores // (len(cuts) * groups)
        return steady + startup + len(cuts) * (_PER_TILE + groups * _PER_STORE) + _TAIL

    def _loads(self, op: Op, cuts: list[Tile]) -> int:
        """Bus beats of the input windows."""
        channels = self._graph.tensors[op.input].channels
        return sum(
            t.source.height * -(-t.source.width * channels // self._config.bus_bytes) for t in cuts
        )

    def _stores(self, map_: Tensor, home: Home, depth: int) -> int:
        """Cycles of writing a map, `depth` channels of each pixel together."""
        config = self._config
        pixels = map_.height * map_.width
        beats = pixels * map_.channels // config.bus_bytes
        if home.channel_pitch > 1 or depth == home.pixel_pitch:
            return beats
        most = write_burst_beats(config) * config.bus_bytes
        bursts = pixels * -(-map_.channels // depth) * -(-depth // most)
        return max(beats, bursts * _LATENCY // WRITE_BURSTS)

    def _tile_cost(self, op: Op, height: int, width: int) -> tuple[int, int, int, int]:
        """Cycles of array and vector unit for a tile of convolution outputs; the weight rows that
        it needs, and in how many chunks it is worked on.
        """
        key = op.name, height, width
        if key in self._tile_costs:
            return self._tile_costs[key]
        config, conv, (down, across) = self._config, op.conv, op.windows
        assert conv is not None
        cut = chunks(
            down.fit(height), across.fit(width), op.windows, most_chunk(conv), config,
            whole=op.staged,
        )  # fmt: skip
        positions = [down.under(c.height) * across.under(c.width) for c in cut]
        reads = [c.height * c.width * down.size * across.size for c in cut]
        _, kernel_h, kernel_w, _ = conv.weight.shape
        array = vector = weights = 0
        for part, count in self._blocks(conv).items():
            rows = -(-kernel_h * kernel_w * part[1] // config.rows) * count
            lanes = -(-part[0] // config.vector_lanes)
            weights += rows * config.rows
            array += sum(rows * max(p, config.rows) for p in positions)
            vector += count * sum(
                lanes * max(p, config.vector_lanes + 9) + VECTOR_OVERHEAD for p in reads
            )
        self._tile_costs[key] = array, vector, weights, len(cut)
        return self._tile_costs[key]

    def _blocks(self, conv: Conv) -> Counter[tuple[int, int]]:
        """How many column blocks have how many outputs and inputs."""
        if conv.name not in self._block_counts:
            parts = blocks(conv, self._config)
            self._block_counts[conv.name] = Counter((b.count, b.inner_count) for b in parts)
        return self._block_counts[conv.name]


def roots(graph: Graph, ops: tuple[Op, ...]) -> dict[str, tuple[str, int]]:
    """For every tensor that is written or read: the map that it lives in, and its first channel.

    A concatenation that no operation computes is a map in which its inputs live.
    """
    computed = dict.fromkeys(op.output for op in ops)  # in order: addresses depend on it
    out = {name: (name, 0) for name in (graph.input, *computed)}
    for node in reversed(graph.nodes):
        if isinstance(node, Concat) and node.output not in computed:
            root, channel = out.setdefault(node.output, (node.output, 0))
            for name in node.inputs:
                out[name] = root, channel
                channel += graph.tensors[name].channels
    return out


def window_pitch(op: Op, graph: Graph, width: int, config: Config) -> int:
    """Row pitch in ACT of a tile of `width` columns of `op`'s input."""
    channels = graph.tensors[op.input].channels
    nodes = [op.conv] if op.conv is not None else []
    return row_pitch(width * channels, channels, nodes, config)


def _halves(size: int) -> list[int]:
    """⌈size / 2⌉, ⌈size / 4⌉, … 1."""
    out = []
    while size > 1:
        size = -(-size // 2)
        out.append(size)
    return out


def stage_depth(cuts: list[Tile], config: Config) -> int:
    """Channels that a staged pool keeps: one column block, or all if tiles share rows."""
    shared = any(a.stage.rows[1] > b.stage.rows[0] for a, b in pairwise(cuts))
    return cuts[0].stage.depth if shared else min(cuts[0].stage.depth, config.cols)


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


def find(taken: list[tuple[int, int]], sizes: list[int], config: Config) -> list[int] | None:
    """Free addresses for areas of `sizes` bytes, or None.

    Each area starts a bank that nobody else uses, if there is room, so that units seldom meet.
    """
    places = place(taken, sizes, config, fresh=True)
    return place(taken, sizes, config, fresh=False) if places is None else places


def _place(
    taken: list[tuple[int, int]],
    sizes: dict[str, int],
    groups: list[list[str]],
    config: Config,
    *,
    fresh: bool,
) -> dict[str, int] | None:
    """Free addresses for areas of `sizes` bytes, those of a group one behind the other."""
    found = place(taken, [sum(sizes[r] for r in group) for group in groups], config, fresh=fresh)
    if found is None:
        return None
    out: dict[str, int] = {}
    for group, base in zip(groups, found, strict=True):
        for role in group:
            out[role] = base
            base += sizes[role]
    return out


def place(
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
