"""Bench of ACT: five ports with a random request in almost every cycle.

A request of `w_vector` is drawn for the cycle of its data, like all others; the rest of it comes
JUMP_LEAD cycles earlier. Its `jump` changes from time to time, JUMP_SETUP cycles before the next.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Sequence

import cocotb
from weft.hdl.config import Config
from weft.hdl.ports import ACT_READ_LATENCY, JUMP_LEAD, JUMP_SETUP
from weft.tb.bench import clock_and_reset

CONFIG = Config(**json.loads(os.environ.get("CONFIG", "{}")))
COUNT = int(os.environ.get("COUNT", "2500"))
READERS = {"matmul": CONFIG.rows, "vector": CONFIG.vector_lanes, "store": CONFIG.bus_bytes}
WRITERS = {"w_load": CONFIG.bus_bytes, "w_vector": CONFIG.vector_lanes}
#: Cycles between changes of `jump`.
PHASE = 60
WORD_BITS = (CONFIG.act_words - 1).bit_length()
#: Cycles from two reads, and from two writes, that meet in a bank to `conflict`.
READ_CONFLICT = 3
WRITE_CONFLICT = 2


def window(base: int, lanes: Iterable[int], jumps: Sequence[int] | None) -> list[int]:
    """Addresses of the given lanes of a window at `base`; lane i jumps by jumps[i] words."""
    offsets = [i + (CONFIG.act_lanes * jumps[i] if jumps is not None else 0) for i in lanes]
    return [(base + offset) % CONFIG.act_bytes for offset in offsets]


def banks(addresses: Iterable[int]) -> set[int]:
    """The banks that hold `addresses`."""
    return {address // CONFIG.act_bank_bytes for address in addresses}


def meet(sets: Sequence[set[int]]) -> bool:
    """Whether any two of the ports that use these banks in a cycle meet in one."""
    return len(set().union(*sets)) < sum(len(used) for used in sets)


class Request:
    """A random request of one port: what is driven, and the address of each masked lane."""

    def __init__(self, rng: random.Random, port: str, jump: int):
        self.port = port
        self.width = (READERS | WRITERS)[port]
        whole = (1 << self.width) - 1
        self.base = rng.randrange(1 << 20)
        self.mask = rng.choice((whole, whole, rng.getrandbits(self.width)))
        self.lanes = [i for i in range(self.width) if self.mask >> i & 1]
        self.drive = {"en": 1, "base": self.base, "mask": self.mask}
        jumps = None
        if port in WRITERS:
            self.data = rng.randbytes(self.width)
            self.drive["data"] = int.from_bytes(self.data, "little")
        else:
            self.fill = rng.randrange(256)
            self.drive["fill"] = self.fill
        if port == "w_vector":
            jumps = [i * jump for i in range(self.width)]
        if port == "matmul":
            far = rng.choice((0, 0, 1, CONFIG.act_words - 1))
            jumps = [rng.randrange(far + 1) for _ in range(self.width)]
            self.drive["jump"] = sum(jump << (WORD_BITS * i) for i, jump in enumerate(jumps))
        addresses = window(self.base, self.lanes, jumps)
        self.address = dict(zip(self.lanes, addresses, strict=True))
        self.banks = banks(addresses)


def requests(rng: random.Random, now: int, jump: int, legal: bool) -> list[Request]:
    """The requests of a cycle; where `legal`, without conflicts."""
    out: list[Request] = []
    ports = list(READERS | WRITERS)
    rng.shuffle(ports)
    for port in ports:
        if rng.random() < 0.15 or (port == "w_vector" and now % PHASE < JUMP_SETUP + JUMP_LEAD):
            continue
        request = Request(rng, port, jump)
        peers = [r for r in out if (r.port in READERS) == (port in READERS)]
        if not legal or not meet([r.banks for r in (*peers, request)]):
            out.append(request)
    return out


class Model:
    """What the memory promises, cycle by cycle."""

    def __init__(self) -> None:
        self.bytes = bytearray(CONFIG.act_bytes)
        self.conflicts: set[int] = set()
        #: (cycle, port) → byte of each lane; None where a write comes one cycle after the read.
        self.answers: dict[tuple[int, str], list[int | None]] = {}
        self._recent: list[tuple[Request, list[int | None]]] = []

    def cycle(self, now: int, accepted: list[Request]) -> None:
        """Account for the requests of cycle `now`."""
        for group, delay in ((WRITERS, WRITE_CONFLICT), (READERS, READ_CONFLICT)):
            if meet([r.banks for r in accepted if r.port in group]):
                self.conflicts.add(now + delay)
        for request in accepted:
            if request.port in WRITERS:
                for lane, address in request.address.items():
                    self.bytes[address] = request.data[lane]
                written = set(request.address.values())
                for read, answer in self._recent:
                    for lane, address in read.address.items():
                        if address in written:
                            answer[lane] = None
        self._recent = []
        for request in accepted:
            if request.port in READERS:
                answer: list[int | None] = [request.fill] * request.width
                for lane, address in request.address.items():
                    answer[lane] = self.bytes[address]
                self.answers[now + ACT_READ_LATENCY, request.port] = answer
                self._recent.append((request, answer))


async def run(dut, legal: bool, seed: int) -> None:
    """Random requests against the model: `conflict` always, data where `legal`."""
    rng = random.Random(seed)
    inputs = {"w_vector__jump": 0, **{f"{port}__en": 0 for port in READERS | WRITERS}}
    cycles = await clock_and_reset(dut, **inputs)
    model = Model()
    compared = undefined = jump = 0
    plan: dict[int, list[Request]] = {}
    several = 0
    for now in range(COUNT + 8):
        ahead = now + JUMP_LEAD
        if ahead % PHASE == JUMP_LEAD:
            jump = rng.choice((0, 1, rng.randrange(1 << WORD_BITS)))
            dut.w_vector__jump.value = jump
        plan[ahead] = requests(rng, ahead, jump, legal) if ahead < COUNT else []
        accepted = plan.pop(now, [])
        for port in READERS | WRITERS:
            getattr(dut, f"{port}__en").value = 0
        for request in (*accepted, *plan[ahead]):
            early = request.port == "w_vector"
            several += early and len(request.banks) > 1
            for name, value in request.drive.items():
                if request in (plan[ahead] if early and name != "data" else accepted):
                    getattr(dut, f"{request.port}__{name}").value = value
        model.cycle(now, accepted)
        await cycles.settle()
        assert int(dut.conflict.value) == (now in model.conflicts), f"conflict in cycle {now}"
        assert not (legal and int(dut.wrong.value)), f"parity in cycle {now}"
        for port, width in READERS.items():
            answer = model.answers.pop((now, port), None)
            if legal and answer is not None:
                got = int(getattr(dut, f"{port}__data").value).to_bytes(width, "little")
                for lane, want in enumerate(answer):
                    compared += 1
                    undefined += want is None
                    assert want is None or got[lane] == want, (
                        f"cycle {now}, {port} lane {lane}: {got[lane]} instead of {want}"
                    )
        await cycles.edge()
    if legal:
        assert not model.conflicts
        assert compared > 4 * COUNT
        assert undefined < compared // 2
        assert several > COUNT // 20
    else:
        assert COUNT // 20 < len(model.conflicts) <= COUNT


@cocotb.test()
async def data(dut):
    await run(dut, legal=True, seed=1)


@cocotb.test()
async def conflicts(dut):
    await run(dut, legal=False, seed=2)


@cocotb.test(skip=not CONFIG.parity)
async def wrong_parity(dut):
    """A flipped bit is reported with the data that it is in, if the reader wants its byte."""
    rng = random.Random(3)
    inputs = {"w_vector__jump": 0, **{f"{port}__en": 0 for port in READERS | WRITERS}}
    cycles = await clock_and_reset(dut, **inputs, store__fill=0, vector__fill=0)
    lanes = CONFIG.act_lanes
    for _ in range(40):
        address = rng.randrange(CONFIG.act_bytes)
        bank, word = divmod(address // lanes, CONFIG.act_words // CONFIG.act_banks)
        cells = getattr(getattr(dut, f"bank_{bank}"), f"lane_{address % lanes}").cells
        cells[word].value = int(cells[word].value) ^ 1 << rng.randrange(9)
        for port in ("store", "vector"):
            for i in range(READERS[port]):
                await cycles.edge()
                getattr(dut, f"{port}__en").value = 1
                getattr(dut, f"{port}__base").value = (address - i) % CONFIG.act_bytes
                mask = rng.getrandbits(READERS[port])
                getattr(dut, f"{port}__mask").value = mask
                await cycles.edge()
                getattr(dut, f"{port}__en").value = 0
                seen = []
                for _ in range(ACT_READ_LATENCY + 1):
                    await cycles.settle()
                    seen.append(int(dut.wrong.value))
                    await cycles.edge()
                expected = [0] * (ACT_READ_LATENCY - 1) + [mask >> i & 1, 0]
                assert seen == expected, (port, address, i)
        cells[word].value = 0
        await cycles.edge()
