"""The weight-stationary systolic array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import skew
from .packed import PackedElement, PackedWeights, first_sum, pack, second_sum
from .pe import ProcessingElement

if TYPE_CHECKING:
    from .config import Config


class SystolicArray(wiring.Component):
    """Multiplies one vector of `rows` activations a cycle with a `rows` × `cols` tile of weights.

    The vector that enters in cycle e leaves as the sum of column c in cycle ``e + rows + c + 2``.
    Nothing ever stalls; cycles without a vector compute sums that nobody looks at.

    A tile enters in `rows` beats, its last row first. Activations reach row r r cycles after row 0,
    and so does the tag that makes shadow weights active; the beats shift through the shadow weights
    in such a way that row r keeps still until the tile's beat r. Hence, with te the cycle of a
    tile's first beat:

    - te may be the cycle in which the first vector of the tile before enters, not earlier;
    - the tile's own first vector may enter in cycle ``te + rows``, not earlier;

    and tiles of M vectors follow each other every max(M, rows) cycles.

    In a packed array a multiplier serves two columns, 2k and 2k + 1. The second one computes a
    cycle early, and its sum waits for a cycle below the last row; seen from outside nothing
    differs.

    Parameters
    ----------
    config
        `rows`, `cols`, `psum_bits`, `packed`.

    Ports
    -----
    act : In(ArrayLayout(signed(8), rows))
        Activations of a vector.
    swap : In(1)
        The vector is a tile's first.
    weights : In(ArrayLayout(signed(8), cols))
        A row of weights.
    load, load_first : In(1)
        `weights` holds a beat; it is its tile's first.
    psum : Out(ArrayLayout(signed(psum_bits), cols))
        Column sums, column c a cycle later than column c − 1.
    """

    def __init__(self, config: Config):
        self._rows = config.rows
        self._cols = config.cols
        self._psum_bits = config.psum_bits
        self._packed = config.packed
        super().__init__(
            {
                "act": In(data.ArrayLayout(signed(8), self._rows)),
                "swap": In(1),
                "weights": In(data.ArrayLayout(signed(8), self._cols)),
                "load": In(1),
                "load_first": In(1),
                "psum": Out(data.ArrayLayout(signed(self._psum_bits), self._cols)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self._rows

        # Row r takes part in beat p of a tile where p ≥ r.
        beats = Signal(rows)
        shifting = Signal(rows)
        m.d.comb += shifting.eq(Mux(self.load_first, 1, beats << 1 | 1))
        with m.If(self.load):
            m.d.sync += beats.eq(shifting)

        swaps = Signal(rows - 1)
        m.d.sync += swaps.eq(swaps << 1 | self.swap)

        act = skew(m, self.act, 8, name="act")
        left = [
            (act[r], self.swap if r == 0 else swaps[r - 1], shifting[r] & self.load)
            for r in range(rows)
        ]
        if self._packed:
            self._packed_columns(m, left)
        else:
            self._columns(m, left)
        return m

    def _columns(self, m: Module, left: list) -> None:
        """A processing element for each row and column; `left` comes in from the left."""
        weights = skew(m, self.weights, 8, name="weight")
        for c in range(self._cols):
            weight, psum = weights[c], 0
            for r in range(self._rows):
                pe = ProcessingElement(psum_bits=self._psum_bits)
                m.submodules[f"pe_{r}_{c}"] = pe
                a, swap, load = left[r]
                m.d.comb += [
                    pe.a.eq(a),
                    pe.swap.eq(swap),
                    pe.load.eq(load),
                    pe.weight.eq(weight),
                    pe.psum.eq(psum),
                ]
                left[r] = pe.a_out, pe.swap_out, pe.load_out
                weight, psum = pe.weight_out, pe.psum_out
            m.d.comb += self.psum[c].eq(psum)

    def _packed_columns(self, m: Module, left: list) -> None:
        """A processing element for each row and pair of columns."""
        pairs = skew(m, self.weights, 16, name="weight", cycles=2)
        for c, pair in zip(range(0, self._cols, 2), pairs, strict=True):
            weights = Signal(PackedWeights(), name=f"weights_{c}")
            m.d.comb += weights.eq(pack(pair[:8].as_signed(), pair[8:].as_signed()))
            psums = 0
            for r in range(self._rows):
                pe = PackedElement(psum_bits=self._psum_bits)
                m.submodules[f"pe_{r}_{c}"] = pe
                a, swap, load = left[r]
                m.d.comb += [
                    pe.a.eq(a),
                    pe.swap.eq(swap),
                    pe.load.eq(load),
                    pe.weights.eq(weights),
                    pe.psums.eq(psums),
                ]
                left[r] = pe.a_out, pe.swap_out, pe.load_out
                weights, psums = pe.weights_out, pe.psums_out
            second = Signal(signed(self._psum_bits), name=f"second_{c}", reset_less=True)
            m.d.sync += second.eq(second_sum(psums))
            m.d.comb += [self.psum[c].eq(first_sum(psums)), self.psum[c + 1].eq(second)]
