"""Frames in gateware: a receiver that takes them apart and a sender; see :mod:`.frame`."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from .frame import CRC_BYTES, ESCAPE, FLAG, HEADER_BYTES, MASK, MAX_DATA

#: Width of the buffer's words.
HALF = 16
#: Width of a number of data bytes.
LENGTH_BITS = (MAX_DATA + CRC_BYTES).bit_length()
#: Width of an address in the buffer.
PLACE_BITS = (MAX_DATA // 2 - 1).bit_length()


class Receiver(wiring.Component):
    """Takes frames apart: header to registers, data to a buffer, `sound` when the CRC agrees.

    Ports
    -----
    i_stream : In(stream of bytes)
        From the line; what comes while `listen` is low is dropped.
    listen : In(1)
        A frame is wanted; each one is to begin with a FLAG after it rises.
    sound : Out(1)
        For one cycle: header and buffer hold a frame with a right CRC and no more bytes of data
        than MAX_DATA.
    sequence, command, length, address : Out
        The header.
    received : Out
        Bytes of data in the frame.
    w_en, w_addr, w_data : Out
        Write port of the buffer, whose words are 16 bits wide; a bit of `w_en` for each byte.
    """

    def __init__(self):
        super().__init__(
            {
                "i_stream": In(stream.Signature(8, always_ready=True)),
                "listen": In(1),
                "sound": Out(1),
                "sequence": Out(8),
                "command": Out(8),
                "length": Out(16),
                "address": Out(32),
                "received": Out(LENGTH_BITS),
                "w_en": Out(2),
                "w_addr": Out(PLACE_BITS),
                "w_data": Out(HALF),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC32_ETHERNET(data_width=8).create()
        byte, escaped, hunting = Signal(8), Signal(), Signal(init=1)
        header = Signal(8 * HEADER_BYTES)
        count = Signal(range(HEADER_BYTES + MAX_DATA + CRC_BYTES + 2))  # the last one: too many
        most = HEADER_BYTES + MAX_DATA + CRC_BYTES
        place = Signal(LENGTH_BITS)
        m.d.comb += [
            Cat(self.sequence, self.command, self.length, self.address).eq(header),
            byte.eq(self.i_stream.payload ^ Mux(escaped, MASK, 0)),
            crc.data.eq(byte),
            place.eq(count - HEADER_BYTES),
            self.received.eq(place - CRC_BYTES),
            self.w_addr.eq(place >> 1),
            self.w_data.eq(byte.replicate(2)),
        ]
        with m.If(~self.listen):
            m.d.sync += hunting.eq(1)
        with m.Elif(self.i_stream.valid):
            with m.If(self.i_stream.payload == FLAG):
                least = HEADER_BYTES + CRC_BYTES
                m.d.comb += [
                    crc.start.eq(1),
                    self.sound.eq(
                        ~hunting
                        & ~escaped
                        & crc.match_detected
                        & (count >= least)
                        & (count <= most)
                    ),
                ]
                m.d.sync += [hunting.eq(0), escaped.eq(0), count.eq(0)]
            with m.Elif(self.i_stream.payload == ESCAPE):
                m.d.sync += escaped.eq(1)
            with m.Elif(~hunting):
                m.d.comb += crc.valid.eq(1)
                m.d.sync += escaped.eq(0)
                with m.If(count <= most):
                    m.d.sync += count.eq(count + 1)
                with m.If(count < HEADER_BYTES):
                    m.d.sync += header.eq(Cat(header[8:], byte))
                with m.Elif(count < HEADER_BYTES + MAX_DATA):
                    m.d.comb += self.w_en.eq(Mux(place[0], 2, 1))
        return m


class Sender(wiring.Component):
    """Sends one response.

    Ports
    -----
    start : In(1)
        Send: header and data are to be stable until `done`.
    header : In(64)
        Its header.
    length : In
        Bytes of data.
    r_addr, r_data
        Read port of the buffer, latency 1.
    o_stream : Out(stream of bytes)
        To the line.
    done : Out(1)
        For one cycle: the last byte goes to the line.
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "header": In(8 * HEADER_BYTES),
                "length": In(LENGTH_BITS),
                "r_addr": Out(PLACE_BITS),
                "r_data": In(HALF),
                "o_stream": Out(stream.Signature(8)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC32_ETHERNET(data_width=8).create()
        out = self.o_stream
        index = Signal(range(MAX_DATA))
        byte, held, escaped = Signal(8), Signal(8 * CRC_BYTES), Signal()
        special = Signal()
        last = Signal()
        m.d.comb += [
            special.eq((byte == FLAG) | (byte == ESCAPE)),
            self.r_addr.eq(index >> 1),
        ]

        def send(after: str, *, counted: bool) -> None:
            """Send `byte`, escaped if need be; then go on, to `after` if it was the last."""
            m.d.comb += [
                out.valid.eq(1),
                out.payload.eq(Mux(special, Mux(escaped, byte ^ MASK, ESCAPE), byte)),
                crc.data.eq(byte),
            ]
            with m.If(out.ready):
                with m.If(special & ~escaped):
                    m.d.sync += escaped.eq(1)
                with m.Else():
                    m.d.comb += crc.valid.eq(counted)
                    m.d.sync += [escaped.eq(0), index.eq(Mux(last, 0, index + 1))]
                    with m.If(last):
                        m.next = after

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += index.eq(0)
                with m.If(self.start):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += [out.valid.eq(1), out.payload.eq(FLAG), crc.start.eq(1)]
                with m.If(out.ready):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [
                    byte.eq(self.header.word_select(index[:3], 8)),
                    last.eq(index == HEADER_BYTES - 1),
                ]
                send("FETCH", counted=True)
            with m.State("FETCH"):
                m.next = "DATA"
                with m.If(self.length == 0):
                    m.d.sync += held.eq(crc.crc)
                    m.next = "CRC"
            with m.State("DATA"):
                m.d.comb += [
                    byte.eq(self.r_data.word_select(index[0], 8)),
                    last.eq(index == self.length - 1),
                ]
                with m.If(out.ready & ~(special & ~escaped)):
                    m.next = "FETCH"
                send("SETTLE", counted=True)
            with m.State("SETTLE"):  # the CRC is one cycle late
                m.d.sync += held.eq(crc.crc)
                m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [
                    byte.eq(held.word_select(index[:2], 8)),
                    last.eq(index == CRC_BYTES - 1),
                ]
                send("END", counted=False)
            with m.State("END"):
                m.d.comb += [out.valid.eq(1), out.payload.eq(FLAG)]
                with m.If(out.ready):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m
