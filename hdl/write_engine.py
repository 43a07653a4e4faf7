"""The write half of the DMA: buffered bursts onto one AXI write master."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiWrite, constants
from .guard import AddressRegister, Guard
from .ports import PC_BITS, SEGMENT_BITS, BurstRequest, Fault, Segments
from .registers import Error

if TYPE_CHECKING:
    from .config import Config

#: Longest write burst.
WRITE_BURST_BEATS = 16
#: Beats that the engine buffers: two of the longest bursts.
WRITE_BUFFER_BEATS = 32
#: Most write bursts that are outstanding at once.
WRITE_BURSTS = 32
assert WRITE_BURSTS & (WRITE_BURSTS - 1) == 0  # as many are open where the counter's top bit is set


def write_burst_beats(config: Config) -> int:
    """Longest write burst of a machine."""
    return min(config.burst_beats, WRITE_BURST_BEATS)


class WriteBeat(data.StructLayout):
    """A write beat: data, byte strobes, and whether it ends its burst."""

    def __init__(self, config: Config):
        super().__init__({"data": config.bus_bits, "strobe": config.bus_bytes, "last": 1})


class WritePort(wiring.Signature):
    """How STORE hands bursts to the write engine, from STORE's side.

    Members
    -------
    burst
        Address, length and instruction, in a cycle before the burst's first beat. `ready` is 1 as
        long as the rule for `beat` is kept.
    beat, beat_valid
        The burst's beats in order, without back-pressure: at most WRITE_BUFFER_BEATS may have been
        given (and every burst has one at least) without their `sent`.
    sent
        A beat left the engine (one cycle after its handshake on the bus).
    response
        A burst's response came (one cycle after its handshake on the bus).
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "burst": Out(stream.Signature(BurstRequest(config))),
                "beat_valid": Out(1),
                "beat": Out(WriteBeat(config)),
                "sent": In(1),
                "response": In(1),
            }
        )


