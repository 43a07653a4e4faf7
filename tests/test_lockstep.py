"""Lockstep names the first wrong instruction: a machine with faults that can be switched on."""

from __future__ import annotations

import re

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Memory, Opcode, Reduce, Segment
from weft.hdl.numerics import Parameter
from weft.host.device import DeviceError, Job
from weft.host.golden import GoldenDevice
from weft.host.timing.machine import predict
from weft.tb.devices import VerilatorDevice, machine_verilog
from weft.tb.lockstep import first_difference

from .conftest import copy_engine
from .programs import Generator

TINY = PRESETS["tiny"]
#: WATCHDOG values that switch a fault on; far more cycles than any program here takes.
FAULT = 0xFFFFFF00
#: By name: module, what to replace in it (as a pattern), by what, where `fault` is the switch.
FAULTS = {
    "accumulators start anew": (
        "column",
        r"overwrite \? 32'd0",
        "(overwrite | fault) ? 32'd0",
    ),
    "MAX takes the minimum": (
        "vector_unit_lane",
        r"\$signed\(\\byte \) > \$signed\(reduced\[7:0\]\)",
        r"(($signed(\\byte ) > $signed(reduced[7:0])) ^ fault)",
    ),
    "LOAD subtracts its pitch": (
        "load_unit",
        r"next_row \+ (now\[\d+:\d+\])",
        r"(fault ? next_row - \1 : next_row + \1)",
    ),
    "STORE subtracts its pitch": (
        "store_unit",
        r"next_row \+ pitch",
        "(fault ? next_row - pitch : next_row + pitch)",
    ),
    "STORE starts after cycle 2000": (
        "store_gate",
        r"assign go = (.*);",
        r"assign go = (\1) & ~(fault & (weft.control_block.counters.cycles < 2000));",
    ),
}


def faulty(verilog: str) -> str:
    """The machine with all faults in it, each behind its WATCHDOG value."""
    for number, (module, pattern, by) in enumerate(FAULTS.values()):
        head, text, tail = re.split(
            rf"(^module weft_{module}\(.*?^endmodule)", verilog, flags=re.DOTALL | re.MULTILINE
        )
        switch = f"(weft.control_block.registers.watchdog == 32'd{FAULT + number})"
        text, count = re.subn(pattern, by.replace("fault", switch), text)
        assert count == 1, (module, pattern, count)
        verilog = head + text + tail
    return verilog


def job() -> tuple[Job, list[str]]:
    """A program in which each fault has one instruction to show itself first, and the listing."""
    window = {"oy": 2, "ox": 3, "height": 99, "width": 99}
    image = {"row_pitch": 16, "pixel_pitch": 4, "kc": 4, **window}
    pool = {"src": 64, "src_row": 24, "src_pixel": 4, "channels": 4, **window}
    out = {"dst_row": 12, "dst_pixel": 4}
    steps = [
        (Opcode.LOAD, {"memory": Memory.PAR, "segment": Segment.CONST, "length": 128}),
        (Opcode.LOAD, {"memory": Memory.WGT, "segment": Segment.INPUT, "length": 256}),
        (Opcode.LOAD, {"segment": Segment.INPUT, "length": 128, "rows": 2, "local_pitch": 128}),
        (Opcode.MATMUL, image),
        (Opcode.MATMUL, {**image, "act": 8, "wgt": 4, "accumulate": 1}),
        (Opcode.POOL, {**pool, **out, "dst": 1024, "reduce": Reduce.SUM, "ry": 2, "rx": 2}),
        (Opcode.DRAIN, {**out, "dst": 2048, "src_row": 3, "channels": 4, "oy": 2, "ox": 3}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "local": 2048, "length": 24}),
        (Opcode.POOL, {**pool, **out, "dst": 3072, "reduce": Reduce.MAX, "ry": 2, "rx": 2}),
        (Opcode.LOAD, {"segment": Segment.INPUT, "offset": 8, "length": 9, "rows": 3,
                       "local": 20000, "local_pitch": 100}),
        (Opcode.STORE, {"segment": Segment.OUTPUT, "offset": 512, "local": 0, "length": 9,
                        "rows": 3, "local_pitch": 30, "dram_pitch": 16}),
    ]  # fmt: skip
    program = Generator(TINY).assemble(1, steps)
    code, (const, *others) = program.job.code, program.job.segments
    unity = Parameter(multiplier=1 << 16, shift=16).encode()
    job = Job(code, (8 * unity + const[128:], *others))
    return job, [str(instruction) for instruction in program.instructions]


@pytest.fixture(scope="module")
def machine():
    text = faulty(machine_verilog(TINY))

    def open_one(fault: int) -> VerilatorDevice:
        return VerilatorDevice(TINY, verilog=text, watchdog=fault, lockstep=True)

    return open_one


@pytest.mark.parametrize(
    ("fault", "index", "what"),
    [
        (None, None, ""),
        ("accumulators start anew", 4, r"MATMUL wrote 24 places, expected 24: ACC \d+ got 0x"),
        ("MAX takes the minimum", 8, r"VECTOR wrote 24 places, expected 24: ACT 30\d\d got 0x"),
        (
            "LOAD subtracts its pitch",
            9,
            r"LOAD wrote 18 places, expected 27: ACT 20200 got nothing",
        ),
        ("STORE subtracts its pitch", 10, r"STORE wrote 27 .*: OUTPUT 5\d\d got 0x"),
        ("STORE starts after cycle 2000", 7, r"STORE completes it in cycle 2\d\d\d, not in cycle "),
    ],
)
def test_names_the_first_wrong_instruction(machine, fault, index, what):
    work, listing = job()
    golden = GoldenDevice(TINY)
    golden.machine.written = []
    expected = golden.run(work)
    device = machine(0 if fault is None else FAULT + list(FAULTS).index(fault))
    got = device.run(work)
    predicted = predict(TINY, work.code).retired
    found = first_difference(
        work.code, golden.machine.written, device.writes, got.retired, predicted
    )
    device.close()
    if fault is None:
        assert found is None
        assert got.segments == expected.segments
        return
    assert found is not None
    assert found.startswith(f"instruction {index} ({listing[index]}): ")
    assert re.search(what, found), found


def test_other_machines_are_refused(small):
    with pytest.raises(DeviceError, match="lacks the signals that lockstep needs"):
        VerilatorDevice(small, verilog=copy_engine(small), lockstep=True)
