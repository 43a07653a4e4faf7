"""The board's end of the host link: executes sound frames, once each; see :mod:`.frame`."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from ..hdl.axi import AxiLite
from ..hdl.ram import Ram
from ..hdl.registers import REGISTER_ADDR_BITS
from .frame import IDENTITY_BYTES, MAX_DATA, RESPONSE, Command, Identity, Status
from .framing import HALF, LENGTH_BITS, PLACE_BITS, Receiver, Sender
from .memory_port import MemoryPort

_STATUS_BITS = 8


class Buffer(wiring.Component):
    """The data of a frame: halves from and to the line, words from and to the memory.

    Ports
    -----
    w_en, w_addr, w_data : In
        Writes a half; a bit of `w_en` for each byte.
    word_en, word : In
        Writes the whole word that begins at half `w_addr` instead.
    r_addr : In
        A half.
    r_data, r_word : Out
        That half, and the word that it lies in; a cycle later.
    """

    def __init__(self, *, width: int):
        super().__init__(
            {
                "w_en": In(2),
                "w_addr": In(PLACE_BITS),
                "w_data": In(HALF),
                "word_en": In(1),
                "word": In(width),
                "r_addr": In(PLACE_BITS),
                "r_data": Out(HALF),
                "r_word": Out(width),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        width = len(self.word)
        halves = width // HALF
        below = halves.bit_length() - 1  # address bits of a half in its word
        m.submodules.ram = ram = Ram(width=width, depth=8 * MAX_DATA // width, granularity=8)
        half = Signal(range(halves))
        m.d.sync += half.eq(self.r_addr[:below])
        m.d.comb += [
            ram.w_addr.eq(self.w_addr >> below),
            ram.r_addr.eq(self.r_addr >> below),
            ram.r_en.eq(1),
            self.r_word.eq(ram.r_data),
            self.r_data.eq(ram.r_data.word_select(half, HALF)),
        ]
        with m.If(self.word_en):
            m.d.comb += [ram.w_en.eq(~0), ram.w_data.eq(self.word)]
        with m.Else():
            m.d.comb += [
                ram.w_en.word_select(self.w_addr[:below], 2).eq(self.w_en),
                ram.w_data.eq(self.w_data.replicate(halves)),
            ]
        return m


class Link(wiring.Component):
    """Receives a frame, executes it, answers; then listens again.

    Parameters
    ----------
    identity
        What IDENTIFY answers.
    port
        The memory's port, 16 or 32 bits wide.

    Ports
    -----
    i_stream, o_stream : streams of bytes
        From and to the line.
    registers : Out(AxiLite)
        The machine's registers.
    memory : Out(MemoryPort)
        The board's memory.
    active : Out(1)
        A request is under way.
    """

    def __init__(self, identity: Identity, port: MemoryPort):
        if port.width not in (HALF, 2 * HALF):
            raise ValueError(f"the memory's width must be {HALF} or {2 * HALF}, not {port.width}")
        self._identity = identity
        self._port = port
        super().__init__(
            {
                "i_stream": In(stream.Signature(8, always_ready=True)),
                "o_stream": Out(stream.Signature(8)),
                "registers": Out(AxiLite(REGISTER_ADDR_BITS)),
                "memory": Out(port),
                "active": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.receiver = receiver = Receiver()
        m.submodules.sender = sender = Sender()
        m.submodules.buffer = buffer = Buffer(width=self._port.width)
        connect(m, wiring.flipped(self.i_stream), receiver.i_stream)
        connect(m, sender.o_stream, wiring.flipped(self.o_stream))

        request = receiver  # its header stays until the next frame
        opened, sequence = Signal(), Signal(8)  # the number of the request executed last
        status, outcome = Signal(_STATUS_BITS), Signal(_STATUS_BITS)  # now, and of the last write
        received, answer = Signal(LENGTH_BITS), Signal(LENGTH_BITS)
        asked = Signal(16)
        index = Signal(PLACE_BITS + 1)
        final = Signal()
        is_write, is_memory = Signal(), Signal()
        m.d.comb += [
            is_write.eq(
                (request.command == Command.WRITE_REGISTERS)
                | (request.command == Command.WRITE_MEMORY)
            ),
            is_memory.eq(
                (request.command == Command.READ_MEMORY) | (request.command == Command.WRITE_MEMORY)
            ),
            asked.eq(Mux(is_write, received, request.length)),
            sender.header.eq(
                Cat(
                    request.sequence,
                    request.command | RESPONSE,
                    answer,
                    Const(0, 16 - LENGTH_BITS),
                    status,
                )
            ),
            sender.length.eq(answer),
            sender.r_data.eq(buffer.r_data),
            buffer.w_en.eq(receiver.w_en),
            buffer.w_addr.eq(receiver.w_addr),
            buffer.w_data.eq(receiver.w_data),
            buffer.r_addr.eq(sender.r_addr),
            self.active.eq(1),
        ]

        with m.FSM():
            with m.State("LISTEN"):
                m.d.comb += [receiver.listen.eq(1), self.active.eq(0)]
                m.d.sync += [
                    received.eq(receiver.received),
                    index.eq(0),
                    answer.eq(0),
                    status.eq(Status.OK),
                ]
                with m.If(receiver.sound):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(request.command == Command.IDENTIFY):
                    m.d.sync += [opened.eq(1), sequence.eq(request.sequence)]
                    m.next = "IDENTITY"
                with m.Elif(opened & (request.sequence == sequence)):
                    m.next = "CHECK"
                    with m.If(is_write):
                        m.d.sync += status.eq(outcome)
                        m.next = "ANSWER"
                with m.Elif(opened & (request.sequence == (sequence + 1)[:8])):
                    m.d.sync += sequence.eq(request.sequence)
                    m.next = "CHECK"
                with m.Else():
                    m.d.sync += status.eq(Status.SEQUENCE)
                    m.next = "ANSWER"
            with m.State("IDENTITY"):
                rom = Const(int.from_bytes(self._identity.encode(), "little"), 8 * IDENTITY_BYTES)
                m.d.comb += [
                    buffer.w_en.eq(0b11),
                    buffer.w_addr.eq(index),
                    buffer.w_data.eq(rom.word_select(index[:4], HALF)),
                ]
                m.d.sync += [index.eq(index + 1), answer.eq(IDENTITY_BYTES)]
                with m.If(index == IDENTITY_BYTES // 2 - 1):
                    m.next = "ANSWER"
            with m.State("CHECK"):
                self._check(m, request, received, asked, is_write, is_memory, status)
            with m.State("ANSWER"):
                m.d.comb += sender.start.eq(1)
                with m.If(is_write & (status != Status.SEQUENCE)):
                    m.d.sync += outcome.eq(status)
                m.next = "SEND"
            with m.State("SEND"), m.If(sender.done):
                m.next = "LISTEN"

            m.d.comb += final.eq(index == (asked >> 1) - 1)
            self._memory_states(m, request, asked, is_write, index, answer, buffer)
            self._register_states(m, request, asked, is_write, index, final, answer, status, buffer)
        return m

    def _check(self, m, request, received, asked, is_write, is_memory, status):
        """State CHECK: refuse what cannot be, else begin."""
        end, limit = Signal(33), Signal(33)
        m.d.comb += [
            end.eq(request.address + asked),
            limit.eq(Mux(is_memory, self._port.memory_bytes, 1 << REGISTER_ADDR_BITS)),
        ]
        with m.If(request.command > max(Command)):
            m.d.sync += status.eq(Status.COMMAND)
            m.next = "ANSWER"
        with m.Elif(
            (asked == 0)
            | (asked > MAX_DATA)
            | asked[:2].any()
            | (received != Mux(is_write, request.length, 0))
        ):
            m.d.sync += status.eq(Status.LENGTH)
            m.next = "ANSWER"
        with m.Elif((end > limit) | request.address[:2].any()):
            m.d.sync += status.eq(Status.ADDRESS)
            m.next = "ANSWER"
        with m.Elif(is_memory):
            m.next = "REQUEST"
        with m.Elif(is_write):
            m.next = "FETCH"
        with m.Else():
            m.next = "READ"

    def _memory_states(self, m, request, asked, is_write, index, answer, buffer):
        """From REQUEST on: one burst of the memory, from or to the buffer."""
        memory = self.memory
        burst = memory.request.payload
        step = self._port.width // HALF
        shift = step.bit_length()  # from bytes to words
        with m.State("REQUEST"):
            m.d.comb += [
                memory.request.valid.eq(1),
                burst.addr.eq(request.address >> shift),
                burst.count.eq((asked >> shift) - 1),
                burst.write.eq(is_write),
                buffer.r_addr.eq(0),
            ]
            with m.If(memory.request.ready):
                m.next = "READ_BURST"
                with m.If(is_write):
                    m.next = "WRITE_BURST"
        with m.State("READ_BURST"):
            m.d.comb += [
                buffer.word_en.eq(memory.r.valid),
                buffer.w_addr.eq(index),
                buffer.word.eq(memory.r.payload),
            ]
            with m.If(memory.r.valid):
                m.d.sync += index.eq(index + step)
                with m.If(index == (asked >> 1) - step):
                    m.d.sync += answer.eq(asked)
                    m.next = "ANSWER"
        with m.State("WRITE_BURST"):
            taken = memory.w.ready
            m.d.comb += [
                memory.w.valid.eq(1),
                memory.w.payload.data.eq(buffer.r_word),
                memory.w.payload.strobe.eq(~0),
                buffer.r_addr.eq(index + Mux(taken, step, 0)),
            ]
            with m.If(taken):
                m.d.sync += index.eq(index + step)
                with m.If(index == (asked >> 1) - step):
                    m.next = "ANSWER"

    def _register_states(self, m, request, asked, is_write, index, final, answer, status, buffer):
        """From READ and FETCH on: registers one by one, from or to the buffer."""
        bus = self.registers
        word = Signal(32)
        sent_address, sent_data = Signal(), Signal()
        place = Signal(REGISTER_ADDR_BITS)
        m.d.comb += [
            place.eq(request.address + (index << 1)),
            bus.araddr.eq(place),
            bus.awaddr.eq(place),
            bus.wdata.eq(word),
            bus.wstrb.eq(0b1111),
        ]
        with m.State("READ"):
            m.d.comb += bus.arvalid.eq(1)
            with m.If(bus.arready):
                m.next = "READ_DATA"
        with m.State("READ_DATA"):
            m.d.comb += bus.rready.eq(1)
            m.d.sync += word.eq(bus.rdata)
            with m.If(bus.rvalid):
                m.next = "KEEP"
                with m.If(bus.rresp[1]):
                    m.d.sync += status.eq(Status.BUS)
                    m.next = "ANSWER"
        with m.State("KEEP"):
            m.d.comb += [
                buffer.w_en.eq(0b11),
                buffer.w_addr.eq(index),
                buffer.w_data.eq(word[:HALF]),
            ]
            m.d.sync += [index.eq(index + 1), word.eq(word >> HALF)]
            with m.If(final):
                m.d.sync += answer.eq(asked)
                m.next = "ANSWER"
            with m.Elif(index[0]):
                m.next = "READ"
        with m.State("FETCH"):
            m.d.comb += buffer.r_addr.eq(index)
            m.next = "FETCH_HIGH"
        with m.State("FETCH_HIGH"):
            m.d.comb += buffer.r_addr.eq(index | 1)
            m.d.sync += word[:HALF].eq(buffer.r_data)
            m.next = "FETCHED"
        with m.State("FETCHED"):
            m.d.sync += [word[HALF:].eq(buffer.r_data), sent_address.eq(0), sent_data.eq(0)]
            m.next = "WRITE"
        with m.State("WRITE"):
            m.d.comb += [bus.awvalid.eq(~sent_address), bus.wvalid.eq(~sent_data)]
            m.d.sync += [
                sent_address.eq(sent_address | bus.awready),
                sent_data.eq(sent_data | bus.wready),
            ]
            with m.If((sent_address | bus.awready) & (sent_data | bus.wready)):
                m.next = "WRITTEN"
        with m.State("WRITTEN"):
            m.d.comb += bus.bready.eq(1)
            with m.If(bus.bvalid):
                m.d.sync += index.eq(index + 2)
                m.next = "FETCH"
                with m.If(bus.bresp[1]):
                    m.d.sync += status.eq(Status.BUS)
                    m.next = "ANSWER"
                with m.Elif(index == (asked >> 1) - 2):
                    m.next = "ANSWER"
