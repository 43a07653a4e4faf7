"""Proofs: no burst ever leaves its window, the address space or its 4 KiB page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data
from weft.hdl import burst
from weft.hdl.config import PRESETS, Config
from weft.hdl.fetch_unit import FetchUnit
from weft.hdl.guard import AddressRegister, Guard
from weft.hdl.isa import INSTRUCTION_BYTES
from weft.hdl.load_unit import LoadUnit
from weft.hdl.store_unit import StoreUnit

from .formal import Bench, Damage, Proof, stuck

TINY = PRESETS["tiny"]
WIDE = replace(PRESETS["default"], bus_bits=512, addr_bits=64, burst_beats=16)
#: A machine whose addresses, pages and instruction fields are narrow in proportion.
NARROW = SimpleNamespace(bus_bytes=2, addr_bits=10)
NARROW_FIELDS = {"offset": 10, "length": 6, "rows": 4, "dram_pitch": 7}
NARROW_PAGE = 32
PAGES = "windows and programs begin at whole pages (control.registers)"


def up(value: Value, unit: int) -> Value:
    """`value` rounded up to a multiple of `unit`, a power of two."""
    shift = (unit - 1).bit_length()
    return (value + (unit - 1)) >> shift << shift


def within(valid: Value, burst: Any, beats: int, window: Any, config: Any, page: int):
    """What every burst must keep to, with a label each."""
    bus = config.bus_bytes
    after = burst.addr + (burst.len + 1) * bus
    rules = {
        "short": burst.len < beats,
        "whole_beats": burst.addr % bus == 0,
        "in_its_page": burst.addr // page == (after - 1) // page,
        "not_below_its_window": burst.addr >= window.base,
        "not_above_its_window": after <= up(window.base + window.size, bus),
        "in_the_address_space": after <= 1 << config.addr_bits,
    }
    for label, rule in rules.items():
        yield label, ~valid | rule


class Row:
    """What a stage of the splitter should hold: a window, and a row of bytes in it."""

    base: Signal
    size: Signal
    offset: Signal
    length: Signal
    pitch: Signal
    FIELDS = ("base", "size", "offset", "length", "pitch")

    def __init__(self, transfer: Any, name: str):
        for field in self.FIELDS:
            given = getattr(transfer, field)
            extra = 4 if field == "offset" else 0
            setattr(self, field, Signal(len(given) + extra, name=f"{name}_{field}"))

    def take(self, b: Bench, other: Any) -> None:
        """Become `other` in the next cycle."""
        b.m.d.sync += [getattr(self, f).eq(getattr(other, f)) for f in self.FIELDS]


def transfers(b: Bench, config: Any, beats: int, narrow: bool, damage: Damage = None) -> None:
    """Any transfers, one after the other, with any windows."""
    widths = NARROW_FIELDS if narrow else burst.FIELD_BITS
    page = NARROW_PAGE if narrow else burst.PAGE_BYTES
    with patch.multiple(burst, FIELD_BITS=widths, PAGE_BYTES=page):
        dut = b.add(burst.BurstSplitter(config, burst_beats=beats), damage)
        layout = burst.Burst(config)
    new = dut.transfer.payload
    bus, bits = config.bus_bytes, config.addr_bits
    # The decoder's checks, and the register file's multiples of 4096.
    b.assume("fields are legal (decoder)", (new.offset % bus == 0) & (new.pitch % bus == 0))
    b.assume("fields are legal (decoder)", (new.length != 0) & (new.rows != 0))
    b.assume(PAGES, new.base % page == 0)

    # The stages: a row, the rest of a row, and two bursts.
    row, rest, spare, out = (Row(new, name) for name in ("row", "rest", "spare", "out"))
    first = Signal()
    start, take, emit = dut.transfer.valid & dut.transfer.ready, dut["take"], dut["emit"]
    valid, spare_valid = dut.burst.valid, dut["spare_valid"]
    with b.m.If(start):
        b.m.d.sync += first.eq(1)
        row.take(b, new)
    with b.m.Elif(take):
        b.m.d.sync += [first.eq(0), row.offset.eq(row.offset + row.pitch)]
    with b.m.If(take):
        rest.take(b, row)
    with b.m.If(~valid | dut.burst.ready):
        with b.m.If(spare_valid):
            out.take(b, spare)
        with b.m.Else():
            out.take(b, rest)
    with b.m.Elif(emit):
        spare.take(b, rest)
    for label, condition in within(valid, dut.burst.payload.request, beats, out, config, page):
        b.claim(label, condition)

    # Why.
    kept = data.View(layout, dut["spare"])
    for label, condition in within(spare_valid, kept.request, beats, spare, config, page):
        b.claim(f"spare_{label}", condition)
    b.claim("spare_behind", ~spare_valid | valid)
    r = {n: dut[n] for n in ("row_valid", "row_addr", "row_end", "row_beats", "pitch", "size")}
    there = r["row_valid"]
    b.claim("vacant", dut["vacant"] == ~there)
    b.claim("row_addr", ~there | (r["row_addr"] == (row.base + row.offset)[: bits + 1]))
    b.claim("row_end", ~there | (r["row_end"] == row.offset + row.length))
    b.claim("row_beats", ~there | ((r["row_beats"] + 1) * bus == up(row.length, bus)))
    b.claim("row_keeps", ~there | ((r["pitch"] == row.pitch) & (r["size"] == row.size)))
    b.claim("row_has_bytes", ~there | (row.length != 0))
    for name, stage in (("row", row), ("rest", rest)):
        b.claim(f"{name}_aligned", (stage.offset % bus == 0) & (stage.base % page == 0))
    b.claim("pitch_aligned", row.pitch % bus == 0)
    more = there & ~first
    left, addr, in_window, busy = (dut[n] for n in ("left", "addr", "in_window", "valid"))
    inside = rest.offset + rest.length <= rest.size
    most = 1 << len(new.offset)
    b.claim("row_follows", ~more | (row.offset == rest.offset + row.pitch))
    b.claim("first_row", ~(there & first) | (row.offset < most))
    b.claim("only_after_legal_rows", ~more | busy | inside)
    b.claim("not_far_beyond", ~busy | (rest.offset < most + (1 << len(new.pitch))))
    b.claim("knows_the_window", ~busy | (in_window == inside))
    at = rest.base + rest.offset
    b.claim("rest_begins", ~(busy & in_window) | (addr >= at))
    ends = addr + (left + 1) * bus == at + up(rest.length, bus)
    b.claim("rest_ends", ~(busy & in_window) | ends)
    to_page = dut["to_page"]
    beat, beats_in_page = (bus - 1).bit_length(), len(to_page)
    b.claim("to_page", ~busy | (to_page == ~addr[beat : beat + beats_in_page]))
    b.claim("room", ~busy | (dut["room"] == Mux(to_page < beats, to_page, beats - 1)))
    b.claim("last", ~busy | (dut["last"] == (left <= dut["room"])))


def unit(b: Bench, component: Any, config: Config, damage: Damage = None) -> None:
    """LOAD or STORE hands its splitter what the instruction says, and takes what comes out."""
    dut = b.add(component(config), damage)
    word = dut.unit.instr.payload.word
    given, out = dut["transfer__payload"], dut["splitter.burst__payload"]
    transfer = data.View(burst.Transfer(config), given)
    bursts = data.View(burst.Burst(config), out)
    starts = dut["transfer__valid"]
    b.claim("only_when_allowed", ~starts | (dut.unit.instr.valid & dut.unit.go))
    b.claim("base", ~starts | (transfer.base == dut.segments.base[word.segment]))
    b.claim("size", ~starts | (transfer.size == dut.segments.size[word.segment]))
    for field in ("offset", "length", "rows"):
        b.claim(field, ~starts | (getattr(transfer, field) == getattr(word, field)))
    b.claim("pitch", ~starts | (transfer.pitch == word.dram_pitch))
    request = dut.request if component is LoadUnit else dut.write.burst
    same = request.payload.as_value() == bursts.request.as_value()
    b.claim("asks_for_its_bursts", ~request.valid | (dut["splitter.burst__valid"] & same))
    b.claim("segment", ~starts | (transfer.segment == word.segment))


def fetching(b: Bench, config: Config, damage: Damage = None) -> None:
    """Any program that begins at a multiple of 4096."""
    dut = b.add(FetchUnit(config), damage)
    base, count = Signal(config.addr_bits), Signal(24)
    with b.m.If(dut.start):
        b.m.d.sync += [base.eq(dut.base), count.eq(dut.count)]
    b.assume(PAGES, dut.base % burst.PAGE_BYTES == 0)
    # The control block lets a program end where the address space does.
    b.assume(
        "a program ends where the address space does (control.ends)",
        dut.base + dut.count * INSTRUCTION_BYTES <= 1 << config.addr_bits,
    )
    request = dut.request
    window = SimpleNamespace(base=base, size=count * INSTRUCTION_BYTES)
    beats = max(4 * INSTRUCTION_BYTES // config.bus_bytes, 1)
    for label, condition in within(
        request.valid, request.payload, beats, window, config, burst.PAGE_BYTES
    ):
        b.claim(label, condition)
    # Why.
    left, asked = dut["remaining"], dut["asked"]
    b.claim("asks", (asked == 0) | (asked == Mux(left < 4, left, 4)))
    b.claim("aligned", base % burst.PAGE_BYTES == 0)
    pc = request.payload.pc
    b.claim("place", (left == 0) | (request.payload.addr == (base + pc * 32)[: config.addr_bits]))
    end = base + count * INSTRUCTION_BYTES
    b.claim("ends_in_the_address_space", end <= 1 << config.addr_bits)
    b.claim("rest", (left == 0) | (pc + left == count))
    b.claim("whole_bursts", pc % 4 == 0)


def guards(b: Bench, config: Config, damage: Damage = None) -> None:
    """The guard before the bus, for any burst and any window."""
    dut = b.add(Guard(config), damage)
    b.assume(PAGES, dut.base % burst.PAGE_BYTES == 0)
    begin = dut.addr // config.bus_bytes * config.bus_bytes
    end = begin + (dut.len + 1) * config.bus_bytes
    in_page = begin // burst.PAGE_BYTES == (end - 1) // burst.PAGE_BYTES
    in_window = (begin >= dut.base) & (end <= up(dut.base + dut.size, config.bus_bytes))
    in_space = end <= 1 << config.addr_bits
    b.claim("passes_just_what_is_inside", dut.ok == (in_page & in_window & in_space))


def address_register(b: Bench, damage: Damage = None) -> None:
    """The address register, in which a bit flips in any cycle."""
    dut = b.add(AddressRegister(TINY), damage)
    names = ("word", "inverted", "parity", "mixed")
    word, inverted, parity, mixed = (dut[name] for name in names)
    flips = b.free(2 * len(word) + 2, "flips")
    b.assume("one bit at most flips in a cycle", (flips & (flips - 1)) == 0)
    following = dut["following"]
    dut.override("word", following ^ flips[: len(word)])
    dut.override("inverted", ~following ^ flips[len(word) : -2])
    dut.override("parity", following.xor() ^ flips[-2])
    dut.override("mixed", following[0] ^ following[1] ^ flips[-1])
    right = Signal(len(word))
    new = Cat(dut.ok, dut.len, dut.addr)
    with b.m.If(dut.load):
        b.m.d.sync += right.eq(new)
    with b.m.Elif(dut.ready):
        b.m.d.sync += right[0].eq(0)
    shown = Cat(dut.valid, dut.o_len, dut.o_addr[3:])
    b.claim("shows_what_it_was_given", shown == right)
    third = mixed ^ right[0] ^ right[1]
    wrong = Cat(word ^ right, inverted ^ ~right, parity ^ right.xor(), third)
    b.claim("one_wrong_bit_at_most", (wrong & (wrong - 1)) == 0)


_IN_WINDOW = (
    "Whatever transfers and windows: every burst lies in its window [base, base + size rounded up "
    "to a beat), in the address space and in one 4 KiB page, begins at a whole beat, and is no "
    "longer than allowed; nothing wraps around."
)

PROOFS = (
    Proof(
        name="windows.splitter",
        says=_IN_WINDOW,
        of="BurstSplitter",
        sizes="fields of 4 to 10 bits, addresses of 10, pages of 32 bytes, 16-bit bus",
        bench=partial(transfers, config=NARROW, beats=4, narrow=True),
        breaks={
            "not_above_its_window": stuck("in_window", 1),
            "in_its_page": stuck("room", 3),
            "not_below_its_window": stuck("legal", "in_window"),
        },
    ),
    *(
        Proof(
            name=f"windows.splitter_{config.addr_bits}",
            says=_IN_WINDOW,
            of="BurstSplitter",
            sizes=f"full widths, {config.addr_bits}-bit addresses, {config.bus_bits}-bit bus",
            bench=partial(transfers, config=config, beats=config.burst_beats, narrow=False),
            slow=True,
            solver="yices",
        )
        for config in (TINY, WIDE)
    ),
    *(
        Proof(
            name=f"windows.{name}",
            says=f"{name.upper()} starts only when allowed, hands the splitter its instruction's "
            "fields and its segment's window, and asks for the splitter's bursts, no others.",
            of=component.__name__,
            sizes="tiny",
            bench=partial(unit, component=component, config=TINY),
            slow=True,
            breaks={"only_when_allowed": stuck("transfer__valid", 1)},
        )
        for name, component in (("load", LoadUnit), ("store", StoreUnit))
    ),
    *(
        Proof(
            name=f"windows.fetch_{config.addr_bits}",
            says="FETCH's bursts lie in the program, in the address space and in one 4 KiB page.",
            of="FetchUnit",
            sizes=f"{config.addr_bits}-bit addresses, {config.bus_bits}-bit bus",
            slow=config is WIDE,
            bench=partial(fetching, config=config),
            breaks={"not_above_its_window": stuck("asked", 4)},
        )
        for config in (TINY, WIDE)
    ),
    *(
        Proof(
            name=f"windows.guard_{config.addr_bits}",
            says="The guard before the bus passes just the bursts that lie in their window, the "
            "address space and one 4 KiB page.",
            of="Guard",
            sizes=f"{config.addr_bits}-bit addresses, {config.bus_bits}-bit bus",
            bench=partial(guards, config=config),
            slow=True,
            breaks={"passes_just_what_is_inside": stuck("last", 0)},
        )
        for config in (TINY, WIDE)
    ),
    Proof(
        name="windows.address_register",
        says="The register behind an AXI address channel shows what it was given, even if in every "
        "cycle any one of its bits flips.",
        of="AddressRegister",
        sizes="tiny",
        bench=address_register,
        slow=True,
        breaks={"shows_what_it_was_given": stuck("held", "word")},
    ),
)
