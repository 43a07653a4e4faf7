"""Fetches the requantization parameters of one group of channels after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .numerics import PARAMETER_BYTES
from .ports import ROW_READ_LATENCY, RowRead

if TYPE_CHECKING:
    from .config import Config


class ParameterFetch(wiring.Component):
    """Reads one PAR entry a cycle for each channel of a group, then waits for `release`.

    Parameters
    ----------
    config
        The machine; a group has `vector_lanes` channels, the last one maybe fewer.

    Ports
    -----
    start : In(1)
        Begin in the next cycle, with `base` and `channels` of this cycle.
    base, channels : In
        First entry, and the number of channels (at least 1).
    release : In(1)
        Begin with the next group in the next cycle, if there is one. Only after `granted`.
    granted : Out(1)
        The last entry of a group is requested in this cycle. A register.
    arrives : Out(vector_lanes)
        One-hot: the lane that `par.data` is for in this cycle.
    par : RowRead
        Read port of PAR. Addresses wrap.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "base": In((config.par_entries - 1).bit_length()),
                "channels": In(12),
                "release": In(1),
                "granted": Out(1),
                "arrives": Out(config.vector_lanes),
                "par": Out(RowRead(config.par_entries, PARAMETER_BYTES)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes = self._config.vector_lanes
        addr = Signal.like(self.base)
        left = Signal.like(self.channels)
        single = Signal()  # left == 1
        lane = Signal(lanes)  # one-hot
        reading = Signal()
        m.d.sync += self.granted.eq(0)
        with m.If(self.start):
            m.d.sync += [
                addr.eq(self.base),
                left.eq(self.channels),
                single.eq(self.channels == 1),
                lane.eq(1),
                reading.eq(1),
                self.granted.eq((self.channels == 1) | (lanes == 1)),
            ]
        with m.Elif(reading):
            m.d.sync += [
                addr.eq(addr + 1),
                left.eq(left - 1),
                single.eq(left == 2),
                lane.eq(lane.rotate_left(1)),
                reading.eq(~self.granted),
                self.granted.eq(~self.granted & (lane.rotate_left(1)[-1] | (left == 2))),
            ]
        with m.Elif(self.release):
            m.d.sync += [
                lane.eq(1),
                reading.eq(left.any()),
                self.granted.eq(left.any() & (single | (lanes == 1))),
            ]

        delayed = lane & reading.replicate(lanes)
        for k in range(ROW_READ_LATENCY):
            register = Signal(lanes, name=f"arrives_{k}")
            m.d.sync += register.eq(delayed)
            delayed = register
        m.d.comb += [
            self.par.en.eq(reading),
            self.par.addr.eq(addr),
            self.arrives.eq(delayed),
        ]
        return m
