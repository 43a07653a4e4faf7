"""The whole machine in RTL: hand-written programs, against NumPy and the golden machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.isa import Instruction, Opcode, Segment, Unit
from weft.hdl.registers import Cause, Error
from weft.host.golden import GoldenDevice
from weft.host.timing import fetch as timing
from weft.tb.devices import IcarusDevice, VerilatorDevice
from weft.tb.memory_model import Channel

from .gemm import DEPTH, VECTORS, Gemm, round_up


@pytest.fixture(scope="module")
def tiny():
    """A 4×4 machine in Verilator, kept for all tests."""
    device = VerilatorDevice(PRESETS["tiny"], latency=20, patience=20_000)
    yield device
    device.close()


def check_product(gemm: Gemm, result) -> None:
    result.require()
    expected = gemm.expected()
    assert result.segments[Segment.OUTPUT][: len(expected)] == expected
    assert not any(result.segments[Segment.OUTPUT][len(expected) :])
    assert result.tag == 0x5EED


def test_product(tiny):
    gemm = Gemm(tiny.config)
    result = tiny.run(gemm.job())
    check_product(gemm, result)
    golden = GoldenDevice(tiny.config).run(gemm.job())
    assert result.segments == golden.segments
    order = [Unit(unit) for unit in result.retired[:, 1]]
    assert sorted(order) == [*[Unit.LOAD] * 3, Unit.WEIGHT, Unit.MATMUL, Unit.VECTOR, Unit.STORE]
    assert order[-3:] == [Unit.MATMUL, Unit.VECTOR, Unit.STORE]


def test_counters_account_for_every_cycle(tiny):
    gemm = Gemm(tiny.config)
    counters = tiny.run(gemm.job()).require().counters
    for unit in Unit:
        causes = {cause: counters[f"{unit.name}_{cause.name}"] for cause in Cause}
        assert sum(causes.values()) == counters["CYCLES"], unit.name
        assert causes[Cause.BUSY] > 0
    assert counters["INSTRUCTIONS"] == len(gemm.program)
    assert counters["VECTORS"] == VECTORS * -(-DEPTH // tiny.config.rows)
    assert counters["WRITE_BEATS"] == -(-VECTORS * tiny.config.cols // tiny.config.bus_bytes)
    data = len(gemm.const) + round_up(gemm.act.size, tiny.config.bus_bytes)
    assert counters["READ_BEATS"] == (data + 32 * len(gemm.program)) // tiny.config.bus_bytes


def test_the_same_job_takes_the_same_cycles(tiny):
    gemm = Gemm(tiny.config)
    first, second = tiny.run(gemm.job()), tiny.run(gemm.job())
    assert first.counters == second.counters
    assert first.retired.tolist() == second.retired.tolist()


def test_cycles_of_the_first_address_and_of_the_end(tiny):
    """ARVALID rises one cycle after FETCH's request; END leaves when the last STORE is done."""
    gemm = Gemm(tiny.config)
    tiny.memory = replace(tiny.memory, log_traffic=True)
    result = tiny.run(gemm.job())
    reads = tiny.traffic[tiny.traffic[:, 1] == Channel.AR, 0]
    beats = tiny.traffic[tiny.traffic[:, 1] == Channel.R, 0]
    tiny.memory = replace(tiny.memory, log_traffic=False)
    assert reads[0] == timing.FIRST_REQUEST + 1
    last_done = int(result.retired[-1][0])
    assert result.counters["CYCLES"] == timing.end(0, last_done, int(beats[-1]))


def test_a_program_of_end_alone(tiny):
    """Its one burst of four 8-byte beats comes from cycle 3 + L; from then on all is fixed."""
    gemm = Gemm(tiny.config)
    result = tiny.run(gemm.job(Instruction(Opcode.END, {"tag": 7})))
    front = timing.Frontend(1, tiny.config.bus_bytes)
    last_beat = front.request(0) + 1 + tiny.memory.latency + 3
    front.accept(front.request(0))
    front.arrive(last_beat + 1)
    assert result.tag == 7
    assert result.counters["CYCLES"] == timing.end(front.earliest(), 0, last_beat)
    assert all(result.counters[f"{unit.name}_EMPTY"] == result.counters["CYCLES"] for unit in Unit)


