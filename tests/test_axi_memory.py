"""The Python memory model by itself: cycles, contents, faults, stalls and protocol checks.

That the C++ twin and the cocotb agent behave the same is tested in test_devices.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from weft.hdl.axi import Response
from weft.tb.memory_model import (
    READ_STALLS,
    WRITE_STALLS,
    Address,
    AxiMemoryModel,
    Beat,
    Channel,
    Master,
    Options,
    ProtocolError,
    splitmix,
)

BYTES = 8
BASE = 0x8000_0000


def burst(addr: int = BASE, beats: int = 1, **fields: int) -> Address:
    """A legal burst, unless `fields` say otherwise."""
    return Address(**{"addr": addr, "len": beats - 1, "size": 3, "burst": 1, "id": 0, **fields})


def run(
    options: Options, stimulus: dict[int, Master], cycles: int, ready: bool = True
) -> tuple[AxiMemoryModel, list[tuple[int, int, int, int]]]:
    """Apply what the master drives by cycle; (cycle, data, response, last) of beats, then B's."""
    model = AxiMemoryModel(BYTES, options)
    model.regions = [(BASE, bytearray(i // BYTES & 0xFF for i in range(4 * 4096)))]
    seen = []
    for t in range(cycles):
        model.drive(t)
        master = stimulus.get(t, Master())
        if model.rvalid:
            seen.append((t, model.rdata & 0xFF, int(model.rresp), model.rlast))
        if model.bvalid:
            seen.append((t, -1, int(model.bresp), 1))
        model.sample(
            t,
            Master(master.ar, master.aw, master.w, rready=int(ready), bready=int(ready)),
        )
    return model, seen


@pytest.mark.parametrize("latency", [1, 2, 9])
def test_first_beat_comes_latency_after_the_address(latency):
    _, seen = run(Options(latency=latency), {3: Master(ar=burst(beats=3))}, 30)
    first = 3 + latency
    assert seen == [(first, 0, 0, 0), (first + 1, 1, 0, 0), (first + 2, 2, 0, 1)]


def test_bursts_follow_without_a_gap():
    stimulus = {t: Master(ar=burst(BASE + 64 * t, 4)) for t in range(3)}
    stimulus[20] = Master(ar=burst(BASE + 4096, 1))
    _, seen = run(Options(latency=5), stimulus, 40)
    assert [t for t, *_ in seen] == [*range(5, 17), 25]
    assert [data for _, data, *_ in seen] == [*range(4), *range(8, 12), *range(16, 20), 0]


def test_a_beat_waits_for_ready():
    model, seen = run(Options(latency=1), {0: Master(ar=burst(beats=2))}, 6, ready=False)
    assert [(t, data) for t, data, *_ in seen] == [(t, 0) for t in range(1, 6)]
    assert not model.idle


@pytest.mark.parametrize(("address", "last"), [(2, 5), (5, 5), (7, 5)])
def test_response_comes_latency_after_the_later_of_address_and_last_beat(address, last):
    stimulus = {t: Master(w=Beat(t, 0xFF, int(t == last))) for t in range(last - 2, last + 1)}
    old = stimulus.get(address, Master())
    stimulus[address] = Master(aw=burst(beats=3), w=old.w)
    model, seen = run(Options(latency=6), stimulus, 30)
    assert seen == [(max(address, last) + 6, -1, 0, 1)]
    contents = model.regions[0][1]
    assert [contents[8 * i] for i in range(4)] == [last - 2, last - 1, last, 3]
    assert model.idle


def test_responses_come_one_a_cycle():
    stimulus = {t: Master(aw=burst(BASE + 8 * t), w=Beat(0, 1, 1)) for t in range(4)}
    _, seen = run(Options(latency=3), stimulus, 20)
    assert [t for t, *_ in seen] == [3, 4, 5, 6]


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_read_beats_come_at_intervals(interval):
    """Within a burst, from one to the next, and not beyond what the latency allows."""
    stimulus = {0: Master(ar=burst(beats=3)), 1: Master(ar=burst()), 40: Master(ar=burst())}
    _, seen = run(Options(latency=4, beat_interval=interval), stimulus, 60)
    assert [t for t, *_ in seen] == [*(4 + k * interval for k in range(4)), 44]


def test_a_read_beat_that_waits_does_not_delay_itself():
    model = AxiMemoryModel(BYTES, Options(latency=1, beat_interval=3, log_traffic=True))
    model.regions = [(BASE, bytearray(4096))]
    for t in range(20):
        model.drive(t)
        model.sample(t, Master(ar=burst(beats=3) if t == 0 else None, rready=int(t >= 6)))
    assert [t for t, c, _ in model.traffic if c == Channel.R] == [6, 9, 12]


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_write_beats_are_taken_at_intervals(interval):
    """WREADY is low for `interval` − 1 cycles after each beat; the response follows the last."""
    model = AxiMemoryModel(BYTES, Options(latency=3, beat_interval=interval, log_traffic=True))
    model.regions = [(BASE, bytearray(4096))]
    ready = []
    for t in range(30):
        model.drive(t)
        ready.append(model.wready)
        sent = sum(c == Channel.W for _, c, _ in model.traffic)
        beat = Beat(sent, 0xFF, int(sent == 2)) if t >= 4 and sent < 3 else None
        model.sample(t, Master(aw=burst(beats=3) if t == 4 else None, w=beat, bready=1))
        assert model.idle == (t < 4 or t >= 4 + 2 * interval + max(3, interval))
    beats = [4 + k * interval for k in range(3)]
    assert [t for t, c, _ in model.traffic if c == Channel.W] == beats
    assert [t for t, r in enumerate(ready) if not r] == [
        t for beat in beats for t in range(beat + 1, beat + interval)
    ]
    assert [t for t, c, _ in model.traffic if c == Channel.B] == [beats[-1] + 3]


def test_strobes_select_bytes():
    beat = Beat(0x8877665544332211, 0b10100101, 1)
    model, _ = run(Options(), {0: Master(aw=burst(BASE + 8), w=beat)}, 2)
    assert model.regions[0][1][8:16].hex() == "1101330101660188"


def test_addresses_without_memory_answer_decerr():
    end = BASE + 4 * 4096
    stimulus = {
        0: Master(ar=burst(end - 8), aw=burst(end), w=Beat(0, 0xFF, 1)),
        1: Master(ar=burst(end)),
        2: Master(ar=burst(BASE - 8)),
    }
    _, seen = run(Options(latency=4), stimulus, 20)
    assert seen == [(4, 255, 0, 1), (4, -1, 3, 1), (5, 0, 3, 1), (6, 0, 3, 1)]


def test_faults_and_silence_hit_the_numbered_beats():
    stimulus = {t: Master(ar=burst(beats=4)) for t in (0, 1)}
    options = Options(latency=1, read_fault=5, read_response=Response.DECERR, stop=Channel.R)
    _, seen = run(replace(options, after=7), stimulus, 30)
    assert [response for _, _, response, _ in seen] == [0, 0, 0, 0, 0, 3, 0]
    _, seen = run(replace(options, after=7, pause=10), stimulus, 30)
    assert [t for t, *_ in seen] == [*range(1, 8), 18]
    stimulus = {t: Master(aw=burst(), w=Beat(0, 1, 1)) for t in range(3)}
    options = Options(latency=1, write_fault=1, stop=Channel.B, after=2)
    _, seen = run(options, stimulus, 30)
    assert [response for _, _, response, _ in seen] == [0, 2]


def test_rlast_is_wrong_where_it_is_to_be():
    for number in range(4):
        _, seen = run(Options(latency=1, last_fault=number), {0: Master(ar=burst(beats=4))}, 10)
        assert [last for *_, last in seen] == [int((i == 3) != (i == number)) for i in range(4)]


@pytest.mark.parametrize("channel", [Channel.AR, Channel.AW, Channel.W])
@pytest.mark.parametrize("after", [0, 2])
def test_a_silent_channel_is_not_ready(channel, after):
    model = AxiMemoryModel(BYTES, Options(stop=channel, after=after, pause=5, log_traffic=True))
    model.regions = [(BASE, bytearray(4096))]
    for t in range(20):
        model.drive(t)
        ready = (model.arready, None, model.awready, model.wready)
        silent = after <= t < after + 5  # the master wants a handshake in every cycle
        assert ready[channel] == (not silent)
        assert sum(r is not None and not r for r in ready) == silent
        model.sample(t, Master(ar=burst(), aw=burst(), w=Beat(1, 1, 1), rready=1, bready=1))
    assert [t for t, c, _ in model.traffic if c == channel] == [
        *range(after),
        *range(after + 5, 20),
    ]


def test_knows_when_the_last_effective_beat_was_offered():
    model = AxiMemoryModel(BYTES, Options(stop=Channel.W, after=1, pause=4))
    seen = []
    beats = [Beat(1, 1, 1), Beat(2, 2, 1), Beat(3, 0, 1)]
    for t in range(10):
        model.drive(t)
        w = beats[0] if beats and t else None
        model.sample(t, Master(aw=burst() if t < 3 else None, w=w))
        if w and model.wready:
            beats.pop(0)
        seen.append(model.written)
    assert seen == [-1, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_stalls_touch_every_channel_at_every_rate():
    """Within 64-cycle stretches a channel runs freely, or stalls at about 25, 62 and 94 percent."""
    model = AxiMemoryModel(BYTES, Options(stall_seed=5))
    shares = set()
    for channel in Channel:
        for stretch in range(40):
            stalls = [model._stalls(64 * stretch + i) >> channel & 1 for i in range(64)]
            share = sum(stalls) / 64
            nearest = min((0, 0.25, 0.625, 0.94), key=lambda rate: abs(rate - share))
            shares.add((channel, nearest))
    assert len(shares) == 4 * len(Channel)


@pytest.mark.parametrize("channels", [*(1 << channel for channel in Channel), READ_STALLS])
def test_only_the_chosen_channels_stall(channels):
    """A read and a write in every cycle: reads come late where AR or R stalls, and so on."""
    stimulus = {t: Master(ar=burst(), aw=burst(), w=Beat(0, 1, 1)) for t in range(200)}
    free = run(Options(), stimulus, 200)[1]
    seen = run(Options(stall_seed=1, stall_channels=channels), stimulus, 200)[1]
    for write, mask in ((False, READ_STALLS), (True, WRITE_STALLS)):
        late = [e for e in seen if (e[1] < 0) == write] != [e for e in free if (e[1] < 0) == write]
        assert late == bool(channels & mask)


def test_hash_is_the_published_one():
    """First outputs of SplitMix64 seeded with 0 (S. Vigna's splitmix64.c)."""
    outputs = [splitmix(i * 0x9E3779B97F4A7C15 & (1 << 64) - 1) for i in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


BREACHES = {
    "AR, cycle 0: the burst crosses a 4 KiB": {0: Master(ar=burst(BASE + 4096 - 8, 2))},
    "AR, cycle 0: the address is not a mul": {0: Master(ar=burst(BASE + 4))},
    "AW, cycle 0: the size is not the bus": {0: Master(aw=burst(size=2))},
    "AW, cycle 0: the burst type is not INCR": {0: Master(aw=burst(burst=2))},
    "AR, cycle 0: the ID is not 0": {0: Master(ar=burst(id=1))},
    "W, cycle 1: WLAST is not on": {
        0: Master(aw=burst(beats=2), w=Beat(0, 1, 0)),
        1: Master(w=Beat(0, 1, 0)),
    },
    "W, cycle 0: WLAST is not on": {0: Master(aw=burst(beats=2), w=Beat(0, 1, 1))},
}


@pytest.mark.parametrize("message", BREACHES)
def test_catches_breaches(message):
    with pytest.raises(ProtocolError, match=message):
        run(Options(), BREACHES[message], 3)


@pytest.mark.parametrize(
    ("field", "now", "later"),
    [("ar", burst(), burst(BASE + 8)), ("aw", burst(), None), ("w", Beat(1, 1, 1), Beat(2, 1, 1))],
)
def test_catches_changes_while_waiting(field, now, later):
    """In a cycle in which the channel stalls, the master must hold still."""
    options = Options(stall_seed=5)
    probe = AxiMemoryModel(BYTES, options)
    bit = Channel[field.upper()]
    stalled = next(t for t in range(10_000) if probe._stalls(t) >> bit & 1)
    after = stalled + 1
    waiting = {stalled: Master(**{field: now})}
    run(options, {**waiting, after: Master(**{field: now})}, after + 1)
    with pytest.raises(ProtocolError, match=rf"{bit.name}, cycle {after}.*before the handshake"):
        run(options, {**waiting, after: Master(**{field: later})}, after + 1)
