"""Proofs: the arithmetic is that of the integers, and no sum overflows its width."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value, signed
from weft.hdl.accumulator import RMW_LATENCY, AccumulatorColumn
from weft.hdl.config import PRESETS
from weft.hdl.packed import OVERLAP, SPACING, PackedElement, PackedSums, pack
from weft.hdl.pe import ProcessingElement
from weft.hdl.requantizer import PARAMETER_HOLD, PARAMETER_LAYOUT, Requantizer

from .formal import Bench, Damage, Proof, implies, stuck

#: Every number of rows that a configuration may have.
ROWS = range(4, 65, 4)
#: Largest product of two INT8 values, and the least.
MOST, LEAST = 128 * 128, -128 * 127
#: Bits of the largest machine's column sums.
PSUM_BITS = 22


def shifted_sum(a: Value, b: Value) -> Value:
    """The product of two INT8 values, without a multiplication."""
    parts = [Mux(b[k], a << k, 0) for k in range(7)]
    return sum(parts[1:], start=parts[0]) - Mux(b[7], a << 7, 0)


def element(b: Bench, damage: Damage = None) -> None:
    """A processing element against its contract, which names weights by the cycle they came in."""
    dut = b.add(ProcessingElement(psum_bits=PSUM_BITS), damage)
    rows = b.constant(range(ROWS[-1]), "rows")  # of elements above this one
    b.assume(
        "the sum from above is one of products (arithmetic.element)",
        (dut.psum >= rows * LEAST) & (dut.psum <= rows * MOST),
    )
    # These outlive a reset, as the element's own do.
    shadow = Signal(signed(8), name="came", reset_less=True)
    active = Signal(signed(8), name="in_use", reset_less=True)
    weight, activation = (Signal(signed(8), name=n, reset_less=True) for n in ("w", "a"))
    product = Signal(signed(16), name="expected_product", reset_less=True)
    total = Signal(signed(PSUM_BITS + 1), name="expected_sum", reset_less=True)
    used = Mux(dut.swap, shadow, active)
    with b.m.If(dut.load):
        b.m.d.sync += shadow.eq(dut.weight)
    b.m.d.sync += [
        active.eq(used),
        weight.eq(used),
        activation.eq(dut.a),
        product.eq(shifted_sum(activation, weight)),
        total.eq(dut.psum + product),
    ]
    b.claim("sum", dut.psum_out == total)
    b.claim("sum_is_in_range", (dut.psum_out >= (rows + 1) * LEAST)
            & (dut.psum_out <= (rows + 1) * MOST))  # fmt: skip
    b.claim("passes_activations_on", dut.a_out == activation)
    b.claim("passes_weights_on", dut.weight_out == shadow)
    b.claim("passes_tags_on", (dut.swap_out == b.past(dut.swap))
            & (dut.load_out == b.past(dut.load)))  # fmt: skip
    # Why.
    b.claim("product", (dut["multiplier.~product"] == product)
            & (product >= LEAST) & (product <= MOST))  # fmt: skip
    b.claim("weight", (dut["multiplier.~b_q"] == weight) & (active == weight))
    # Every legal machine's column sums fit their width.
    for n in ROWS:
        top = 1 << (replace(PRESETS["default"], rows=n).psum_bits - 1)
        b.claim(f"fits_{n}", int(n * MOST < top and n * LEAST >= -top))


def pair(b: Bench, damage: Damage = None) -> None:
    """Two elements on one multiplier: their products and sums, told apart, are the integers'."""
    dut = b.add(PackedElement(psum_bits=PSUM_BITS), damage)
    came, used = (
        [Signal(signed(8), name=f"{name}_{i}", reset_less=True) for i in range(2)]
        for name in ("came", "in_use")
    )
    given = [b.free(signed(8), f"weight_{i}") for i in range(2)]
    b.m.d.comb += dut.weights.eq(pack(*given))
    now, before = (Signal(signed(8), name=n, reset_less=True) for n in ("now", "before"))
    products = [Signal(signed(16), name=f"product_{i}", reset_less=True) for i in range(2)]
    total = Signal(PackedSums(PSUM_BITS), name="total", reset_less=True)
    exact = [shifted_sum(now, weight)[:16].as_signed() for weight in used]
    # That the multiplier distributes over its operand is left to tests/test_packed.py.
    dut.override("multiplier.multiplier.~product", (exact[0] + (exact[1] << SPACING))[:26])
    with b.m.If(dut.load):
        b.m.d.sync += [signal.eq(value) for signal, value in zip(came, given, strict=True)]
    with b.m.If(dut.swap):
        b.m.d.sync += [signal.eq(value) for signal, value in zip(used, came, strict=True)]
    low, carry, high = (dut[f"multiplier.{name}"] for name in ("low", "carry", "high"))
    b.m.d.sync += [
        now.eq(dut.a),
        before.eq(now),
        *(signal.eq(value) for signal, value in zip(products, exact, strict=True)),
        total.low.eq(dut.psums.low + low),
        total.carry.eq(dut.psums.carry + carry),
        total.high.eq(dut.psums.high + high),
    ]
    b.claim("first", low + (carry << SPACING) == products[0])
    b.claim("second", high - carry == products[1])
    b.claim("sums", dut.psums_out.as_value() == total.as_value())
    b.claim("passes_activations_on", dut.a_out == before)
    b.claim("passes_weights_on", dut.weights_out.as_value() == pack(*came))
    for name in ("swap", "load"):
        once = b.past(getattr(dut, name), f"{name}_1")
        twice = b.past(once, f"{name}_2")
        b.claim(f"passes_{name}_on", getattr(dut, f"{name}_out") == twice)
        b.claim(f"{name}_on_its_way", dut[f"~{name}"] == Cat(once, twice))
    # Why.
    b.claim("operands", (dut["multiplier.multiplier.~b_q"] == pack(*used)[:18].as_signed())
            & (dut["multiplier.multiplier.~a_q"] == now))  # fmt: skip
    b.claim("product", dut["multiplier.multiplier.~product"]
            == products[0] + (products[1] << SPACING))  # fmt: skip
    b.claim("known", (dut["multiplier.second"] == used[1][:OVERLAP])
            & (dut["multiplier.known"] == products[1][:OVERLAP]))  # fmt: skip
    b.claim("sign", (dut["multiplier.first_negative"] == used[0][-1])
            & (dut["multiplier.negative"] | ~products[0][-1])
            & (~dut["multiplier.negative"] | (products[0] <= 0)))  # fmt: skip
    b.claim("range", (products[0] >= LEAST) & (products[0] <= MOST))