def test_both_simulators_agree(tiny):
    gemm = Gemm(tiny.config)
    icarus = IcarusDevice(tiny.config, latency=20, patience=20_000)
    other = icarus.run(gemm.job())
    check_product(gemm, other)
    result = tiny.run(gemm.job())
    assert other.counters == result.counters
    assert other.retired.tolist() == result.retired.tolist()


def change(instruction: Instruction, **values: int) -> Instruction:
    return replace(instruction, fields={**instruction.fields, **values})


#: How to break the program: place of the culprit, what becomes of it, and the error.
FAULTS = {
    "opcode": (3, lambda word: word & ~0xF, Error.OPCODE),
    "reserved": (5, lambda word: word | 1 << 255, Error.RESERVED),
    "peer": (6, lambda word: word | 1 << 4, Error.FIELD),
}


@pytest.mark.parametrize("name", FAULTS)
def test_illegal_instruction_stops_the_machine_and_it_recovers(tiny, name):
    gemm = Gemm(tiny.config)
    place, broken, error = FAULTS[name]
    code = bytearray(gemm.job().code)
    word = int.from_bytes(code[32 * place : 32 * place + 32], "little")
    code[32 * place : 32 * place + 32] = broken(word).to_bytes(32, "little")
    job = replace(gemm.job(), code=bytes(code))
    result = tiny.run(job)
    assert (result.error, result.error_pc) == (error, 32 * place)
    golden = GoldenDevice(tiny.config).run(job)
    assert (golden.error, golden.error_pc) == (error, 32 * place)
    assert result.segments == golden.segments
    check_product(gemm, tiny.run(gemm.job()))


@pytest.mark.parametrize(
    ("place", "values", "error"),
    [
        (1, {"offset": 1 << 20}, Error.WINDOW),
        (5, {"offset": 1 << 20}, Error.WINDOW),
        (2, {"offset": 4}, Error.ALIGNMENT),
        (4, {"ry": 2}, Error.FIELD),
    ],
)
def test_bad_fields(tiny, place, values, error):
    gemm = Gemm(tiny.config)
    program = list(gemm.program)
    program[place] = change(program[place], **values)
    result = tiny.run(gemm.job(*program))
    assert (result.error, result.error_pc) == (error, 32 * place)
    assert result.segments == GoldenDevice(tiny.config).run(gemm.job(*program)).segments
    check_product(gemm, tiny.run(gemm.job()))


def test_semaphore_left_and_missing_end(tiny):
    gemm = Gemm(tiny.config)
    left = [*gemm.program[:3], gemm.program[-1]]
    result = tiny.run(gemm.job(*left))
    assert (result.error, result.error_pc) == (Error.SEMAPHORE_LEFT, 32 * 3)
    result = tiny.run(gemm.job(*gemm.program[:-1]))
    assert (result.error, result.error_pc) == (Error.PROGRAM_END, 32 * 6)
    assert result.segments[Segment.OUTPUT].startswith(gemm.expected())
    check_product(gemm, tiny.run(gemm.job()))


def test_semaphore_overflow(tiny):
    gemm = Gemm(tiny.config)
    program = [gemm.program[0]] * 64 + [Instruction(Opcode.END)]
    result = tiny.run(gemm.job(*program))
    assert (result.error, result.error_pc) == (Error.SEMAPHORE_OVERFLOW, 32 * 63)
    check_product(gemm, tiny.run(gemm.job()))


def test_watchdog(tiny):
    gemm = Gemm(tiny.config)
    program = [gemm.program[3], gemm.program[-1]]
    tiny.watchdog = 300
    result = tiny.run(gemm.job(*program))
    tiny.watchdog = 0
    assert (result.error, result.error_pc) == (Error.WATCHDOG, 0)
    assert result.counters["CYCLES"] == 301
    check_product(gemm, tiny.run(gemm.job()))


def test_bank_conflict(tiny):
    """STORE reads the bank that MATMUL reads, without a semaphore between them."""
    gemm = Gemm(tiny.config)
    matmul = change(gemm.program[3], oy=512, height=512, ox=1, post=0)
    program = [*gemm.program[:2], matmul]
    store = change(gemm.program[5], wait=0, local=0)
    program += [store] * 3 + [gemm.program[-1]]
    result = tiny.run(gemm.job(*program))
    assert result.error == Error.BANK_CONFLICT
    assert result.error_pc in (32 * 3, 32 * 4, 32 * 5)
    check_product(gemm, tiny.run(gemm.job()))
