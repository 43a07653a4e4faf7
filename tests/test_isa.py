"""Encoding: every legal instruction survives it, everything else is refused by name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weft.hdl.config import PRESETS
from weft.hdl.isa import (
    FORMATS,
    INSTRUCTION_BITS,
    PEERS,
    SEMAPHORES,
    UNIT_OF,
    AlignmentError,
    Instruction,
    IsaError,
    Memory,
    Opcode,
    Reduce,
    Unit,
    check,
    layout,
    post_bit,
    wait_bit,
)
from weft.hdl.registers import Error
from weft.host.disasm import assemble, disassemble
from weft.host.traps import classify

CONFIG = PRESETS["default"]
FIELDS = [(opcode, f) for opcode in Opcode for f in FORMATS[opcode][1:]]
WAITING = [opcode for opcode in Opcode if opcode != Opcode.END]


def instructions():
    """Instructions whose every field is in its range."""

    def of(opcode):
        values = {f.name: st.integers(f.minimum, f.maximum) for f in FORMATS[opcode][1:]}
        for name in ("wait", "post"):
            peers = len(PEERS[UNIT_OF[opcode]]) if opcode in UNIT_OF else 0
            values[name] = st.integers(0, (1 << 2 * peers) - 1)
        return st.builds(Instruction, st.just(opcode), st.fixed_dictionaries(values))

    return st.sampled_from(list(Opcode)).flatmap(of)


def flip(word: bytes, at: int) -> bytes:
    return (int.from_bytes(word, "little") ^ 1 << at).to_bytes(len(word), "little")


@given(instructions())
def test_decode_inverts_encode(instruction):
    assert Instruction.decode(instruction.encode()) == instruction


@given(instructions())
def test_assembly_round_trip(instruction):
    assert assemble(str(instruction)) == instruction.encode()


@given(st.binary(min_size=32, max_size=32), st.sampled_from(range(16)))
def test_every_word_is_legal_or_has_one_error(word, opcode):
    word = bytes([word[0] & 0xF0 | opcode]) + word[1:]
    error = classify(word, CONFIG)
    try:
        check(Instruction.decode(word), CONFIG)
    except IsaError:
        assert error in (Error.OPCODE, Error.RESERVED, Error.FIELD, Error.ALIGNMENT)
    else:
        assert error == Error.NONE


@given(instructions(), st.data())
def test_a_bit_beyond_the_fields_is_reserved(instruction, data):
    used = sum(f.bits for f in FORMATS[instruction.opcode])
    word = flip(instruction.encode(), data.draw(st.integers(used, INSTRUCTION_BITS - 1)))
    assert classify(word, CONFIG) == Error.RESERVED
    with pytest.raises(IsaError, match="reserved bits"):
        Instruction.decode(word)


@given(instructions(), st.data())
def test_each_bit_belongs_to_one_field(instruction, data):
    at = data.draw(st.integers(4, sum(f.bits for f in FORMATS[instruction.opcode]) - 1))
    try:
        other = Instruction.decode(flip(instruction.encode(), at))
    except IsaError:
        return
    name = next(f.name for f, low in layout(instruction.opcode) if low <= at < low + f.bits)
    changed = {k for k, v in other.fields.items() if v != instruction.fields[k]}
    assert changed == {name}


@pytest.mark.parametrize("opcode", list(Opcode))
def test_fields_fit_and_do_not_overlap(opcode):
    at = 0
    for field, low in layout(opcode):
        assert low == at
        at += field.bits
    assert at <= INSTRUCTION_BITS


@pytest.mark.parametrize(("opcode", "field"), FIELDS, ids=lambda x: getattr(x, "name", x))
def test_values_out_of_range_are_refused(opcode, field):
    for value in (field.minimum - 1, field.maximum + 1):
        with pytest.raises(IsaError) as error:
            Instruction(opcode, {field.name: value})
        assert str(error.value) == (
            f"{opcode.name}.{field.name} must be {field.minimum} to {field.maximum}, not {value}"
        )


@pytest.mark.parametrize(("opcode", "field"), FIELDS, ids=lambda x: getattr(x, "name", x))
def test_extreme_values_survive(opcode, field):
    for value in (field.minimum, field.maximum):
        word = Instruction(opcode, {field.name: value}).encode()
        assert getattr(Instruction.decode(word), field.name) == value


def test_defaults():
    load = Instruction(Opcode.LOAD)
    assert (load.rows, load.length, load.wait) == (1, 1, 0)
    assert Instruction(Opcode.MATMUL).iy0 == 0


def test_unknown_fields_are_refused():
    with pytest.raises(IsaError, match="LOAD has no field 'colour'"):
        Instruction(Opcode.LOAD, {"colour": 1})
    with pytest.raises(AttributeError, match="LOAD has no field 'colour'"):
        _ = Instruction(Opcode.LOAD).colour


@pytest.mark.parametrize("opcode", [0, 7, 8, 15])
def test_undefined_opcodes(opcode):
    word = bytes([opcode]) + bytes(31)
    assert classify(word, CONFIG) == Error.OPCODE
    with pytest.raises(IsaError, match=f"undefined opcode {opcode}"):
        Instruction.decode(word)


def test_wrong_length():
    with pytest.raises(IsaError, match="an instruction is 32 bytes, not 31"):
        Instruction.decode(bytes(31))


LEGAL = Instruction(
    Opcode.LOAD, {"memory": Memory.WGT, "length": 16, "local_pitch": 16, "dram_pitch": 16}
)


@pytest.mark.parametrize("name", ["offset", "dram_pitch", "local", "local_pitch", "length"])
@pytest.mark.parametrize("memory", [Memory.WGT, Memory.PAR, Memory.TBL])
def test_alignment(name, memory):
    legal = {**LEGAL.fields, "memory": memory}
    check(Instruction(Opcode.LOAD, legal), CONFIG)
    word = Instruction(Opcode.LOAD, {**legal, name: 8})
    assert classify(word.encode(), CONFIG) == Error.ALIGNMENT
    message = f"LOAD.{name} must be a multiple of 16 bytes, not 8"
    with pytest.raises(AlignmentError, match=message):
        check(word, CONFIG)
    assert classify(word.encode(), PRESETS["small"]) == Error.NONE


@pytest.mark.parametrize("opcode", [Opcode.DRAIN, Opcode.POOL])
@pytest.mark.parametrize("tables", [0, 1, 8])
def test_tables_that_do_not_exist(opcode, tables):
    config = replace(CONFIG, tables=tables)
    for table in range(16):
        word = Instruction(opcode, {"table": table})
        legal = table <= tables
        assert classify(word.encode(), config) == (Error.NONE if legal else Error.FIELD)
        if not legal:
            message = f"{opcode.name}.table must be at most {tables}, .* not {table}"
            with pytest.raises(IsaError, match=message):
                check(word, config)


def test_no_loads_to_tables_that_do_not_exist():
    load = Instruction(Opcode.LOAD, {**LEGAL.fields, "memory": Memory.TBL, "length": 8})
    assert classify(load.encode(), CONFIG) == Error.ALIGNMENT
    without = replace(CONFIG, tables=0)
    assert classify(load.encode(), without) == Error.FIELD
    with pytest.raises(IsaError, match=r"LOAD.memory cannot be TBL: default has no tables"):
        check(load, without)


@pytest.mark.parametrize("name", ["local", "local_pitch", "length"])
def test_act_transfers_align_in_dram_only(name):
    for opcode, fields in ((Opcode.LOAD, {"memory": Memory.ACT}), (Opcode.STORE, {})):
        check(Instruction(opcode, {**fields, name: 3}), CONFIG)


@pytest.mark.parametrize("opcode", [Opcode.DRAIN, Opcode.POOL])
@pytest.mark.parametrize("window", [(2, 1), (1, 2)])
def test_no_reduction_means_no_window(opcode, window):
    fields = dict(zip(("ry", "rx"), window, strict=True))
    word = Instruction(opcode, fields).encode()
    assert classify(word, CONFIG) == Error.FIELD
    with pytest.raises(IsaError, match=f"{opcode.name} without reduction needs a 1×1 window"):
        check(Instruction.decode(word), CONFIG)
    check(Instruction(opcode, {**fields, "reduce": Reduce.MAX}), CONFIG)


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("name", ["wait", "post"])
def test_absent_peers_are_refused(opcode, name):
    peers = len(PEERS[UNIT_OF[opcode]]) if opcode in UNIT_OF else 0
    for bit in range(2 * peers):
        check(Instruction(opcode, {name: 1 << bit}), CONFIG)
    for bit in range(2 * peers, 8):
        word = Instruction(opcode, {name: 1 << bit})
        assert classify(word.encode(), CONFIG) == Error.FIELD
        with pytest.raises(IsaError, match=f"{opcode.name}.{name} names a peer"):
            check(word, CONFIG)


def test_decode_errors_have_priorities():
    blank = Instruction(Opcode.LOAD, {"offset": 1}).encode()
    assert classify(blank, CONFIG) == Error.ALIGNMENT
    length = next(low for f, low in layout(Opcode.LOAD) if f.name == "length")
    field = flip(blank, length)  # length 1 becomes 0
    assert classify(field, CONFIG) == Error.FIELD
    reserved = flip(field, 255)
    assert classify(reserved, CONFIG) == Error.RESERVED
    assert classify(bytes([reserved[0] & 0xF0]) + reserved[1:], CONFIG) == Error.OPCODE


def test_semaphores_are_symmetric():
    assert len(set(SEMAPHORES)) == len(SEMAPHORES) == 2 * sum(map(len, PEERS.values()))
    for producer, consumer, k in SEMAPHORES:
        assert producer in PEERS[consumer]
        assert consumer in PEERS[producer]
        assert wait_bit(consumer, producer, k) < 256
        assert post_bit(producer, consumer, k) < 256
    assert wait_bit(Unit.VECTOR, Unit.MATMUL, 1) == 0b1000


def test_disassembly_and_its_errors():
    code = assemble("""
        ; a comment
        0 LOAD memory=wgt length=16 post=weight.0   ; another
        1 MATMUL weight_wait=load.0 act=0x10
        END tag=3
    """)
    assert list(disassemble(code + bytes(32))) == [
        "LOAD   post=weight.0 memory=wgt segment=const length=16",
        "MATMUL weight_wait=load.0 act=16",
        "END    tag=3",
        f"; {bytes(32).hex()}: undefined opcode 0",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("JUMP", "line 1: no opcode 'JUMP'"),
        ("LOAD length", "line 1: 'length' is not one field=value"),
        ("LOAD rows=1 rows=2", "line 1: 'rows=2' is not one field=value"),
        ("LOAD length=many", "line 1: LOAD.length cannot be 'many'"),
        ("LOAD length=0", "line 1: LOAD.length must be 1 to 1048575, not 0"),
        ("STORE wait=weight.0", "line 1: no semaphore 'weight.0'; there are load.0, load.1, "),
        ("END post=load.0", "line 1: no semaphore 'load.0'; there are none"),
        ("LOAD colour=1", "line 1: LOAD has no field 'colour'"),
    ],
)
def test_assembly_errors(line, message):
    with pytest.raises(IsaError) as error:
        assemble(line)
    assert str(error.value).startswith(message)