def accumulator(b: Bench, damage: Damage = None) -> None:
    """One entry of a column's accumulators: every sum is added once."""
    config = SimpleNamespace(acc_half=4, acc_depth=8, parity=False, psum_bits=18)
    dut = b.add(AccumulatorColumn(config), damage)
    entry = b.constant(3, "entry")
    # What `Accumulator` makes of the streamer's control.
    control = b.free(5, "control")
    valid, overwrite, at = control[0], control[1], control[2:]
    stages = [Cat(valid, overwrite, at)]
    for k in range(1, 4):
        stages.append(b.past(stages[-1], f"stage_{k}"))
    b.m.d.comb += [
        dut.read.eq(valid),
        dut.read_entry.eq(at),
        dut.overwrite.eq(stages[2][1]),
        dut.add_half.eq(stages[2][-1]),
        dut.write.eq(stages[3][0]),
        dut.write_entry.eq(stages[3][2:]),
    ]
    for stage in stages[1:RMW_LATENCY]:
        b.assume(
            "an entry in flight is overwritten or left alone (units.accumulates)",
            ~(valid & ~overwrite & stage[0] & (stage[2:] == at)),
        )
    mine = [stage[0] & (stage[2:] == entry) for stage in stages]
    exact = Signal(
        32, name="exact", reset_less=True
    )  # the entry modulo 2^32, with every sum that was written
    due = Signal(signed(18))
    b.m.d.sync += due.eq(dut.psum)
    with b.m.If(mine[3]):
        b.m.d.sync += exact.eq(Mux(stages[3][1], 0, exact) + due)
    half = entry[-1]
    words = [dut.word(f"half_{h}.cells", entry[:-1]) for h in (0, 1)]
    b.claim("holds_the_sum", Mux(half, words[1], words[0]) == exact)
    # Why.
    total, behind = dut["total"], [dut[f"half_{h}.behind"] for h in (0, 1)]
    b.claim("read_once", implies(
        mine[2] & ~stages[2][1], Mux(half, behind[1], behind[0]) == exact))  # fmt: skip
    b.claim("adds", implies(
        mine[3], total == (Mux(stages[3][1], 0, exact) + due)[:32]))  # fmt: skip
    seen = [dut.read_data(f"half_{h}.cells") for h in (0, 1)]
    b.claim("reads", implies(
        mine[1] & ~stages[1][1], Mux(half, seen[1], seen[0]) == exact))  # fmt: skip
    for k in (1, 2, 3):
        for older in range(k + 1, 4):
            b.claim(f"apart_{k}_{older}", ~(mine[k] & ~stages[k][1] & mine[older]))


