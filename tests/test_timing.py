"""The timing model: exact under slow memories too, every cycle accounted for, and quick."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from weft.hdl.config import PRESETS, Config, load
from weft.hdl.counters import cause_register
from weft.hdl.isa import (
    FORMATS,
    INSTRUCTION_BYTES,
    Instruction,
    IsaError,
    Opcode,
    Unit,
    layout,
    wait_bit,
)
from weft.hdl.registers import REGISTERS, Cause
from weft.host import compiler, lenet
from weft.host.device import DeviceError
from weft.host.run import run
from weft.host.timing.decode import decode
from weft.host.timing.device import ModelDevice
from weft.host.timing.machine import Deadlock, predict
from weft.host.timing.prediction import Prediction
from weft.tb.devices import VerilatorDevice
from weft.tb.fast import FastMachine

from .programs import Generator, RandomProgram
from .side_by_side import semaphores
from .synthetic import RESNET18, Conv, synthetic

ODD = load(Path(__file__).with_name("configs") / "odd.toml")
CONFIGS = [PRESETS["tiny"], PRESETS["small"], ODD, PRESETS["default"]]
#: Latency and beat interval.
MEMORIES = [(1, 2), (50, 3), (13, 7), (100, 1)]
#: Layers of ResNet-18 that the RTL ends within seconds.
PART = Conv(14, 128, 256, 3, 2), Conv(14, 128, 256, 1, 2)

by_name = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)


def check_run(device: VerilatorDevice, prediction: Prediction, job) -> None:
    """The device's completions and counters are those predicted."""
    result = device.run(job).require()
    retired = result.retired[np.lexsort((result.retired[:, 1], result.retired[:, 0]))]
    assert retired.tolist() == prediction.retired.tolist()
    assert result.counters == prediction.counters


# -- exactness ---------------------------------------------------------------------------------


@by_name
def test_slow_memories(config: Config):
    generator = Generator(config)
    for latency, interval in MEMORIES[:3]:
        device = VerilatorDevice(config, latency=latency, beat_interval=interval)
        for seed in range(2000, 2008):
            job = generator.program(seed).job
            prediction = predict(config, job.code, latency=latency, beat_interval=interval)
            check_run(device, prediction, job)
        device.close()


def test_a_slower_memory_takes_longer():
    config = PRESETS["tiny"]
    code = synthetic(config, (Conv(8, 8, 16),)).code
    beats = predict(config, code).counters["READ_BEATS"]
    cycles = [predict(config, code, beat_interval=n).cycles for n in (1, 2, 4, 8)]
    assert cycles == sorted(set(cycles))
    assert all(t > n * beats for t, n in zip(cycles, (1, 2, 4, 8), strict=True))


@pytest.mark.parametrize(("latency", "interval"), MEMORIES)
def test_large_programs(latency: int, interval: int):
    """Rows of many bursts, MATMULs of hundreds of tiles, stripes stored whole."""
    config = PRESETS["small"]
    convs = Conv(14, 24, 40), Conv(7, 40, 72, 3, 2), Conv(7, 72, 16, 1), Conv(28, 3, 8, 5)
    program = synthetic(config, convs, most_rows=5)
    prediction = predict(config, program.code, latency=latency, beat_interval=interval)
    device = VerilatorDevice(config, latency=latency, beat_interval=interval)
    check_run(device, prediction, program.job)
    device.close()


# -- the account -------------------------------------------------------------------------------


@by_name
def test_every_cycle_has_one_cause(config: Config):
    """The causes of each unit sum to the cycles, in the whole run and in every single cycle."""
    generator = Generator(config)
    for seed in range(3000, 3016):
        latency, interval = MEMORIES[seed % 4]
        code = generator.program(seed).job.code
        prediction = predict(config, code, latency=latency, beat_interval=interval)
        for account in prediction.account().values():
            assert account.cycles == sum(account.causes.values()) == prediction.cycles
        for accounts in prediction.accounts(range(prediction.cycles + 1)):
            for account in accounts.values():
                single = account.busy, account.memory, account.empty, *account.semaphores.values()
                assert sum(single) == 1
                assert min(single) >= 0


