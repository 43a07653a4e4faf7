"""An asynchronous serial port: 8 data bits, no parity, one stop bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

#: Bit times are counted in 1/FRACTION of a cycle, so that any baud rate is met.
FRACTION = 64
#: Fewest cycles that a bit may take: the receiver is late by up to two of them.
FEWEST_CYCLES = 6
_BITS = 8


def bit_time(clock_hz: float, baud: float) -> int:
    """Length of a bit in 1/FRACTION of a cycle.

    Raises
    ------
    ValueError
        A bit would be shorter than FEWEST_CYCLES.
    """
    ticks = round(FRACTION * clock_hz / baud)
    if ticks < FEWEST_CYCLES * FRACTION:
        raise ValueError(
            f"baud must be at most a {FEWEST_CYCLES}th of the clock, "
            f"not {baud:g} of {clock_hz:g} Hz"
        )
    return ticks


class UartReceiver(wiring.Component):
    """Takes bytes off a line; one that nobody takes, or whose stop bit is missing, is dropped.

    Parameters
    ----------
    ticks
        Length of a bit, from :func:`bit_time`.

    Ports
    -----
    line : In(1)
        The pin, asynchronous, idle high.
    o_stream : Out(stream of bytes)
        `valid` for one cycle, in the middle of the stop bit.
    """

    def __init__(self, *, ticks: int):
        self._ticks = ticks
        super().__init__(
            {"line": In(1, init=1), "o_stream": Out(stream.Signature(8, always_ready=True))}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.line = FFSynchronizer(self.line, line, init=1)
        timer = Signal(range(2 * self._ticks))
        left = Signal(range(_BITS + 3))  # bits still to come, start and stop bit among them
        shift = Signal(_BITS)
        m.d.comb += self.o_stream.payload.eq(shift)
        with m.If(left == 0), m.If(~line):
            m.d.sync += [left.eq(_BITS + 2), timer.eq(self._ticks // 2)]
        with m.Elif(timer >= FRACTION):
            m.d.sync += timer.eq(timer - FRACTION)
        with m.Else():
            m.d.sync += [timer.eq(timer + self._ticks - FRACTION), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.comb += self.o_stream.valid.eq(line)
            with m.Elif(left == _BITS + 2), m.If(line):  # too short for a start bit
                m.d.sync += left.eq(0)
            with m.Else():
                m.d.sync += shift.eq(Cat(shift[1:], line))
        return m


class UartSender(wiring.Component):
    """Puts bytes on a line.

    Parameters
    ----------
    ticks
        Length of a bit, from :func:`bit_time`.

    Ports
    -----
    i_stream : In(stream of bytes)
        `ready` while the line is idle.
    line : Out(1)
        The pin, idle high.
    """

    def __init__(self, *, ticks: int):
        self._ticks = ticks
        super().__init__({"i_stream": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        timer = Signal(range(2 * self._ticks))
        left = Signal(range(_BITS + 3))
        shift = Signal(_BITS + 1, init=(1 << (_BITS + 1)) - 1)
        m.d.comb += [self.line.eq(shift[0]), self.i_stream.ready.eq(left == 0)]
        with m.If(left == 0), m.If(self.i_stream.valid):
            m.d.sync += [
                shift.eq(Cat(Const(0, 1), self.i_stream.payload)),
                left.eq(_BITS + 2),
                timer.eq(self._ticks - FRACTION),
            ]
        with m.Elif(timer >= FRACTION):
            m.d.sync += timer.eq(timer - FRACTION)
        with m.Else():
            m.d.sync += [
                timer.eq(timer + self._ticks - FRACTION),
                left.eq(left - 1),
                shift.eq(Cat(shift[1:], Const(1, 1))),
            ]
        return m