class History:
    """The parameters that each stage should hold: those of the latest `load`, a cycle later each.

    ``stage[k]`` are the parameters that stage k uses now, ``there[k]`` says that there are any.
    """

    def __init__(self, b: Bench, dut: Any):
        first = Signal(PARAMETER_LAYOUT, name="loaded")
        some = Signal(name="some")
        with b.m.If(dut.load):
            b.m.d.sync += [first.eq(dut.parameter), some.eq(1)]
        self.stage, self.there = [first], [some]
        load = dut.load
        for k in range(1, PARAMETER_HOLD + 1):
            after = Signal(PARAMETER_LAYOUT, name=f"loaded_{k}")
            b.m.d.sync += after.eq(self.stage[-1])
            load = b.past(load, f"load_{k}")
            b.assume(
                "parameters stay as long as they must (`VectorUnit`, tests)",
                implies(load, dut.parameter.as_value() == self.stage[-1].as_value()),
            )
            b.claim(f"load_{k}", dut["history"][k - 1] == load)
            there = b.past(self.there[-1], f"some_{k}")
            same = Cat(there, after) == Cat(self.there[-1], self.stage[-1])
            b.claim(f"keeps_{k}", load | same)
            self.stage.append(after)
            self.there.append(there)


def product(b: Bench, bits: int, damage: Damage = None) -> None:
    """Stages 0 to 3: (acc + bias) · M modulo 2^64, by parts."""
    dut = b.add(Requantizer(multiplier_bits=bits), damage)
    history = History(b, dut)
    zero, one = history.stage[0], history.stage[1]
    there = history.there
    biased, factor = dut["biased"], dut["multiplier"]
    before = b.past(dut.acc, "before").as_signed()
    bias = b.past(zero.bias, "bias").as_signed()
    b.claim("bias", implies(there[0], dut["bias"] == zero.bias))
    b.claim("biased", implies(there[1], biased == before + bias))
    b.claim("factor", implies(there[1], factor == one.multiplier[:bits].as_signed()))
    low, high = biased[:17], biased[17:].as_signed()
    whole = (low * factor + ((high * factor) << 17))[:64]
    if bits > 18:
        f_low, f_high = factor[:17], factor[17:].as_signed()
        whole = (low * f_low + ((low * f_high + high * f_low) << 17) + ((high * f_high) << 34))[:64]
    late = [whole]
    for k in (1, 2, 3):
        after = Signal(64, name=f"whole_{k}", reset_less=True)
        b.m.d.sync += after.eq(late[-1])
        late.append(after)
    b.claim("product", dut["product"] == late[3])
    # Why.
    b.claim("outer", (dut["outer"] + (dut["middle"] << 17))[:64] == late[2])
    if bits > 18:
        parts = [dut[n] for n in ("low_low", "low_high", "high_low", "high_high")]
        joined = parts[0] + ((parts[1] + parts[2]) << 17) + (parts[3] << 34)
    else:
        joined = dut["low"] + (dut["high"] << 17)
    b.claim("parts", joined[:64] == late[1])


