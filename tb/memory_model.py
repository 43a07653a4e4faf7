"""The AXI4 memory that cycle counts refer to, in Python; twin of axi_memory.h, cycle by cycle.

In every cycle t: :meth:`AxiMemoryModel.drive` decides the slave's outputs from its state alone,
then :meth:`AxiMemoryModel.sample` takes the settled outputs of the master.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TypeVar

from ..hdl.axi import BURST_INCR, Response

NEVER = (1 << 64) - 1
_MASK = NEVER
_STALL_RATES = (0, 64, 160, 240)


class Channel(enum.IntEnum):
    """AXI channels, as numbered in the log of handshakes."""

    AR = 0
    R = 1
    AW = 2
    W = 3
    B = 4


#: Masks of channels that stall.
READ_STALLS = 1 << Channel.AR | 1 << Channel.R
WRITE_STALLS = 1 << Channel.AW | 1 << Channel.W | 1 << Channel.B
ALL_STALLS = READ_STALLS | WRITE_STALLS


@dataclass(frozen=True)
class Options:
    """How the memory behaves.

    Parameters
    ----------
    latency
        Cycles from an address handshake to the first beat, and from the last write beat to the
        response; 0 counts as 1.
    beat_interval
        Cycles from a beat's handshake to the next that may be: RVALID stays low, and WREADY too, in
        between; 0 counts as 1.
    stall_seed
        Non-zero: every channel stalls at random, reproducibly.
    stall_channels
        Mask of the channels that do; their stalls do not depend on the others'.
    read_fault, read_response
        The number of the read beat since START that is answered with that response instead.
    last_fault
        The number of the read beat since START whose RLAST is wrong.
    write_fault, write_response
        The number of the write burst since START that is answered with that response instead.
    stop, after, pause
        Channel that falls silent (no ready, or no valid) after so many of its handshakes since
        START, and for how many cycles from the one in which the next would have been.
    log_traffic
        Keep every handshake.
    """

    latency: int = 50
    beat_interval: int = 1
    stall_seed: int = 0
    stall_channels: int = ALL_STALLS
    read_fault: int = NEVER
    read_response: int = Response.SLVERR
    last_fault: int = NEVER
    write_fault: int = NEVER
    write_response: int = Response.SLVERR
    stop: int = NEVER
    after: int = 0
    pause: int = NEVER
    log_traffic: bool = False


@dataclass(frozen=True)
class Address:
    """What an address channel carries."""

    addr: int
    len: int
    size: int
    burst: int
    id: int


@dataclass(frozen=True)
class Beat:
    """What the write data channel carries."""

    data: int
    strobe: int
    last: int


@dataclass(frozen=True)
class Master:
    """What the master drives in a cycle; a channel without valid is None."""

    ar: Address | None = None
    aw: Address | None = None
    w: Beat | None = None
    rready: int = 0
    bready: int = 0


_Payload = TypeVar("_Payload", Address, Beat)


class ProtocolError(AssertionError):
    """The master broke AXI's rules or the machine's own (full width, INCR, ID 0)."""


def splitmix(x: int) -> int:
    """A 64-bit hash."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


