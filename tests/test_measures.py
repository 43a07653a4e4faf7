"""How much the tests see: the page says what was recorded, the plan is reached."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from weft.hdl.config import PRESETS
from weft.hdl.registers import Error

from . import functional, mutant_survivors, mutants, verilog_coverage
from . import measures as recorded
from .campaigns import branches, mutation
from .liveness import Liveness
from .programs import Generator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import measures  # noqa: E402
import measures_reasons  # noqa: E402

RESULTS = json.loads(recorded.FILE.read_text(encoding="utf-8"))


def test_the_page_has_the_recorded_results():
    page = measures.PAGE.read_text(encoding="utf-8")
    assert measures.page(RESULTS) == page, "run `python tools/measures.py`"


def test_every_error_has_its_place_in_the_plan():
    elsewhere = {Error.NONE, Error.CORRUPT, Error.PARITY}
    assert {*functional.ERRORS} | {*functional.ALONE} | elsewhere == set(Error)
    points = functional.plan()
    assert len(points) == len(set(points))


def test_the_whole_plan_is_reached(tiny_bench):
    """Errors at every opcode, and random programs for the pairs, under every sort of stalls."""
    seen, generator = functional.Seen(), Generator(PRESETS["tiny"])
    stimuli = list(functional.stimuli(tiny_bench))
    for stalls in functional.STALLS:
        for stimulus in stimuli:
            functional.run(tiny_bench, stimulus, seen, stalls)
        for seed in range(20):
            stimulus = functional.Stimulus(generator.program(seed).job)
            functional.run(tiny_bench, stimulus, seen, stalls, place=seed)
    assert not seen.missing()


def test_a_plan_without_its_stimuli_is_not_reached(tiny_bench):
    seen = functional.Seen()
    functional.run(tiny_bench, functional.Stimulus(tiny_bench.gemm.job()), seen, "none")
    assert seen.points["pair", "MATMUL", "DRAIN", "none"] == 1
    assert ("error", "OPCODE", "", "none") in seen.missing()
    assert ("pair", "MATMUL", "DRAIN", "all") in seen.missing()


MODULE = """\
module weft(clk, \\a.b , o, mutant);
  input clk;
  wire clk;
  input [3:0] \\a.b ;
  wire [3:0] \\a.b ;
  output [1:0] o;
  wire [1:0] o;
  input [15:0] mutant;
  wire [15:0] mutant;
  wire inner;
  reg [1:0] _07_ = 2'h0;
  reg [1:0] \\memory  [7:0];
  always @* begin
    if (weft_began) begin end
  end
  assign { \\held [1], _02_ } = _07_;