def tokens(
    program: RandomProgram, prediction: Prediction
) -> dict[tuple[Unit, int], dict[tuple[Unit, int], int]]:
    """When each token is posted that an instruction of a unit waits for.

    By unit and index of the instruction, then by (producer, k) of the semaphore: of each the n-th
    wait takes what the n-th post gives.
    """
    done = {
        unit: dict(zip(*spans.T[[0, 2]].tolist(), strict=True))
        for unit, spans in prediction.timeline.items()
    }
    posts: dict[tuple[Unit, Unit, int], list[int]] = defaultdict(list)
    out: dict[tuple[Unit, int], dict[tuple[Unit, int], int]] = defaultdict(dict)
    taken: dict[tuple[Unit, Unit, int], int] = defaultdict(int)
    for index, instruction in enumerate(program.instructions[:-1]):
        assert instruction.unit is not None
        parts = [(instruction.unit, instruction.wait, instruction.post)]
        if instruction.opcode == Opcode.MATMUL:
            parts.append((Unit.WEIGHT, instruction.weight_wait, instruction.weight_post))
        for unit, wait, _ in parts:
            for key in semaphores(unit, wait, consumer=True):
                producer, _, k = key
                out[unit, index][producer, k] = posts[key][taken[key]]
                taken[key] += 1
        for unit, _, post in parts:
            for key in semaphores(unit, post, consumer=False):
                posts[key].append(done[unit][index])
    return out


@pytest.mark.parametrize("config", [PRESETS["tiny"], ODD], ids=lambda c: c.name)
def test_the_semaphore_waited_for(config: Config):
    """Whichever an account names, the next instruction waits for it and it is the last to come."""
    generator = Generator(config)
    checked = 0
    for seed in range(3000, 3012):
        program = generator.program(seed)
        latency, interval = MEMORIES[seed % 4]
        prediction = predict(config, program.job.code, latency=latency, beat_interval=interval)
        posted = tokens(program, prediction)
        for cycle, accounts in enumerate(prediction.accounts(range(prediction.cycles + 1)), 1):
            for unit, account in accounts.items():
                if not account.semaphore:
                    continue
                (named,) = account.semaphores
                spans = prediction.timeline[unit]
                coming = int(spans[np.searchsorted(spans[:, 1], cycle), 0])
                times = posted[unit, coming]
                where = f"seed {seed}, cycle {cycle}, {unit.name} {coming}"
                assert times.get(named) == max(times.values()) >= cycle, where
                checked += 1
    assert checked > 1000


class Sampler:
    """A machine whose counters are read at some moments of a run."""

    def __init__(self, machine: FastMachine, moments: list[int]):
        self._machine = machine
        self._moments = moments
        self.seen: list[tuple[str, int, int]] = []  # register, cycle, value

    def __getattr__(self, name: str):
        return getattr(self._machine, name)

    def run(self, *arguments, **options) -> bool:
        machine = self._machine
        for moment in self._moments:
            assert not machine.run(moment - machine.cycle), "the program has ended"
            for unit in Unit:
                for cause in Cause:
                    name = cause_register(unit, cause)
                    # CYCLES says which cycle it is, and every read takes equally long.
                    begin = machine.cycle
                    value = machine.read(REGISTERS[name].address)
                    between = machine.cycle - begin
                    cycle = machine.read(REGISTERS["CYCLES"].address) - between
                    self.seen.append((name, cycle, value))
        return machine.run(*arguments, **options)


