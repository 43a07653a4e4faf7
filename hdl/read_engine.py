"""The read half of the DMA: requests of FETCH and LOAD onto one AXI read master."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiRead, constants
from .fetch_unit import FETCH_BURST
from .guard import AddressRegister, Guard
from .isa import INSTRUCTION_BYTES
from .ports import PC_BITS, BeatReturn, BurstRequest, Fault, Segments
from .registers import Error

if TYPE_CHECKING:
    from .config import Config

#: Most read bursts that are outstanding at once.
READ_BURSTS = 32
assert READ_BURSTS & (READ_BURSTS - 1) == 0  # as many are open where the counter's top bit is set
_CREDIT_BITS = 15


class ReadEngine(wiring.Component):
    """Issues read bursts, at best one a cycle, and hands the beats to who asked.

    A request is accepted in cycle c if none of its conditions fails: ARVALID is low or ARREADY
    high; fewer than READ_BURSTS bursts are open; for LOAD also: FETCH offers nothing, and its
    beats fit next to the open ones in `read_beats`. A burst (and all its beats) is open from the
    cycle after its acceptance; a beat that the bus delivers in cycle r is no longer open in cycle
    r + 2, nor is the burst whose last beat it is.

    ARVALID rises in cycle c + 1, from a register. A beat that the bus delivers in cycle r is
    returned in cycle r + 1; RREADY is always 1.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    fetch, load : In(stream of BurstRequest)
        FETCH wins. `ready` depends on `fetch.valid`, `load.payload.len`, ARREADY and `kill`.
    fetch_data, load_data : Out(BeatReturn)
        Beats, in the order of each requester's bursts.
    segments : In(Segments)
    base, size : In
        The windows that LOAD's and FETCH's bursts must lie in.
    axi : Out(AxiRead)
        Bus master. Valid is sticky, the payload stable.
    refused : Out(1)
        A request accepted in the cycle before is outside its window and went nowhere; none is
        accepted in this cycle. It takes a flipped bit: the units ask for nothing illegal.
    error : Out(Fault)
        READ_BUS with every beat that came with SLVERR or DECERR; `pc` is the request's, for FETCH
        that of the beat's (first) instruction.
    kill : In(1)
        From this cycle on no request is accepted, and from the next on no beat returned nor an
        error reported, until `kill` is low and `idle` high. An ARVALID that is up stays until
        ARREADY. A pulse is enough.
    idle : Out(1)
        No burst is open.
    beats : Out(1)
        A beat came (one cycle after it was on the bus).
    """

    def __init__(self, config: Config):
        self._config = config
        requests = stream.Signature(BurstRequest(config))
        super().__init__(
            {
                "fetch": In(requests),
                "load": In(requests),
                "fetch_data": Out(BeatReturn(config)),
                "load_data": Out(BeatReturn(config)),
                "segments": In(Segments(config)),
                "base": In(config.addr_bits),
                "size": In(32),
                "refused": Out(1),
                "axi": Out(AxiRead(config)),
                "error": Out(Fault()),
                "kill": In(1),
                "idle": Out(1),
                "beats": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        axi = self.axi
        entry = data.StructLayout({"is_load": 1, "pc": PC_BITS})
        # The output stage holds one entry; the memory behind it the other READ_BURSTS.
        m.submodules.order = order = fifo.SyncFIFOBuffered(width=entry.size, depth=READ_BURSTS + 1)
        pushed = Signal(entry)
        head = data.View(entry, order.r_data)

        draining = Signal()
        silent = Signal()
        open_bursts = Signal(range(READ_BURSTS + 1))
        credit = Signal(signed(_CREDIT_BITS), init=config.read_beats)
        spare = Signal(signed(_CREDIT_BITS + 1))
        accepting = Signal()
        accept = Signal()
        is_load = Signal()
        chosen = Signal(BurstRequest(config))
        beat = Signal()
        beat_last = Signal()
        beat_error = Signal()
        beat_data = Signal(config.bus_bits)
        closes = Signal()
        # One for each requester, so that neither waits for who is chosen.
        m.submodules.guard = guard = Guard(config)
        m.submodules.fetch_guard = fetch_guard = Guard(config)
        ok = Signal()
        none = Signal(init=1)  # open_bursts is 0
        m.submodules.address = address = AddressRegister(config)
        shift = (config.bus_bytes - 1).bit_length()
        segment = self.load.payload.segment
        index = Signal(range(FETCH_BURST * INSTRUCTION_BYTES // config.bus_bytes))
        place = Signal(range(FETCH_BURST))

        m.d.comb += [
            # Credit that the LOAD burst would leave; its sign is quicker than a comparison.
            spare.eq(credit + ~Cat(self.load.payload.len, Const(0, 1)).as_signed()),
            silent.eq(self.kill | draining),
            accepting.eq(
                ~(silent | self.refused) & (~address.valid | axi.arready) & ~open_bursts[-1]
            ),
            is_load.eq(~self.fetch.valid),
            self.fetch.ready.eq(accepting),
            self.load.ready.eq(accepting & is_load & ~spare[-1]),
            accept.eq((self.fetch.valid & self.fetch.ready) | (self.load.valid & self.load.ready)),
            chosen.eq(Mux(is_load, self.load.payload, self.fetch.payload)),
            order.w_en.eq(accept),
            pushed.is_load.eq(is_load),
            pushed.pc.eq(chosen.pc),
            order.w_data.eq(pushed),
        ]

        # Address channel.
        m.d.comb += [
            getattr(axi, name).eq(value) for name, value in constants("ar", config).items()
        ]
        m.d.comb += [
            guard.base.eq(self.segments.base[segment]),
            guard.size.eq(self.segments.size[segment]),
            guard.addr.eq(self.load.payload.addr),
            guard.len.eq(self.load.payload.len),
            fetch_guard.base.eq(self.base),
            fetch_guard.size.eq(self.size),
            fetch_guard.addr.eq(self.fetch.payload.addr),
            fetch_guard.len.eq(self.fetch.payload.len),
            ok.eq(Mux(is_load, guard.ok, fetch_guard.ok)),
            address.load.eq(accept),
            address.ok.eq(ok),
            address.addr.eq(chosen.addr[shift:]),
            address.len.eq(chosen.len),
            address.ready.eq(axi.arready),
            axi.arvalid.eq(address.valid),
            axi.araddr.eq(address.o_addr),
            axi.arlen.eq(address.o_len),
        ]
        m.d.sync += self.refused.eq(accept & ~ok)

        # Data channel.
        m.d.comb += [axi.rready.eq(1), closes.eq(beat & beat_last), order.r_en.eq(closes)]
        m.d.sync += [
            beat.eq(axi.rvalid),
            beat_last.eq(axi.rlast),
            beat_error.eq(axi.rresp[1]),
            beat_data.eq(axi.rdata),
        ]
        for port, source in ((self.fetch_data, 0), (self.load_data, 1)):
            m.d.comb += [
                port.valid.eq(beat & ~draining & (head.is_load == source)),
                port.data.eq(beat_data),
                port.last.eq(beat_last),
                port.error.eq(beat_error),
            ]
        m.d.comb += [
            self.error.valid.eq(beat & beat_error & ~draining),
            self.error.code.eq(Error.READ_BUS),
            self.error.pc.eq(head.pc | Mux(head.is_load, 0, place)),
            self.beats.eq(beat),
        ]

        # FETCH's bursts start at multiples of FETCH_BURST, so the place in one can be or'ed in.
        with m.If(closes):
            m.d.sync += index.eq(0)
        with m.Elif(beat):
            m.d.sync += index.eq(index + 1)
        m.d.comb += place.eq(index * config.bus_bytes // INSTRUCTION_BYTES)

        # What is open.
        gone = closes + self.refused
        m.d.sync += [
            open_bursts.eq(open_bursts + accept - gone),
            none.eq(~accept & (open_bursts == gone)),
            credit.eq(Mux(accept, credit + beat - (chosen.len + 1), credit + beat)),
        ]
        m.d.comb += self.idle.eq(none)
        with m.If(self.kill):
            m.d.sync += draining.eq(1)
        with m.Elif(self.idle):
            m.d.sync += draining.eq(0)
        return m
