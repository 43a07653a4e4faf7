"""Bodies of the machine's multipliers and memories from the cells of a Lattice ECP5.

Synthesis packs no register into a multiplier or behind a block RAM, and builds logic around a block
RAM for reads that meet a write of the same word, which :class:`~weft.hdl.ram.Ram` leaves undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hdl.multiplier import Multiplier
    from ..hdl.packed import LowProduct
    from ..hdl.ram import Ram

#: Words of a block RAM by the bits of its data ports, narrowest last.
SHAPES = {36: 512, 18: 1024, 9: 2048, 4: 4096, 2: 8192, 1: 16384}
#: Bits that share a write enable, in the shapes that have several.
BYTE = 9
#: A memory of fewer bits than this is left to synthesis, which makes it of LUTs.
BLOCK_BITS = 1024


class Ecp5Cells:
    """Platform that gives ECP5 bodies; also as a base class beside a board's platform."""

    def get_multiplier(self, multiplier: Multiplier) -> Module:
        """A MULT18X18D with its registers at both operands and at the result."""
        m = Module()
        a_q = Signal(signed(8), reset_less=True)
        m.d.sync += a_q.eq(multiplier.a)
        a, b = _extended(multiplier.a, 18), _extended(multiplier.b, 18)
        product = Signal(36)
        m.submodules.cell = Instance(
            "MULT18X18D",
            p_REG_INPUTA_CLK="CLK0",
            p_REG_INPUTA_CE="CE0",
            p_REG_INPUTB_CLK="CLK0",
            p_REG_INPUTB_CE="CE1",
            p_REG_OUTPUT_CLK="CLK0",
            p_REG_OUTPUT_CE="CE0",
            p_GSR="DISABLED",
            i_CLK0=ClockSignal(),
            i_CE0=Const(1),
            i_CE1=multiplier.load,
            i_RST0=Const(0),
            i_SIGNEDA=Const(1),
            i_SIGNEDB=Const(1),
            i_SOURCEA=Const(0),
            i_SOURCEB=Const(0),
            **_pins("i_A{}", a),
            **_pins("i_B{}", b),
            **_pins("o_P{}", product),
        )
        m.d.comb += [
            multiplier.a_q.eq(a_q),
            multiplier.product.eq(product[: len(multiplier.product)]),
        ]
        return m

    def get_low_product(self, product: LowProduct) -> Module:
        """Carry chains that take two rows of partial products each."""
        m = Module()
        x, y = product.x, product.y
        pairs = [
            [(x[i], y[k], x[i - 1] if i else 0, y[k + 1]) for i in range(len(x) - k)]
            for k in range(0, len(y), 2)
        ]
        total = _chain(m, f"pair_{len(pairs) - 1}", pairs[-1])
        for k in reversed(range(len(pairs) - 1)):
            below = _chain(m, f"pair_{k}", pairs[k])
            above = zip(below[2:], total, strict=True)
            upper = _chain(m, f"sum_{k}", [(v, 1, w, 1) for v, w in above])
            total = Cat(below[:2], upper)
        m.d.comb += product.product.eq(total)
        return m

    def get_ram(self, ram: Ram) -> Module:
        """Block RAMs side by side, with their output registers if the memory has one.

        A memory that is too small or too deep for one row of them has the portable body.
        """
        fitting = [bits for bits, words in SHAPES.items() if ram.depth <= words]
        if not fitting or ram.width * ram.depth < BLOCK_BITS:
            return ram.portable()
        m = Module()
        shape = max(fitting)
        lanes = max(shape // BYTE, 1)
        pieces = list(_pieces(ram, min(shape, BYTE)))
        for first in range(0, len(pieces), lanes):
            block = _block(m, ram, shape, pieces[first : first + lanes])
            m.submodules[f"block_{first // lanes}"] = block
        return m


@dataclass(frozen=True)
class _Piece:
    """Bits of a word that one write enable and one lane of a block RAM take."""

    start: int
    bits: int
    enable: int


def _pieces(ram: Ram, lane_bits: int) -> Iterator[_Piece]:
    for enable, granule in enumerate(range(0, ram.width, ram.granularity)):
        for start in range(granule, granule + ram.granularity, lane_bits):
            yield _Piece(start, min(lane_bits, granule + ram.granularity - start), enable)


def _block(m: Module, ram: Ram, shape: int, pieces: list[_Piece]) -> Instance:
    """One DP16KD: port A writes, port B reads; as one port of 36 bits, B has the upper half."""
    enables = Cat(ram.w_en[piece.enable] for piece in pieces)
    write = Signal(name="w_any")
    m.d.comb += write.eq(enables.any())

    lane = min(shape, BYTE)
    data = Signal(36, name="w_lanes")
    found = Signal(36, name="r_lanes")
    for i, piece in enumerate(pieces):
        part = slice(piece.start, piece.start + piece.bits)
        place = slice(lane * i, lane * i + piece.bits)
        m.d.comb += [data[place].eq(ram.w_data[part]), ram.r_data[part].eq(found[place])]

    # The lowest bits of an address count the bits of a word; a write has its enables there.
    unused = 14 - (SHAPES[shape] - 1).bit_length()
    w_addr, r_addr = Signal(14, name="w_block"), Signal(14, name="r_block")
    m.d.comb += [w_addr[unused:].eq(ram.w_addr), r_addr[unused:].eq(ram.r_addr)]
    if shape > BYTE:
        m.d.comb += w_addr[: len(enables)].eq(enables)

    if shape == 36:
        outputs = {**_pins("o_DOA{}", found[:18]), **_pins("o_DOB{}", found[18:])}
    else:
        outputs = _pins("o_DOB{}", found[:18])
    register = "OUTREG" if ram.output_register else "NOREG"
    return Instance(
        "DP16KD",
        p_DATA_WIDTH_A=shape,
        p_DATA_WIDTH_B=shape,
        p_REGMODE_A=register,
        p_REGMODE_B=register,
        p_WRITEMODE_A="NORMAL",
        p_WRITEMODE_B="NORMAL",
        p_CSDECODE_A="0b000",
        p_CSDECODE_B="0b000",
        p_GSR="DISABLED",
        i_CLKA=ClockSignal(),
        i_CLKB=ClockSignal(),
        i_CEA=Const(1),
        i_CEB=ram.r_en,
        i_OCEA=Const(1),
        i_OCEB=Const(1),
        i_WEA=write,
        i_WEB=Const(0),
        i_RSTA=Const(0),
        i_RSTB=Const(0),
        **{f"i_CS{port}{k}": Const(0) for port in "AB" for k in range(3)},
        **_pins("i_ADA{}", w_addr),
        **_pins("i_ADB{}", r_addr),
        **_pins("i_DIA{}", data[:18]),
        **_pins("i_DIB{}", data[18:]),
        **outputs,
    )


#: Tables of a carry chain's bit, which adds A·B and C·D.
_SUM_OF_PRODUCTS = 0x7888


def _chain(m: Module, name: str, bits: list[tuple]) -> Signal:
    """The sum of two numbers whose bits are the products A·B and C·D, as wide as they are."""
    total = Signal(len(bits), name=name)
    carry: Any = Const(0, 1)
    for i in range(0, len(bits), 2):
        pair = [*bits[i : i + 2], (0, 0, 0, 0)][:2]
        sums, after = Signal(2, name=f"{name}_{i}"), Signal(name=f"{name}_carry_{i}")
        inputs = {
            f"i_{pin}{half}": Value.cast(value)[0]
            for half, values in enumerate(pair)
            for pin, value in zip("ABCD", values, strict=True)
        }
        m.submodules[f"{name}_cell_{i}"] = Instance(
            "CCU2C",
            p_INIT0=Const(_SUM_OF_PRODUCTS, 16),
            p_INIT1=Const(_SUM_OF_PRODUCTS, 16),
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            i_CIN=carry,
            o_S0=sums[0],
            o_S1=sums[1],
            o_COUT=after,
            **inputs,
        )
        m.d.comb += total[i : i + 2].eq(sums)
        carry = after
    return total


def _extended(value, bits: int):
    """`value` with its sign repeated up to `bits`."""
    return Cat(value.as_unsigned(), value[-1].replicate(bits - len(value)))


def _pins(name: str, value) -> dict[str, Any]:
    """The bits of `value` as pins of their own."""
    return {name.format(i): value[i] for i in range(len(value))}