def test_counters_of_a_running_machine():
    """At any moment each counter register shows what the model accounts for until then."""
    config = PRESETS["tiny"]
    rng = random.Random(1)
    generator = Generator(config)
    device = VerilatorDevice(config, latency=30, beat_interval=2)
    machine = device._machine
    checked = 0
    for seed in range(12):
        job = generator.program(seed).job
        prediction = predict(config, job.code, latency=30, beat_interval=2)
        half, span = prediction.cycles // 2, 200  # what reading takes at most
        moments = [rng.randrange(10, half - span), rng.randrange(half, 2 * half - span)]
        sampler = Sampler(machine, moments)
        device._machine = sampler  # pyright: ignore[reportAttributeAccessIssue]
        device.run(job).require()
        for name, cycle, value in sampler.seen:
            unit, cause = name.split("_")
            account = prediction.account(end=cycle)[Unit[unit]]
            assert account.causes[Cause[cause]] == value, f"seed {seed}, {name} in {cycle}"
            checked += 1
    device._machine = machine
    device.close()
    assert checked == 12 * 2 * len(Unit) * len(Cause)


def test_layers():
    """Each layer's account covers the cycles from the end of the one before to its own."""
    config = PRESETS["small"]
    program = synthetic(config, (Conv(14, 24, 40), Conv(14, 40, 8, 1), Conv(7, 8, 24, 3, 2)))
    prediction = predict(config, program.code)
    accounts = prediction.by_layer(program.layers)
    done = prediction.timeline[Unit.VECTOR][:, 2]
    ends = [int(done[layer.ends[0] - 1]) for layer in program.layers[:-1]]
    ends.append(prediction.cycles)
    whole = prediction.account()
    for unit in Unit:
        assert [a[unit].cycles for a in accounts] == np.diff([0, *ends]).tolist()
        for cause in Cause:
            parts = [a[unit].causes[cause] for a in accounts]
            assert sum(parts) == whole[unit].causes[cause]
    # Someone waits for weights in each of the layers, and MATMUL is what is busy.
    assert all(a[Unit.WEIGHT].memory > 0 for a in accounts)
    assert all(a[Unit.MATMUL].busy > a[Unit.VECTOR].busy for a in accounts)


def test_layers_of_a_report():
    """The account of each layer of a compiled network covers the cycles that the report shows."""
    config = PRESETS["small"]
    network = lenet.quantized(config)
    program = compiler.compile(network.graph, config)
    memory = {"latency": 20, "beat_interval": 2}
    device = ModelDevice(config, **memory)
    report = run(program, device, network.inputs[:2], **memory)
    for row, account in zip(report.layers, report.accounts, strict=True):
        assert account is not None
        assert row.cycles is not None
        assert {2 * a.cycles for a in account.values()} == {row.cycles}
    assert (
        sum(a[Unit.MATMUL].busy for a in report.accounts if a) * 2
        == (report.counters["MATMUL_BUSY"])
    )


def test_timeline():
    """Starts and ends of the instructions that the program has, unit by unit."""
    config = PRESETS["tiny"]
    program = Generator(config).program(7)
    prediction = predict(config, program.job.code)
    for unit, spans in prediction.timeline.items():
        opcodes = {Opcode.MATMUL} if unit in (Unit.WEIGHT, Unit.MATMUL) else None
        indices = [
            index
            for index, i in enumerate(program.instructions)
            if (i.opcode in opcodes if opcodes else i.unit == unit)
        ]
        assert spans[:, 0].tolist() == indices
        assert (spans[:, 1] < spans[:, 2]).all()
        assert (np.diff(spans[:, 1:], axis=0) > 0).all()
        assert spans[:, 2].tolist() == [c for c, u in prediction.retired.tolist() if u == unit]


@pytest.mark.parametrize("device", [ModelDevice, VerilatorDevice])
def test_memories_that_cannot_be(device):
    with pytest.raises(DeviceError, match="latency must be 0 to 1048576 cycles, not -1"):
        device(PRESETS["tiny"], latency=-1)
    with pytest.raises(DeviceError, match="beat_interval must be 1 to 1048576 cycles, not 0"):
        device(PRESETS["tiny"], beat_interval=0)


