"""A controller for single-data-rate SDRAM: any burst, refreshed in time, one row open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .memory_port import COUNT_BITS, MemoryPort

#: Bit of the address that makes PRECHARGE concern all banks.
_ALL_BANKS = 1 << 10
#: Cycles from the controller's decision to read to the data: command register, output register at
#: the pin, the chip's latency less what its clock is late, input register.
CAS_LATENCY = 2
READ_LATENCY = CAS_LATENCY + 2
#: Mode register: bursts of one word, sequential, this latency.
MODE = CAS_LATENCY << 4
_POWER_UP_REFRESHES = 8


@dataclass(frozen=True, kw_only=True)
class Sdram:
    """A chip: its geometry, and the times of its data sheet in nanoseconds.

    Parameters
    ----------
    width
        Bits of a word: 16 or 32.
    row_bits, col_bits, bank_bits
        Of addresses.
    rcd, rp, ras, rc, rfc
        ACTIVE to READ or WRITE, PRECHARGE to ACTIVE, ACTIVE to PRECHARGE, ACTIVE to ACTIVE, REFRESH
        to ACTIVE or REFRESH.
    wr
        Last word written to PRECHARGE.
    mode_cycles
        Clock cycles from MODE to any command.
    refresh_us
        Mean time from REFRESH to REFRESH, microseconds.
    power_up_us
        From power-up to the first command, microseconds.
    access
        From an edge of its clock to data that the FPGA may sample: the slowest chip's, and what
        pins and board add.
    """

    width: int = 16
    row_bits: int = 13
    col_bits: int = 9
    bank_bits: int = 2
    rcd: float = 20
    rp: float = 20
    ras: float = 45
    rc: float = 66
    rfc: float = 66
    wr: float = 20
    mode_cycles: int = 2
    refresh_us: float = 64_000 / 8192
    power_up_us: float = 200
    access: float = 6 + 4

    @property
    def addr_bits(self) -> int:
        """Bits of a word's address."""
        return self.row_bits + self.col_bits + self.bank_bits

    @property
    def fastest_mhz(self) -> float:
        """Highest frequency: data have three quarters of a cycle, see :class:`SdramController`."""
        return 1e3 * 0.75 / self.access

    @property
    def memory_bytes(self) -> int:
        """Its size."""
        return self.width // 8 << self.addr_bits


#: 32 MB, 16 bits wide: the slowest times of IS42S16160G-7, W9825G6KH-6 and MT48LC16M16A2-7E, which
#: boards of one kind carry by turns.
SDRAM_32MB = Sdram()


