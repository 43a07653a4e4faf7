"""The host's end of the link: requests that are repeated until they are answered."""

from __future__ import annotations

import random
from typing import Protocol

import numpy as np

from ..host.device import DeviceError
from .frame import (
    MAX_DATA,
    MEANINGS,
    PROTOCOL_VERSION,
    RESPONSE,
    Command,
    Decoder,
    Frame,
    Identity,
    Status,
    encode,
)

#: Times that a request is sent before the board is given up.
ATTEMPTS = 8
#: Most bytes that are read in the hope of one answer.
_PATIENCE = 8 * MAX_DATA


class LinkError(DeviceError):
    """A board that does not answer, refuses, or is not the expected one."""


class Port(Protocol):
    """Whatever carries bytes to a board and back."""

    name: str

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    def receive(self) -> bytes:
        """What has come, after waiting for it as long as an answer may take; empty: nothing."""
        ...

    def close(self) -> None:
        """Release the port."""
        ...


class HostLink:
    """A conversation with one board.

    Parameters
    ----------
    port
        The way to it; what is left in it of earlier conversations is ignored.
    attempts
        Times that a request is sent before the board is given up.

    Attributes
    ----------
    identity
        What the board said of itself.
    repeated
        Requests that had to be sent again.

    Raises
    ------
    LinkError
        Nothing answers, or it is no board of ours, or speaks another version of the protocol.
    """

    def __init__(self, port: Port, *, attempts: int = ATTEMPTS):
        self._port = port
        self._attempts = attempts
        self._sequence = random.randrange(256)
        self._decoder = Decoder()
        self.repeated = 0
        identity = Identity.decode(self._transact(Command.IDENTIFY))
        if identity is None:
            raise LinkError(f"what answers at {port.name} is not a board of Weft")
        if identity.version != PROTOCOL_VERSION:
            raise LinkError(
                f"the board at {port.name} speaks version {identity.version} of the link, this "
                f"software version {PROTOCOL_VERSION}: build and flash its bitstream again"
            )
        self.identity = identity

    def read_registers(self, address: int, count: int = 1) -> list[int]:
        """Values of `count` registers from byte `address` on."""
        data = self._transact(Command.READ_REGISTERS, address, 4 * count)
        return np.frombuffer(data, "<u4").tolist()

    def write_registers(self, address: int, *values: int) -> None:
        """Write registers, in order, from byte `address` on."""
        self._transact(Command.WRITE_REGISTERS, address, data=np.array(values, "<u4").tobytes())

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of the board's memory; address and size are multiples of 4."""
        return b"".join(
            self._transact(Command.READ_MEMORY, address + at, min(MAX_DATA, size - at))
            for at in range(0, size, MAX_DATA)
        )

    def write_memory(self, address: int, data: bytes) -> None:
        """Write the board's memory; address and size are multiples of 4."""
        for at in range(0, len(data), MAX_DATA):
            self._transact(Command.WRITE_MEMORY, address + at, data=data[at : at + MAX_DATA])

    def close(self) -> None:
        """Release the port."""
        self._port.close()

    def _transact(
        self, command: Command, address: int = 0, length: int = 0, data: bytes = b""
    ) -> bytes:
        """Send a request until it is answered; the answer's data."""
        self._sequence = (self._sequence + 1) % 256
        length = length or len(data)
        request = encode(self._sequence, command, length, address, data)
        expected = 0 if command.writes else length
        for attempt in range(self._attempts):
            self.repeated += attempt > 0
            self._port.send(request)
            answer = self._await(command)
            if answer is None:
                continue
            status = answer.address & 0xFF
            if status == Status.OK and (command == Command.IDENTIFY or answer.length == expected):
                return answer.data
            raise LinkError(
                f"the board at {self._port.name} refused {command.name} at 0x{address:x}: "
                f"{MEANINGS.get(Status(status), 'its answer makes no sense')}"
                if status in set(Status)
                else f"the board at {self._port.name} answered {command.name} with status {status}"
            )
        raise LinkError(
            f"the board at {self._port.name} does not answer ({command.name}, sent "
            f"{self._attempts} times): see that it is connected, flashed and set to this baud rate"
        )

    def _await(self, command: Command) -> Frame | None:
        """The answer to the request sent last; None if it does not come."""
        read = 0
        while read < _PATIENCE:
            received = self._port.receive()
            if not received:
                return None
            read += len(received)
            for frame in self._decoder.feed(received):
                if (
                    frame.sequence == self._sequence
                    and frame.command == command | RESPONSE
                    and frame.length == len(frame.data)
                ):
                    return frame
        return None


class SerialPort:
    """A serial port of this computer.

    Parameters
    ----------
    name
        Such as ``/dev/ttyUSB0`` or ``COM3``.
    baud
        Bits in a second.
    timeout
        Seconds that an answer may take.

    Raises
    ------
    LinkError
        There is no such port, or it cannot be opened, or pyserial is missing.
    """

    def __init__(self, name: str, baud: int, *, timeout: float = 0.5):
        try:
            import serial
        except ImportError as error:
            raise LinkError(
                "boards need the Python package pyserial: pip install -e '.[boards]'"
            ) from error
        self.name = name
        self._failed = serial.SerialException
        try:
            self._serial = serial.Serial(name, baud, timeout=timeout, write_timeout=10)
            self._serial.reset_input_buffer()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            reason = getattr(error, "strerror", None) or str(error).partition(":")[0]
            raise LinkError(
                f"cannot open the serial port {name}: {reason}; --port names another"
            ) from error

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._serial.write(data)
        except OSError as error:
            raise LinkError(f"the serial port {self.name} broke: {error}") from error

    def receive(self) -> bytes:
        """What has come; waits for its first byte."""
        try:
            return self._serial.read(max(1, self._serial.in_waiting))
        except OSError as error:
            raise LinkError(f"the serial port {self.name} broke: {error}") from error

    def close(self) -> None:
        """Release the port."""
        self._serial.close()
