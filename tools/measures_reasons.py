"""Why parts of the Verilog are not covered: what the configuration or a contract keeps constant."""

from __future__ import annotations

import re

_BEAT = "address bits below a beat: bursts begin at whole beats"
_SHORT = "bursts of at most burst_beats beats, writes of at most 16"
_ROUNDED = "a division of what is never negative, rounded down"
_PARITY = "wrong parity, which this machine without parity cannot have"
_PEERS = "bits of sets without a peer: a legal instruction has them 0, others trap in decode"
_AXI = "fixed by contract: ID 0, INCR, full beats, no locks, caches, protection, quality of service"
_READY = "always 1, by contract"
_FETCH = "FETCH asks for whole instructions, four at a time: lengths, addresses and counters so"
_FIRST = "a transfer begins at a whole beat: its first byte is always part of it"

_PROGRAM = "a program of whole instructions, of 24 bits"
_FITS = "STORE gives no more bursts than fit, see write_engine.WritePort"

#: (pattern of the module, pattern of the port, its bits, reason); the first that fits counts.
PORTS: tuple[tuple[str, str, str, str], ...] = (
    ("weft", r"m_axi_(ar|aw)(burst|cache|id|lock|prot|qos|size)|m_axi_[rb]id", "3:0", _AXI),
    ("weft", r"m_axi_[rb]ready", "0", _READY),
    (".*", r".*(axi__|m_axi_)awlen", "7:4", _SHORT),
    ("weft_fetch_guard", "addr", "6:0", _FETCH),
    ("weft_read_engine", r"addr\$\d+", "6:0", _FETCH),
    ("weft_fetch_guard|weft_read_engine", r"len(\$\d+)?", "1:0", _FETCH),
    ("weft_fetch_guard|weft_read_engine", "port_0", "29, 4:0", _PROGRAM),
    (".*", r".*resp", "0", "the machine's registers answer OKAY or SLVERR: bit 0 is 0"),
    (".*", r"(o_)?addr|.*(axi__|m_axi_)(ar|aw)addr", "2:0", _BEAT),
    (".*", r".*(load|request|burst)__payload(\$\d+)?", "2:0", _BEAT),
    (".*guard", r"port_0", "39:38, 2:0", f"{_BEAT}; {_SHORT}"),
    (
        "weft_destination",
        "stride_0",
        "3:0",
        "vector_lanes · (1 + act_lanes · dst_jump): the lowest bits are those of vector_lanes",
    ),
    ("weft_core|weft_frontend", r"port_[012]", "6:0", _FETCH),
    ("weft_frontend_fetch", r"port_[0234]", "6:0", _FETCH),
    ("weft_read_engine", r"port_[012]", "6:0", _FETCH),
    (".*", r"(.*_)?mask(\$\d+)?|write__strobe", "0", _FIRST),
    (".*", r"causes__3|cause", "2", "VECTOR never waits for the bus"),
    (".*", r"vector_memory", "31:0", "VECTOR never waits for the bus"),
    ("weft_bursts", "w_level", "5", _FITS),
    (".*", r"w_rdy|(.*__)?burst__ready", "0", _FITS),
    ("weft_registers", r"port_(7|8|9|10|11|12)", "29, 4:0", "program counters of 24 bits in bytes"),
    (".*", r"wrong", "0", _PARITY),
    (".*", r"(unit__|matmul__)?(post|take|available|overflow)(__\d)?", "7:2", _PEERS),
    ("weft_posts", r"r_data|w_port__data", "7:2", _PEERS),
    (
        "weft_posts",
        "level",
        "3:2",
        "MATMULs end rows + 2 cycles apart at least: three at most are on their way at once",
    ),
)
#: (pattern of the module, pattern of the kind, reason); the first that fits counts.
LINES: tuple[tuple[str, str, str], ...] = (
    ("weft_control_block", r".*cond_then", _PARITY),
    ("weft_(control_block|frontend_fetch)", r".*cond_else", _ROUNDED),
    ("weft_counters|weft_vector_gate", r".*", "VECTOR never waits for the bus"),
    (
        "weft_(read_store|read_vector|write_load|write_vector)",
        r".*cond.*",
        "the last lane of a word is never shifted by a whole word",
    ),
)


def port_reason(module: str, port: str, bits: str) -> str:
    """Why `bits` of a port (as ``7:5, 0``) do not move; empty if nobody has said that of all."""
    for of, name, excused, why in PORTS:
        if re.fullmatch(of, module) and re.fullmatch(name, port):
            return why if _numbers(bits) <= _numbers(excused) else ""
    return ""


def line_reason(line: str) -> str:
    """Why a line, given as module, number and kind, is not reached; empty if nobody has said."""
    module, _, kind = line.partition(" ")
    found = (w for m, k, w in LINES if re.fullmatch(m, module) and re.fullmatch(k, kind))
    return next(found, "")


def _numbers(bits: str) -> set[int]:
    """The bits of a text like ``7:5, 0``."""
    out: set[int] = set()
    for part in bits.split(", "):
        high, _, low = part.partition(":")
        out.update(range(int(low or high), int(high) + 1))
    return out
