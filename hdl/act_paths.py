"""The ways into and out of ACT: from a window of bytes to the memory's byte lanes, and back.

Lane i of a window at address `base` lies in memory lane (base + i) mod A, A = act_lanes, so
requests and data rotate by ``base % A``. Lanes that come out beyond memory lane A − 1 are in the
next word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .parity import wrong
from .ports import ACT_READ_LATENCY, ActRead, ActWrite

if TYPE_CHECKING:
    from .config import Config


def rotate(m: Module, value, amount, unit: int):
    """`value` rotated left by `amount` units; it has a power of two of them.

    Every stage is a signal: an expression that is used twice is built twice.
    """
    stage = Signal(len(value), name="rotated")
    m.d.comb += stage.eq(value)
    for k in range(len(amount)):
        next_stage = Signal(len(value), name=f"rotated_{1 << k}")
        m.d.comb += next_stage.eq(
            Mux(amount[k], Cat(stage[-unit << k :], stage[: -unit << k]), stage)
        )
        stage = next_stage
    return stage


def lane_layout(config: Config) -> data.ArrayLayout:
    """A word address (bank and word in it) for every memory lane."""
    return data.ArrayLayout((config.act_words - 1).bit_length(), config.act_lanes)


def split(config: Config, base):
    """Lane and word of an address."""
    lane_bits = (config.act_lanes - 1).bit_length()
    return base[:lane_bits], base[lane_bits : (config.act_bytes - 1).bit_length()]


def bank_of(config: Config, word):
    """The bank of a word address."""
    return word[-(config.act_banks - 1).bit_length() :]


def below(amount, count: int) -> Cat:
    """Bit i: i < amount."""
    return Cat(amount > i for i in range(count))


def _one_hot(index, count: int) -> Cat:
    return Cat(index == k for k in range(count))


class ActReadPath(wiring.Component):
    """Turns a reader's requests into lane addresses, and what the lanes read into its data.

    A request in cycle t is on `addr` and `hit` in cycle t + 2, must be answered by `lanes` in
    cycle t + 4, and by `port.data` in cycle t + 5 = t + ACT_READ_LATENCY. One request a cycle.

    Parameters
    ----------
    config
        The machine.
    width
        Lanes of the window, at most act_lanes.
    jumps
        Whether each lane has an offset of its own.

    Ports
    -----
    port : ActRead
        The reader, from the memory's side.
    hit : Out(act_banks)
        Banks that a masked lane reads.
    addr : Out(lane_layout)
        Word address of every memory lane.
    lanes : In(byte_bits · act_lanes)
        Bytes that were read, in the order of memory lanes.
    wrong : Out(1)
        A byte that was read for what is on `port.data` has the wrong parity.
    """

    def __init__(self, config: Config, *, width: int, jumps: bool = False):
        if not 1 <= width <= config.act_lanes:
            raise ValueError(f"width must be 1 to {config.act_lanes} lanes, not {width!r}")
        self._config = config
        self._width = width
        self._jumps = jumps
        super().__init__(
            {
                "port": In(ActRead(config, width, jumps=jumps)),
                "hit": Out(config.act_banks),
                "addr": Out(lane_layout(config)),
                "lanes": In(config.byte_bits * config.act_lanes),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config, width, port = self._config, self._width, self.port
        all_lanes = config.act_lanes

        # What answers need, from the request on: index k is the value k cycles later.
        shift, word = split(config, port.base)
        shifts, masks, fills = [shift], [port.mask], [port.fill]
        for k in range(1, ACT_READ_LATENCY):
            for history, name in ((shifts, "shift"), (masks, "mask"), (fills, "fill")):
                register = Signal(len(history[-1]), name=f"{name}_{k}", reset_less=True)
                m.d.sync += register.eq(history[-1])
                history.append(register)

        used = Signal(width)
        m.d.sync += used.eq(Mux(port.en, port.mask, 0))
        if self._jumps:
            # Cycle 0: each lane's address; cycle 1: rotate.
            own = Signal(data.ArrayLayout(len(word), width), reset_less=True)
            for i in range(width):
                carry = shift > all_lanes - 1 - i
                m.d.sync += own[i].eq((word + port.jump[i] + carry)[: len(word)])
            padded = Cat(own, Const(0, len(word) * (all_lanes - width)))
            m.d.sync += self.addr.eq(rotate(m, padded, shifts[1], len(word)))
            banks = [_one_hot(bank_of(config, own[i]), config.act_banks) for i in range(width)]
            hits = [bank & used[i].replicate(config.act_banks) for i, bank in enumerate(banks)]
            hit = hits[0]
            for other in hits[1:]:
                hit = hit | other
            m.d.sync += self.hit.eq(hit)
        else:
            # Cycle 0: this word and the next; cycle 1: which of them each memory lane reads.
            near = Signal(len(word), reset_less=True)
            far = Signal(len(word), reset_less=True)
            m.d.sync += [near.eq(word), far.eq(word + 1)]
            carries = below(shifts[1], all_lanes)
            m.d.sync += [
                self.addr[lane].eq(Mux(carries[lane], far, near)) for lane in range(all_lanes)
            ]
            beyond = Cat(shifts[1] > all_lanes - 1 - i for i in range(width))
            m.d.sync += self.hit.eq(
                Mux((used & ~beyond).any(), _one_hot(bank_of(config, near), config.act_banks), 0)
                | Mux(
                    (used & beyond).any(),
                    _one_hot(bank_of(config, far), config.act_banks),
                    0,
                )
            )

        # Cycle 4: back into the order of the window.
        back = Signal(len(shift))
        m.d.comb += back.eq(-shifts[4])
        byte = config.byte_bits
        bytes_ = rotate(m, self.lanes, back, byte)
        m.d.sync += [
            port.data[i].eq(Mux(masks[4][i], bytes_[byte * i : byte * i + 8], fills[4]))
            for i in range(width)
        ]
        if config.parity:
            asked = delay(m, port.en, ACT_READ_LATENCY - 1, name="asked")
            odd = wrong(bytes_[: byte * width], 8) & masks[4]
            m.d.sync += self.wrong.eq(asked & odd.any())
        return m


class ActWritePath(wiring.Component):
    """Turns a writer's requests into lane writes: `en`, `addr` and `lanes` one cycle later.

    Parameters
    ----------
    config
        The machine.
    width
        Lanes of the window, at most act_lanes.

    Ports
    -----
    port : ActWrite
        The writer, from the memory's side.
    en : Out(ArrayLayout(act_lanes, act_banks))
        Memory lanes that each bank writes.
    addr : Out(lane_layout)
        Word address of every memory lane.
    lanes : Out(8 · act_lanes)
        Byte of every memory lane.
    """

    def __init__(self, config: Config, *, width: int):
        if not 1 <= width <= config.act_lanes:
            raise ValueError(f"width must be 1 to {config.act_lanes} lanes, not {width!r}")
        self._config = config
        self._width = width
        super().__init__(
            {
                "port": In(ActWrite(config, width)),
                "en": Out(data.ArrayLayout(config.act_lanes, config.act_banks)),
                "addr": Out(lane_layout(config)),
                "lanes": Out(8 * config.act_lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config, port = self._config, self.port
        all_lanes = config.act_lanes
        shift, word = split(config, port.base)
        near = Signal(len(word), reset_less=True)
        far = Signal(len(word), reset_less=True)
        carries = Signal(all_lanes, reset_less=True)
        enabled = Signal(all_lanes)
        window = Signal(8 * all_lanes)
        mask = Signal(all_lanes)
        m.d.comb += [window.eq(port.data.as_value()), mask.eq(Mux(port.en, port.mask, 0))]
        m.d.sync += [
            near.eq(word),
            far.eq(word + 1),
            carries.eq(below(shift, all_lanes)),
            enabled.eq(rotate(m, mask, shift, 1)),
            self.lanes.eq(rotate(m, window, shift, 8)),
        ]
        in_near, in_far = enabled & ~carries, enabled & carries
        for bank in range(config.act_banks):
            here = Mux(bank_of(config, near) == bank, in_near, 0)
            there = Mux(bank_of(config, far) == bank, in_far, 0)
            m.d.comb += self.en[bank].eq(here | there)
        for lane in range(all_lanes):
            m.d.comb += self.addr[lane].eq(Mux(carries[lane], far, near))
        return m