def rounding(b: Bench, damage: Damage = None) -> None:
    """Stages 1 to 6: product + ((r − z)·R << (s − t)) + round, modulo 2^64, for any product."""
    dut = b.add(Requantizer(multiplier_bits=18), damage)
    dut.override("product", b.free(64, "any_product"))
    history = History(b, dut)
    stage, there = history.stage, history.there
    for name, k, value in (
        ("residual_zero", 1, stage[1].residual_zero),
        ("residual_multiplier", 2, stage[2].residual_multiplier),
        ("left_fine", 3, (stage[3].shift - stage[3].residual_shift)[:3]),
        ("left_coarse", 4, (stage[4].shift - stage[4].residual_shift)[3:6]),
        ("shift", 4, stage[4].shift),
    ):
        b.claim(name, implies(there[k], Value.cast(dut[name]) == Value.cast(value)))
    centre = Mux(dut.add, dut.residual - stage[1].residual_zero, 0)
    b.claim("centred", implies(there[2], dut["centred"] == b.past(centre, "centre").as_signed()))
    term = dut["term"]
    scaled = b.past(dut["centred"] * dut["residual_multiplier"], "scaled")
    b.claim("term", implies(there[3], term == scaled.as_signed()))
    s = stage[3]
    wide = Cat(term, term[-1].replicate(64 - len(term)))
    moved = (wide << (s.shift - s.residual_shift)[:6])[:64]
    late = b.past(moved, "moved")
    later = b.past(late, "moved_again")
    fine = dut["term_fine"]
    fine = Cat(fine, fine[-1].replicate(64 - len(fine)))
    rest = (stage[4].shift - stage[4].residual_shift)[3:6]
    b.claim("shifts", implies(there[4], (fine << Cat(0, 0, 0, rest)[:6])[:64] == late))
    b.claim("shifted", implies(there[5], dut["term_coarse"] == later))
    half = b.past(((Value.cast(1) << stage[4].shift) >> 1)[:64], "half")
    given = b.past(dut["product"], "given")
    b.claim("rounds", implies(there[5], dut["rounded"] == (given + half)[:64]))
    sums = b.past((given + half + later)[:64], "sums")
    b.claim("total", implies(there[6], dut["total"] == sums.as_signed()))


def clamping(b: Bench, damage: Damage = None) -> None:
    """Stages 6 to 9: clamp((total >> s) + z, low, high), for any total."""
    dut = b.add(Requantizer(multiplier_bits=18), damage)
    dut.override("total", b.free(signed(64), "any_total"))
    history = History(b, dut)
    stage, there = history.stage, history.there
    for name, k, value in (
        ("right_coarse", 6, stage[6].shift[3:]),
        ("right_fine", 7, stage[7].shift[:3]),
        ("zero_point", 8, stage[8].zero_point),
        ("unshifted", 8, stage[8].shift == 0),
        ("least", 9, stage[9].low),
        ("most", 9, stage[9].high),
        ("crossed", 9, stage[9].low > stage[9].high),
    ):
        b.claim(name, implies(there[k], Value.cast(dut[name]) == Value.cast(value)))
    # Step by step, in integers.
    total, six = dut["total"], stage[6]
    exact = Signal(signed(64), name="exact_shift")
    b.m.d.comb += exact.eq(total >> six.shift)
    shifted = [exact]
    for k in (1, 2):
        after = Signal(signed(64), name=f"exact_shift_{k}", reset_less=True)
        b.m.d.sync += after.eq(shifted[-1])
        shifted.append(after)
    for k in (1, 2):
        halved = shifted[k][62] == shifted[k][63]
        b.claim(f"halved_{k}", implies(there[6 + k] & (stage[6 + k].shift != 0), halved))
    near = dut["near"]
    b.claim("near", implies(there[7], (near >> stage[7].shift[:3]) == shifted[1]))
    byte, negative = dut["byte"], dut["negative"]
    fits = Mux(negative, dut["ones"], dut["zeros"])
    other = Mux(negative, dut["zeros"], dut["ones"])
    b.claim("byte", implies(there[8], byte == shifted[2][:8]))
    b.claim("negative", implies(there[8], negative == shifted[2][63]))
    b.claim("fits", implies(there[8], fits == small_byte(shifted[2])))
    turned = shifted[2] ^ (1 << 63)
    brim = implies(stage[8].shift == 0, other == small_byte(turned.as_signed()))
    b.claim("brim", implies(there[8], brim))
    moved = Signal(signed(64), name="exact_moved", reset_less=True)
    b.m.d.sync += moved.eq((shifted[2] + stage[8].zero_point)[:64].as_signed())
    value = dut["value"]
    inside = (moved >= -128) & (moved <= 127)
    same = Mux(inside, value == moved, Mux(moved < 0, value < -128, value > 127))
    b.claim("value", implies(there[9], same))
    nine = stage[9]
    raised = Mux(moved < nine.low, nine.low, moved)
    result = b.past(Mux(raised > nine.high, nine.high, raised)[:8], "expected").as_signed()
    b.claim("result", implies(b.past(there[9], "some_10"), dut.result == result))


