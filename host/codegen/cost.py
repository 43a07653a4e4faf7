"""About how many cycles an operation takes if it is cut into these tiles.

Array, bus and vector unit work side by side, and the slowest of them counts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...hdl.write_engine import WRITE_BURSTS, write_burst_beats
from .geometry import tiles
from .tiling import blocks, chunks, most_chunk

if TYPE_CHECKING:
    from ...hdl.config import Config
    from ..batch import Batch
    from ..fuse import Op
    from ..ir import Conv, Graph, Tensor
    from .geometry import Tile
    from .views import Home

#: Cycles that a vector instruction spends beside its elements, about.
VECTOR_OVERHEAD = 24
#: Cycles that a tile's last results take until they are stored, about.
_TAIL = 200
#: Cycles that a tile costs beside its work, about.
_PER_TILE = 20
#: Cycles that a store costs beside its beats, about, for the array.
_PER_STORE = 2
#: Latency up to which short write bursts, of which WRITE_BURSTS are under way, cost nothing.
_LATENCY = 100


class Costs:
    """Estimates for the operations of a batch on a machine."""

    def __init__(self, batch: Batch, config: Config):
        self._batch = batch
        self._config = config
        self._tile_costs: dict[tuple[str, int, int], tuple[int, int, int, int]] = {}
        self._block_counts: dict[str, Counter[tuple[int, int]]] = {}
        self._ideals: dict[str, int] = {}
        self._tilings: dict[tuple[str, int, int], list[Tile]] = {}

    def graph(self, op: Op) -> Graph:
        """The graph with the tensors that `op` works on."""
        return self._batch.graph(op.nodes[0].name)

    def tiles(self, op: Op, height: int, width: int) -> list[Tile]:
        """`op`'s tiles of `height` output rows and `width` columns."""
        key = op.name, height, width
        if key not in self._tilings:
            cuts = tiles(op, self.graph(op), height, width, self._config.bus_bytes)
            self._tilings[key] = cuts
        return self._tilings[key]

    def ideal(self, op: Op) -> int:
        """About how many cycles `op` takes if it is not cut, and all it needs is there."""
        if op.name not in self._ideals:
            out = self.graph(op).tensors[op.output]
            one = self.tiles(op, out.height, out.width)
            self._ideals[op.name] = self.cycles(op, {}, one, out.channels)
        return self._ideals[op.name]

    def cycles(self, op: Op, homes: dict[str, Home], cuts: list[Tile], depth: int) -> int:
        """About how many cycles `op` takes, cut like this."""
        config, graph = self._config, self.graph(op)
        bus = config.bus_bytes
        out = graph.tensors[op.output]
        loads = stores = vector = array = startup = 0
        if op.input in homes:
            loads = self.loads(op, cuts)
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

    def loads(self, op: Op, cuts: list[Tile]) -> int:
        """Bus beats of the input windows."""
        channels = self._batch.one.tensors[op.input].channels
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
