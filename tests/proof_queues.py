"""Proofs: queues and buffers keep order, lose nothing and repeat nothing."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Array, Mux, Signal, Value
from amaranth.lib import data
from weft.hdl import fetch_unit
from weft.hdl.burst import BurstSplitter
from weft.hdl.config import PRESETS
from weft.hdl.fetch_unit import FETCH_BUFFER, FetchUnit
from weft.hdl.gate import Gate
from weft.hdl.isa import INSTRUCTION_BITS, Opcode
from weft.hdl.queue import InstructionQueue

from .formal import Bench, Damage, Proof, implies, stuck

TINY = PRESETS["tiny"]
#: By how much instructions and bus are narrowed where only their ratio matters.
NARROW = 8
#: See `ports.UnitPort`.
UNIT = "a unit starts only what it may, completes only what it started (units)"


class Model:
    """A queue that is right by its looks: entry k is the k-th oldest.

    `push` and `pop` are the events of a cycle, `data` what is pushed; `clear` empties it.
    """

    def __init__(
        self, b: Bench, depth: int, push: Any, pop: Any, data: Any, clear: Any = 0, name="model"
    ):
        m = b.m
        data = Value.cast(data)
        self.entries = [Signal(data.shape(), name=f"{name}_{k}") for k in range(depth)]
        self.count = Signal(range(depth + 1), name=f"{name}_count")
        with m.If(clear):
            m.d.sync += self.count.eq(0)
        with m.Else():
            m.d.sync += self.count.eq(self.count + push - pop)
        for k, entry in enumerate(self.entries):
            with m.If(push & (self.count - pop == k)):
                m.d.sync += entry.eq(data)
            if k + 1 < depth:
                with m.Elif(pop):
                    m.d.sync += entry.eq(self.entries[k + 1])
        b.claim(f"{name}_fits", self.count <= depth)


def wrapped(index: Value, size: int) -> Value:
    """`index` modulo `size`, where it is less than twice that."""
    return Mux(index >= size, index - size, index)


def instruction_queue(b: Bench, depth: int, damage: Damage = None) -> None:
    """The queue against the model."""
    dut = b.add(InstructionQueue(Opcode.LOAD, depth=depth), damage)
    push, pop = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    model = Model(b, depth, push, pop, dut.i.payload)
    b.claim("offers_what_it_holds", dut.o.valid == (model.count != 0))
    b.claim("oldest_first", ~dut.o.valid | (dut.o.payload.as_value() == model.entries[0]))
    b.claim("refuses_only_when_full", dut.i.ready == (model.count != depth))
    b.stable("output_holds", dut.o)
    # How it stores them.
    behind = depth - 1
    level, write, read = dut["level"], dut["write__addr"], dut["read__addr"]
    b.claim("counts", level + dut["valid"] == model.count)
    b.claim("stored", dut["stored"] == (level != 0))
    b.claim("addresses", (read < behind) & (write < behind))
    b.claim("write_follows", write == wrapped(read + level, behind))
    for k in range(behind):
        kept = dut.word("store", wrapped(read + k, behind))
        b.claim(f"stored_{k}", (k >= level) | (kept == model.entries[k + 1]))


def rule(b: Bench, unit: Any, overlap: int) -> Value:
    """Claim what ``ports.UnitPort`` promises; returns how many instructions are in progress."""
    count = Signal(range(overlap + 2), name="in_progress")
    b.m.d.sync += count.eq(count + unit.instr.ready - unit.done)
    b.claim("starts_only_when_allowed", implies(unit.instr.ready, unit.instr.valid & unit.go))
    b.claim("starts_only_with_room", implies(unit.instr.ready, (count != overlap) | unit.done))
    b.claim("completes_only_what_started", implies(unit.done, count != 0))
    b.claim("busy", unit.busy == (count != 0))
    b.claim("posts_only_when_done", implies(~unit.done, unit.post == 0))
    return count


def gate(b: Bench, overlap: int, damage: Damage = None) -> None:
    """The program counters of instructions in progress."""
    dut = b.add(Gate(overlap=overlap), damage)
    model = Model(b, overlap, dut.ready, dut.done, dut.pc)
    # What a unit promises, see ports.UnitPort.
    b.assume(UNIT, ~dut.ready | (dut.valid & dut.go & ((model.count != overlap) | dut.done)))
    b.assume(UNIT, ~dut.done | (model.count != 0))
    b.assume(UNIT, dut.busy == (model.count != 0))
    b.claim("active_is_the_oldest", ~dut.busy | (dut.active == model.entries[0]))
    b.claim("takes_only_what_is_there", (dut.take & ~dut.available) == 0)
    b.claim("takes_at_the_start", dut.take == Mux(dut.ready, dut.wait, 0))
    cause = dut.cause
    b.claim("one_cause_a_cycle", cause.any() & ((cause & (cause - 1)) == 0))
    started, completed = dut["started"], dut["completed"]
    b.claim("counts", (started - completed - model.count) % overlap == 0)
    b.claim("in_range", (started < overlap) & (completed < overlap))
    pcs = Array(dut[f"pc_{i}"] for i in range(overlap))
    for k in range(overlap):
        kept = pcs[(completed + k) % overlap] == model.entries[k]
        b.claim(f"kept_{k}", (k >= model.count) | kept)


def splitter(b: Bench, damage: Damage = None) -> None:
    """The output stage, which holds two bursts."""
    dut = b.add(BurstSplitter(TINY, burst_beats=8), damage)
    pop = dut.burst.valid & dut.burst.ready
    model = Model(b, 2, dut["emit"], pop, dut["new_burst"])
    b.claim("oldest_first", ~dut.burst.valid | (dut.burst.payload.as_value() == model.entries[0]))
    b.stable("output_holds", dut.burst)
    b.claim("counts", dut.burst.valid + dut["spare_valid"] == model.count)
    spare = Value.cast(dut["spare"])
    b.claim("spare", ~dut["spare_valid"] | (dut.burst.valid & (spare == model.entries[1])))


def fetch(b: Bench, bus_bits: int, damage: Damage = None) -> None:
    """The fetch unit: an arbitrary instruction comes out as it came in."""
    narrow = INSTRUCTION_BITS // NARROW
    config = SimpleNamespace(
        bus_bits=bus_bits // NARROW, bus_bytes=bus_bits // NARROW // 8, addr_bits=32
    )
    with patch.multiple(
        fetch_unit,
        INSTRUCTION_BITS=narrow,
        INSTRUCTION_BYTES=narrow // 8,
        PC_BITS=8,
        FETCHED=data.StructLayout({"word": narrow, "pc": 8, "end": 1}),
    ):
        dut = b.add(FetchUnit(config), damage)
    bus_bits //= NARROW
    width = max(bus_bits, narrow)
    parts, halves = width // bus_bits, width // narrow
    started = Signal()
    b.m.d.sync += started.eq(started | dut.start)
    b.assume("one START between resets (control.ends)", ~(dut.start & started))
    ask = dut.request.valid & dut.request.ready
    taken = dut.o.valid & dut.o.ready & ~dut.o.payload.end
    # Beats asked for, beats that came, and instructions handed out.
    asked = b.count(Mux(ask, dut.request.payload.len + 1, 0), "asked", 14)
    came = b.count(dut.data.valid, "came", 14)
    handed = b.count(taken, "handed", 14)
    count = Signal(8)
    with b.m.If(dut.start):
        b.m.d.sync += count.eq(dut.count)
    b.assume("beats come only for what was asked (bus.read)", ~dut.data.valid | (came < asked))

    # A row of the buffer is one beat, or the beats of one instruction.
    index = b.constant(8, "index")
    row = index // halves
    watched = Signal(width)
    for part in range(parts):
        with b.m.If(dut.data.valid & (came == row * parts + part)):
            b.m.d.sync += watched.word_select(part, bus_bits).eq(dut.data.data)
    word = watched.word_select(index % halves, narrow)
    payload = dut.o.payload
    here = dut.o.valid & (payload.pc == index) & ~payload.end
    b.claim("as_it_came", ~here | (payload.word == word))
    b.claim("in_order", payload.pc == handed)
    b.claim("ends_after_the_last", ~dut.o.valid | (payload.end == (handed == count)))
    b.stable("output_holds", dut.o)
    b.stable("request_holds", dut.request)

    # Why: places are taken when asked for.
    some = Mux(dut["remaining"] < 4, dut["remaining"], 4)
    b.claim("asks", (dut["asked"] == 0) | (dut["asked"] == some))
    rows = FETCH_BUFFER // halves
    complete = came // parts
    wanted = (dut["asked"] + halves - 1) // halves * halves
    b.claim("offers", dut["offers"] == ((wanted != 0) & (dut["free"] >= wanted)))
    b.claim("never_more_than_asked", came <= asked)
    b.claim("whole_rows", asked % parts == 0)
    b.claim("places", dut["free"] + asked // parts * halves == FETCH_BUFFER + handed)
    b.claim("part", dut["part"] == came % parts)
    b.claim("level", dut["level"] + handed == complete * halves)
    b.claim("index", dut["index"] == handed % FETCH_BUFFER)
    b.claim("write", dut["write__addr"] == complete % rows)
    b.claim("left", dut["left"] + handed == count)
    b.claim("ended", ~started | (dut["ended"] == (dut["left"] == 0)))
    b.claim("active", dut["active"] == started)
    b.claim("still", started | ((asked == 0) & (dut["asked"] == 0)))
    kept = dut.word("store", row % rows)
    for part in range(parts):
        there = (came > row * parts + part) & (index >= handed)
        same = kept.word_select(part, bus_bits) == watched.word_select(part, bus_bits)
        b.claim(f"kept_{part}", ~there | same)


PROOFS = (
    *(
        Proof(
            name=f"queues.instructions_{depth}",
            says="An instruction queue gives every entry once and in order, refuses only when "
            "full, and what it offers stays until it is taken.",
            of="InstructionQueue",
            sizes=f"depth {depth}",
            slow=depth != 4,
            bench=partial(instruction_queue, depth=depth),
            breaks={"oldest_first": stuck("read__addr", 0)} if depth == 4 else {},
        )
        for depth in (2, 3, 4, 8)
    ),
    *(
        Proof(
            name=f"queues.gate_{overlap}",
            says="A gate names the oldest instruction in progress; takes a wait set at the start, "
            "and only semaphores that are there; counts every cycle for one cause.",
            of="Gate",
            sizes=f"{overlap} in progress",
            slow=overlap != 4,
            bench=partial(gate, overlap=overlap),
            breaks={"active_is_the_oldest": stuck("completed", 0)} if overlap == 4 else {},
        )
        for overlap in (1, 2, 4, 8)
    ),
    Proof(
        name="queues.splitter",
        says="The burst splitter's two output registers pass every burst on once and in order; "
        "what they offer stays until it is taken.",
        of="BurstSplitter",
        bench=splitter,
        breaks={"oldest_first": stuck("spare", "new_burst")},
        breaks_depth=10,
    ),
    *(
        Proof(
            name=f"queues.fetch_{bus_bits}",
            says="Fetch hands out every instruction once, in order, as the bus gave it, then the "
            "end; its buffer never overflows; what it offers or asks for stays until it is taken.",
            of="FetchUnit",
            sizes=f"{bus_bits}-bit bus, both bus and instructions narrowed {NARROW}-fold; programs "
            "of up to 255 instructions",
            bench=partial(fetch, bus_bits=bus_bits),
            breaks={"as_it_came": stuck("write__addr", 0)} if bus_bits == 256 else {},
            slow=True,
        )
        for bus_bits in (64, 128, 256, 512)
    ),
)
