"""The ULX3S's whole top in simulation: link, memory and machine through its pins."""

from __future__ import annotations

import os
import random
import select
import tty
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weft.boards.area import Memory
from weft.boards.board import find
from weft.boards.device import BoardDevice, simulated, stored_segments
from weft.boards.frame import RESPONSE, Command, Decoder, Frame, Identity, Status, encode
from weft.boards.host_link import HostLink, LinkError, SerialPort
from weft.boards.simulation import SimulatedBoard, SimulationError
from weft.hdl.config import PRESETS
from weft.hdl.isa import Segment
from weft.hdl.registers import REGISTERS, Error
from weft.host import compiler, interpreter, lenet, run
from weft.host.device import DeviceError, Job
from weft.host.golden import GoldenDevice
from weft.host.program import Program
from weft.host.timing.machine import predict

from .board_faults import KINDS, Harm, HarmfulPort, harms
from .programs import Generator

BOARD = find("ulx3s")
TINY = PRESETS["tiny"]
#: Cycles that an answer may take in these tests, whose requests are small.
PATIENCE = 4000
MEMORY = 1 << 25


@pytest.fixture(scope="module")
def make() -> Iterator:
    """Makes boards; closes them."""
    made = []

    def one(**options) -> SimulatedBoard:
        made.append(simulated(BOARD, TINY, **options))
        return made[-1]

    yield one
    for board in made:
        board.close()


@pytest.fixture(scope="module")
def board(make) -> SimulatedBoard:
    """A board that many tests use, one after the other."""
    return make(patience=PATIENCE)


@pytest.fixture
def link(board) -> HostLink:
    return HostLink(board)


# -- the machine --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> lenet.Network:
    return lenet.quantized(TINY, None, None)


@pytest.fixture(scope="module")
def program(network) -> Program:
    return compiler.compile(network.graph, TINY)


@pytest.fixture(scope="module")
def inspect(network) -> Program:
    return compiler.compile(network.graph, TINY, inspect=True)


def test_lenet_runs_bit_exactly(make, network, program, inspect):
    """Through the serial pins into SDRAM, over the machine, and back; layer by layer."""
    inputs = network.inputs[:1]
    port = make()
    device = BoardDevice(TINY, board="ulx3s-sim", link=HostLink(port))
    report = run.run(
        program,
        device,
        inputs,
        reference=interpreter.run_all(network.graph, inputs),
        inspect=inspect,
        memory=device.description,
    )
    assert report.mismatches == 0
    assert [layer.mismatches for layer in report.layers] == [0] * 5
    assert report.cycles_per_image == report.counters["CYCLES"] > 40_000
    assert report.predicted_cycles is None
    # What `weft area` computes frames a second from is close, and never slower.
    memory = Memory.of(BOARD, TINY)
    timing = {"latency": memory.latency, "beat_interval": memory.beat_interval}
    estimate = sum(predict(TINY, code, **timing).cycles for code in program.runs)
    assert 0.94 * report.cycles_per_image < estimate < report.cycles_per_image
    assert device.description == "ulx3s-sim at 50 MHz, 32 MB"
    counts = port.counts
    # The weights went over the line and into memory once, although two programs ran.
    assert 65_520 // 2 < counts.writes < 65_520
    assert counts.refreshes >= counts.cycles / 50e6 / 7.8125e-6 - 40


def test_a_random_program_leaves_what_the_golden_machine_leaves(make):
    """Transfers of any length and place, through the board's memory; nothing else changes."""
    device = BoardDevice(TINY, link=HostLink(make()))
    job = Generator(TINY).program(3).job
    assert stored_segments(job.code)
    got, expected = device.run(job), GoldenDevice(TINY).run(job)
    assert (got.error, got.tag) == (expected.error, expected.tag)
    assert got.segments == expected.segments != job.segments


def test_errors_of_the_machine_come_through(board):
    device = BoardDevice(TINY, link=HostLink(board))
    result = device.run(Job(bytes([15] * 32), (b"", b"", b"", b"")))
    assert result.error == Error.OPCODE


def test_what_is_outside_the_memory_answers_with_an_error(link):
    """A program that lies beyond the SDRAM: DECERR, which the machine reports."""
    for name, value in (
        ("CONTROL", 2),
        ("PROGRAM_LO", MEMORY),
        ("PROGRAM_HI", 0),
        ("PROGRAM_SIZE", 64),
        ("CONTROL", 1),
    ):
        link.write_registers(REGISTERS[name].address, value)
    assert link.read_registers(REGISTERS["ERROR"].address) == [Error.READ_BUS]


def test_finds_where_a_program_stores(program, inspect):
    assert stored_segments(program.code) == [Segment.OUTPUT]
    assert stored_segments(inspect.code) == [Segment.OUTPUT, Segment.SCRATCH]
    assert stored_segments(b"") == []


# -- the link -----------------------------------------------------------------------------------

Transfer = tuple[int, bytes]


