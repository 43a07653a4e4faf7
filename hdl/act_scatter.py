"""The way into ACT for lanes that lie more than a byte apart: every byte lane has its own word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .act_paths import bank_of, below, lane_layout, rotate, split
from .delay import delay
from .ports import ActWrite
from .shift_add import times

if TYPE_CHECKING:
    from .config import Config


class ActScatterPath(wiring.Component):
    """Turns writes with jumps into lane writes: `en`, `addr` and `lanes` one cycle after the data.

    Lane i of a window at word w, byte lane s is byte lane m = (s + i) mod A of word w + i·jump, or
    of the word after that where s + i ≥ A. With i = m − s that is (w − s·jump) + m·jump; with
    i = m − s + A it is (w − s·jump) + (1 + A·jump) + m·jump. Only m·jump differs from byte lane to
    byte lane, and it stays the same from write to write. So words need no rotation, and the lanes
    of a window may lie in any banks, several at a time.

    Parameters
    ----------
    config
        The machine.
    width
        Lanes of the window, at most act_lanes.

    Ports
    -----
    port : ActWrite
        The writer, from the memory's side, with jumps.
    en, addr, lanes
        As of :class:`~.act_paths.ActWritePath`.
    """

    def __init__(self, config: Config, *, width: int):
        if not 1 <= width <= config.act_lanes:
            raise ValueError(f"width must be 1 to {config.act_lanes} lanes, not {width!r}")
        self._config = config
        super().__init__(
            {
                "port": In(ActWrite(config, width, jumps=True)),
                "en": Out(data.ArrayLayout(config.act_lanes, config.act_banks)),
                "addr": Out(lane_layout(config)),
                "lanes": Out(8 * config.act_lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config, port = self._config, self.port
        all_lanes, word_bits = config.act_lanes, len(port.jump)

        def later(value, name: str):
            return delay(m, value, 1, name=name, reset_less=True)

        # m · jump of every byte lane: with one bit of m less, plus a shifted jump.
        steps: list = [Const(0, word_bits)]
        for lane in range(1, all_lanes):
            low = lane & -lane
            shifted = port.jump.shift_left(low.bit_length() - 1)[:word_bits]
            both = (steps[lane - low] + shifted)[:word_bits]
            steps.append(shifted if lane == low else later(both, f"step_{lane}"))

        # Cycle 0: s · jump, and the word in both cases without it.
        shift, word = split(config, port.base)
        lane_bits = len(shift)
        skew = later(times(port.jump, shift)[:word_bits], "skew")
        around = (port.jump.shift_left(lane_bits) | 1)[:word_bits]
        near, far = later(word, "near"), later((word + around)[:word_bits], "far")
        shift = later(shift, "shift_1")
        mask = Signal(all_lanes)
        m.d.sync += mask.eq(Mux(port.en, port.mask, 0))

        # Cycle 1: with it.
        near = later((near - skew)[:word_bits], "near_skewed")
        far = later((far - skew)[:word_bits], "far_skewed")
        carries = later(below(shift, all_lanes), "carries")
        masked, enabled = Signal(all_lanes), Signal(all_lanes)
        m.d.sync += [masked.eq(rotate(m, mask, shift, 1)), enabled.eq(masked)]
        shift = later(shift, "shift_2")

        # Cycle 2: the data, and a word for each byte lane.
        lanes = Signal(8 * all_lanes)
        m.d.comb += lanes.eq(port.data.as_value())
        m.d.sync += self.lanes.eq(rotate(m, lanes, shift, 8))
        for lane, step in enumerate(steps):
            m.d.sync += self.addr[lane].eq(Mux(carries[lane], far, near) + step)

        # Cycle 3: the banks they are in.
        for bank in range(config.act_banks):
            here = Cat(bank_of(config, self.addr[lane]) == bank for lane in range(all_lanes))
            m.d.comb += self.en[bank].eq(enabled & here)
        return m