def small_byte(value: Value) -> Value:
    """Whether a 64-bit value's bits from 8 on all equal its sign."""
    return Mux(value[63], value[8:64].all(), ~value[8:64].any())


PROOFS = (
    Proof(
        name="arithmetic.element",
        says="Three cycles on, a processing element's sum is the integer sum from above plus "
        "activation times weight, for all values (the product checked against shifted additions), "
        "with the weight that its contract names; r + 1 elements make sums within (r + 1) · "
        "[−16256, 16384], and these fit the column sums of every legal number of rows.",
        of="ProcessingElement, Multiplier",
        sizes=f"up to {ROWS[-1]} rows, all values",
        bench=element,
        solver="yices",
        slow=True,
        breaks={"sum": stuck("multiplier.~b_q", 3)},
    ),
    Proof(
        name="arithmetic.pair",
        says="Of two elements on one multiplier the products that are told apart are activation "
        "times weight, for all values, −128 included, and so are their parts in the three sums; "
        "weights, activations and tags go on as their contract says. That the multiplier makes "
        "(v + 512·w)·a of its operands is tried out for all of them (`tests/test_packed.py`).",
        of="PackedElement, PackedMultiplier, LowProduct",
        sizes=f"up to {ROWS[-1]} rows, all values",
        bench=pair,
        solver="yices",
        slow=True,
        breaks={"first": stuck("multiplier.negative", 0)},
    ),
    Proof(
        name="arithmetic.accumulator",
        says="An entry holds the sum modulo 2^32 of every column sum that was added to it since it "
        "was last overwritten.",
        of="AccumulatorColumn, Ram",
        sizes="8 entries",
        bench=accumulator,
        breaks={"holds_the_sum": stuck("total", 1)},
        breaks_depth=10,
    ),
    *(
        Proof(
            name=f"arithmetic.product_{bits}",
            says="(acc + bias) · M modulo 2^64 by its parts, for all values; that the parts make "
            "the product is the distributive law.",
            of="Requantizer",
            sizes=f"multiplier_bits = {bits}",
            bench=partial(product, bits=bits),
            slow=bits != 18,
            breaks={"factor": stuck("multiplier", 1)} if bits == 18 else {},
        )
        for bits in (18, 32)
    ),
    Proof(
        name="arithmetic.rounding",
        says="To whatever product stands there, ((r − z_r)·R << (s − t)) and the rounding constant "
        "are added modulo 2^64.",
        of="Requantizer",
        sizes="any multiplier_bits, on which these stages do not depend",
        bench=rounding,
        slow=True,
        breaks={"total": stuck("left_fine", 0)},
        breaks_depth=12,
    ),
    Proof(
        name="arithmetic.clamping",
        says="The result is clamp((total >> s) + z, low, high) of whatever total stands there.",
        of="Requantizer",
        sizes="any multiplier_bits, on which these stages do not depend",
        bench=clamping,
        slow=True,
        breaks={"result": stuck("zeros", 1)},
        breaks_depth=14,
    ),
)
