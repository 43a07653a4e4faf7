"""The front end: fetch, decoder and dispatch in one."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .config import Config
from .decoder import Decoder
from .dispatch import QUEUED, TAG_BITS, Dispatch
from .fetch_unit import FetchUnit
from .isa import Unit
from .ports import PC_BITS, BeatReturn, BurstRequest, Fault
from .queue import entry_layout


class Frontend(wiring.Component):
    """Program in, instructions out into the units' queues; to be reset before each `start`.

    If the beat that completes an instruction comes in cycle t, the instruction is dispatched in
    cycle t + 4 at the earliest: t + 1 it enters the decoder, t + 3 it stands before dispatch.
    ``host.timing.fetch.Frontend`` states every cycle.

    Ports
    -----
    start, base, count, request, data
        See :class:`~.fetch_unit.FetchUnit`.
    load, weight, matmul, vector, store : streams
        To the units' queues, see :class:`~.dispatch.Dispatch`.
    empty, zero, finish, tag, dispatched, pc, fault
        See :class:`~.dispatch.Dispatch`.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "base": In(config.addr_bits),
                "count": In(PC_BITS),
                "request": Out(stream.Signature(BurstRequest(config))),
                "data": In(BeatReturn(config)),
                "empty": In(1),
                "zero": In(1),
                "finish": Out(1),
                "tag": Out(TAG_BITS),
                "dispatched": Out(1),
                "pc": Out(PC_BITS),
                "fault": Out(Fault()),
                **{
                    unit.name.lower(): Out(stream.Signature(entry_layout(*QUEUED[unit])))
                    for unit in Unit
                },
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = fetch = FetchUnit(self._config)
        m.submodules.decoder = decoder = Decoder(self._config)
        m.submodules.dispatch = dispatch = Dispatch()
        connect(m, fetch.o, decoder.i)
        connect(m, decoder.o, dispatch.i)
        connect(m, fetch.request, flipped(self.request))
        connect(m, dispatch.fault, flipped(self.fault))
        connect(m, flipped(self.data), fetch.data)
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.base.eq(self.base),
            fetch.count.eq(self.count),
            fetch.stop.eq(dispatch.ending),
        ]
        for name in ("empty", "zero"):
            m.d.comb += getattr(dispatch, name).eq(getattr(self, name))
        for name in ("finish", "tag", "dispatched", "pc"):
            m.d.comb += getattr(self, name).eq(getattr(dispatch, name))
        for unit in Unit:
            connect(m, dispatch.queue(unit), flipped(getattr(self, unit.name.lower())))
        return m
