"""Devices, on a machine that only copies: placement, refusals, faults, both simulators alike."""

from __future__ import annotations

import multiprocessing
import random
import re

import numpy as np
import pytest
from weft.boards import netlist
from weft.hdl.axi import Response
from weft.hdl.config import PRESETS, Config
from weft.hdl.registers import REGISTERS, Error
from weft.host.device import DeviceError, Job
from weft.tb.devices import IcarusDevice, VerilatorDevice
from weft.tb.fast import without_initial_values
from weft.tb.memory_model import (
    ALL_STALLS,
    READ_STALLS,
    WRITE_STALLS,
    Channel,
    Options,
)
from weft.tb.session import (
    BUSY,
    COUNTERS,
    DONE,
    FAILED,
    INTERRUPTS,
    STATE,
    await_rest,
    prepare,
)

from .conftest import copy_engine


class CocotbVerilatorDevice(IcarusDevice):
    """The Python memory model and the cocotb bench on the other simulator."""

    _simulator = "verilator"


DEVICES = {"verilator": VerilatorDevice, "icarus": IcarusDevice}
#: Address and AXI-Lite write take one cycle each; a burst of 8 beats at latency L starts in
#: cycle 1, its first beat comes in cycle 1 + L, and is written in the next.
BURST = 8


def copy_job(config: Config, beats: int, seed: int = 1) -> Job:
    """Copy so many beats of random bytes."""
    source = random.Random(seed).randbytes(beats * config.bus_bytes)
    return Job(code=bytes(32), segments=(source, b"input", bytes(len(source)), b""))


@pytest.fixture(params=list(DEVICES))
def open_copy(request, small):
    """Opens the copying machine on either device; closes what it opened."""
    opened = []

    def open_one(config: Config = small, **options):
        options = {"verilog": copy_engine(config), "patience": 3000, **options}
        opened.append(DEVICES[request.param](config, **options))
        return opened[-1]

    yield open_one
    for device in opened:
        device.close()


def test_copies_and_counts_exactly(open_copy, small):
    """One burst: address in cycle 1, data from 1 + L, the response L after the last write."""
    latency = 20
    result = open_copy(latency=latency).run(copy_job(small, BURST)).require()
    last_read = 1 + latency + BURST - 1
    last_write = last_read + 1
    assert result.segments[2] == result.segments[0]
    assert result.segments[1] == b"input"
    assert result.segments[3] == b""
    assert result.tag == 0xAB
    assert result.counters["CYCLES"] == last_write + latency
    assert result.counters["READ_BEATS"] == result.counters["WRITE_BEATS"] == BURST
    # The engine's retire pins are registered.
    assert result.retired.tolist() == [[last_read + 1, 0], [last_write + latency + 1, 4]]


def test_a_netlist_takes_the_rtls_place(small, monkeypatch):
    """The copying machine through synthesis; `make verify ARGS=netlist` does it with Weft."""
    monkeypatch.setattr(netlist, "convert", lambda *_: copy_engine(small))
    job = copy_job(small, 3 * BURST)
    rtl = IcarusDevice(small, verilog=copy_engine(small)).run(job)
    gates = IcarusDevice(small, netlist=True).run(job)
    assert gates.segments == rtl.segments
    assert gates.counters == rtl.counters
    assert gates.retired.tolist() == rtl.retired.tolist()


def test_latency_zero_means_one(open_copy, small):
    job = copy_job(small, 20)
    zero, one = (open_copy(latency=n).run(job).counters["CYCLES"] for n in (0, 1))
    assert zero == one == 1 + 1 + 20 - 1 + 1 + 1


def test_runs_again_on_the_same_device(open_copy, small):
    device = open_copy(latency=5)
    first, second = (device.run(copy_job(small, 30, seed)) for seed in (1, 2))
    assert first.segments[2] != second.segments[2]
    assert second.segments[2] == second.segments[0]
    assert np.array_equal(first.retired, second.retired)


@pytest.mark.parametrize(
    ("memory", "error"),
    [
        (Options(read_fault=3), Error.READ_BUS),
        (Options(read_fault=29, read_response=Response.DECERR), Error.READ_BUS),
        (Options(write_fault=2), Error.WRITE_BUS),
    ],
)
def test_reports_bus_errors(open_copy, small, memory, error):
    device = open_copy(memory=memory)
    assert device.run(copy_job(small, 30)).error == error
    with pytest.raises(DeviceError, match=f"stopped with {error.name}"):
        device.run(copy_job(small, 30)).require()


@pytest.mark.parametrize(
    "memory", [Options(stop=Channel.R, after=11), Options(stop=Channel.B, after=1)]
)
def test_gives_up_when_responses_are_withheld(open_copy, small, memory):
    device = open_copy(memory=memory)
    with pytest.raises(DeviceError, match="did not end"):
        device.run(copy_job(small, 30))
    device.memory = Options()
    assert device.run(copy_job(small, 30)).require().counters["READ_BEATS"] == 30


