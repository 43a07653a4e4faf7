"""The lookup table behind a channel of VECTOR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .delay import delay
from .ports import ROW_READ_LATENCY, BeatWrite
from .row_memory import RowMemory

if TYPE_CHECKING:
    from .config import Config

#: Cycles from a value to what its table makes of it.
TABLE_LATENCY = ROW_READ_LATENCY


class TableLookup(wiring.Component):
    """Holds all tables, and replaces a value a cycle by an entry of one of them, or by itself.

    Each channel has one of its own, and LOAD writes all of them at once.

    Parameters
    ----------
    config
        `tables`, at least 1.

    Ports
    -----
    write : BeatWrite
        LOAD, from the memory's side. Byte 256 · k + j is what table k makes of the value j − 128.
    table : In(4)
        0: no table; k: table k − 1. To be stable from a value to its result.
    value : In(signed(8))
    result : Out(signed(8))
        Result of the value given TABLE_LATENCY cycles before.
    wrong : Out(1)
        The result of the cycle before was an entry of the wrong parity.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "write": In(BeatWrite(config.tbl_bytes // config.bus_bytes, config.bus_bytes)),
                "table": In(4),
                "value": In(signed(8)),
                "result": Out(signed(8)),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.memory = memory = RowMemory(
            rows=config.tbl_bytes, row_bytes=1, bus_bytes=config.bus_bytes, parity=config.parity
        )
        connect(m, flipped(self.write), memory.write)
        index = Cat(self.value[:7], ~self.value[7])  # value + 128
        m.d.comb += [
            memory.read.en.eq(self.table != 0),
            self.wrong.eq(memory.wrong),
            memory.read.addr.eq(Cat(index, (self.table - 1)[: (config.tables - 1).bit_length()])),
        ]
        past = delay(m, self.value, TABLE_LATENCY, name="past", reset_less=True)
        m.d.comb += self.result.eq(Mux(self.table == 0, past, memory.read.data.as_signed()))
        return m