def transfers(most_bytes: int) -> st.SearchStrategy[list[Transfer]]:
    """Addresses with the bytes to write there; often across a row, or at the memory's end."""
    words = st.integers(1, most_bytes // 4)
    base = st.sampled_from([0, 1024 - 16, 4096 - 8, 1 << 20, MEMORY - most_bytes])
    offset = st.integers(0, 8).map(lambda n: 4 * n)

    def fill(pair: tuple[int, int, int, int]) -> Transfer:
        start, add, count, seed = pair
        at = min(start + add, MEMORY - 4 * count)
        return at, random.Random(seed).randbytes(4 * count)

    return st.lists(
        st.tuples(base, offset, words, st.integers(0, 99)).map(fill), min_size=1, max_size=5
    )


@settings(max_examples=60, deadline=None)
@given(wanted=transfers(40), to_board=harms(), to_host=harms())
def test_whatever_the_line_does_requests_are_executed_once(board, wanted, to_board, to_host):
    """Writes arrive once and whole, reads give what was written; or the link says it failed."""
    try:
        link = HostLink(HarmfulPort(board, to_board, to_host))
    except LinkError:
        return
    for address, data in wanted:
        before = board.counts.writes
        try:
            link.write_memory(address, data)
        except LinkError:
            assert board.counts.writes - before in (0, len(data) // 2)
            return
        assert board.counts.writes - before == len(data) // 2
        try:
            assert link.read_memory(address, len(data)) == data
        except LinkError:
            return


def test_harm_is_repaired_and_counted(board):
    """The lines of the test above do harm, and few of them end the conversation."""
    generator = random.Random(1)
    repeated = failed = 0
    for _ in range(10):
        to_board, to_host = some_harms(generator), some_harms(generator)
        try:
            link = HostLink(HarmfulPort(board, to_board, to_host))
            for at in range(0, 200, 40):
                data = generator.randbytes(40)
                link.write_memory(at, data)
                assert link.read_memory(at, 40) == data
            repeated += link.repeated
        except LinkError:
            failed += 1
    assert repeated > 10
    assert failed < 4


def some_harms(generator: random.Random) -> list[Harm]:
    """Four to the first 700 bytes."""
    return [
        Harm(
            generator.randrange(700),
            generator.choice(KINDS),
            generator.choice([1, 1, 30]),
            generator.randrange(1, 256),
        )
        for _ in range(4)
    ]


def raw(board: SimulatedBoard, *request) -> list[Frame]:
    """The frames that answer one."""
    board.send(encode(*request))
    return Decoder().feed(board.receive())


def test_a_repetition_is_answered_but_not_executed(board, link):
    sequence = (link._sequence + 1) % 256
    request = sequence, Command.WRITE_MEMORY, 4, 0, b"once"
    before = board.counts.writes
    answers = [raw(board, *request) for _ in range(3)]
    assert board.counts.writes - before == 2
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0].sequence == sequence
    other = sequence, Command.WRITE_MEMORY, 4, 0, b"else"
    assert raw(board, *other) == answers[0]
    assert board.counts.writes - before == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ((2, Command.WRITE_MEMORY, 4, 0, b"late"), Status.SEQUENCE),
        ((1, 9, 4, 0), Status.COMMAND),
        ((1, Command.READ_MEMORY, 0, 0), Status.LENGTH),
        ((1, Command.READ_MEMORY, 1028, 0), Status.LENGTH),
        ((1, Command.READ_MEMORY, 6, 0), Status.LENGTH),
        ((1, Command.WRITE_MEMORY, 8, 0, b"four"), Status.LENGTH),
        ((1, Command.READ_MEMORY, 4, 0, b"four"), Status.LENGTH),
        ((1, Command.READ_MEMORY, 8, MEMORY - 4), Status.ADDRESS),
        ((1, Command.READ_MEMORY, 4, 0xFFFF_FFFC), Status.ADDRESS),
        ((1, Command.READ_MEMORY, 4, 2), Status.ADDRESS),
        ((1, Command.WRITE_REGISTERS, 8, 0x3FC, b"two regs"), Status.ADDRESS),
        ((1, Command.READ_MEMORY, 1024, MEMORY - 1024), Status.OK),
        ((1, Command.READ_REGISTERS, 16, 0), Status.OK),
        ((1, Command.READ_REGISTERS, 1024, 0), Status.BUS),
    ],
)
def test_what_cannot_be_is_refused(board, link, request_, status):
    behind, *rest = request_
    before = board.counts.writes
    (answer,) = raw(board, (link._sequence + behind) % 256, *rest)
    assert answer.address == status
    assert answer.length == len(answer.data) == (rest[1] if status == Status.OK else 0)
    assert board.counts.writes == before


def test_before_identify_nothing_is_executed(make):
    fresh = make(patience=PATIENCE)
    fresh.run(30_000)
    for sequence in (0, 1):
        (answer,) = raw(fresh, sequence, Command.WRITE_MEMORY, 4, 0, b"word")
        assert answer.address == Status.SEQUENCE
    assert fresh.counts.writes == 0


