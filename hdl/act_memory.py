"""ACT: the activation scratchpad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .act_paths import ActReadPath, ActWritePath, lane_layout
from .act_scatter import ActScatterPath
from .parity import protect
from .ports import ActRead, ActWrite
from .ram import Ram

if TYPE_CHECKING:
    from .config import Config


class ActBank(wiring.Component):
    """One bank of ACT: a byte-wide memory for every lane, each with an address of its own.

    Parameters
    ----------
    config
        The machine.
    readers
        Units that may read; at most one in a cycle.
    writers
        Units that may write; at most one in a cycle.

    Ports
    -----
    r_hit : In(readers)
        The unit that reads.
    r_addr_k : In(lane_layout)
        Word addresses from reader k, of which the bank's number is not looked at.
    r_data : Out(byte_bits · act_lanes)
        What was read, in the cycle after.
    w_en_k, w_addr_k, w_data_k : In
        Lanes that writer k writes, their word addresses and bytes (with parity, if there is any).
    """

    def __init__(self, config: Config, *, readers: int, writers: int):
        self._config = config
        self._readers = readers
        self._writers = writers
        lanes = config.act_lanes
        bits = config.byte_bits * lanes
        members = {"r_hit": In(readers), "r_data": Out(bits)}
        for k in range(readers):
            members[f"r_addr_{k}"] = In(lane_layout(config))
        for k in range(writers):
            members[f"w_en_{k}"] = In(lanes)
            members[f"w_addr_{k}"] = In(lane_layout(config))
            members[f"w_data_{k}"] = In(bits)
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lanes = config.act_lanes
        words = config.act_words // config.act_banks
        addr_bits = (words - 1).bit_length()
        byte = config.byte_bits

        def choose(select, items):
            """The first item whose bit is set, else the last."""
            *items, chosen = items
            for k in reversed(range(len(items))):
                chosen = Mux(select[k], items[k], chosen)
            return chosen

        writing = Cat(getattr(self, f"w_en_{k}").any() for k in range(self._writers))
        w_data = Signal(byte * lanes)
        m.d.comb += w_data.eq(
            choose(writing, [getattr(self, f"w_data_{k}") for k in range(self._writers)])
        )
        w_en = Signal(lanes)
        m.d.comb += w_en.eq(
            choose(writing, [getattr(self, f"w_en_{k}") for k in range(self._writers)])
        )
        for lane in range(lanes):
            m.submodules[f"lane_{lane}"] = ram = Ram(width=byte, depth=words)
            r_addrs = [getattr(self, f"r_addr_{k}")[lane][:addr_bits] for k in range(self._readers)]
            w_addrs = [getattr(self, f"w_addr_{k}")[lane][:addr_bits] for k in range(self._writers)]
            m.d.comb += [
                ram.r_en.eq(self.r_hit.any()),
                ram.r_addr.eq(choose(self.r_hit, r_addrs)),
                self.r_data[byte * lane : byte * (lane + 1)].eq(ram.r_data),
                ram.w_en.eq(w_en[lane]),
                ram.w_addr.eq(choose(writing, w_addrs)),
                ram.w_data.eq(w_data[byte * lane : byte * (lane + 1)]),
            ]
        return m


class ActMemory(wiring.Component):
    """The activation scratchpad: windows of bytes at any address, three readers and two writers.

    Every port takes a request in every cycle; data comes ACT_READ_LATENCY cycles after it. A read
    requested in the same cycle as a write's data, or later, sees it. Addresses wrap modulo
    act_bytes.

    ``act_banks`` banks of ``act_lanes`` byte lanes. A bank serves one reader and one writer in a
    cycle; only lanes that are masked in count. If two meet, `conflict` pulses two cycles after a
    write's data and three after a read, and what they read or wrote is undefined.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    matmul, vector, store : ActRead
        Readers, from the memory's side; `matmul` has `rows` lanes with jumps, `vector` has
        `vector_lanes` and `store` has `bus_bytes`.
    w_load, w_vector : ActWrite
        Writers, from the memory's side, of `bus_bytes` and `vector_lanes`, the latter with jumps.
    conflict : Out(1)
        Two readers, or two writers, met in a bank.
    wrong : Out(1)
        A byte of the data that a reader gets in this cycle has the wrong parity.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "matmul": In(ActRead(config, config.rows, jumps=True)),
                "vector": In(ActRead(config, config.vector_lanes)),
                "store": In(ActRead(config, config.bus_bytes)),
                "w_load": In(ActWrite(config, config.bus_bytes)),
                "w_vector": In(ActWrite(config, config.vector_lanes, jumps=True)),
                "conflict": Out(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.read_matmul = matmul = ActReadPath(config, width=config.rows, jumps=True)
        m.submodules.read_vector = vector = ActReadPath(config, width=config.vector_lanes)
        m.submodules.read_store = store = ActReadPath(config, width=config.bus_bytes)
        m.submodules.write_load = w_load = ActWritePath(config, width=config.bus_bytes)
        m.submodules.write_vector = w_vector = ActScatterPath(config, width=config.vector_lanes)
        for port, path in (
            (self.matmul, matmul),
            (self.vector, vector),
            (self.store, store),
            (self.w_load, w_load),
            (self.w_vector, w_vector),
        ):
            wiring.connect(m, wiring.flipped(port), path.port)
        readers = (matmul, vector, store)
        writers = (w_load, w_vector)

        banks = []
        for b in range(config.act_banks):
            bank = ActBank(config, readers=len(readers), writers=len(writers))
            m.submodules[f"bank_{b}"] = bank
            banks.append(bank)
            m.d.comb += bank.r_hit.eq(Cat(path.hit[b] for path in readers))
            for k, path in enumerate(readers):
                m.d.comb += getattr(bank, f"r_addr_{k}").eq(path.addr)
            for k, path in enumerate(writers):
                m.d.comb += [
                    getattr(bank, f"w_en_{k}").eq(path.en[b]),
                    getattr(bank, f"w_addr_{k}").eq(path.addr),
                    getattr(bank, f"w_data_{k}").eq(
                        protect(path.lanes, 8) if config.parity else path.lanes
                    ),
                ]

        # The cycle after the memories: every lane of every reader takes the byte from its bank.
        bank_bits = (config.act_banks - 1).bit_length()
        for k, path in enumerate(readers):
            chosen = Signal(
                data.ArrayLayout(bank_bits, config.act_lanes), name=f"bank_of_{k}", reset_less=True
            )
            byte = config.byte_bits
            lanes = Signal(byte * config.act_lanes, name=f"lanes_{k}", reset_less=True)
            for lane in range(config.act_lanes):
                at = slice(byte * lane, byte * (lane + 1))
                choices = Array(bank.r_data[at] for bank in banks)
                m.d.sync += [
                    chosen[lane].eq(path.addr[lane][-bank_bits:]),
                    lanes[at].eq(choices[chosen[lane]]),
                ]
            m.d.comb += path.lanes.eq(lanes)

        m.d.comb += self.wrong.eq(Cat(path.wrong for path in readers).any())
        hits = [path.hit for path in readers]
        writes = [Cat(en.any() for en in path.en) for path in writers]
        clashes = [one & other for group in (hits, writes) for one, other in _pairs(group)]
        m.d.sync += self.conflict.eq(Cat(clashes).any())
        return m


def _pairs(items):
    return [(one, other) for k, one in enumerate(items) for other in items[k + 1 :]]
