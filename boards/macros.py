"""Memories as modules of their own, for a technology whose memories are macros."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from amaranth.hdl import ClockSignal, Instance, Module

if TYPE_CHECKING:
    from ..hdl.ram import Ram


class Macros:
    """Platform that leaves every memory to a module ``weft_ram_<width>x<depth>...``.

    Attributes
    ----------
    rams : dict of str to Ram
        A memory for each module that the elaborated design needs.
    counts : Counter of str
        How many memories are instances of each.
    """

    def __init__(self) -> None:
        self.rams: dict[str, Ram] = {}
        self.counts: Counter[str] = Counter()

    def get_ram(self, ram: Ram) -> Module:
        """An instance of the memory's module."""
        m = Module()
        name = macro_name(ram)
        self.rams[name] = ram
        self.counts[name] += 1
        m.submodules.macro = Instance(
            name,
            i_clk=ClockSignal(),
            i_w_en=ram.w_en,
            i_w_addr=ram.w_addr,
            i_w_data=ram.w_data,
            i_r_en=ram.r_en,
            i_r_addr=ram.r_addr,
            o_r_data=ram.r_data,
        )
        return m

    def table(self) -> list[dict[str, Any]]:
        """What macros there must be: names, how many, sizes, latency, pins with their widths."""
        return [
            {
                "module": name,
                "count": self.counts[name],
                "width": ram.width,
                "depth": ram.depth,
                "write_enable_bits": ram.width // ram.granularity,
                "read_latency": ram.latency,
                "ports": {port: [way, bits] for port, way, bits in _pins(ram)},
            }
            for name, ram in sorted(self.rams.items())
        ]

    def text(self) -> str:
        """What each of the modules must do, as Verilog."""
        return "\n".join(behavioural(name, ram) for name, ram in sorted(self.rams.items()))


def macro_name(ram: Ram) -> str:
    """The module of a memory: bits × words, bits that are written at a time, output register."""
    parts = f"_w{ram.granularity}" if ram.granularity != ram.width else ""
    return f"weft_ram_{ram.width}x{ram.depth}{parts}{'_r' * ram.output_register}"


def behavioural(name: str, ram: Ram) -> str:
    """The module's contents as Verilog: what to put a macro in place of.

    A read and a write of the same word in the same cycle leave the read data undefined. It starts
    as all zeros; a program that reads only what it wrote needs no such thing of a macro.
    """
    parts = ram.width // ram.granularity
    shown = "behind" if ram.output_register else "found"
    register = (
        f"  reg [{ram.width - 1}:0] behind;\n  always @(posedge clk) behind <= found;\n"
        if ram.output_register
        else ""
    )
    pins = ",\n".join(
        f"  {way} {port}" if port in ("clk", "r_en") else f"  {way} [{bits - 1}:0] {port}"
        for port, way, bits in _pins(ram)
    )
    return f"""\
module {name} (
{pins}
);
  reg [{ram.width - 1}:0] words [0:{ram.depth - 1}];
  reg [{ram.width - 1}:0] found;
  integer i;
  initial for (i = 0; i < {ram.depth}; i = i + 1) words[i] = 0;
  always @(posedge clk) begin
    for (i = 0; i < {parts}; i = i + 1)
      if (w_en[i]) words[w_addr][{ram.granularity}*i +: {ram.granularity}] <=
        w_data[{ram.granularity}*i +: {ram.granularity}];
    if (r_en) found <= (|w_en && w_addr == r_addr) ? {{{ram.width}{{1'bx}}}} : words[r_addr];
  end
{register}  assign r_data = {shown};
endmodule
"""


def _pins(ram: Ram) -> list[tuple[str, str, int]]:
    """Pins of a memory's module: name, direction, bits."""
    addr_bits = (ram.depth - 1).bit_length()
    return [
        ("clk", "input", 1),
        ("w_en", "input", ram.width // ram.granularity),
        ("w_addr", "input", addr_bits),
        ("w_data", "input", ram.width),
        ("r_en", "input", 1),
        ("r_addr", "input", addr_bits),
        ("r_data", "output", ram.width),
    ]