class WriteEngine(wiring.Component):
    """Sends each burst when all its beats are buffered.

    If a burst's last beat is given in cycle p, and nothing is in the way, AWVALID rises in cycle
    p + 2 and its first beat is on the bus in the same cycle; AW and W then proceed independently.
    In the way of AWVALID are: the previous AWVALID without AWREADY, and WRITE_BURSTS bursts
    without response (one that was answered in cycle b counts until b + 1). One AW and one beat a
    cycle at best. BREADY is always 1.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    port : In(WritePort)
        Bursts, beats and what became of them.
    segments : In(Segments)
        The windows that bursts must lie in.
    refused : Out(1)
        A burst due in the cycle before is outside its window and was dropped; none goes out in this
        cycle. It takes a flipped bit: STORE asks for nothing illegal.
    axi : Out(AxiWrite)
        Bus master. Valid is sticky, the payload stable, no valid waits for a ready.
    error : Out(Fault)
        WRITE_BUS for every response SLVERR or DECERR, with the `pc` of the latest burst given
        (STORE has one instruction in flight).
    kill : In(1)
        From this cycle on no AWVALID rises and what `port` has given or gives is discarded, until
        `kill` is low and `idle` high. Bursts whose AWVALID was up are finished with strobes 0, from
        the first beat not yet on the bus. From the next cycle on responses are not reported. A
        pulse is enough.
    idle : Out(1)
        No burst is open on the bus; after `kill` also: the buffers are empty again.
    beats : Out(1)
        A beat was sent (one cycle after its handshake).
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "port": In(WritePort(config)),
                "segments": In(Segments(config)),
                "refused": Out(1),
                "axi": Out(AxiWrite(config)),
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
        given = self.port.burst.payload
        shift = (config.bus_bytes - 1).bit_length()
        request = data.StructLayout(
            {"addr": config.addr_bits - shift, "len": 8, "segment": SEGMENT_BITS}
        )
        beat = WriteBeat(config)
        m.submodules.bursts = bursts = fifo.SyncFIFOBuffered(
            width=request.size, depth=WRITE_BUFFER_BEATS + 1
        )
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(
            width=beat.size, depth=WRITE_BUFFER_BEATS + 1
        )
        m.submodules.guard = guard = Guard(config)
        m.submodules.address = address = AddressRegister(config)
        burst_head = data.View(request, bursts.r_data)
        beat_head = data.View(beat, beats.r_data)

        draining = Signal()
        silent = Signal()
        quiet = Signal()
        whole = Signal(range(WRITE_BUFFER_BEATS + 1))  # bursts buffered, AWVALID still to rise
        sending = Signal(range(WRITE_BUFFER_BEATS + 1))  # bursts with AWVALID risen, beats to send
        # Whether the three are 0.
        some_whole = Signal()
        some_sending = Signal()
        open_bursts = Signal(range(WRITE_BURSTS + 1))
        none = Signal(init=1)
        due = Signal()
        issue = Signal()
        issued = Signal()
        push_last = Signal()
        sent = Signal()
        sent_last = Signal()
        flush = Signal()
        mute = Signal()
        answered = Signal()
        failed = Signal()
        pc = Signal(PC_BITS)

        # Buffers.
        m.d.comb += [
            silent.eq(self.kill | draining),
            self.port.burst.ready.eq(bursts.w_rdy),
            bursts.w_en.eq(self.port.burst.valid & ~draining),
            bursts.w_data.eq(Cat(given.addr[shift:], given.len, given.segment)),
            beats.w_en.eq(self.port.beat_valid & ~draining),
            beats.w_data.eq(self.port.beat),
            push_last.eq(beats.w_en & self.port.beat.last),
            # Whatever has no AWVALID yet goes, once the bursts before it are sent.
            flush.eq(draining & ~some_sending),
            # In the cycle of `kill` one may go that is dropped either way.
            bursts.r_en.eq(due | draining),
            beats.r_en.eq(sent | flush),
        ]
        with m.If(self.port.burst.valid):
            m.d.sync += pc.eq(given.pc)

        # Address channel.
        m.d.comb += [
            getattr(axi, name).eq(value) for name, value in constants("aw", config).items()
        ]
        m.d.comb += [
            due.eq(
                ~(draining | self.refused)
                & some_whole
                & (~address.valid | axi.awready)
                & ~open_bursts[-1]
            ),
            issue.eq(due & ~self.kill),
        ]
        m.d.comb += [
            guard.base.eq(self.segments.base[burst_head.segment]),
            guard.size.eq(self.segments.size[burst_head.segment]),
            guard.addr.eq(burst_head.addr << shift),
            guard.len.eq(burst_head.len),
            issued.eq(issue & guard.ok),
            address.load.eq(issue),
            address.ok.eq(guard.ok),
            address.addr.eq(burst_head.addr),
            address.len.eq(burst_head.len),
            address.ready.eq(axi.awready),
            axi.awvalid.eq(address.valid),
            axi.awaddr.eq(address.o_addr),
            axi.awlen.eq(address.o_len),
        ]
        m.d.sync += self.refused.eq(issue & ~guard.ok)

        # Data channel. `mute` changes only between beats, so that a waiting beat holds still.
        m.d.comb += [
            axi.wvalid.eq(beats.r_rdy & some_sending),
            axi.wdata.eq(beat_head.data),
            axi.wstrb.eq(beat_head.strobe & (~mute).replicate(config.bus_bytes)),
            axi.wlast.eq(beat_head.last),
            sent.eq(axi.wvalid & axi.wready),
            sent_last.eq(sent & axi.wlast),
        ]
        with m.If(~axi.wvalid | axi.wready):
            m.d.sync += mute.eq(silent)

        # Responses and counts.
        m.d.comb += axi.bready.eq(1)
        m.d.sync += [
            answered.eq(axi.bvalid),
            failed.eq(axi.bvalid & axi.bresp[1]),
            self.beats.eq(sent),
            sending.eq(sending + issued - sent_last),
            some_sending.eq(issued | (sending != sent_last)),
            open_bursts.eq(open_bursts + issued - answered),
            # A burst that is refused counts for a cycle.
            none.eq(~issue & (open_bursts == answered)),
            # Nothing comes in any more; so what is empty stays so.
            quiet.eq(draining & (beats.level == 0) & (bursts.level == 0)),
        ]
        with m.If(silent):
            m.d.sync += [whole.eq(0), some_whole.eq(0)]
        with m.Else():
            m.d.sync += [
                whole.eq(whole + push_last - issue),
                some_whole.eq(push_last | (whole != issue)),
            ]
        m.d.comb += [
            self.port.sent.eq(self.beats),
            self.port.response.eq(answered & ~draining),
            self.error.valid.eq(failed & ~draining),
            self.error.code.eq(Error.WRITE_BUS),
            self.error.pc.eq(pc),
            self.idle.eq(none & (~draining | quiet)),
        ]
        with m.If(self.kill):
            m.d.sync += draining.eq(1)
        with m.Elif(self.idle):
            m.d.sync += draining.eq(0)
        return m
