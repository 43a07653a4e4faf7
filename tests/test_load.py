"""LOAD behind the read engine, to the byte and to the cycle."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from weft.hdl.axi import AxiRead
from weft.hdl.isa import Opcode
from weft.hdl.load_unit import LoadUnit
from weft.hdl.ports import (
    ActWrite,
    BeatReturn,
    BeatWrite,
    BurstRequest,
    Fault,
    Segments,
    UnitPort,
)
from weft.hdl.read_engine import ReadEngine
from weft.tb.runner import simulate

from tests.bench_dma import CONFIGS


class LoadPath(wiring.Component):
    """LOAD and the read engine; FETCH's side is open."""

    def __init__(self, config):
        self._config = config
        bus = config.bus_bytes
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.LOAD)),
                "segments": In(Segments(config)),
                "fetch": In(stream.Signature(BurstRequest(config))),
                "fetch_data": Out(BeatReturn(config)),
                "act": Out(ActWrite(config, bus)),
                "wgt": Out(BeatWrite(config.wgt_bytes // bus, bus)),
                "par": Out(BeatWrite(config.par_bytes // bus, bus)),
                "tbl": Out(BeatWrite(config.tbl_bytes // bus, bus)),
                "fault": Out(Fault()),
                "error": Out(Fault()),
                "kill": In(1),
                "idle": Out(1),
                "beats": Out(1),
                "m_axi": Out(AxiRead(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = LoadUnit(self._config)
        m.submodules.engine = engine = ReadEngine(self._config)
        connect(m, unit.request, engine.load)
        connect(m, engine.load_data, unit.data)
        connect(m, engine.axi, flipped(self.m_axi))
        for name in ("unit", "segments", "act", "wgt", "par", "tbl", "fault"):
            connect(m, getattr(unit, name), flipped(getattr(self, name)))
        connect(m, engine.segments, flipped(self.segments))
        for name in ("fetch", "fetch_data", "error"):
            connect(m, getattr(engine, name), flipped(getattr(self, name)))
        m.d.comb += [
            engine.kill.eq(self.kill),
            engine.base.eq(self.segments.base[0]),
            engine.size.eq(self.segments.size[0]),
            self.idle.eq(engine.idle),
            self.beats.eq(engine.beats),
        ]
        return m


@pytest.mark.parametrize(
    ("config", "simulator", "count"),
    [("tiny", "icarus", 16), ("default", "verilator", 40), ("wide", "icarus", 16)],
)
def test_load(config, simulator, count):
    simulate(
        LoadPath(CONFIGS[config]),
        "tests.bench_load",
        simulator=simulator,
        env={"CONFIG": config, "COUNT": count},
        name=f"load_{config}",
    )