# -- programs ----------------------------------------------------------------------------------


def test_a_program_that_waits_for_ever():
    wait = wait_bit(Unit.VECTOR, Unit.MATMUL, 0)
    program = [Instruction(Opcode.DRAIN, {"wait": wait}), Instruction(Opcode.END)]
    with pytest.raises(Deadlock, match="instruction 1 cannot be dispatched"):
        predict(PRESETS["tiny"], b"".join(i.encode() for i in program))


def any_instruction(rng: random.Random) -> Instruction:
    """Fields at their limits and anywhere between."""
    opcode = rng.choice(list(Opcode))
    fields = {
        f.name: rng.choice((f.minimum, f.maximum, rng.randint(f.minimum, f.maximum)))
        for f in FORMATS[opcode][1:]
    }
    return Instruction(opcode, fields)


def test_decoding_at_once(monkeypatch):
    rng = random.Random(2)
    program = [any_instruction(rng) for _ in range(400)]
    monkeypatch.setattr(Instruction, "decode", None)  # not one by one
    decoded = decode(b"".join(i.encode() for i in program))
    assert decoded == program
    for one, other in zip(decoded, program, strict=True):
        assert one.opcode is other.opcode
        assert vars(one) == vars(other)
    assert decode(b"") == []


def word(opcode: Opcode, name: str, value: int) -> bytes:
    """The instruction `opcode` with a field that may have any value."""
    at = next(at for field, at in layout(opcode) if field.name == name)
    code = int.from_bytes(Instruction(opcode).encode(), "little")
    return (code & ~(1 << at) | value << at).to_bytes(INSTRUCTION_BYTES, "little")


@pytest.mark.parametrize(
    "bad",
    [
        bytes(INSTRUCTION_BYTES),
        word(Opcode.END, "tag", 1 << 100),
        word(Opcode.LOAD, "length", 0),
        word(Opcode.DRAIN, "reduce", 3),
    ],
    ids=["opcode", "reserved", "too small", "too large"],
)
def test_decoding_refuses_what_one_instruction_is_refused_for(bad: bytes):
    rng = random.Random(3)
    program = [any_instruction(rng).encode() for _ in range(9)]
    program[5] = bad
    with pytest.raises(IsaError) as alone:
        Instruction.decode(bad)
    with pytest.raises(IsaError) as refused:
        decode(b"".join(program))
    assert str(refused.value) == str(alone.value)


def test_decoding_refuses_part_of_an_instruction():
    with pytest.raises(IsaError, match="32 bytes, not 7"):
        decode(Instruction(Opcode.END).encode() + bytes(7))


# -- speed -------------------------------------------------------------------------------------


def processor_seconds(function: Callable[[], object], times: int) -> float:
    """The median of so many calls."""
    took = []
    for _ in range(times):
        begin = time.thread_time()
        function()
        took.append(time.thread_time() - begin)
    return median(took)


@pytest.mark.speed
def test_a_hundred_times_faster_than_the_rtl():
    """Layers of ResNet-18 on both, and all of it at the speed that the RTL had on them.

    Decoding and all counters are included.
    """
    config = PRESETS["default"]
    part = synthetic(config, PART)
    prediction = predict(config, part.code)
    device = VerilatorDevice(config)
    slow = processor_seconds(lambda: check_run(device, prediction, part.job), 1)
    device.close()

    def model(code: bytes) -> None:
        prediction = predict(config, code)
        assert prediction.counters["CYCLES"] == prediction.cycles

    assert slow / processor_seconds(lambda: model(part.code), 15) > 100
    whole = synthetic(config, RESNET18)
    cycles = predict(config, whole.code).cycles
    assert cycles > 7_000_000
    slow *= cycles / prediction.cycles
    assert slow / processor_seconds(lambda: model(whole.code), 5) > 100