class SdramPins(wiring.Signature):
    """A chip's pins but its clock, all active high, in the cycle in which registers at the pins
    take them; `dq_i` comes from such registers.
    """

    def __init__(self, chip: Sdram):
        super().__init__(
            {
                "clk_en": Out(1),
                "cs": Out(1),
                "ras": Out(1),
                "cas": Out(1),
                "we": Out(1),
                "ba": Out(chip.bank_bits),
                "a": Out(chip.row_bits),
                "dqm": Out(chip.width // 8),
                "dq_o": Out(chip.width),
                "dq_oe": Out(1),
                "dq_i": In(chip.width),
            }
        )


class SdramController(wiring.Component):
    """Serves bursts in order, a word a cycle while the row stays the same and no refresh is due.

    Words are read and written one by one (burst length 1), so a burst may begin and end anywhere.
    The chip's clock is to rise a quarter of a cycle after this one's.

    Parameters
    ----------
    chip
        What it drives.
    clock_hz
        Frequency of its clock.

    Ports
    -----
    memory : In(MemoryPort)
        Who asks. Nothing is accepted before the chip is initialised.
    pins : Out(SdramPins)
        The chip.

    Attributes
    ----------
    port
        The MemoryPort.
    """

    def __init__(self, chip: Sdram, *, clock_hz: float):
        self._chip = chip
        self._clock_hz = clock_hz
        self.port = MemoryPort(width=chip.width, addr_bits=chip.addr_bits)
        super().__init__({"memory": In(self.port), "pins": Out(SdramPins(chip))})

    def _cycles(self, nanoseconds: float) -> int:
        """Cycles that last as long at least."""
        return max(1, math.ceil(nanoseconds * 1e-9 * self._clock_hz - 1e-6))

    def elaborate(self, platform) -> Module:
        m = Module()
        chip, pins, memory = self._chip, self.pins, self.memory
        rp, rfc = self._cycles(chip.rp), self._cycles(chip.rfc)
        ras_cycles = max(self._cycles(chip.ras), self._cycles(chip.rc) - rp)
        wr_cycles = self._cycles(chip.wr) + 1
        turn_cycles = CAS_LATENCY + 2
        interval = math.floor(chip.refresh_us * 1e-6 * self._clock_hz)
        power_up = self._cycles(1e3 * chip.power_up_us)

        wait = Signal(range(power_up + 1), init=power_up)  # until the next command
        ras, wr = Signal(range(ras_cycles + 1)), Signal(range(wr_cycles + 1))  # until PRECHARGE
        turn = Signal(range(turn_cycles + 1))  # until a WRITE, since the data lines are in use
        refresh = Signal(range(interval), init=interval - 1)
        due = Signal()
        for counter in (wait, ras, wr, turn):
            with m.If(counter != 0):
                m.d.sync += counter.eq(counter - 1)
        m.d.sync += refresh.eq(Mux(refresh == 0, interval - 1, refresh - 1))

        active, write = Signal(), Signal()
        left = Signal(COUNT_BITS)
        column = Signal(chip.col_bits)
        bank, open_bank = Signal(chip.bank_bits), Signal(chip.bank_bits)
        row, open_row = Signal(chip.row_bits), Signal(chip.row_bits)
        opened, closable = Signal(), Signal()
        m.d.comb += closable.eq((ras == 0) & (wr == 0))
        reading = Signal(READ_LATENCY)
        read = Signal()
        m.d.sync += [
            reading.eq(Cat(read, reading)),
            Cat(pins.ras, pins.cas, pins.we, pins.dqm, pins.dq_oe).eq(0),
            pins.cs.eq(1),
            pins.clk_en.eq(1),
            pins.ba.eq(bank),
            pins.a.eq(column),
            pins.dq_o.eq(memory.w.payload.data),
        ]
        m.d.comb += [
            memory.r.valid.eq(reading[-1]),
            memory.r.payload.eq(pins.dq_i),
        ]

        def command(*lines: Signal, wait_cycles: int = 1, a=None) -> None:
            m.d.sync += [line.eq(1) for line in lines]
            m.d.sync += wait.eq(wait_cycles - 1)
            if a is not None:
                m.d.sync += pins.a.eq(a)

        def precharge() -> None:
            command(pins.ras, pins.we, wait_cycles=rp, a=_ALL_BANKS)
            m.d.sync += opened.eq(0)

        step = Signal(range(_POWER_UP_REFRESHES + 2))
        with m.FSM():
            with m.State("POWER_UP"), m.If(wait == 0):
                m.d.sync += step.eq(step + 1)
                with m.If(step == 0):
                    precharge()
                with m.Elif(step <= _POWER_UP_REFRESHES):
                    command(pins.ras, pins.cas, wait_cycles=rfc)
                with m.Else():
                    command(pins.ras, pins.cas, pins.we, wait_cycles=chip.mode_cycles, a=MODE)
                    m.d.sync += pins.ba.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += memory.request.ready.eq(~active)
                with m.If(memory.request.valid & ~active):
                    request = memory.request.payload
                    m.d.sync += [
                        active.eq(1),
                        write.eq(request.write),
                        left.eq(request.count),
                        Cat(column, bank, row).eq(request.addr),
                    ]
                with m.If(wait != 0):
                    pass
                with m.Elif(due):
                    with m.If(~opened):
                        command(pins.ras, pins.cas, wait_cycles=rfc)
                        m.d.sync += due.eq(0)
                    with m.Elif(closable):
                        precharge()
                with m.Elif(~active):
                    pass
                with m.Elif(~opened):
                    command(pins.ras, wait_cycles=self._cycles(chip.rcd), a=row)
                    m.d.sync += [
                        opened.eq(1),
                        open_bank.eq(bank),
                        open_row.eq(row),
                        ras.eq(ras_cycles - 1),
                    ]
                with m.Elif((open_bank != bank) | (open_row != row)):  # noqa: SIM117
                    with m.If(closable):
                        precharge()
                with m.Elif(~write | (memory.w.valid & (turn == 0))):
                    command(pins.cas)
                    m.d.sync += [
                        Cat(column, bank, row).eq(Cat(column, bank, row) + 1),
                        left.eq(left - 1),
                        active.eq(left != 0),
                    ]
                    with m.If(write):
                        m.d.comb += memory.w.ready.eq(1)
                        m.d.sync += [
                            pins.we.eq(1),
                            pins.dq_oe.eq(1),
                            pins.dqm.eq(~memory.w.payload.strobe),
                            wr.eq(wr_cycles - 1),
                        ]
                    with m.Else():
                        m.d.comb += read.eq(1)
                        m.d.sync += turn.eq(turn_cycles - 1)
        with m.If(refresh == 0):
            m.d.sync += due.eq(1)
        return m