@pytest.mark.parametrize("skew", [-0.02, 0.02])
def test_clocks_may_differ_by_two_per_cent(make, skew):
    link = HostLink(make(patience=PATIENCE, skew=skew))
    link.write_memory(0, bytes(range(256)))
    assert link.read_memory(0, 256) == bytes(range(256))
    assert link.repeated <= 1


# -- the memory ---------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(wanted=transfers(1200))
def test_memory_holds_what_was_written(board, wanted):
    link = HostLink(board)
    for address, data in wanted:
        link.write_memory(address, data)
    kept: dict[int, int] = {}
    for address, data in wanted:
        kept |= dict(enumerate(data, address))
    for address, data in wanted:
        got = link.read_memory(address, len(data))
        assert got == bytes(kept[address + i] for i in range(len(data)))


#: Times that the controller must not undercut, most a picosecond longer than it takes at 50 MHz.
TOO_LONG = {
    "rcd": (20_001, "tRCD"),
    "rp": (20_001, "tRP"),
    "ras": (60_001, "tRAS"),
    "rc": (500_000_000, "tRC"),  # rows side by side lie in different banks
    "rfc": (80_001, "tRFC"),
    "wr": (40_001, "tWR"),
    "mode": (3, "tMRD"),
    "refresh": (7_000_000, "tREFI"),
    "power_up": (201_000_000, "power-up"),
    "access": (15_001, None),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_the_chip_complains_of_a_time_undercut(make, name):
    """Every time of the data sheet is checked; data that come too late are wrong."""
    value, complaint = TOO_LONG[name]
    port = make(times={name: value}, patience=40_000)
    if complaint is None:
        link = HostLink(port)
        link.write_memory(0, b"data" * 9)
        assert link.read_memory(0, 36) != b"data" * 9
        return
    with pytest.raises(SimulationError, match=f"misused its SDRAM: .*{complaint}"):
        exercise(port)


def test_the_chip_accepts_just_what_is_needed(make):
    exact = {name: value - 1 for name, (value, _) in TOO_LONG.items() if name not in
             ("rc", "refresh", "power_up")}  # fmt: skip
    exercise(make(times=exact, patience=40_000))


def exercise(port: SimulatedBoard) -> None:
    """Make the controller do all that it does."""
    link = HostLink(port)
    for at in (0, 512, 1024, 1 << 20):
        link.write_memory(at, bytes(8))
    for at in (0, 1024, 8 << 10, 1024 - 8):
        link.read_memory(at, 16)
    link.read_memory(1024 - 4, 8)
    link.write_memory(1024 - 8, bytes(16))
    port.run(10_000)
    link.read_memory(0, 4)


# -- errors -------------------------------------------------------------------------------------


def test_another_configuration_is_refused(make):
    port = make()
    with pytest.raises(DeviceError, match=r"holds configuration .* but 'small' is .*--config"):
        BoardDevice(PRESETS["small"], link=HostLink(port))
    with pytest.raises(LinkError, match="closed"):
        port.receive()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "needs --board"),
        ({"board": "nexys"}, "unknown board 'nexys'; there are ulx3s"),
        ({"board": "ulx3s"}, "--board ulx3s needs --port"),
        ({"board": "ulx3s-sim", "port": "x"}, "simulated here"),
        ({"board": "ulx3s", "port": "/dev/nowhere"}, "cannot open the serial port /dev/nowhere"),
    ],
)
def test_what_is_missing_is_said(options, text):
    with pytest.raises(Exception, match=text) as caught:
        BoardDevice(TINY, **options)
    assert "\n" not in str(caught.value)


class Scripted:
    """A port that answers IDENTIFY with `data`, or not at all."""

    name = "script"

    def __init__(self, data: bytes | None):
        self._data = data
        self._sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self._sent.append(data)

    def receive(self) -> bytes:
        if self._data is None:
            return b""
        (request,) = Decoder().feed(self._sent[-1])
        answer = request.command | RESPONSE, len(self._data), Status.OK, self._data
        return encode(request.sequence, *answer)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, r"does not answer \(IDENTIFY, sent 8 times\)"),
        (Identity(9, 0, 0, 0).encode(), "speaks version 9 of the link, this software version 1"),
        (bytes(24), "is not a board of Weft"),
        (b"", "is not a board of Weft"),
    ],
)
def test_another_end_is_told_from_a_board(data, text):
    with pytest.raises(LinkError, match=text):
        HostLink(Scripted(data))


def test_through_an_operating_systems_serial_port(board):
    """pyserial on a pseudo-terminal, with the simulated board at its other end."""
    near, far = os.openpty()
    tty.setraw(far)
    data = bytes(range(256))

    def talk() -> bytes:
        link = HostLink(SerialPort(os.ttyname(far), 115_200, timeout=5))
        link.write_memory(64, data)
        read = link.read_memory(64, len(data))
        link.close()
        return read

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(talk)
        while not done.done():
            if select.select([near], [], [], 0.01)[0]:
                board.send(os.read(near, 4096))
                os.write(near, board.receive())
    assert done.result() == data
    os.close(near)
    os.close(far)
