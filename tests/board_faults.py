"""A serial line that harms what passes over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st
from weft.boards.host_link import Port

Kind = Literal["corrupt", "drop", "duplicate", "insert"]
KINDS: tuple[Kind, ...] = ("corrupt", "drop", "duplicate", "insert")


@dataclass(frozen=True)
class Harm:
    """What happens to `length` bytes from the `at`th on; `value` is mixed in, or inserted."""

    at: int
    kind: Kind
    length: int
    value: int

    def apply(self, data: bytes) -> bytes:
        """The bytes that come out; `data` are those it concerns."""
        match self.kind:
            case "corrupt":
                return bytes(byte ^ self.value for byte in data)
            case "drop":
                return b""
            case "duplicate":
                return data + data
            case "insert":
                return bytes([self.value]) * self.length + data


def harms(most: int = 12, reach: int = 1500) -> st.SearchStrategy[list[Harm]]:
    """Harms to the first bytes of a line; bytes that frame and escape are likely among `value`."""
    values = st.one_of(st.sampled_from([0x7E, 0x7D, 0x03, 0x20, 0x01]), st.integers(1, 255))
    harm = st.builds(
        Harm,
        at=st.integers(0, reach),
        kind=st.sampled_from(KINDS),
        length=st.one_of(st.just(1), st.integers(1, 60)),
        value=values,
    )
    return st.lists(harm, max_size=most)


class HarmfulPort:
    """A port with harms to each direction."""

    name = "harmful line"

    def __init__(self, port: Port, to_board: list[Harm], to_host: list[Harm]):
        self._port = port
        self._harms = {"out": to_board, "in": to_host}
        self._passed = {"out": 0, "in": 0}

    def send(self, data: bytes) -> None:
        self._port.send(self._pass("out", data))

    def receive(self) -> bytes:
        while received := self._port.receive():
            if left := self._pass("in", received):
                return left
        return b""

    def close(self) -> None:
        pass

    def _pass(self, direction: str, data: bytes) -> bytes:
        start = self._passed[direction]
        self._passed[direction] += len(data)
        here = [h for h in self._harms[direction] if start <= h.at < start + len(data)]
        for harm in sorted(here, key=lambda harm: -harm.at):
            at = harm.at - start
            data = data[:at] + harm.apply(data[at : at + harm.length]) + data[at + harm.length :]
        return data
