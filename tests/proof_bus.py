"""Proofs: the AXI master keeps the protocol, counts right, and stays quiet once killed."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Array, Assume, Cat, Mux, Signal, Value
from amaranth.lib import data
from weft.hdl import guard, read_engine, store_unit, write_engine
from weft.hdl.axi import BURST_INCR, beat_size
from weft.hdl.config import PRESETS
from weft.hdl.read_engine import ReadEngine
from weft.hdl.store_unit import StoreUnit
from weft.hdl.write_engine import WriteEngine

from .formal import Bench, Damage, Opened, Proof, stuck
from .proof_queues import Model, wrapped
from .proof_windows import PAGES, up

TINY = PRESETS["tiny"]
#: Bursts and beats that the engines of these proofs hold; the machine's hold 32.
FEW = 2
#: What the read engine may rely on.
BUS = "the bus answers what it was asked, with as many beats, in order"
#: Longest burst of these proofs, in beats.
LONGEST = 2
READ_CONFIG = SimpleNamespace(bus_bits=64, bus_bytes=8, addr_bits=12, read_beats=6)
WRITE_CONFIG = SimpleNamespace(bus_bits=16, bus_bytes=2, addr_bits=8)


class Buffer:
    """Entry k of a `SyncFIFOBuffered`, the oldest first, read off its state."""

    def __init__(self, b: Bench, dut: Opened, path: str, depth: int):
        behind = depth - 1
        held, read, write = (dut[f"{path}.{n}"] for n in ("inner_level", "consume", "produce"))
        self.offered = dut[f"{path}.r_rdy"]
        self.behind = held
        self.level = Signal(range(depth + 1), name=f"{path}_level")
        b.m.d.comb += self.level.eq(held + self.offered)
        b.claim(f"{path}_places", (held <= behind) & (read < behind) & (write < behind))
        b.claim(f"{path}_follows", write == wrapped(read + held, behind))
        first = dut[f"{path}.r_data"]
        stored = [dut.word(f"{path}.storage", wrapped(read + k, behind)) for k in range(behind)]
        self.entries = [Mux(self.offered, first, stored[0])] + [
            Mux(self.offered, stored[k - 1], stored[min(k, behind - 1)]) for k in range(1, depth)
        ]


def killed(b: Bench, dut: Opened) -> Value:
    """From `kill` on, until the engine is idle and `kill` over."""
    after = Signal(name="after_kill")
    b.m.d.sync += after.eq(dut.kill | (after & ~dut.idle))
    b.claim("draining", dut["draining"] == after)
    return dut.kill | after


def inside(request: Any, base: Value, size: Value, config: Any, page: int) -> Value:
    """Whether a burst lies in a window of whole beats, in the address space and in one page."""
    begin = request.addr // config.bus_bytes * config.bus_bytes
    end = begin + (request.len + 1) * config.bus_bytes
    return (
        (begin >= base)
        & (end <= up(base + size, config.bus_bytes))
        & (end <= 1 << config.addr_bits)
        & (begin // page == (end - 1) // page)
    )


#: How long a bus may let the engines wait, in the proofs that they end: any number up to this.
PATIENCE = 7


def ranked(b: Bench, dut: Opened, coming: Any, moves: Any, buffered: Any) -> None:
    """Claim that a killed engine becomes idle, if the bus moves at least every N cycles.

    `coming` is the number of handshakes that the bus still owes, `moves` whether it makes one in
    this cycle, and `buffered` falls in every cycle of draining in which it owes none.
    """
    limit = b.constant(range(PATIENCE + 1), "patience")
    b.assume("the bus makes a handshake every N cycles while any is due, N up to 7", limit != 0)
    still = Signal(range(PATIENCE + 1), name="still")  # cycles since the last handshake
    waits = (coming != 0) & ~moves
    b.m.d.sync += still.eq(Mux(waits, still + 1, 0))
    b.m.d.comb += Assume(~waits | (still + 1 < limit))
    b.claim("waits_no_longer", still < limit)
    # Bounds the cycles that are left: each takes one away at least.
    rank = Signal(16, name="rank")
    on_bus = Mux(coming != 0, coming * limit - still, 0)
    b.m.d.comb += rank.eq(on_bus + buffered + ~dut.idle)
    draining = dut["draining"] & ~dut.idle
    before = b.past(rank, "rank_before")
    b.claim("one_cycle_nearer_to_idle", ~b.past(draining, "drained") | (rank < before))


def read(b: Bench, damage: Damage = None, timed: bool = False) -> None:
    """The read engine between its requesters and a bus that answers in order."""
    config, page = READ_CONFIG, 256
    with patch.object(read_engine, "READ_BURSTS", FEW), patch.object(guard, "PAGE_BYTES", page):
        dut = b.add(ReadEngine(config), damage)
    axi, fetch, load = dut.axi, dut.fetch, dut.load
    b.assume(
        "FETCH's requests stay until taken (queues.fetch)",
        b.held(fetch.valid, fetch.ready, fetch.payload),
    )
    b.assume(
        "LOAD's requests stay until taken (queues.splitter)",
        b.held(load.valid, load.ready, load.payload),
    )
    b.assume("LOAD's bursts are no longer than that (windows.splitter)", load.payload.len < LONGEST)
    b.assume(
        "FETCH asks for 4 instructions from a multiple of 4 on (windows.fetch)",
        (fetch.payload.len < 16) & (fetch.payload.pc[:2] == 0),
    )
    b.assume(PAGES, dut.base % page == 0)
    for k in range(4):
        b.assume(PAGES, dut.segments.base[k] % page == 0)
    # The control block stops the machine for good when a request is refused.
    lost = Signal()
    b.m.d.sync += lost.eq(lost | dut.refused)
    b.assume(
        "from a refused request on `kill` is up (control.ends)", dut.kill | ~(dut.refused | lost)
    )

    # The address channel.
    asked_fetch, asked_load = fetch.valid & fetch.ready, load.valid & load.ready
    request = Signal(fetch.payload.shape())
    base, size = Signal(config.addr_bits), Signal(32)
    segment = load.payload.segment
    b.m.d.comb += [
        request.eq(Mux(asked_load, load.payload.as_value(), fetch.payload.as_value())),
        base.eq(Mux(asked_load, dut.segments.base[segment], dut.base)),
        size.eq(Mux(asked_load, dut.segments.size[segment], dut.size)),
    ]
    fits = inside(request, base, size, config, page)
    asked = (asked_fetch | asked_load) & fits
    sent_on = b.past(asked)
    address = Cat(axi.araddr, axi.arlen)
    same = address == b.past(Cat(request.addr[3:] << 3, request.len))
    b.claim("one_at_a_time", ~(asked_fetch & asked_load))
    b.claim("asks_only_inside", ~axi.arvalid | sent_on | b.past(axi.arvalid & ~axi.arready))
    b.claim("asks_all_inside", ~sent_on | (axi.arvalid & same))
    b.claim("address_holds", b.held(axi.arvalid, axi.arready, address))
    b.claim("tells_of_others", dut.refused == b.past((asked_fetch | asked_load) & ~fits))
    b.claim("full_beats", (axi.arsize == beat_size(TINY)) & (axi.arburst == BURST_INCR))
    b.claim("plain", Cat(axi.arid, axi.arlock, axi.arprot, axi.arqos) == 0)

    # Bursts asked for whose last beat has not arrived. A beat arrives the cycle after it came.
    arrives, last = dut["beat"], dut["beat_last"]
    closes = arrives & last
    arrived = Signal(9)  # beats of the oldest burst
    with b.m.If(arrives):
        b.m.d.sync += arrived.eq(Mux(last, 0, arrived + 1))
    item = data.StructLayout({"request": request.shape(), "is_load": 1})
    bursts = Model(b, FEW, asked, closes, Cat(request, asked_load))
    items = [data.View(item, entry) for entry in bursts.entries]
    length = [entry.request.len for entry in items]
    # The bus answers what it was asked, in order.
    came = Mux(closes, 0, arrived + arrives)
    coming = Mux(closes, length[1], length[0])
    sent = bursts.count - (axi.arvalid & ~axi.arready)
    b.assume(BUS, ~axi.rvalid | (sent > closes))
    b.assume(BUS, ~axi.rvalid | (axi.rlast == (came == coming)))

    # What becomes of the beats.
    quiet = killed(b, dut)
    fetched, loaded = dut.fetch_data, dut.load_data
    is_load, pc = items[0].is_load, items[0].request.pc
    mine = Mux(is_load, loaded.valid, fetched.valid)
    yours = Mux(is_load, fetched.valid, loaded.valid)
    came_before, data_before = b.past(axi.rvalid), b.past(axi.rdata)
    b.claim("returns_to_who_asked", quiet | (mine == came_before))
    b.claim("and_nobody_else", quiet | ~yours)
    b.claim("data", (fetched.data == data_before) & (loaded.data == data_before))
    b.claim("kill_stops_requests", ~quiet | ~(fetch.ready | load.ready))
    b.claim("kill_silences", ~dut["draining"] | ~(mine | yours | dut.error.valid))
    bad = came_before & b.past(axi.rresp)[1]
    b.claim("reports_bus_errors", quiet | (dut.error.valid == bad))
    place = Mux(is_load, 0, arrived // 4)
    b.claim("blames_who_asked", ~dut.error.valid | (dut.error.pc == pc + place))
    b.claim("idle_when_nothing_is_open", dut.idle == ((bursts.count == 0) & ~dut.refused))
    b.claim("few_bursts", dut["open_bursts"] == bursts.count + dut.refused)
    b.claim("none", dut["none"] == (dut["open_bursts"] == 0))
    owed = sum(Mux(k < bursts.count, n + 1, 0) for k, n in enumerate(length)) - arrived
    fresh = ~(lost | dut.refused)
    b.claim("credit", ~fresh | (dut["credit"] == config.read_beats - owed))
    most = config.read_beats
    b.claim("load_keeps_to_credit", ~asked_load | (owed + load.payload.len + 1 <= most))

    # Why.
    order = Buffer(b, dut, "order", FEW + 1)
    b.claim("order_count", ~fresh | (order.level == bursts.count))
    for k, entry in enumerate(items):
        kept = order.entries[k] == Cat(entry.is_load, entry.request.pc)
        b.claim(f"order_{k}", ~fresh | (k >= bursts.count) | kept)
        load_fits = entry.request.len < LONGEST
        fetch_fits = (entry.request.len < 16) & (entry.request.pc[:2] == 0)
        b.claim(f"fits_{k}", (k >= bursts.count) | Mux(entry.is_load, load_fits, fetch_fits))
    b.claim("beats_in_order", ~arrives | ((bursts.count != 0) & (last == (arrived == length[0]))))
    b.claim("within_the_burst", Mux(bursts.count == 0, arrived == 0, arrived <= length[0]))
    b.claim("in_time", ~fresh | ~arrives | order.offered)
    b.claim("not_before_asked", ~arrives | (bursts.count > axi.arvalid))
    b.claim("newest_waits", ~axi.arvalid | (bursts.count != 0))
    b.claim("as_it_came", (arrives == came_before) & (dut["beat_data"] == data_before))
    b.claim("error_as_it_came", dut["beat_error"] == b.past(axi.rresp)[1])
    b.claim("index", dut["index"] == arrived)
    b.claim("address_copies", copies(dut))
    if timed:
        coming = owed - arrives + axi.arvalid
        moves = axi.rvalid | (axi.arvalid & axi.arready)
        ranked(b, dut, coming, moves, 0)


def copies(dut: Opened) -> Value:
    """Whether the copies of the address register and their parity agree."""
    word, inverted = dut["address.word"], dut["address.inverted"]
    third = dut["address.mixed"] == word[0] ^ word[1]
    return (inverted == ~word) & (dut["address.parity"] == word.xor()) & third


def written(length: list[Value], count: Value, sent: Value) -> list[Value]:
    """Place in the beat buffer of the last beat of each of some bursts, `sent` beats of the first
    of them having left.
    """
    out, at = [], -sent - 1
    for k, n in enumerate(length):
        at = at + Mux(k < count, n + 1, 0)
        out.append(at)
    return out


class WriteRule:
    """What STORE promises to the write engine, see ``write_engine.WritePort``.

    `kept` is true in a cycle in which it keeps its word.
    """

    def __init__(self, b: Bench, port: Any, most: int, clear: Any = 0):
        new = port.burst.valid
        last = port.beat_valid & port.beat.last
        #: Bursts that were given and whose beats were not all given.
        self.bursts = Model(b, most + 1, new, last, port.burst.payload.len, clear, "pending")
        self.given = Signal(9, name="given")  # beats of the first of them
        self.flying = Signal(range(most + 1), name="flying")  # beats given, not yet `sent`
        with b.m.If(clear):
            b.m.d.sync += [self.given.eq(0), self.flying.eq(0)]
        with b.m.Else():
            b.m.d.sync += self.flying.eq(self.flying + port.beat_valid - port.sent)
            with b.m.If(port.beat_valid):
                b.m.d.sync += self.given.eq(Mux(port.beat.last, 0, self.given + 1))
        lengths = self.bursts.entries
        #: Beats of the bursts that were given which are still to come.
        self.owed = written(lengths, self.bursts.count, self.given)[-1] + 1
        self.kept = (
            (~port.beat_valid | (self.bursts.count != 0))
            & (~port.beat_valid | (port.beat.last == (self.given == lengths[0])))
            & (~port.beat_valid | (self.flying < most))
            & (~new | (self.flying + self.owed <= most))
            & (~new | (port.burst.payload.len < most))
        )
        count = self.bursts.count
        before = written(lengths, Mux(count == 0, 0, count - 1), self.given)[-1] + 1
        b.claim("rule_flying", self.flying <= most)
        b.claim("rule_given", Mux(count == 0, self.given == 0, self.given <= lengths[0]))
        b.claim("rule_room", (count <= 1) | (self.flying + before <= most))
        for k, length in enumerate(lengths):
            b.claim(f"rule_length_{k}", (k >= count) | (length < most))


def write(b: Bench, damage: Damage = None, timed: bool = False) -> None:
    """The write engine between STORE and a bus that answers every burst once, when it is sent."""
    config, page = WRITE_CONFIG, 32
    few = patch.multiple(write_engine, WRITE_BUFFER_BEATS=FEW, WRITE_BURSTS=FEW)
    with few, patch.object(guard, "PAGE_BYTES", page):
        dut = b.add(WriteEngine(config), damage)
    axi, port = dut.axi, dut.port
    for k in range(4):
        b.assume(PAGES, dut.segments.base[k] % page == 0)
    # The control block stops the machine for good when a burst is refused.
    lost = Signal()
    b.m.d.sync += lost.eq(lost | dut.refused)
    b.assume(
        "from a refused request on `kill` is up (control.ends)", dut.kill | ~(dut.refused | lost)
    )
    quiet = killed(b, dut)
    rule = WriteRule(b, port, FEW, clear=quiet)
    b.assume("STORE keeps the port's rule (bus.store)", quiet | rule.kept)
    b.claim("always_room", quiet | ~port.burst.valid | port.burst.ready)

    # The address channel: what was given, in order, if it lies in its window.
    due = dut["issue"]
    request = port.burst.payload
    item = data.StructLayout({"addr": config.addr_bits - 1, "len": 8, "segment": 2})
    new = Cat(request.addr[1:], request.len, request.segment)
    given = Model(b, FEW + 1, port.burst.valid & ~quiet, due, new, quiet, "given_bursts")
    items = [data.View(item, entry) for entry in given.entries]
    first = SimpleNamespace(addr=items[0].addr << 1, len=items[0].len)
    segment = items[0].segment
    window = dut.segments.base[segment], dut.segments.size[segment]
    issue = due & inside(first, *window, config, page)
    sent_on = b.past(issue)
    address = Cat(axi.awaddr, axi.awlen)
    same = address == b.past(Cat(first.addr[: config.addr_bits], first.len))
    b.claim("asks_only_inside", ~axi.awvalid | sent_on | b.past(axi.awvalid & ~axi.awready))
    b.claim("asks_all_inside", ~sent_on | (axi.awvalid & same))
    b.claim("address_holds", b.held(axi.awvalid, axi.awready, address))
    b.claim("tells_of_others", dut.refused == b.past(due & ~issue))
    b.claim("kill_stops_addresses", ~(quiet & due))
    b.claim("full_beats", (axi.awsize == beat_size(config)) & (axi.awburst == BURST_INCR))
    b.claim("plain", Cat(axi.awid, axi.awlock, axi.awprot, axi.awqos) == 0)

    # The data channel: every burst whose AWVALID rose is sent whole, without a pause.
    sent = axi.wvalid & axi.wready
    closes = sent & axi.wlast
    bursts = Model(b, FEW, issue, closes, first.len, name="issued")
    gone = Signal(8)  # beats of the first of them
    with b.m.If(sent):
        b.m.d.sync += gone.eq(Mux(axi.wlast, 0, gone + 1))
    kept = Value.cast(port.beat)[: 8 * config.bus_bytes + config.bus_bytes]
    beats = Model(b, FEW + 1, port.beat_valid & ~quiet, sent, kept, quiet, "given_beats")
    content = Cat(axi.wdata, axi.wstrb)
    b.claim("data_holds", b.held(axi.wvalid, axi.wready, Cat(content, axi.wlast)))
    b.claim("no_pause", axi.wvalid == (bursts.count != 0))
    b.claim("last", ~axi.wvalid | (axi.wlast == (gone == bursts.entries[0])))
    b.claim("data", ~axi.wvalid | quiet | (content == beats.entries[0]))
    fresh = b.past(~axi.wvalid | axi.wready, init=1)
    b.claim("kill_stops_writes", ~(axi.wvalid & fresh & b.past(quiet)) | (axi.wstrb == 0))

    # The responses.
    draining = dut["draining"]
    answered = b.past(axi.bvalid)
    waiting = Signal(range(FEW + 1))  # bursts whose AWVALID rose, not answered
    b.m.d.sync += waiting.eq(waiting + issue - answered)
    accepted = waiting - answered - (axi.awvalid & ~axi.awready)
    complete = waiting - answered - bursts.count + closes
    b.assume(
        "the bus answers each burst once, after its address and its last beat",
        ~axi.bvalid | ((accepted > 0) & (complete > 0)),
    )
    b.claim("none", ~dut["none"] | (dut["open_bursts"] == 0))
    b.claim("counts_bursts", (dut["open_bursts"] == waiting) & (waiting <= FEW))
    b.claim(
        "counts_responses",
        (waiting >= answered + bursts.count) & (waiting >= answered + axi.awvalid),
    )
    b.claim("few_bursts", quiet | (given.count + waiting <= 2 * FEW + 1))
    b.claim("responses", port.response == (answered & ~draining))
    bad = answered & b.past(axi.bresp)[1]
    b.claim("reports_bus_errors", dut.error.valid == (bad & ~draining))
    b.claim("idle_when_nothing_is_open", ~dut.idle | ((waiting == 0) & ~axi.awvalid & ~axi.wvalid))

    # Why.
    burst_buffer = Buffer(b, dut, "bursts", FEW + 1)
    beat_buffer = Buffer(b, dut, "beats", FEW + 1)
    level = beat_buffer.level
    b.claim("killed_is_clean", ~(draining & dut.idle) | ((level == 0) & (burst_buffer.level == 0)))
    b.claim("as_it_came", (dut["answered"] == answered) & (dut["failed"] == bad))
    b.claim("empty", ~dut["quiet"] | ((level == 0) & (burst_buffer.level == 0)))
    b.claim("some_sending", dut["some_sending"] == (dut["sending"] != 0))
    b.claim("some_whole", dut["some_whole"] == (dut["whole"] != 0))
    b.claim("sends", (dut["sending"] == bursts.count) & (dut.beats == b.past(sent)))
    b.claim("sent_is_given", quiet | (rule.flying == level + dut.beats))
    for k in range(FEW + 1):
        there, entry = k < burst_buffer.level, burst_buffer.entries[k]
        b.claim(f"burst_{k}", quiet | ~there | (entry == given.entries[k]))
        there, entry = k < level, beat_buffer.entries[k]
        b.claim(f"beat_{k}", quiet | ~there | (entry[: len(kept)] == beats.entries[k]))
    b.claim("offered_in_time", quiet | burst_buffer.offered | (dut["whole"] == 0))
    b.claim("whole_or_pending", quiet | (dut["whole"] + rule.bursts.count == given.count))
    b.claim("burst_count", quiet | (burst_buffer.level == given.count))
    b.claim("beat_count", quiet | (level == beats.count))

    b.claim("within_the_burst", Mux(bursts.count == 0, gone == 0, gone <= bursts.entries[0]))
    for k in range(FEW):
        b.claim(f"length_{k}", (k >= bursts.count) | (bursts.entries[k] < FEW))
    lengths = Array(entry.len for entry in items)
    pending = rule.bursts.count
    b.claim("pending_is_given", quiet | (pending <= given.count))
    for k in range(FEW + 1):
        b.claim(f"given_length_{k}", (k >= given.count) | (lengths[k] < FEW))
        newest = lengths[(given.count - pending + k)[:3]]
        b.claim(f"newest_{k}", quiet | (k >= pending) | (newest == rule.bursts.entries[k]))
    ends = written(bursts.entries, bursts.count, gone)
    sure = ends[-1] + 1
    b.claim("all_there", sure <= level)
    later, at = [], ends[-1]
    for k, entry in enumerate(items):
        at = at + Mux(k < given.count, entry.len + 1, 0)
        later.append(at)
    b.claim("tiled", quiet | (level + rule.owed == later[-1] + 1))
    whole = sum((k < given.count) & (end < level) for k, end in enumerate(later))
    b.claim("whole", quiet | (dut["whole"] == whole))
    b.claim("address_copies", copies(dut))
    b.claim("none_whole", ~draining | (dut["whole"] == 0))
    for k, entry in enumerate(beat_buffer.entries):
        mine = Cat(end == k for end in ends).any()
        b.claim(f"end_{k}", (k >= sure) | (entry[-1] == mine))
        mine = Cat((i < given.count) & (end == k) for i, end in enumerate(later)).any()
        b.claim(f"later_end_{k}", quiet | (k < sure) | (k >= level) | (entry[-1] == mine))
    if timed:
        coming = sure + axi.awvalid + waiting - answered
        moves = sent | (axi.awvalid & axi.awready) | axi.bvalid
        buffers = 2 * (level + burst_buffer.level) - beat_buffer.offered - burst_buffer.offered
        ranked(b, dut, coming, moves, buffers)


def store(b: Bench, damage: Damage = None) -> None:
    """STORE keeps its promise to the write engine, and is done with its last response."""
    most, longest = 4, 2
    with (
        patch.object(store_unit, "WRITE_BUFFER_BEATS", most),
        patch.object(write_engine, "WRITE_BURST_BEATS", longest),
    ):
        dut = b.add(StoreUnit(TINY), damage)
    port, unit = dut.write, dut.unit
    rule = WriteRule(b, port, most)
    b.assume("the write engine takes every burst (bus.write)", ~port.burst.valid | port.burst.ready)
    b.assume(
        "the write engine reports only beats that it was given (bus.write)",
        ~port.sent | (rule.flying != 0),
    )
    unanswered = Signal(8)
    b.m.d.sync += unanswered.eq(unanswered + port.burst.valid - port.response)
    b.assume(
        "the write engine reports only responses to its bursts (bus.write)",
        ~port.response | (unanswered != 0),
    )
    b.assume(
        "the write engine has no more than 9 bursts (bus.write)", unanswered <= 2 * most + 1
    )  # see `few_bursts` of the write engine
    b.claim("keeps_its_word", rule.kept)
    b.claim("starts_only_when_allowed", ~unit.instr.ready | (unit.instr.valid & unit.go))

    # The splitter hands out everything, and marks the end.
    splitter = {
        name: dut[f"splitter.{name}"]
        for name in ("row_valid", "valid", "spare_valid", "burst__valid", "final_row", "spare",
                     "left", "room", "to_page", "last", "vacant")
    }  # fmt: skip
    output = Value.cast(dut["splitter.burst__payload"])
    rows, left = splitter["row_valid"], splitter["valid"]
    spare, offered = splitter["spare_valid"], splitter["burst__valid"]
    ends, spare_ends = output[-1], Value.cast(splitter["spare"])[-1]
    walking, pipeline = dut["walking"], [dut[f"stage_{k}"] for k in reversed(range(5))]
    nothing = ~(rows | left | spare | offered)
    all_given = dut["all_given"]
    b.claim("done_when_all_is_answered", ~unit.done | (nothing & (unanswered == 1)))
    b.claim("busy_until_then", unit.busy | (nothing & (unanswered == 0)))
    b.claim("counts_responses", dut["unanswered"] == unanswered)
    b.claim("end_is_last", ~(offered & ends) | ~(rows | left | spare))
    b.claim("spare_end_is_last", ~(spare & spare_ends) | ~(rows | left))
    b.claim("row_end_is_last", ~(left & splitter["final_row"]) | ~rows)
    b.claim("all_given", ~(unit.busy & all_given) | nothing)
    b.claim("spare_behind", ~spare | offered)
    b.claim("vacant", splitter["vacant"] == ~rows)
    to_page, room = splitter["to_page"], splitter["room"]
    b.claim("room", ~left | (room == Mux(to_page < longest, to_page, longest - 1)))
    is_last = splitter["left"] <= room
    b.claim("last_burst", ~left | (splitter["last"] == is_last))
    b.claim("output_fits", ~offered | (output[32:40] < longest))
    b.claim("spare_fits", ~spare | (Value.cast(splitter["spare"])[32:40] < longest))

    # Beats on their way from ACT are those that the rule waits for.
    on_way = sum(stage[0] for stage in pipeline)
    b.claim("credit", dut["credit"] + rule.flying + on_way == most)
    b.claim("last", dut["last"] == (dut["left"] == 0))
    b.claim("some_credit", dut["some_credit"] == (dut["credit"] != 0))
    b.claim("owed", rule.owed == on_way + Mux(walking, dut["left"] + 1, 0))
    b.claim("walks", ~walking | (rule.bursts.count != 0))
    last = written(rule.bursts.entries, rule.bursts.count, rule.given)
    for i, end in enumerate(last):
        b.claim(f"read_before_{i}", (i + walking >= rule.bursts.count) | (end < on_way))
    before = 0
    for k, stage in enumerate(pipeline):
        here = Cat((i < rule.bursts.count) & (end == before) for i, end in enumerate(last)).any()
        b.claim(f"marks_{k}", ~stage[0] | (stage[1] == here))
        before = before + stage[0]


PROOFS = (
    Proof(
        name="bus.read",
        says="The read engine asks for every burst of FETCH and LOAD that lies in its window, "
        "once, as INCR of full beats, and tells of others; an address that waits for ARREADY "
        "stays; LOAD's bursts fit into `read_beats`; every beat goes to who asked, in order; "
        "errors name their instruction; nothing is asked, returned or reported from `kill` until "
        "idle, and idle means that nothing is open.",
        of="ReadEngine",
        sizes=f"{FEW} open bursts of up to {LONGEST} beats (FETCH: 4), `read_beats` = "
        f"{READ_CONFIG.read_beats}, 12-bit addresses, pages of 256 bytes, 64-bit bus",
        bench=read,
        breaks={
            "load_keeps_to_credit": stuck("credit", 6),
            "returns_to_who_asked": stuck("order.r_data", 0),
        },
        breaks_depth=10,
    ),
    Proof(
        name="bus.write",
        says="The write engine sends every burst of STORE that lies in its window, once and in "
        "order; waiting addresses "
        "and beats stay; WLAST marks the last beat of AWLEN + 1; a burst's beats follow without a "
        "pause; every response is counted, and idle means that none is missing; from `kill` on no "
        "AWVALID rises and no new beat has a strobe; a kill leaves empty buffers.",
        of="WriteEngine",
        sizes=f"{FEW} open bursts, buffers of {FEW} beats, 8-bit addresses, 16-bit bus",
        bench=write,
        breaks={"kill_stops_writes": stuck("mute", 0), "no_pause": stuck("some_whole", 1)},
        breaks_depth=10,
    ),
    *(
        Proof(
            name=f"bus.{name}_ends",
            says="From a kill on the engine becomes idle: every cycle takes one at least from "
            "N · (handshakes that the bus still owes) + 2 · (buffered bursts and beats) + 1.",
            of=of,
            sizes=f"as bus.{name}",
            slow=True,
            bench=partial(bench, timed=True),
            breaks={"one_cycle_nearer_to_idle": stuck(path, value)},
            breaks_depth=16,
        )
        for name, of, bench, path, value in (
            ("read", "ReadEngine", read, "closes", 0),
            ("write", "WriteEngine", write, "flush", 0),
        )
    ),
    Proof(
        name="bus.store",
        says="STORE keeps the write engine's rules: beats follow their burst, are as many as it "
        "says, and never more than are buffered; it is done exactly when all of its bursts are "
        "answered.",
        of="StoreUnit",
        sizes="tiny, buffers of 4 beats, bursts of up to 2",
        bench=store,
        breaks={
            "keeps_its_word": stuck("credit", 4),
            "done_when_all_is_answered": stuck("all_given", 1),
        },
        breaks_depth=16,
    ),
)
