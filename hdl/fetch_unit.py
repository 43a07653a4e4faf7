"""Instruction fetch: reads the program in order through the read engine, and hands it out."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .isa import INSTRUCTION_BITS, INSTRUCTION_BYTES
from .ports import PC_BITS, BeatReturn, BurstRequest

#: Instructions in a full fetch burst.
FETCH_BURST = 4
assert FETCH_BURST == 1 << 2
#: Instructions that the buffer holds.
FETCH_BUFFER = 16

#: What fetch hands out. `end` marks the place after the last instruction of the program.
FETCHED = data.StructLayout({"word": INSTRUCTION_BITS, "pc": PC_BITS, "end": 1})


class FetchUnit(wiring.Component):
    """Fetches `count` instructions from `base`, then offers one item with `end` set for ever.

    `start` comes in cycle 0. The first request is valid in cycle 1; the request of a burst of n
    instructions is valid from the cycle after the previous one was taken, and after n places of the
    buffer became free, whichever is later. A place is taken by a request, and is free again in the
    cycle after its instruction was handed out. With a 512-bit bus places are taken in pairs.
    An instruction whose last beat comes in cycle t is offered in cycle t + 1, and one can be taken
    every cycle. With a 512-bit bus a beat brings two instructions.

    Ports
    -----
    start : In(1)
        Begin anew.
    base : In(addr_bits)
        Byte address of the program, a multiple of 4096; sampled at `start`.
    count : In(PC_BITS)
        Instructions in the program; sampled at `start`.
    stop : In(1)
        Ask for nothing more.
    request : stream of BurstRequest
        To the read engine: 4 instructions, the last burst perhaps fewer. `pc` is the first's.
    data : BeatReturn
        From the read engine; it reports bus errors itself.
    o : stream of FETCHED
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "base": In(config.addr_bits),
                "count": In(PC_BITS),
                "stop": In(1),
                "request": Out(stream.Signature(BurstRequest(config))),
                "data": In(BeatReturn(config)),
                "o": Out(stream.Signature(FETCHED)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        free = Signal(range(FETCH_BUFFER + 1), init=FETCH_BUFFER)
        asked = Signal(range(FETCH_BURST + 1))
        taken = Signal()
        active = Signal()
        halves = max(self._config.bus_bits // INSTRUCTION_BITS, 1)
        places = Signal(range(FETCH_BURST + 1))
        offers = Signal()  # there is something to ask for, and room for it
        accepted = Signal()

        def places_of(count):
            return (count + halves - 1) // halves * halves

        next_asked = self._ask(m, asked)
        level = self._buffer(m, taken)

        left = Signal(PC_BITS)
        ended = Signal()  # left is 0
        m.d.comb += [
            self.o.valid.eq(active & (ended | (level != 0))),
            self.o.payload.end.eq(ended),
            taken.eq(self.o.valid & self.o.ready & ~ended),
            places.eq(places_of(asked)),
            self.request.valid.eq(offers),
            accepted.eq(offers & self.request.ready),
        ]
        # Whether to ask in the next cycle, in each case: `accepted` and `taken` come late.
        next_places = places_of(next_asked)
        same = [(asked != 0) & ~(self.stop & ~offers) & (free + n >= places) for n in (0, 1)]
        other = [
            (next_asked != 0) & ~self.stop & (free + n >= places + next_places) for n in (0, 1)
        ]
        with m.If(self.start):
            m.d.sync += offers.eq(self.count != 0)
        with m.Else():
            m.d.sync += offers.eq(
                Mux(accepted, Mux(taken, other[1], other[0]), Mux(taken, same[1], same[0]))
            )
        requested = Mux(accepted, places, 0)
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                left.eq(self.count),
                ended.eq(self.count == 0),
                free.eq(FETCH_BUFFER),
                self.o.payload.pc.eq(0),
            ]
        with m.Else():
            m.d.sync += free.eq(free - requested + taken)
            with m.If(taken):
                m.d.sync += [
                    left.eq(left - 1),
                    ended.eq(left == 1),
                    self.o.payload.pc.eq(self.o.payload.pc + 1),
                ]
        return m

    def _ask(self, m: Module, asked: Signal) -> Signal:
        """Drive the request's payload; `asked` is how many instructions the next burst has.

        Returns how many the one after that has.
        """
        bus_bytes = self._config.bus_bytes
        payload = self.request.payload
        remaining = Signal(PC_BITS)
        after = Signal(PC_BITS)
        next_asked = Signal.like(asked)
        beats = (asked * INSTRUCTION_BYTES + bus_bytes - 1) // bus_bytes
        m.d.comb += [
            payload.len.eq(beats - 1),
            after.eq(remaining - asked),
        ]

        def burst(count):
            return Mux(count >= FETCH_BURST, FETCH_BURST, count)

        # That is burst(after) as long as `asked` is burst(remaining), without a carry chain.
        short = Mux(remaining[2], remaining[:2], 0)
        m.d.comb += next_asked.eq(Mux(remaining[3:].any(), FETCH_BURST, short))
        with m.If(self.start):
            m.d.sync += [
                payload.addr.eq(self.base),
                payload.pc.eq(0),
                remaining.eq(self.count),
                asked.eq(burst(self.count)),
            ]
        with m.Elif(self.request.valid & self.request.ready):
            m.d.sync += [
                payload.addr.eq(payload.addr + FETCH_BURST * INSTRUCTION_BYTES),
                payload.pc.eq(payload.pc + FETCH_BURST),
                remaining.eq(after),
                asked.eq(Mux(self.stop, 0, next_asked)),
            ]
        with m.Elif(self.stop & ~self.request.valid):
            m.d.sync += asked.eq(0)
        return next_asked

    def _buffer(self, m: Module, taken: Signal) -> Signal:
        """Collect beats into instructions; returns how many are complete and not handed out."""
        bus = self._config.bus_bits
        width = max(bus, INSTRUCTION_BITS)
        parts = width // bus
        halves = width // INSTRUCTION_BITS
        m.submodules.store = store = memory.Memory(
            shape=width, depth=FETCH_BUFFER // halves, init=[]
        )
        write = store.write_port(granularity=bus)
        read = store.read_port(domain="comb")
        part = Signal(range(max(parts, 2)))
        index = Signal(range(FETCH_BUFFER))
        level = Signal(range(FETCH_BUFFER + 1))
        complete = Signal()
        m.d.comb += [
            write.data.eq(self.data.data.replicate(parts)),
            write.en.eq(self.data.valid << part),
            complete.eq(self.data.valid & (part == parts - 1)),
            read.addr.eq(index // halves),
        ]
        words = Array(read.data.word_select(i, INSTRUCTION_BITS) for i in range(halves))
        m.d.comb += self.o.payload.word.eq(words[index % halves])
        with m.If(self.start):
            m.d.sync += [part.eq(0), write.addr.eq(0), index.eq(0), level.eq(0)]
        with m.Else():
            with m.If(self.data.valid):
                m.d.sync += part.eq((part + 1) % parts)
            with m.If(complete):
                m.d.sync += write.addr.eq(write.addr + 1)
            m.d.sync += [
                index.eq(index + taken),
                level.eq(level + Mux(complete, halves, 0) - taken),
            ]
        return level
