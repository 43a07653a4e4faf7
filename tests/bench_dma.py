"""What the benches of LOAD, STORE and the AXI engines share."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from weft.hdl.config import PRESETS, Config
from weft.hdl.isa import Opcode
from weft.hdl.ports import PC_BITS, instruction_layout
from weft.host.timing.bursts import Rows
from weft.tb.axi_memory import AxiMemory
from weft.tb.bench import STALLS, Cycles, clock_and_reset, pack, random_bytes
from weft.tb.memory_model import Channel, Options

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "default": PRESETS["default"],
    "wide": Config(name="wide", bus_bits=512, read_beats=128, addr_bits=40),
}
CONFIG = CONFIGS[os.environ.get("CONFIG", "default")]
BUS = CONFIG.bus_bytes
SEGMENT_BYTES = 1 << 15
#: Segments lie apart, one of them across 2^32 where addresses are that wide.
BASES = (0x1000_0000, 0x2000_1000, 0x7FFF_F000, (1 << CONFIG.addr_bits) - 0x10_0000)


async def begin(dut, **inputs: int) -> Cycles:
    """Clock and reset; returns right after the edge at which cycle 0 begins."""
    await clock_and_reset(dut, **inputs)
    return Cycles(dut.clk)


def contents(seed: int) -> list[bytearray]:
    """Random contents of the four segments."""
    return [bytearray(random_bytes(seed + i, SEGMENT_BYTES)) for i in range(4)]


@dataclass(frozen=True)
class Move:
    """One LOAD or STORE: the cycle from which its semaphores are there, and its fields."""

    go: int
    fields: dict[str, int]

    @property
    def rows(self) -> Rows:
        f = self.fields
        return Rows(BASES[f["segment"]] + f["offset"], f["length"], f["rows"], f["dram_pitch"])

    def word(self, opcode: Opcode) -> int:
        return pack(instruction_layout(opcode), {"opcode": opcode, **self.fields})


def payload(opcode: Opcode, word: int, pc: int) -> int:
    """A queue entry: the raw instruction and its pc."""
    width = instruction_layout(opcode).as_shape().width
    assert 0 <= pc < 1 << PC_BITS
    return word | pc << width


def random_move(rng: random.Random, go: int) -> Move:
    """A transfer inside its segment: many short rows, some long ones, any alignment on chip."""
    style = rng.randrange(4)
    if style == 0:  # rows of a beat or less
        length, rows = rng.randrange(1, BUS + 1), rng.randrange(1, 50)
    elif style == 1:  # a few beats
        length, rows = rng.randrange(1, 8 * BUS), rng.randrange(1, 8)
    elif style == 2:  # bursts of full length, pages crossed
        length, rows = rng.randrange(BUS, 4 * BUS * min(64, CONFIG.burst_beats)), 1
    else:  # exact bursts
        length, rows = BUS * CONFIG.burst_beats * rng.randrange(1, 3), rng.randrange(1, 3)
    length = min(length, SEGMENT_BYTES // rows // BUS * BUS)
    span = -(-length // BUS) * BUS
    slack = SEGMENT_BYTES - span
    pitch = rng.randrange(0, slack // max(1, rows - 1) // BUS + 1) * BUS if rows > 1 else 0
    if rng.random() < 0.5:
        pitch = min(pitch, span)
    last = SEGMENT_BYTES - span - pitch * (rows - 1)
    offset = rng.choice([0, last // BUS * BUS, rng.randrange(0, last // BUS + 1) * BUS])
    return Move(
        go,
        {
            "segment": rng.randrange(4),
            "offset": offset,
            "length": length,
            "rows": rows,
            "dram_pitch": pitch,
            "local": rng.randrange(1 << 20),
            "local_pitch": rng.choice([length, rng.randrange(1 << 20)]),
            "post": rng.randrange(256),
            "wait": rng.randrange(256),
        },
    )


class Memory(AxiMemory):
    """The reference memory with the segments mapped, its traffic logged, and stalls by channel.

    Parameters
    ----------
    stalls
        A key of STALLS: "idle" holds back R and B, "backpressure" AR, AW and W.
    """

    def __init__(self, dut, cycles: Cycles, *, prefix="m_axi__", stalls="none", seed=1, **options):
        idle, back = STALLS[stalls]
        options = Options(stall_seed=seed if idle or back else 0, log_traffic=True, **options)
        super().__init__(dut, cycles, bus_bytes=BUS, prefix=prefix, options=options)
        model = self.model
        allowed = idle * (1 << Channel.R | 1 << Channel.B)
        allowed |= back * (1 << Channel.AR | 1 << Channel.AW | 1 << Channel.W)
        draw = model._stalls
        model._stalls = lambda cycle: draw(cycle) & allowed

    def on(self, channel: Channel) -> list[tuple[int, int]]:
        """(cycle, value) of every handshake on `channel`."""
        return [(t, value) for t, c, value in self.model.traffic if c == channel]


def segments_word() -> tuple[int, int]:
    """Values of `segments.base` and `segments.size`."""
    base = sum(b << CONFIG.addr_bits * i for i, b in enumerate(BASES))
    return base, sum(SEGMENT_BYTES << 32 * i for i in range(4))


class Driver:
    """Offers moves to a unit as its queue and the semaphores would, and watches its reports.

    Call :meth:`drive` right after an edge and :meth:`sample` after settling, in every cycle.

    Attributes
    ----------
    started, done
        Cycles of every start; (cycle, post) of every completion.
    busy, stall
        Cycles in which those were high.
    """

    def __init__(self, dut, cycles: Cycles, opcode: Opcode, moves: list[Move]):
        self._dut = dut
        self._cycles = cycles
        self._words = [payload(opcode, m.word(opcode), pc) for pc, m in enumerate(moves)]
        self._moves = moves
        self.started: list[int] = []
        self.done: list[tuple[int, int]] = []
        self.busy: list[int] = []
        self.stall: list[int] = []

    @property
    def finished(self) -> bool:
        return len(self.done) == len(self._moves)

    def drive(self) -> None:
        dut, i = self._dut, len(self.started)
        valid = i < len(self._words)
        dut.unit__instr__valid.value = int(valid)
        if valid:
            dut.unit__instr__payload.value = self._words[i]
            dut.unit__go.value = int(self._cycles.now >= self._moves[i].go)
        else:
            dut.unit__go.value = 0

    def sample(self) -> None:
        dut, now = self._dut, self._cycles.now
        if int(dut.unit__instr__ready.value):
            assert int(dut.unit__instr__valid.value), f"cycle {now}: ready without valid"
            assert int(dut.unit__go.value), f"cycle {now}: ready without go"
            self.started.append(now)
        if int(dut.unit__done.value):
            self.done.append((now, int(dut.unit__post.value)))
        else:
            assert int(dut.unit__post.value) == 0, f"cycle {now}: post without done"
        if int(dut.unit__busy.value):
            self.busy.append(now)
        if int(dut.unit__stall.value):
            self.stall.append(now)


def in_flight(started: list[int], done: list[int]) -> list[int]:
    """Cycles in which `busy` must be high."""
    out = set()
    for begin, end in zip(started, done, strict=True):
        out.update(range(begin + 1, end + 1))
    return sorted(out)