endmodule
"""


def test_toggles_are_counted_of_ports_only():
    lines = verilog_coverage.ports_only(MODULE).splitlines()
    off = [line for line in lines if "coverage_off" in line]
    for line, name in zip(off, ("inner", "_07_", "memory", "began"), strict=True):
        assert name in line


def test_points_are_read_and_summed():
    text = (
        "# SystemC::Coverage-3\n"
        "C '\x01page\x02v_toggle/weft_a\x01o\x02x[3]:0->1\x01h\x02weft.a' 5\n"
        "C '\x01page\x02v_toggle/weft_a\x01o\x02x[3]:1->0\x01h\x02weft.a' 0\n"
        "C '\x01page\x02v_line/weft_a\x01l\x0212\x01o\x02block\x01h\x02weft.a' 2\n"
    )
    points = verilog_coverage.parse(text)
    assert len(points) == 3
    assert verilog_coverage.by_module(points) == {"weft_a": {"toggle": (1, 2), "line": (1, 1)}}


def test_bits_of_ports_are_named():
    assert verilog_coverage.port_bit("load___05Fpayload__024310[57]:0->1") == (
        "load__payload$310",
        57,
    )
    assert verilog_coverage.port_bit("valid:1->0") == ("valid", 0)
    assert verilog_coverage.ranges([3, 0, 1, 7, 7, 2]) == "7, 3:0"


def test_the_netlist_of_mutants_can_be_reached():
    """The select input becomes a register, and registers behind a mutant keep their names."""
    text = mutants.accessible(MODULE)
    assert "module weft(clk, \\a.b , o);" in text
    assert "reg [15:0] mutant /*verilator public_flat_rw*/ = 0;" in text
    assert "reg [1:0] \\held.register0 /*verilator public_flat_rw*/  = 2'h0;" in text
    assert "= \\held.register0 ;" in text
    assert "\\memory  [7:0]/*verilator public_flat_rw*/ ;" in text


def test_what_nothing_depends_on_is_no_mutant():
    """An adder of 4 bits whose upper two only feed themselves, and a register that nobody reads."""

    def cell(kind: str, **connections: list[int | str]) -> dict:
        return {"type": kind, "connections": connections}

    cells = {
        "sum": cell("$add", A=[10, 11, 12, 13], B=["1", "0", "0", "0"], Y=[20, 21, 22, 23]),
        "count": cell("$dff", CLK=[2], D=[20, 21, 22, 23], Q=[10, 11, 12, 13]),
        "base": cell("$shr", A=[30, 31, 32, 33], B=["0", 3], Y=[40, 41]),
        "unread": cell("$dff", CLK=[2], D=[10], Q=[50]),
        "windows": cell("$dff", CLK=[2], D=[4, 5, 6, 7], Q=[30, 31, 32, 33]),
    }
    ports = {"o": {"direction": "output", "bits": [10, 11, 40]}}
    liveness = Liveness({"cells": cells, "ports": ports})
    for name, port, live in (
        ("sum", "A", [0, 1]), ("sum", "Y", [0, 1]), ("count", "D", [0, 1]), ("count", "Q", [0, 1]),
        ("base", "A", [0, 2]), ("base", "B", [0, 1]), ("base", "Y", [0]),
        ("windows", "D", [0, 2]), ("unread", "D", []),
    ):  # fmt: skip
        bits = range(len(cells[name]["connections"][port]))
        assert [bit for bit in bits if liveness.lives(name, port, bit)] == live, (name, port)


def test_a_mutant_is_read_from_what_yosys_lists():
    line = (
        r"mutate -mode cnot1 -module weft -cell $flatten\core.\a.$add$weft.v:7$3 -port A "
        r"-portbit 4 -ctrlbit 2 -wire core.a.x -wirebit 1 -src weft.v:7.1"
    )
    mutant = mutants.parse(9, "array", line)
    assert str(mutant) == "array: cnot1 by bit 2 at core.a.x[1] (add.A)"
    assert "-ctrl mutant 16 9 -mode cnot1" in mutant.command
    assert mutant.command.endswith("-port A -portbit 4 -ctrlbit 2")


def recorded(campaign: str) -> list[dict]:
    """What is recorded of a campaign, by configuration; at least one."""
    found = [values for name, values in RESULTS.items() if name.startswith(f"{campaign} of ")]
    assert found, f"`make verify ARGS='{campaign} --write'` was never run"
    return found


def test_every_recorded_survivor_is_explained():
    """And they are few; of the whole campaign, not of a quick run."""
    for found in recorded("mutation"):
        assert not found["quick"]
        for entry in found["survivors"]:
            assert mutant_survivors.reason(entry["component"], entry["mutant"]), entry
        rows = found["components"].values()
        assert sum(row["mutants"] for row in rows) >= 500
        others = sum(row["mutants"] - row["proven equal"] for row in rows)
        assert sum(row["killed"] for row in rows) >= mutation.WANTED * others


def test_survivors_that_run_again_are_counted_once():
    row = {"mutants": 9, "killed": 6, "proven equal": 1}
    left = [{"number": n, "component": "array", "mutant": "array: x"} for n in (3, 8)]
    before = {"components": {"array": row}, "killers": {"program": 6}, "survivors": left}
    again = {
        "components": {"array": {"mutants": 2, "killed": 1, "proven equal": 0}},
        "killers": {"test_pitches": 1},
        "survivors": left[1:],
    }
    both = mutation.merged(before, again, [3, 8])
    assert both["components"]["array"] == {"mutants": 9, "killed": 7, "proven equal": 1}
    assert both["killers"] == {"program": 6, "test_pitches": 1}
    assert both["survivors"] == left[1:]
    none = {**again, "survivors": []}
    assert mutation.merged(before, none, [3])["survivors"] == left[1:]


def test_lines_and_branches_are_summed_by_folder():
    def file(*counts: int) -> dict[str, dict[str, int]]:
        keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
        return {"summary": dict(zip(keys, counts, strict=True))}

    files = {
        "hdl/a.py": file(1, 2, 3, 4),
        "hdl/b.py": file(1, 1, 0, 2),
        "host/c.py": file(5, 6, 0, 0),
    }
    assert branches.parts(files) == {"hdl": [2, 3, 3, 6], "host": [5, 6, 0, 0]}


def test_whatever_stands_still_has_a_reason():
    """Every bit of a port and every line; nearly all lines are reached."""
    for found in recorded("coverage"):
        assert found["reached"] == found["plan"]
        for module, ports in found["ports not toggled"].items():
            for port, (_, bits) in ports.items():
                assert measures_reasons.port_reason(module, port, bits), f"{module}.{port}[{bits}]"
        for line in found["lines not reached"]:
            assert measures_reasons.line_reason(line), line
        lines = [counts["line"] for counts in found["modules"].values() if "line" in counts]
        assert sum(a for a, _ in lines) >= 0.95 * sum(b for _, b in lines)


def test_a_reason_holds_for_its_bits_alone():
    assert measures_reasons.port_reason("weft_registers", "vector_memory", "31:7, 0")
    assert measures_reasons.port_reason("weft_gemm", "matmul__post", "7:6")
    assert not measures_reasons.port_reason("weft_gemm", "matmul__post", "7:6, 1")
    assert not measures_reasons.port_reason("weft_registers", "cycles", "31")


def test_most_branches_of_the_python_code_are_taken():
    for top in ("hdl", "host"):
        assert branches.share(RESULTS["python"]["folders"], top) >= branches.WANTED
