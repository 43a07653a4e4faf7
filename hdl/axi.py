"""AXI4 and AXI4-Lite as flat signatures, each from the master's side.

Members carry the bus's own lower-case names, so that a top level which nests a signature as
`m_axi` or `s_axil` gets pins that tools recognise. A slave flips the signature.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

if TYPE_CHECKING:
    from .config import Config

#: Width of every transaction ID; the machine always uses ID 0.
ID_BITS = 1
#: Data width of the AXI4-Lite port.
LITE_DATA_BITS = 32
#: AxBURST for incrementing bursts.
BURST_INCR = 0b01
#: AxCACHE: normal, non-cacheable, bufferable.
CACHE_BUFFERABLE = 0b0011
#: AxPROT: unprivileged, secure, data.
PROT_DATA = 0b000


class Response(enum.IntEnum):
    """RRESP and BRESP; bit 1 set means an error."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def beat_size(config: Config) -> int:
    """AxSIZE of a full-width beat."""
    return (config.bus_bytes - 1).bit_length()


def _address(prefix: str, config: Config) -> dict[str, wiring.Member]:
    return {
        f"{prefix}id": Out(ID_BITS),
        f"{prefix}addr": Out(config.addr_bits),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


def constants(prefix: str, config: Config) -> dict[str, int]:
    """Address-channel members that never change, with the values the machine gives them."""
    return {
        f"{prefix}id": 0,
        f"{prefix}size": beat_size(config),
        f"{prefix}burst": BURST_INCR,
        f"{prefix}lock": 0,
        f"{prefix}cache": CACHE_BUFFERABLE,
        f"{prefix}prot": PROT_DATA,
        f"{prefix}qos": 0,
    }


class AxiWrite(wiring.Signature):
    """AXI4 write address, write data and write response channels."""

    def __init__(self, config: Config):
        super().__init__(
            {
                **_address("aw", config),
                "wdata": Out(config.bus_bits),
                "wstrb": Out(config.bus_bytes),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(ID_BITS),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class AxiRead(wiring.Signature):
    """AXI4 read address and read data channels."""

    def __init__(self, config: Config):
        super().__init__(
            {
                **_address("ar", config),
                "rid": In(ID_BITS),
                "rdata": In(config.bus_bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AxiLite(wiring.Signature):
    """AXI4-Lite, 32 bits of data and `addr_bits` of byte address."""

    def __init__(self, addr_bits: int):
        if not isinstance(addr_bits, int) or addr_bits < 3:
            raise ValueError(f"addr_bits must be an integer of at least 3, not {addr_bits!r}")
        super().__init__(
            {
                "awaddr": Out(addr_bits),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(LITE_DATA_BITS),
                "wstrb": Out(LITE_DATA_BITS // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(addr_bits),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(LITE_DATA_BITS),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
