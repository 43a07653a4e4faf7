"""Proofs: every word is legal or traps with the golden machine's error, and a trap does nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Cat, Mux, Signal, Value
from weft.hdl import isa
from weft.hdl.config import PRESETS, Config
from weft.hdl.decoder import Decoder
from weft.hdl.dispatch import Dispatch
from weft.hdl.isa import INSTRUCTION_BYTES, UNIT_OF, Opcode, Unit
from weft.hdl.registers import Error
from weft.host import traps

from .formal import Bench, Damage, Proof, stuck
from .proof_queues import Model
from .symbolic import Symbolic, compiled

TINY = PRESETS["tiny"]


def golden(word: Value, config: Config) -> Value:
    """The golden machine's own classification of a word, executed symbolically."""

    def classify(symbol: Symbolic) -> int:
        class Integer(int):
            """In place of `int`: bytes become the symbol."""

            def __new__(cls, value: Any) -> Any:
                return value if isinstance(value, Symbolic) else int(value)

            @classmethod
            def from_bytes(cls, *_: Any, **__: Any) -> Any:
                return symbol

        with (
            patch.object(isa, "int", Integer, create=True),
            patch.object(traps, "int", Integer, create=True),
        ):
            return traps.classify(bytes(INSTRUCTION_BYTES), config)

    return compiled(classify, word)


def decoder(b: Bench, config: Config, damage: Damage = None) -> None:
    """Whatever word comes in, the code that comes out with it."""
    dut = b.add(Decoder(config), damage)
    given, taken = dut.i.payload, dut.o.payload
    push, pop = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    model = Model(b, 2, push, pop, Cat(given.word, given.pc, given.end))
    valid, raw_valid, raw = dut["valid"], dut["raw_valid"], dut["raw"]
    oldest = model.entries[0]
    b.claim("in_order", ~dut.o.valid | (Cat(taken.word, taken.pc) == oldest[:-1]))
    code = Mux(oldest[-1], Error.PROGRAM_END, golden(taken.word, config))
    b.claim("golden_code", ~dut.o.valid | (taken.error == code))
    b.claim("legal", ~dut.o.valid | (taken.legal == (taken.error == Error.NONE)))
    units = Mux(taken.legal, units_of(taken.word), 0)
    b.claim("units", ~dut.o.valid | (taken.units == units))
    ends = taken.legal & (taken.word[:4] == Opcode.END)
    b.claim("ends", ~dut.o.valid | (taken.ends == ends))
    b.stable("output_holds", dut.o)
    b.claim("counts", valid + raw_valid == model.count)
    second = Mux(valid, model.entries[1], oldest)
    b.claim("first_stage", ~raw_valid | (Value.cast(raw) == second))


#: The queues that an instruction enters.
QUEUES = {opcode: {unit} for opcode, unit in UNIT_OF.items()}
QUEUES[Opcode.MATMUL] = {Unit.WEIGHT, Unit.MATMUL}


def units_of(word: Value) -> Value:
    """The units whose queues an instruction enters, a bit each."""
    return Cat(Cat(word[:4] == op for op in QUEUES if unit in QUEUES[op]).any() for unit in Unit)