class AxiMemoryModel:
    """The slave's state and outputs.

    Parameters
    ----------
    bus_bytes
        Bytes of a beat.
    options
        Behaviour.

    Attributes
    ----------
    regions
        (base address, bytearray) pairs; anything else answers DECERR.
    traffic
        (cycle since origin, channel, value) of each handshake, if the options ask for it; value is
        the address, the low 64 bits of the data, or the write response.
    moved
        Cycle of the latest handshake.
    written
        Cycle since origin in which the latest write beat with strobes was first offered; -1 before.
    """

    def __init__(self, bus_bytes: int, options: Options | None = None):
        self.bytes = bus_bytes
        self.options = options or Options()
        self.regions: list[tuple[int, bytearray]] = []
        self.traffic: list[tuple[int, int, int]] = []
        self.moved = -1
        self.written = -1
        self.arready = self.awready = self.wready = 1
        self.rvalid = self.bvalid = 0
        self.rdata = self.rresp = self.rlast = self.bresp = 0
        self._reads: deque[list[int]] = deque()  # address, beats, due
        self._writes: deque[list[int]] = deque()  # address, beats, response
        self._beats: deque[Beat] = deque()
        self._responses: deque[tuple[int, int]] = deque()  # due, response
        self._held: dict[Channel, Address | Beat] = {}
        self._count = [0] * len(Channel)
        self._origin = self._offered = 0
        self._next_read = self._next_write = 0  # cycles from which the next beats may be
        self._stopped: int | None = None

    def origin(self, cycle: int) -> None:
        """Log, stalls, beat intervals and numbers of faults count from `cycle`."""
        self._origin = self._next_read = self._next_write = cycle
        self._count = [0] * len(Channel)
        self._stopped = None
        self.written = -1
        self.traffic.clear()

    @property
    def idle(self) -> bool:
        """Nothing will change on the slave's outputs until the master asserts a valid."""
        busy = self._reads or self._writes or self._beats or self._responses or self._held
        return bool(self.wready) and not busy and self.options.stop == NEVER

    def drive(self, t: int) -> None:
        """Decide the outputs of cycle t."""
        options = self.options
        stalled = self._stalls(t - self._origin) if options.stall_seed else 0
        stalled &= options.stall_channels
        self.arready = int(not (stalled >> Channel.AR & 1 or self._withheld(Channel.AR, t)))
        self.awready = int(not (stalled >> Channel.AW & 1 or self._withheld(Channel.AW, t)))
        self.wready = int(
            not (stalled >> Channel.W & 1 or self._withheld(Channel.W, t)) and t >= self._next_write
        )
        if (
            not self.rvalid
            and t >= self._next_read
            and not stalled >> Channel.R & 1
            and self._reads
            and self._reads[0][2] <= t
            and not self._withheld(Channel.R, t, wanted=True)
        ):
            self._present_read()
        if (
            not self.bvalid
            and not stalled >> Channel.B & 1
            and self._responses
            and self._responses[0][0] <= t
            and not self._withheld(Channel.B, t, wanted=True)
        ):
            self.bvalid = 1
            failing = self._count[Channel.B] == options.write_fault
            self.bresp = int(options.write_response if failing else self._responses[0][1])

    def sample(self, t: int, master: Master) -> None:
        """Take the master's outputs of cycle t; ProtocolError if they break the rules."""
        due = t + max(1, self.options.latency)
        interval = max(1, self.options.beat_interval)
        if self.rvalid and master.rready:
            self._log(t, Channel.R, self.rdata & _MASK)
            self.rvalid = 0
            self._next_read = t + interval
            read = self._reads[0]
            read[0] += self.bytes
            read[1] -= 1
            if read[1] == 0:
                self._reads.popleft()
        if self.bvalid and master.bready:
            self._log(t, Channel.B, self.bresp)
            self.bvalid = 0
            self._responses.popleft()
        ar = self._taken(Channel.AR, t, master.ar, self.arready)
        if ar is not None:
            self._check(Channel.AR, t, ar)
            self._log(t, Channel.AR, ar.addr)
            self._reads.append([ar.addr, ar.len + 1, due])
        aw = self._taken(Channel.AW, t, master.aw, self.awready)
        if aw is not None:
            self._check(Channel.AW, t, aw)
            self._log(t, Channel.AW, aw.addr)
            self._writes.append([aw.addr, aw.len + 1, Response.OKAY])
        if Channel.W not in self._held:
            self._offered = t - self._origin
        w = self._taken(Channel.W, t, master.w, self.wready)
        if w is not None:
            if w.strobe:
                self.written = self._offered
            self._log(t, Channel.W, w.data & _MASK)
            self._next_write = t + interval
            self._beats.append(w)
        while self._beats and self._writes:
            self._write(t, due)

    def _stalls(self, cycle: int) -> int:
        """Which channels stall: each at random, at a rate that changes every 64 cycles."""
        seed = self.options.stall_seed
        draw = splitmix((seed * 0x100000001B3 + cycle) & _MASK)
        rate = splitmix(((~seed & _MASK) * 0x100000001B3 + ((cycle & _MASK) >> 6)) & _MASK)
        out = 0
        for c in Channel:
            out |= ((draw >> (8 * c) & 255) < _STALL_RATES[rate >> (8 * c) & 3]) << c
        return out

    def _withheld(self, channel: Channel, t: int, *, wanted: bool = False) -> bool:
        """Whether the channel is silent; the pause begins when a handshake is `wanted`."""
        if self.options.stop != channel or self._count[channel] < self.options.after:
            return False
        if wanted and self._stopped is None:
            self._stopped = t
        return self._stopped is None or t - self._stopped < self.options.pause

    def _find(self, addr: int) -> tuple[bytearray, int] | None:
        for base, contents in self.regions:
            if 0 <= addr - base <= len(contents) - self.bytes:
                return contents, addr - base
        return None

    def _present_read(self) -> None:
        addr, beats, _ = self._reads[0]
        found = self._find(addr)
        self.rvalid = 1
        self.rlast = int((beats == 1) != (self._count[Channel.R] == self.options.last_fault))
        self.rresp = Response.OKAY if found else Response.DECERR
        if self._count[Channel.R] == self.options.read_fault:
            self.rresp = self.options.read_response
        self.rdata = 0
        if found:
            contents, at = found
            self.rdata = int.from_bytes(contents[at : at + self.bytes], "little")

    def _write(self, t: int, due: int) -> None:
        burst = self._writes[0]
        beat = self._beats.popleft()
        found = self._find(burst[0])
        if found is None:
            burst[2] = Response.DECERR
        else:
            contents, at = found
            data = beat.data.to_bytes(self.bytes, "little")
            for i in range(self.bytes):
                if beat.strobe >> i & 1:
                    contents[at + i] = data[i]
        burst[0] += self.bytes
        burst[1] -= 1
        if bool(beat.last) != (burst[1] == 0):
            self._fail(Channel.W, t, "WLAST is not on the burst's last beat")
        if burst[1] == 0:
            self._responses.append((due, burst[2]))
            self._writes.popleft()

    def _taken(self, channel: Channel, t: int, now: _Payload | None, ready: int) -> _Payload | None:
        """The payload if this is a handshake; check that a waiting one holds still."""
        held = self._held.pop(channel, None)
        if held is not None and now is None:
            self._fail(channel, t, "valid fell before the handshake")
        if held is not None and now != held:
            self._fail(channel, t, "the payload changed before the handshake")
        if now is not None and not ready:
            self._withheld(channel, t, wanted=True)
            self._held[channel] = now
            return None
        return now

    def _check(self, channel: Channel, t: int, a: Address) -> None:
        if a.addr % self.bytes:
            self._fail(channel, t, "the address is not a multiple of the bus width")
        if 1 << a.size != self.bytes:
            self._fail(channel, t, "the size is not the bus width")
        if a.burst != BURST_INCR:
            self._fail(channel, t, "the burst type is not INCR")
        if a.id != 0:
            self._fail(channel, t, "the ID is not 0")
        if a.addr // 4096 != (a.addr + (a.len + 1) * self.bytes - 1) // 4096:
            self._fail(channel, t, "the burst crosses a 4 KiB boundary")

    def _fail(self, channel: Channel, t: int, what: str) -> None:
        raise ProtocolError(f"{channel.name}, cycle {t - self._origin}: {what}")

    def _log(self, t: int, channel: Channel, value: int) -> None:
        self.moved = t
        self._count[channel] += 1
        if self.options.log_traffic:
            self.traffic.append((t - self._origin, int(channel), int(value)))
