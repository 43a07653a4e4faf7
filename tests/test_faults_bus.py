"""A bus that answers with errors, or not at all: every channel, at every handshake."""

from __future__ import annotations

from dataclasses import replace

import pytest
from weft.hdl.axi import Response
from weft.hdl.config import PRESETS
from weft.hdl.isa import Opcode
from weft.hdl.registers import Error
from weft.tb.devices import VerilatorDevice
from weft.tb.memory_model import NEVER, Channel, Options
from weft.tb.session import FAILED, OPEN

from .campaigns import withheld as campaign
from .faults import DRAINED, Bench, oldest, read_owners, story, windows

#: Longer than anything of the story takes.
WATCHDOG = 600
FAILURES = (Response.SLVERR, Response.DECERR)


def baseline(bench: Bench):
    """The story, and how it runs on a memory that behaves."""
    program, job = story(bench.gemm)
    outcome = bench.run(job)
    assert outcome.error == (Error.NONE, 0)
    return program, job, outcome


def test_every_read_beat_fails(bench):
    """Of every burst of FETCH and of LOADs into every memory, with both codes."""
    program, job, good = baseline(bench)
    asked = good.on(Channel.AR)[:, 2].tolist()
    owners = read_owners(bench.config, program, windows(bench.config, job), asked)
    assert len(owners) == len(good.on(Channel.R))
    assert {kind for kind, _ in owners} == {"FETCH", "LOAD 0", "LOAD 1", "LOAD 2"}
    for number, (kind, pc) in enumerate(owners):
        for response in FAILURES:
            outcome = bench.run(job, read_fault=number, read_response=response)
            assert outcome.error == (Error.READ_BUS, pc), (number, kind)
            # Reported in the cycle after the beat was on the bus.
            when = int(good.on(Channel.R)[number, 0]) + 1
            assert outcome.result.counters["CYCLES"] == when
            bench.check_stopped(outcome)
            assert bench.reset() == 0
        if number % 8 == 0:
            bench.check_known()
    bench.check_known()


def test_a_beat_of_two_instructions_fails(benches):
    """A 512-bit bus brings two at once: the error names the first."""
    bench = benches(replace(PRESETS["tiny"], name="wide", bus_bits=512, act_bytes=16384))
    program, job = bench.gemm.program, bench.gemm.job()
    good = bench.run(job)
    assert good.error == (Error.NONE, 0)
    asked = good.on(Channel.AR)[:, 2].tolist()
    owners = read_owners(bench.config, program, windows(bench.config, job), asked)
    assert len(owners) == len(good.on(Channel.R))
    fetched = [(number, pc) for number, (kind, pc) in enumerate(owners) if kind == "FETCH"]
    assert [pc for _, pc in fetched] == list(range(0, 32 * len(program), 64))
    for number, pc in fetched:
        outcome = bench.run(job, read_fault=number)
        assert outcome.error == (Error.READ_BUS, pc)
        bench.check_stopped(outcome)
        assert bench.reset() == 0
    bench.check_known()


def test_every_write_burst_fails(bench):
    """With both codes; the last beat's data are not taken back, the rest is not written."""
    program, job, good = baseline(bench)
    stores = [32 * i for i, x in enumerate(program) if x.opcode == Opcode.STORE]
    answers = good.on(Channel.B)
    first = int(good.result.retired[good.result.retired[:, 1] == 4, 0][0])
    for number, when in enumerate(answers[:, 0].astype(int).tolist()):
        for response in FAILURES:
            outcome = bench.run(job, write_fault=number, write_response=response)
            pc = stores[when + 1 > first]
            assert outcome.error == (Error.WRITE_BUS, pc)
            assert outcome.result.counters["CYCLES"] == when + 1
            bench.check_stopped(outcome)
            bench.check_recovery()
    assert len(answers) == 5


def test_exclusive_okay_is_none(bench):
    """EXOKAY is no error."""
    _, job, _ = baseline(bench)
    for fault in ({"read_fault": 9}, {"write_fault": 1}):
        memory = dict.fromkeys(("read_response", "write_response"), Response.EXOKAY)
        assert bench.run(job, **memory, **fault).error == (Error.NONE, 0)


@pytest.mark.parametrize("channel", list(Channel), ids=lambda c: c.name)
def test_every_handshake_withheld_for_ever(bench, channel):
    """From any handshake on the channel is silent: the watchdog, then BUS_STUCK, then a reset."""
    program, job, good = baseline(bench)
    count = len(good.on(channel))
    for after in range(0, count, 1 if count < 100 else 3):
        outcome = bench.run(job, watchdog=WATCHDOG, stop=channel, after=after)
        place = oldest(program, outcome)
        assert outcome.error == (Error.WATCHDOG, place), after
        last = max([0, *outcome.result.retired[:, 0].tolist()])
        assert outcome.result.counters["CYCLES"] == last + WATCHDOG + 1
        bench.check_stopped(outcome, answered=False)
        assert len(outcome.on(channel)) == after
        # What does not answer does not reset either; what answers late, does.
        assert bench.reset() == FAILED | OPEN
        assert bench.read("ERROR") == Error.BUS_STUCK
        assert bench.read("ERROR_PC") == 0
        if after % 2:
            bench.check_recovery(hard=True)
        else:
            bench.check_late_answers(outcome)
            bench.check_recovery()


