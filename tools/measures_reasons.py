"""Why parts of the Verilog are not covered: what the configuration or a contract keeps constant."""

from __future__ import annotations

import re

_BEAT = "address bits below a beat: bursts begin at whole beats"
_PAGE = "address bits below a page: windows begin at multiples of 4096"
_LONG = "bit k of a program counter needs a program of more than 2^k instructions"
_COUNT = "bit k of a counter needs a run in which 2^k cycles, beats or instructions are counted"
_HIGH = "addresses have 32 bits here: the upper words read 0"
_FLIP = "set only by a flipped bit, see robustness.md"
_PARITY = "wrong parity, which this machine without parity cannot have"
_PEERS = "bits of sets without a peer: a legal instruction has them 0, others trap in decode"
_AXI = "fixed by contract: ID 0, INCR, full beats, no locks, caches, protection, quality of service"
_READY = "always 1, by contract"
_FETCH = "FETCH asks for whole instructions, four at a time: lengths, addresses and counters so"
_FIRST = "a transfer begins at a whole beat: its first byte is always part of it"

#: (pattern of the module, pattern of the port, reason); the first that fits counts.
PORTS: tuple[tuple[str, str, str], ...] = (
    ("weft", r"m_axi_(ar|aw)(burst|cache|id|lock|prot|qos|size)|m_axi_[rb]id", _AXI),
    ("weft", r"m_axi_[rb]ready", _READY),
    (".*", r".*(axi__|m_axi_)(ar|aw)len", "bursts of at most burst_beats, writes of 16"),
    (".*", r".*resp", "the machine's registers answer OKAY or SLVERR: bit 0 is 0"),
    (".*", r"(bus__|s_axil_)(ar|aw)addr", "no register lies so high"),
    (".*", r"(o_)?addr|.*(axi__|m_axi_)(ar|aw)addr", _BEAT),
    (".*", r".*(load|request|burst)__payload(\$\d+)?", _BEAT),
    (".*guard", r"base", _PAGE),
    (".*guard", r"(port_0|len)", f"{_BEAT}; bursts of at most burst_beats, writes of 16"),
    ("weft_address|weft_write_engine", r"port_[01]|r_data", "bursts of at most burst_beats beats"),
    (".*", r"(segments__)?base(\$\d+)?|(program|const|input|output|scratch)_lo", _PAGE),
    (".*", r"(program|const|input|output|scratch)_hi", _HIGH),
    (".*", r"(port|act)__jump", "the first lane lies at the address itself: it has no jump"),
    (
        "weft_(loops|outputs|source|destination)",
        r"(count|left|stride)_\d|port_0",
        "not reached: larger counts and strides than these programs have",
    ),
    ("weft_read_engine", r"port_3", "a program of whole instructions, of 24 bits"),
    ("weft_read_engine", r"port_4", "bursts of at most burst_beats beats"),
    ("weft_core|weft_frontend", r"port_[012]", f"{_FETCH}; {_LONG}"),
    ("weft_frontend_fetch", r"port_[034]", f"{_FETCH}; {_LONG}"),
    ("weft_read_engine", r"port_[012]", f"{_FETCH}; {_LONG}"),
    ("weft_frontend_fetch", r"port_5", _LONG),
    ("weft_decoder", r"port_1", _LONG),
    ("weft_order", r"r_data|w_port__data", _LONG),
    (".*", r"(.*_)?mask(\$\d+)?|write__strobe", _FIRST),
    (".*splitter", r"transfer__payload", _PAGE),
    (".*", r"causes__3|vector_memory", "VECTOR never waits for the bus"),
    ("weft_vector_gate", r"cause", "VECTOR never waits for the bus"),
    ("weft_lookup", r"table", "this machine has one table"),
    (
        "weft_bursts|weft_core|weft_store_unit|weft_write_engine",
        r"w_level|w_rdy|(.*__)?burst__ready",
        "STORE gives no more bursts than fit, see write_engine.WritePort",
    ),
    ("weft_bursts", r"r_data|w_port__data", "writes of at most 16 beats"),
    ("weft_registers", r"port_(7|8|9|10|11|12)", f"{_PAGE}; {_HIGH}"),
    ("weft_registers", r"program_size", "a program of whole instructions, of 24 bits"),
    (".*", r".*(pcs__\d|oldest(\$\d+)?|active|next_pc|pc(\$\d+)?)", _LONG),
    (".*", r"(.*_)?(busy|empty|memory|semaphore|beats|vectors|cycles|instructions)", _COUNT),
    (".*", r"refused|corrupt", _FLIP),
    (
        "weft_registers",
        r"control|locked",
        "LOCK: `bench_control.lock`; the campaign sets it since this was recorded",
    ),
    (".*", r"wrong", _PARITY),
    ("weft_gemm|weft_accumulator", r"(acc_)?conflict", "see `test_acc_conflict` of bench_matmul"),
    (".*", r"(unit__|matmul__)?(post|take|available|overflow)(__\d)?", _PEERS),
    ("weft_posts", r"r_data|w_port__data", _PEERS),
)
LINES: tuple[tuple[str, str, str], ...] = (
    ("weft_control_block|weft_address", r".*", _FLIP),
    ("weft_counters|weft_vector_gate", r".*", "VECTOR never waits for the bus"),
    ("weft_frontend_fetch", r".*cond.*", "a division of what is never negative, rounded down"),
    (
        "weft_(read_store|read_vector|write_load|write_vector)",
        r".*cond.*",
        "the last lane of a word is never shifted by a whole word",
    ),
    (
        "weft_core",
        r".* if",
        "WEIGHT posts too often: `test_semaphores_left_and_overflowing`, not in this campaign then",
    ),
)


def port_reason(module: str, port: str) -> str:
    """Why bits of a port do not move; empty if nobody has said."""
    return _first(PORTS, module, port)


def line_reason(line: str) -> str:
    """Why a line, given as module, number and kind, is not reached."""
    module, _, rest = line.partition(" ")
    return _first(LINES, module, rest)


def _first(table: tuple[tuple[str, str, str], ...], module: str, what: str) -> str:
    return next(
        (why for m, w, why in table if re.fullmatch(m, module) and re.fullmatch(w, what)), ""
    )
