"""The weight-stationary systolic array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import skew
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

    Parameters
    ----------
    config
        `rows`, `cols`, `psum_bits`.

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
        rows, cols = self._rows, self._cols

        # Row r takes part in beat p of a tile where p ≥ r.
        beats = Signal(rows)
        shifting = Signal(rows)
        m.d.comb += shifting.eq(Mux(self.load_first, 1, beats << 1 | 1))
        with m.If(self.load):
            m.d.sync += beats.eq(shifting)

        swaps = Signal(rows - 1)
        m.d.sync += swaps.eq(swaps << 1 | self.swap)

        act = skew(m, self.act, 8, name="act")
        weights = skew(m, self.weights, 8, name="weight")
        left = [
            (act[r], self.swap if r == 0 else swaps[r - 1], shifting[r] & self.load)
            for r in range(rows)
        ]
        for c in range(cols):
            weight, psum = weights[c], 0
            for r in range(rows):
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
        return m
