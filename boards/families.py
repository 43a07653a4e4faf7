"""FPGA families: the open tools that make their bitstreams, and how they count what is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How a kind of FPGA is synthesised, placed and packed.

    Parameters
    ----------
    synth
        Commands of yosys that make ``top.json`` of the design; the next is for a yosys in which
        the one before fails.
    nextpnr, packer
        Programs for place-and-route and for the bitstream.
    place
        Arguments of `nextpnr` for constraints and result; {constraints}, {routed} stand for files.
    pack
        Arguments of `packer`; {routed}, {bitstream} stand for files.
    constraints, routed, bitstream
        How the names of those files end.
    takes
        What a cell of the netlist takes of what the FPGA counts: luts, ffs, dsps, brams.
    ram_bits
        Of a block RAM.
    models
        Stand-ins for the cells that a board's top names, in the folder models.
    inout_pins
        Every pin of the top is an inout.
    array_in_dsps
        Every product of the array is a multiplier block; else synthesis may make it of lookup
        tables.
    """

    synth: tuple[str, ...]
    nextpnr: str
    packer: str
    place: tuple[str, ...]
    pack: tuple[str, ...]
    constraints: str
    routed: str
    bitstream: str
    takes: Mapping[str, Mapping[str, int]]
    ram_bits: int
    models: tuple[str, ...]
    array_in_dsps: bool
    inout_pins: bool = False

    @property
    def tools(self) -> tuple[str, ...]:
        """All programs."""
        return "yosys", self.nextpnr, self.packer


#: Reads that meet a write of the same word are undefined in :class:`~weft.hdl.ram.Ram`, whose
#: memory is called cells; unless told, synthesis adds logic to return what was there before.
COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:MEMID=\\cells %i; "
#: Flip-flops' suffixes: edge, set or reset, enable.
_GOWIN_FFS = tuple(
    edge + kind + enable
    for edge in ("", "N")
    for kind in ("", "S", "R", "P", "C")
    for enable in ("", "E")
    if edge + kind + enable
)
_ICE40_FFS = tuple(
    edge + enable + reset
    for edge in ("", "N")
    for enable in ("", "E")
    for reset in ("", "SR", "SS", "R", "S")
)
#: Halves of an 18×18 multiplier, in which the FPGA's are counted, of which an 8-bit one takes one.
_GOWIN_DSPS = {"9X9": 1, "18X18": 2, "36X36": 8}

ECP5 = Family(
    synth=(
        "synth_ecp5 -top top -json top.json",
        # abc9 aborts on some designs where yosys runs as WebAssembly (YoWASP/yosys issue 29).
        "synth_ecp5 -top top -run :map_luts; techmap -map +/lattice/latches_map.v; "
        "abc -dress -lut 4:7; clean; synth_ecp5 -top top -run map_cells: -json top.json",
    ),
    nextpnr="nextpnr-ecp5",
    packer="ecppack",
    place=("--lpf", "{constraints}", "--textcfg", "{routed}"),
    pack=("--compress", "--input", "{routed}", "--bit", "{bitstream}"),
    constraints="lpf",
    routed="config",
    bitstream="bit",
    takes={
        "LUT4": {"luts": 1},
        "CCU2C": {"luts": 2},
        "TRELLIS_DPR16X4": {"luts": 6},
        "TRELLIS_FF": {"ffs": 1},
        "MULT18X18D": {"dsps": 1},
        "DP16KD": {"brams": 1},
    },
    ram_bits=18 * 1024,
    models=("ecp5.v", "ecp5_io.v"),
    array_in_dsps=True,
)

GOWIN = Family(
    # For want of lookup tables: FIFOs whose reads have a register go to block RAMs; narrow adders
    # are smaller in lookup tables than in chains, which have two ends; and abc9 saves area.
    synth=(
        COLLISIONS + 'setattr -set ram_style "block" *engine*/m:storage *load_unit*/m:storage; '
        "synth_gowin -family gw2a -top top -run :map_gates; "
        "techmap -map +/techmap.v t:$alu r:Y_WIDTH<=8 %i; "
        "scratchpad -copy abc9.script.default.area abc9.script; "
        "synth_gowin -family gw2a -top top -run map_gates: -json top.json",
    ),
    nextpnr="nextpnr-himbaechel-gowin",
    packer="gowin_pack",
    place=("--vopt", "cst={constraints}", "--write", "{routed}"),
    pack=("-o", "{bitstream}", "{routed}"),
    constraints="cst",
    routed="json",
    bitstream="fs",
    takes={
        **{f"LUT{n}": {"luts": 1} for n in (1, 2, 3, 4)},
        "ALU": {"luts": 1},
        **{f"RAM16SDP{n}": {"luts": 2 * n} for n in (1, 2, 4)},
        **{f"DFF{kind}": {"ffs": 1} for kind in ("", *_GOWIN_FFS)},
        **{f"MULT{size}": {"dsps": count} for size, count in _GOWIN_DSPS.items()},
        **{name: {"brams": 1} for name in ("SDPB", "SDPX9B", "DPB", "DPX9B", "SPB", "pROM")},
    },
    ram_bits=18 * 1024,
    models=("gowin_io.v",),
    array_in_dsps=False,
)

ICE40 = Family(
    synth=(COLLISIONS + "synth_ice40 -dsp -top top -json top.json",),
    nextpnr="nextpnr-ice40",
    packer="icepack",
    place=("--pcf", "{constraints}", "--asc", "{routed}"),
    pack=("{routed}", "{bitstream}"),
    constraints="pcf",
    routed="asc",
    bitstream="bin",
    takes={
        "SB_LUT4": {"luts": 1},
        **{f"SB_DFF{kind}": {"ffs": 1} for kind in _ICE40_FFS},
        "SB_MAC16": {"dsps": 1},
        "SB_RAM40_4K": {"brams": 1},
    },
    ram_bits=4 * 1024,
    models=("ice40_io.v",),
    array_in_dsps=False,
    inout_pins=True,
)
