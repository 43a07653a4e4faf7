"""Frames of the host link, defined once for the host and for the gateware.

A frame is FLAG, its bytes, FLAG; a byte of it that is FLAG or ESCAPE is sent as ESCAPE, byte ^ MASK
(the framing of HDLC, RFC 1662), so that any FLAG begins anew whatever went before. Its bytes are
a header of HEADER_BYTES, the data, and the CRC-32 of both (that of Ethernet, low byte first):

====== ===================================== ===============================
byte   request                               response
====== ===================================== ===============================
0      sequence number                       the request's
1      command                               the request's, plus RESPONSE
2, 3   bytes of data, sent or asked for      bytes of data that follow
4 … 7  address                               status, three zeros
====== ===================================== ===============================

The board answers every sound frame and no other. It executes a request only if its number follows
that of the last one executed. One with the same number is a repetition: it is answered again, but
writes nothing. IDENTIFY may have any number, and sets what follows.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass

FLAG, ESCAPE, MASK = 0x7E, 0x7D, 0x20
HEADER_BYTES = 8
CRC_BYTES = 4
#: Most data bytes of a frame; data are whole words of 4 bytes.
MAX_DATA = 1024
#: Set in the command of a response, so that an echo is none.
RESPONSE = 0x80
#: Changes whenever a host of the old protocol would no longer understand the board.
PROTOCOL_VERSION = 1
#: First word of what IDENTIFY returns: "WLNK".
MAGIC = 0x4B4E4C57

_HEADER = struct.Struct("<BBHI")
_IDENTITY = struct.Struct("<IIQII")
IDENTITY_BYTES = _IDENTITY.size


class Command(enum.IntEnum):
    """What the host asks for."""

    IDENTIFY = 0
    READ_REGISTERS = 1
    WRITE_REGISTERS = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4

    @property
    def writes(self) -> bool:
        """Whether the request carries the data; else the response does."""
        return self in (Command.WRITE_REGISTERS, Command.WRITE_MEMORY)


class Status(enum.IntEnum):
    """What the board answers."""

    OK = 0
    SEQUENCE = 1
    COMMAND = 2
    LENGTH = 3
    ADDRESS = 4
    BUS = 5


#: What each refusal means to a user.
MEANINGS = {
    Status.SEQUENCE: "the request does not follow the last one: another program uses the port, "
    "or the board was reset; open it again",
    Status.COMMAND: "the board does not know the command",
    Status.LENGTH: "the length is 0, too long, or not whole words",
    Status.ADDRESS: "the address is outside the board's memory, or not that of a word",
    Status.BUS: "the machine's register port answered with an error",
}


@dataclass(frozen=True)
class Identity:
    """What a board says of itself: protocol version, configuration fingerprint, memory, clock."""

    version: int
    fingerprint: int
    memory_bytes: int
    clock_hz: int

    def encode(self) -> bytes:
        """The data of IDENTIFY's response."""
        return _IDENTITY.pack(
            MAGIC, self.version, self.fingerprint, self.memory_bytes, self.clock_hz
        )

    @classmethod
    def decode(cls, data: bytes) -> Identity | None:
        """The reverse; None if it is no identity."""
        if len(data) != IDENTITY_BYTES or _IDENTITY.unpack(data)[0] != MAGIC:
            return None
        return cls(*_IDENTITY.unpack(data)[1:])


def encode(sequence: int, command: int, length: int, address: int, data: bytes = b"") -> bytes:
    """A frame as it goes over the line."""
    body = _HEADER.pack(sequence, command, length, address) + data
    body += zlib.crc32(body).to_bytes(CRC_BYTES, "little")
    escaped = body.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPE ^ MASK]))
    escaped = escaped.replace(bytes([FLAG]), bytes([ESCAPE, FLAG ^ MASK]))
    return bytes([FLAG]) + escaped + bytes([FLAG])


@dataclass(frozen=True)
class Frame:
    """A sound frame."""

    sequence: int
    command: int
    length: int
    address: int
    data: bytes


class Decoder:
    """Finds sound frames in a stream of bytes; whatever else is in it is dropped."""

    def __init__(self):
        self._body = bytearray()
        self._escaped = False

    def feed(self, received: bytes) -> list[Frame]:
        """The frames that end in `received`."""
        frames = []
        for byte in received:
            if byte == FLAG:
                frame = None if self._escaped else _check(bytes(self._body))
                if frame is not None:
                    frames.append(frame)
                self._body.clear()
                self._escaped = False
            elif byte == ESCAPE:
                self._escaped = True
            elif len(self._body) <= HEADER_BYTES + MAX_DATA + CRC_BYTES:
                self._body.append(byte ^ MASK if self._escaped else byte)
                self._escaped = False
        return frames


def _check(body: bytes) -> Frame | None:
    """The frame with these bytes, if it is sound."""
    if len(body) < HEADER_BYTES + CRC_BYTES:
        return None
    crc = int.from_bytes(body[-CRC_BYTES:], "little")
    if zlib.crc32(body[:-CRC_BYTES]) != crc:
        return None
    sequence, command, length, address = _HEADER.unpack(body[:HEADER_BYTES])
    return Frame(sequence, command, length, address, body[HEADER_BYTES:-CRC_BYTES])
