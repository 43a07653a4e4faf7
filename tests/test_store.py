"""STORE before the write engine, to the byte and to the cycle."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from weft.hdl.axi import AxiWrite
from weft.hdl.isa import Opcode
from weft.hdl.ports import ActRead, Fault, Segments, UnitPort
from weft.hdl.store_unit import StoreUnit
from weft.hdl.write_engine import WriteEngine
from weft.tb.runner import simulate

from tests.bench_dma import CONFIGS


class StorePath(wiring.Component):
    """STORE and the write engine; `hold` keeps the unit in reset."""

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitPort(Opcode.STORE)),
                "segments": In(Segments(config)),
                "act": Out(ActRead(config, config.bus_bytes)),
                "fault": Out(Fault()),
                "error": Out(Fault()),
                "hold": In(1),
                "kill": In(1),
                "idle": Out(1),
                "beats": Out(1),
                "m_axi": Out(AxiWrite(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        unit = StoreUnit(self._config)
        m.submodules.unit = ResetInserter(self.hold)(unit)
        m.submodules.engine = engine = WriteEngine(self._config)
        connect(m, unit.write, engine.port)
        connect(m, engine.axi, flipped(self.m_axi))
        for name in ("unit", "segments", "act", "fault"):
            connect(m, getattr(unit, name), flipped(getattr(self, name)))
        connect(m, engine.segments, flipped(self.segments))
        connect(m, engine.error, flipped(self.error))
        m.d.comb += [
            engine.kill.eq(self.kill),
            self.idle.eq(engine.idle),
            self.beats.eq(engine.beats),
        ]
        return m


@pytest.mark.parametrize(
    ("config", "simulator", "count"),
    [("tiny", "icarus", 12), ("default", "verilator", 30), ("wide", "icarus", 12)],
)
def test_store(config, simulator, count):
    simulate(
        StorePath(CONFIGS[config]),
        "tests.bench_store",
        simulator=simulator,
        env={"CONFIG": config, "COUNT": count},
        name=f"store_{config}",
    )
