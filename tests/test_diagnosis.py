"""Every error of the machine reaches its user as one sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Instruction, Opcode, Segment
from weft.hdl.registers import ERRORS, Error
from weft.host import device
from weft.host.cli import main
from weft.host.device import DeviceError, Result, open_device
from weft.host.diagnosis import diagnosis
from weft.host.program import Port, Program
from weft.tb import devices
from weft.tb.memory_model import Channel, Options

from .faults import change
from .gemm import DEPTH, VECTORS, Gemm

TINY = PRESETS["tiny"]
NONE = (b"", b"", b"", b"")


def save(path: Path, *program: Instruction) -> Path:
    """The product's program, or another one with its data, as a program file."""
    gemm = Gemm(TINY)
    job = gemm.job(*program)
    cols = TINY.cols
    Program(
        name="gemm",
        config=TINY,
        code=job.code,
        const=job.segments[Segment.CONST],
        input_bytes=len(job.segments[Segment.INPUT]),
        output_bytes=len(job.segments[Segment.OUTPUT]),
        scratch_bytes=0,
        input=Port("x", Segment.INPUT, 0, (1, VECTORS, DEPTH), VECTORS * DEPTH, DEPTH),
        output=Port("y", Segment.OUTPUT, 0, (1, VECTORS, cols), VECTORS * cols, cols),
    ).save(path)
    return path


def refuse(capsys, path: Path, *options: str) -> str:
    """The sentence with which `weft run` refuses; without its first word."""
    np.save(path.with_name("x.npy"), Gemm(TINY).act.reshape(1, VECTORS, DEPTH))
    with pytest.raises(SystemExit) as end:
        main(["run", str(path), "--input", str(path.with_name("x.npy")), "--json", *options])
    seen = capsys.readouterr()
    assert end.value.code == 1
    assert seen.out == ""
    assert seen.err.count("\n") == 1
    assert seen.err.startswith("weft: ")
    return seen.err.removeprefix("weft: ").strip()


#: Programs that end in an error wherever they run.
PROGRAM = Gemm(TINY).program
BROKEN = {
    Error.WINDOW: (5, [*PROGRAM[:5], change(PROGRAM[5], offset=1 << 20), PROGRAM[6]]),
    Error.WATCHDOG: (4, [*PROGRAM[:4], change(PROGRAM[4], wait=63), *PROGRAM[5:]]),
    Error.SEMAPHORE_LEFT: (6, [*PROGRAM[:5], change(PROGRAM[5], post=1), PROGRAM[6]]),
    Error.SEMAPHORE_OVERFLOW: (63, [change(PROGRAM[0], post=8)] * 64 + [PROGRAM[6]]),
}


@pytest.mark.parametrize("backend", ["golden", "model", "verilator"])
@pytest.mark.parametrize("error", BROKEN, ids=lambda e: e.name)
def test_programs_that_fail(error, backend, tmp_path, capsys):
    place, program = BROKEN[error]
    path = save(tmp_path / "p.weft", *program)
    text = refuse(capsys, path, "--backend", backend, "--watchdog", "3000")
    info = ERRORS[error]
    assert text == (
        f"the machine stopped with {error.name} at instruction {place} "
        f"({' '.join(str(program[place]).split())}): {info.meaning}; {info.advice}"
    )


#: What the bus does, and which instruction that is about.
BUS = {
    "read fails": (Error.READ_BUS, 0, {"read_fault": 30}),
    "fetch fails": (Error.READ_BUS, 2, {"read_fault": 8}),
    "write fails": (Error.WRITE_BUS, 5, {"write_fault": 0}),
    "read withheld": (Error.WATCHDOG, 0, {"stop": Channel.R, "after": 30}),
    "response withheld": (Error.WATCHDOG, 5, {"stop": Channel.B}),
}