@pytest.mark.parametrize("channel", list(Channel), ids=lambda c: c.name)
def test_every_handshake_withheld_for_a_while(bench, channel):
    """Shorter than the watchdog is no error; longer is one, and the answers come into the void."""
    program, job, good = baseline(bench)
    count = len(good.on(channel))
    for after in range(0, count, 1 if count < 20 else 7):
        outcome = bench.run(job, watchdog=WATCHDOG, stop=channel, after=after, pause=WATCHDOG // 3)
        assert outcome.error == (Error.NONE, 0)
        assert outcome.result.segments == good.result.segments
        bench.check_account(outcome)
        # The answers come while the machine waits for them after the error: OPEN never shows.
        outcome = bench.run(
            job, watchdog=WATCHDOG, stop=channel, after=after, pause=WATCHDOG + WATCHDOG // 2
        )
        assert outcome.error[0] == Error.WATCHDOG
        assert outcome.error[1] == oldest(program, outcome)
        bench.check_stopped(outcome)
        assert bench.reset() == 0
        # They come later than that.
        outcome = bench.run(job, watchdog=WATCHDOG, stop=channel, after=after, pause=3 * WATCHDOG)
        assert outcome.status == FAILED | OPEN
        bench.check_late_answers(outcome)
        bench.check_recovery()


def test_silence_on_every_channel_while_it_stalls(stalling_bench):
    """The same on a memory that stalls at random besides."""
    bench = stalling_bench
    program, job, good = baseline(bench)
    for channel in Channel:
        count = len(good.on(channel))
        for after in range(0, count, max(1, count // 12)):
            for pause in (WATCHDOG + 200, NEVER):
                bench.run(job, watchdog=WATCHDOG, stop=channel, after=after, pause=pause)
                bench.machine.idle(DRAINED)
                outcome = bench.outcome()
                place = oldest(program, outcome)
                assert outcome.error == (Error.WATCHDOG, place)
                bench.check_stopped(outcome, answered=pause != NEVER)
                bench.check_recovery(hard=pause == NEVER and after % 2 == 1)


def test_an_error_while_the_bus_is_silent(bench):
    """An error that is not the watchdog's; its code and place stay, the wait has an end."""
    _, job, good = baseline(bench)
    beats = good.on(Channel.R)
    fault = len(beats) // 3
    outcome = bench.run(
        job,
        watchdog=WATCHDOG,
        read_fault=fault,
        stop=Channel.R,
        after=fault + 1,
    )
    assert outcome.error[0] == Error.READ_BUS
    assert outcome.result.counters["CYCLES"] == int(beats[fault, 0]) + 1
    bench.check_stopped(outcome, answered=False)
    bench.check_late_answers(outcome)
    assert bench.read("ERROR") == Error.READ_BUS
    bench.check_recovery()


def test_without_watchdog_the_machine_waits_and_a_watchdog_set_later_ends_it(bench):
    """WATCHDOG 0 waits for ever; it may be set while the machine runs."""
    program, job, _ = baseline(bench)
    bench.prepare(job, watchdog=0, stop=Channel.R, after=9)
    bench.go()
    assert not bench.machine.run(20_000)
    assert bench.read("STATUS") & ~OPEN == 1
    bench.write("WATCHDOG", 30_000)
    assert not bench.machine.run(5_000)
    outcome = bench.finish()
    assert outcome.error == (Error.WATCHDOG, oldest(program, outcome))
    assert outcome.result.counters["CYCLES"] == 30_001
    bench.check_recovery(hard=True)


def test_a_device_goes_on_after_a_bus_that_never_answered(bench):
    """The next job of a device runs, whatever became of the one before."""
    _, job, good = baseline(bench)
    device = VerilatorDevice(bench.config, latency=20, watchdog=WATCHDOG)
    for channel in Channel:
        device.memory = Options(latency=20, stop=channel, after=3)
        assert device.run(job).error == Error.WATCHDOG
        result = device.run(job)
        assert result.error == Error.WATCHDOG
        device.memory = Options(latency=20)
        result = device.run(job).require()
        assert result.segments == good.result.segments
        assert result.counters == good.result.counters
    device.close()


def test_withheld_at_random():
    """The first of the runs of `make verify`."""
    fates, wrong = campaign.check(range(200))
    assert not wrong, wrong[0]
    assert len(fates) == 5
    assert sum(fates.values()) == 200


def test_the_campaign_notices_a_hang(monkeypatch):
    """With less time than the machine needs, runs count as hangs, and the next ones go on."""
    monkeypatch.setattr(campaign, "LIMIT", -5000)
    fates, wrong = campaign.check(range(16))
    assert 0 < fates["hang"] == len(wrong)
    monkeypatch.undo()
    assert not campaign.check(range(16))[1]


def test_a_slave_that_breaks_the_protocol(tiny_bench):
    """RLAST on the wrong beat, at every beat: an end in time, and all is well after `rst`."""
    bench = tiny_bench
    _, job, good = baseline(bench)
    ends = set()
    for number in range(len(good.on(Channel.R))):
        outcome = bench.run(job, watchdog=WATCHDOG, last_fault=number)
        ends.add(outcome.result.error)
        assert outcome.result.error in {*Error} - {Error.NONE}
        bench.reset()
        bench.check_recovery(hard=True)
    assert Error.WATCHDOG in ends