@pytest.mark.parametrize("channel", list(Channel))
def test_all_devices_fall_silent_alike(channel, small):
    job = copy_job(small, 100)
    memory = Options(stop=channel, after=3, pause=50, log_traffic=True)
    seen = []
    for device_class in (*DEVICES.values(), CocotbVerilatorDevice):
        device = device_class(small, memory=memory, latency=9, verilog=copy_engine(small))
        assert device.run(job).require().segments[2] == job.segments[0]
        seen.append(device.traffic)
        device.close()
    times = seen[0][seen[0][:, 1] == channel, 0]
    assert times[3] - times[2] > 50
    assert all(np.array_equal(seen[0], other) for other in seen[1:])


def test_gives_up_at_the_cycle_limit(open_copy, small):
    with pytest.raises(DeviceError, match="did not end"):
        open_copy(limit=100).run(copy_job(small, 1000))


def test_refuses_another_configuration(small):
    for device in (VerilatorDevice, IcarusDevice):
        with pytest.raises(DeviceError, match=r"has configuration .* export its Verilog again"):
            device(PRESETS["tiny"], verilog=copy_engine(small)).run(copy_job(small, 1))


def test_refuses_another_machine(small):
    text = copy_engine(small).replace("54464557", "00000007")
    for device in (VerilatorDevice, IcarusDevice):
        with pytest.raises(DeviceError, match="not Weft: its ID register reads 0x00000007"):
            device(small, verilog=text).run(copy_job(small, 1))


@pytest.mark.parametrize(
    ("preset", "stalls", "channels", "interval"),
    [
        ("small", 0, ALL_STALLS, 1),
        ("small", 1, ALL_STALLS, 1),
        ("default", 2, ALL_STALLS, 1),
        ("small", 0, ALL_STALLS, 4),
        ("small", 3, READ_STALLS, 2),
        ("small", 3, WRITE_STALLS, 1),
    ],
)
def test_all_devices_agree_cycle_by_cycle(preset, stalls, channels, interval):
    """Same handshakes in the same cycles, same memory, with and without random stalls.

    C++ model in Verilator, Python model in Icarus, Python model in Verilator.
    """
    config = PRESETS[preset]
    job = copy_job(config, 200, seed=stalls)
    seen = []
    for device_class in (*DEVICES.values(), CocotbVerilatorDevice):
        device = device_class(
            config,
            latency=7,
            beat_interval=interval,
            stalls=stalls,
            memory=Options(log_traffic=True, stall_channels=channels),
            verilog=copy_engine(config),
        )
        result = device.run(job).require()
        seen.append((result, device.traffic))
        device.close()
    fast, fast_traffic = seen[0]
    assert fast.segments[2] == job.segments[0]
    for channel in (Channel.R, Channel.W):
        cycles = fast_traffic[fast_traffic[:, 1] == channel, 0].astype(int)
        assert np.diff(cycles).min() == interval
    assert len(fast_traffic) == 25 + 200 + 25 + 200 + 25
    for slow, slow_traffic in seen[1:]:
        assert fast.segments == slow.segments
        assert fast.counters == slow.counters
        assert np.array_equal(fast.retired, slow.retired)
        assert np.array_equal(fast_traffic, slow_traffic)


def test_stalls_differ_by_seed_and_repeat(small):
    device = VerilatorDevice(small, verilog=copy_engine(small), stalls=1)
    job = copy_job(small, 300)
    cycles = []
    for seed in (1, 1, 2):
        device.memory = Options(stall_seed=seed)
        cycles.append(device.run(job).require().counters["CYCLES"])
    device.close()
    assert cycles[0] == cycles[1] != cycles[2]


@pytest.mark.parametrize("device", DEVICES)
def test_writes_a_waveform(device, small, tmp_path):
    trace = tmp_path / "deep" / "run.fst"
    opened = DEVICES[device](small, verilog=copy_engine(small), trace=trace)
    opened.run(copy_job(small, 10)).require()
    opened.close()
    assert trace.stat().st_size > 500


INITIAL = """
  reg weft_began = 0;
  reg \\$signal  = 1'h0;
  reg [12:0] control_1 = 13'h0000;
  reg [7:0] cells [2047:0];
  wire [3:0] sum = 4'h3;
"""


def test_random_state_needs_registers_without_initial_values():
    bare = INITIAL.replace("control_1 = 13'h0000", "control_1 ").replace("  = 1'h0", " ")
    assert without_initial_values(INITIAL) == bare