@pytest.mark.parametrize("case", BUS)
def test_buses_that_fail(case, tmp_path, capsys, monkeypatch):
    error, place, options = BUS[case]
    monkeypatch.setattr(devices, "Options", partial(Options, **options))
    path = save(tmp_path / "p.weft")
    text = refuse(capsys, path, "--backend", "verilator", "--watchdog", "3000")
    name = PROGRAM[place].opcode.name
    begin = f"the machine stopped with {error.name} at instruction {place} ({name} "
    assert text.startswith(begin)
    assert text.endswith(ERRORS[error].advice)
    withheld = "and the bus has not answered all that it was asked"
    assert (withheld in text) == ("withheld" in case)


def test_a_bank_conflict(tmp_path, capsys):
    matmul = change(PROGRAM[3], oy=512, height=512, ox=1, post=0)
    stores = [change(PROGRAM[5], wait=0, local=0)] * 3
    path = save(tmp_path / "p.weft", *PROGRAM[:2], matmul, *stores, PROGRAM[6])
    text = refuse(capsys, path, "--backend", "verilator")
    assert text.startswith("the machine stopped with BANK_CONFLICT at instruction ")
    assert text.endswith(ERRORS[Error.BANK_CONFLICT].advice)


def test_programs_that_are_not_legal_are_not_even_started(tmp_path, capsys):
    path = save(tmp_path / "p.weft", *PROGRAM[:2], change(PROGRAM[2], offset=4), PROGRAM[6])
    assert "instruction 2 is not legal: LOAD.offset must be a multiple" in refuse(capsys, path)


@pytest.mark.parametrize("value", ["-1", str(1 << 32)])
def test_watchdog_that_no_register_holds(value, tmp_path, capsys):
    path = save(tmp_path / "p.weft")
    for backend in ("model", "verilator"):
        text = refuse(capsys, path, "--backend", backend, "--watchdog", value)
        assert text == f"watchdog must be 0 (off) to 2^32 - 1 cycles, not {value}"


# -- the sentence ------------------------------------------------------------------------------

END = Instruction(Opcode.END)
ILLEGAL = {
    Error.OPCODE: (bytes(32), "undefined opcode 0"),
    Error.RESERVED: (END.encode()[:31] + b"\x80", "END has reserved bits set above bit 35"),
    Error.FIELD: (bytes([Opcode.LOAD]) + bytes(31), "LOAD.length must be 1 to 1048575, not 0"),
    Error.ALIGNMENT: (
        Instruction(Opcode.LOAD, {"offset": 4}).encode(),
        "LOAD memory=act segment=const offset=4: LOAD.offset must be a multiple of 8 bytes, not 4",
    ),
}


@pytest.mark.parametrize("error", [e for e in Error if e != Error.NONE], ids=lambda e: e.name)
def test_every_error_has_its_sentence(error):
    word, shown = ILLEGAL.get(error, (END.encode(), "END"))
    result = Result(error, 32, 0, NONE)
    text = diagnosis(result, END.encode() + word, TINY, first=10)
    info = ERRORS[error]
    assert text == (
        f"the machine stopped with {error.name} at instruction 11 ({shown}): "
        f"{info.meaning}; {info.advice}"
    )
    bare = f"the machine stopped with {error.name} at instruction 1: {info.meaning}; {info.advice}"
    assert diagnosis(result) == diagnosis(result, END.encode()) == bare
    with pytest.raises(DeviceError) as raised:
        result.require()
    assert str(raised.value) == bare


def test_errors_are_documented_in_order():
    assert list(ERRORS) == list(Error)
    for info in ERRORS.values():
        assert all((info.meaning, info.place, info.advice))
        assert "\n" not in info.meaning + info.advice
        assert not info.advice.endswith(".")


def test_a_backend_that_nobody_offers():
    with pytest.raises(DeviceError, match="unknown backend 'spice'; there are board, "):
        open_device("spice", TINY)


def test_devices_are_opened_with_a_watchdog():
    """A program that would never end needs no patience."""
    machine = open_device("verilator", TINY, watchdog=500)
    job = Gemm(TINY).job(Instruction(Opcode.STORE, {"wait": 1}), END)
    assert machine.run(job).error == Error.WATCHDOG
    machine.close()
    machine = open_device("verilator", TINY)
    assert machine.watchdog == device.WATCHDOG  # pyright: ignore[reportAttributeAccessIssue]
    machine.close()
