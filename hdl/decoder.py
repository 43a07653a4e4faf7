"""The instruction decoder: every check of an instruction word, derived from the formats.

Total: each word is legal or has exactly one error code. Where a word breaks several rules the first
in the order of :data:`PRIORITY` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Config
from .fetch_unit import FETCHED
from .isa import (
    FORMATS,
    INSTRUCTION_BITS,
    PEERS,
    UNIT_OF,
    Field,
    Memory,
    Opcode,
    Reduce,
    Unit,
    layout,
)
from .ports import ERROR_BITS, PC_BITS
from .registers import Error

#: Decode errors, most important first.
PRIORITY = (Error.PROGRAM_END, Error.OPCODE, Error.RESERVED, Error.FIELD, Error.ALIGNMENT)

#: The formats that each unit's queue holds.
QUEUED: dict[Unit, tuple[Opcode, ...]] = {
    Unit.LOAD: (Opcode.LOAD,),
    Unit.WEIGHT: (Opcode.MATMUL,),
    Unit.MATMUL: (Opcode.MATMUL,),
    Unit.VECTOR: (Opcode.DRAIN, Opcode.POOL),
    Unit.STORE: (Opcode.STORE,),
}
#: What the decoder hands on; `error` is NONE for a `legal` instruction. Bit u of `units`: a legal
#: one that enters the queue of unit u; `ends`: a legal END. The three are registers.
DECODED = data.StructLayout(
    {
        "word": INSTRUCTION_BITS,
        "pc": PC_BITS,
        "error": ERROR_BITS,
        "legal": 1,
        "units": len(Unit),
        "ends": 1,
    }
)


def fields_of(word: Value, opcode: Opcode) -> dict[str, Value]:
    """`word` cut into the fields of `opcode`'s format, each with its sign."""
    out = {}
    for entry, at in layout(opcode):
        raw = word[at : at + entry.bits]
        out[entry.name] = raw.as_signed() if entry.signed else raw
    return out


def _out_of_range(entry: Field, value: Value) -> Iterator[Value]:
    """Conditions under which `value` is no legal value of the field."""
    lowest = -(1 << (entry.bits - 1)) if entry.signed else 0
    highest = (1 << (entry.bits - entry.signed)) - 1
    if entry.minimum > lowest:
        yield value < entry.minimum
    if entry.maximum < highest:
        yield value > entry.maximum


def _field_errors(opcode: Opcode, fields: dict[str, Value], config: Config) -> Iterator[Value]:
    for entry in FORMATS[opcode]:
        if entry.name != "opcode":
            yield from _out_of_range(entry, fields[entry.name])
    peers = len(PEERS[UNIT_OF[opcode]]) if opcode in UNIT_OF else 0
    for name in ("wait", "post"):
        yield fields[name][2 * peers :].any()
    if opcode in (Opcode.DRAIN, Opcode.POOL):
        window = (fields["ry"] != 1) | (fields["rx"] != 1)
        yield (fields["reduce"] == Reduce.NONE) & window
        yield fields["table"] > config.tables
    if opcode == Opcode.LOAD and not config.tables:
        yield fields["memory"] == Memory.TBL


def _alignment_errors(opcode: Opcode, fields: dict[str, Value], bus_bytes: int) -> Iterator[Value]:
    below = (bus_bytes - 1).bit_length()
    if opcode in (Opcode.LOAD, Opcode.STORE):
        for name in ("offset", "dram_pitch"):
            yield fields[name][:below].any()
    if opcode == Opcode.LOAD:
        for name in ("local", "local_pitch", "length"):
            yield (fields["memory"] != Memory.ACT) & fields[name][:below].any()


def violations(word: Value, config: Config) -> dict[Error, Value]:
    """For each decode error of an instruction word, the condition that it breaks that rule."""
    opcode_bits = FORMATS[Opcode.END][0].bits
    found: dict[Error, list[Value]] = {
        code: [] for code in (Error.RESERVED, Error.FIELD, Error.ALIGNMENT)
    }
    known = []
    for opcode in Opcode:
        here = word[:opcode_bits] == opcode
        fields = fields_of(word, opcode)
        used = sum(entry.bits for entry in FORMATS[opcode])
        known.append(here)
        for code, conditions in (
            (Error.RESERVED, [word[used:].any()]),
            (Error.FIELD, _field_errors(opcode, fields, config)),
            (Error.ALIGNMENT, _alignment_errors(opcode, fields, config.bus_bytes)),
        ):
            found[code].append(here & any_of(conditions))
    return {Error.OPCODE: ~any_of(known), **{c: any_of(terms) for c, terms in found.items()}}


def any_of(conditions: Iterable[Value]) -> Value:
    """The disjunction of some one-bit values; 0 of none."""
    return Cat(conditions).any()


class Decoder(wiring.Component):
    """Checks instructions in two stages; one a cycle.

    An instruction taken in cycle t is offered in cycle t + 2 unless `o` was held up. The `end` mark
    of fetch becomes an item with error PROGRAM_END.

    Ports
    -----
    i : stream of FETCHED
    o : stream of DECODED
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({"i": In(stream.Signature(FETCHED)), "o": Out(stream.Signature(DECODED))})

    def elaborate(self, platform):
        m = Module()
        raw = Signal(FETCHED)
        raw_valid = Signal()
        move = Signal()
        valid = Signal()
        m.d.comb += [
            move.eq(~valid | self.o.ready),
            self.i.ready.eq(~raw_valid | move),
            self.o.valid.eq(valid),
        ]
        with m.If(self.i.ready):
            m.d.sync += [raw.eq(self.i.payload), raw_valid.eq(self.i.valid)]

        broken = violations(raw.word, self._config)
        broken[Error.PROGRAM_END] = raw.end
        flags = {code: Signal(name=code.name.lower()) for code in PRIORITY}
        with m.If(move):
            m.d.sync += [
                valid.eq(raw_valid),
                self.o.payload.word.eq(raw.word),
                self.o.payload.pc.eq(raw.pc),
            ]
            m.d.sync += [flags[code].eq(broken[code]) for code in PRIORITY]
            opcode = raw.word[: FORMATS[Opcode.END][0].bits]
            legal = ~any_of(broken[code] for code in PRIORITY)
            m.d.sync += [
                self.o.payload.legal.eq(legal),
                self.o.payload.ends.eq(legal & (opcode == Opcode.END)),
            ]
            m.d.sync += [
                self.o.payload.units[unit].eq(legal & any_of(opcode == o for o in QUEUED[unit]))
                for unit in Unit
            ]
        error = Error.NONE.value
        for code in reversed(PRIORITY):
            error = Mux(flags[code], code.value, error)
        m.d.comb += self.o.payload.error.eq(error)
        return m