def dispatch(b: Bench, damage: Damage = None) -> None:
    """Legal instructions enter just their queues; others nothing."""
    dut = b.add(Dispatch(), damage)
    item = dut.i.payload
    legal = dut.i.valid & (item.error == Error.NONE)
    b.assume(
        "a legal word has a known opcode (decoder)",
        (item.error != Error.NONE) | Cat(item.word[:4] == op for op in Opcode).any(),
    )
    b.assume(
        "a word is legal where it has no error, and says its units and whether it is an END "
        "(decoder)",
        ~dut.i.valid
        | (
            (item.legal == (item.error == Error.NONE))
            & (item.units == Mux(item.legal, units_of(item.word), 0))
            & (item.ends == (item.legal & (item.word[:4] == Opcode.END)))
        ),
    )
    over = Signal()  # END or a trap has been reported
    b.m.d.sync += over.eq(over | dut.finish | dut.fault.valid)

    leaves = dut.i.valid & dut.i.ready
    for unit in Unit:
        queue = dut.component.queue(unit)
        name = unit.name.lower()
        mine = Cat(item.word[:4] == op for op in QUEUES if unit in QUEUES[op]).any()
        enters = queue.valid & queue.ready
        b.claim(f"{name}_gets_its_own", enters == (leaves & legal & mine))
        b.claim(f"{name}_never_waits", ~queue.valid | queue.ready)
        word = queue.payload.word.as_value()
        b.claim(f"{name}_word", ~enters | (word == item.word[: len(word)]))
        b.claim(f"{name}_pc", ~enters | (queue.payload.pc == item.pc))
    for opcode, units in QUEUES.items():
        mine = legal & (item.word[:4] == opcode) & ~over
        room = Cat(dut.component.queue(unit).ready for unit in units).all()
        b.claim(f"{opcode.name.lower()}_goes_when_there_is_room", ~mine | (leaves == room))
    entered = Cat(dut.component.queue(unit).valid for unit in Unit).any()
    trap = dut.i.valid & (item.error != Error.NONE)
    is_end = legal & (item.word[:4] == Opcode.END)
    b.claim("trap_enters_nothing", ~trap | ~(entered | dut.finish | leaves))
    b.claim("trap_after_all_else", ~(trap & dut.fault.valid) | (dut.empty & ~over))
    b.claim("trap_is_told", ~(trap & dut.empty & ~over) | dut.fault.valid)
    b.claim("trap_code", ~(trap & dut.fault.valid) | (dut.fault.code == item.error))
    b.claim("trap_pc", ~dut.fault.valid | (dut.fault.pc == item.pc))
    b.claim("once", ~over | ~(entered | dut.finish | dut.fault.valid | leaves))
    b.claim("end", dut.finish == (is_end & dut.empty & dut.zero & ~over))
    b.claim("end_tag", ~dut.finish | (dut.tag == item.word[20:36]))
    left = dut.fault.valid & is_end
    b.claim("semaphores_left", left == (is_end & dut.empty & ~dut.zero & ~over))
    b.claim("semaphores_left_code", ~left | (dut.fault.code == Error.SEMAPHORE_LEFT))
    b.claim("asks_for_no_more", dut.ending == ((trap | is_end) & ~over))
    b.claim("counts", dut.pc == b.count(leaves | dut.finish, "left", len(dut.pc)))
    b.claim("over", dut["over"] == over)


_GOLDEN = (
    "For every one of the 2^256 words the decoder's code is what the golden machine's "
    "`traps.classify` returns, executed symbolically; words pass once and in order, and what the "
    "decoder offers stays until it is taken."
)

PROOFS = (
    *(
        Proof(
            name=f"decoder.{name}",
            says=_GOLDEN,
            of="Decoder",
            sizes=f"{config.bus_bits}-bit bus, {config.tables} tables",
            bench=partial(decoder, config=config),
            breaks={"golden_code": stuck("field", 0)} if config is TINY else {},
            slow=config is not TINY,
        )
        for name, config in (
            ("tiny", TINY),
            ("default", PRESETS["default"]),
            ("wide", replace(PRESETS["default"], bus_bits=512, burst_beats=16, tables=0)),
        )
    ),
    Proof(
        name="decoder.dispatch",
        says="A legal instruction enters just the queues of its units, MATMUL both of its at once, "
        "in the cycle in which they have room; a trap enters none, counts nothing, and is reported "
        "once, with its code and place, after everything before it; END ends only an empty "
        "machine, and fails where a semaphore is left; nothing follows either.",
        of="Dispatch",
        bench=dispatch,
        breaks={"trap_enters_nothing": stuck("legal", "present"), "once": stuck("over", 0)},
    ),
)