def test_comes_up_from_any_state(small):
    text = copy_engine(small)
    job = copy_job(small, 40)
    expected = VerilatorDevice(small, verilog=text).run(job)
    for seed in range(1, 6):
        result = VerilatorDevice(small, verilog=text, random_state=seed).run(job)
        assert result.segments == expected.segments
        assert np.array_equal(result.retired, expected.retired)


def test_notices_a_register_without_reset(small):
    """A machine that may come up running, and that nothing stops."""
    broken = re.sub(r"(if \(rst \| soft_reset\) begin\s+)run <= 1'b0;", r"\1", copy_engine(small))
    assert broken != copy_engine(small)
    outcomes = set()
    for seed in range(1, 9):
        device = VerilatorDevice(small, verilog=broken, random_state=seed, patience=1000)
        try:
            outcomes.add(device.run(copy_job(small, 4)).error)
        except DeviceError as error:
            outcomes.add(str(error))
    assert outcomes == {Error.NONE, "the machine is still busy 1000 cycles after SOFT_RESET"}


class Scripted:
    """A machine that interrupts `early` times before its end, and `works` without an interrupt."""

    def __init__(self, early: int, *, works: bool = False, mute: bool = False):
        self.early, self.works, self.mute = early, works, mute
        self.written: list[tuple[int, int]] = []

    def run(self, *_, **__) -> bool:
        self.early -= 1
        return not (self.works or self.mute)

    def read(self, address: int) -> int:
        assert address == REGISTERS["STATUS"].address
        return BUSY if self.works or self.early >= 0 else DONE

    def write(self, address: int, value: int) -> None:
        self.written.append((address, value))


def test_an_interrupt_is_believed_only_if_the_machine_rests():
    machine = Scripted(1)
    assert await_rest(machine, 100)
    assert machine.written == [(REGISTERS["IRQ_STATUS"].address, INTERRUPTS)]
    assert await_rest(Scripted(0, mute=True), 100)
    assert not await_rest(Scripted(9), 100)
    assert not await_rest(Scripted(0, works=True), 100)


@pytest.mark.parametrize(
    ("status", "error"),
    [(0, 0), (BUSY, 0), (DONE, 3), (FAILED, 0), (DONE | FAILED, 0), (FAILED, 200)],
)
def test_a_machine_that_contradicts_itself_is_out_of_order(small, status, error):
    session = prepare(small, copy_job(small, 1))
    session.values = dict.fromkeys((*STATE, *COUNTERS), 0)
    session.values |= {"STATUS": DONE}
    assert session.result(np.zeros((0, 2), np.int64)).error == Error.NONE
    session.values |= {"STATUS": status, "ERROR": error}
    text = f"out of order: it rests with STATUS 0x{status} and ERROR {error};"
    with pytest.raises(DeviceError, match=text):
        session.result(np.zeros((0, 2), np.int64))


#: A seed with which both address channels stall early.
STALLS = 1

BREACHES = (
    "WLAST is not",
    "burst crosses",
    "not a multiple of the bus",
    "size is not",
    "not INCR",
    "ID is not 0",
    "valid fell",
    "payload changed",
)


@pytest.mark.parametrize("breach", BREACHES)
def test_catches_breaches_of_the_protocol(breach, small):
    """The copying machine breaks the rule whose number is in WATCHDOG."""
    number = BREACHES.index(breach) + 1
    device = VerilatorDevice(small, verilog=copy_engine(small), stalls=STALLS, watchdog=number)
    with pytest.raises(DeviceError, match=f"broke the AXI protocol: .*{breach}"):
        device.run(copy_job(small, 100))
    device.close()


def test_both_devices_report_the_same_breach(small):
    texts = []
    for device_class in DEVICES.values():
        device = device_class(small, verilog=copy_engine(small), stalls=STALLS, watchdog=8)
        with pytest.raises(DeviceError) as caught:
            device.run(copy_job(small, 100))
        texts.append(str(caught.value))
        device.close()
    assert texts[0] == texts[1]
    assert "AR, cycle" in texts[0]


def test_several_machines_in_one_process(small):
    """Closed in any order."""
    job = copy_job(small, 30)
    opened = [VerilatorDevice(small, verilog=copy_engine(small)) for _ in range(4)]
    for order in (1, 3, 0, 2):
        for device in opened:
            if device is not None:
                assert device.run(job).require().segments[2] == job.segments[0]
        closing = opened[order]
        assert closing is not None
        closing.close()
        opened[order] = None  # pyright: ignore[reportArgumentType]


def test_a_forked_process_may_close_a_machine_that_it_inherits():
    """A fork does not copy the machine's threads; freeing it would wait for them for ever."""
    device = VerilatorDevice(PRESETS["tiny"])
    process = multiprocessing.get_context("fork").Process(target=device.close)
    process.start()
    process.join(60)
    stuck = process.is_alive()
    process.kill()
    device.close()
    assert not stuck
    assert process.exitcode == 0
