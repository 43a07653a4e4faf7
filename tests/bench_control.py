"""Bench of the control block: the register map, starting, ending, faults and recovery."""

import random
from typing import Any

import cocotb
from weft.hdl.axi import Response
from weft.hdl.config import PRESETS
from weft.hdl.control import SETTLE
from weft.hdl.isa import Segment, Unit
from weft.hdl.ports import Segments
from weft.hdl.register_file import LOCKED, writable
from weft.hdl.registers import ID_VALUE, REGISTERS, VERSION_VALUE, Cause, Error
from weft.tb.bench import Cycles, unpack

from .bench_common import restart

CONFIG = PRESETS["default"]
SOURCES = 3
IRQ_DONE, IRQ_ERROR = 1, 2
START, SOFT_RESET, LOCK = 1, 2, 4
BUSY, DONE, ERROR, LOCKED_BIT, OPEN = 1, 2, 4, 8, 16
COUNTED = ("READ_BEATS", "WRITE_BEATS", "VECTORS", "INSTRUCTIONS")


class Bench:
    """A control block with its AXI-Lite master."""

    def __init__(self, dut: Any, cycles: Cycles):
        self.dut = dut
        self.cycles = cycles

    @classmethod
    async def new(cls, dut: Any) -> "Bench":
        inputs = {
            f"bus__{name}": 0 for name in ("awvalid", "wvalid", "arvalid", "awprot", "arprot")
        }
        inputs |= {f"bus__{name}": 1 for name in ("bready", "rready")}
        inputs |= dict.fromkeys(("idle",), 1)
        inputs |= dict.fromkeys(("finish", "tag", "done", "events", "refused", "wrong"), 0)
        inputs |= {f"{name}__{unit}": 0 for name in ("causes", "pcs") for unit in Unit}
        inputs |= {f"faults__{i}__valid": 0 for i in range(SOURCES)}
        return cls(dut, await restart(dut, **inputs))

    async def write(
        self, address: int | str, data: int, strobe: int = 15, lead: int = 0
    ) -> Response:
        """Write a register, AW `lead` cycles before W (after it, if negative).

        Returns right after the edge that took the response.
        """
        dut = self.dut
        at = REGISTERS[address].address if isinstance(address, str) else address
        dut.bus__awaddr.value = at
        dut.bus__wdata.value = data
        dut.bus__wstrb.value = strobe
        early, late = dut.bus__awvalid, dut.bus__wvalid
        if lead < 0:
            early, late = late, early
        if lead:
            early.value = 1
            await self.cycles.edge()
            early.value = 0
            await self.cycles.edge(abs(lead) - 1)
        else:
            early.value = 1
        late.value = 1
        await self.cycles.edge()
        dut.bus__awvalid.value = 0
        dut.bus__wvalid.value = 0
        await self.cycles.settle()
        assert not int(dut.bus__bvalid.value)
        await self.cycles.edge()
        await self.cycles.settle()
        assert int(dut.bus__bvalid.value), "no response two cycles after the handshake"
        response = Response(int(dut.bus__bresp.value))
        await self.cycles.edge()
        return response

    async def fetch(self, address: int | str) -> tuple[int, Response]:
        """Read a register; also the response."""
        dut = self.dut
        dut.bus__araddr.value = REGISTERS[address].address if isinstance(address, str) else address
        dut.bus__arvalid.value = 1
        await self.cycles.edge()
        dut.bus__arvalid.value = 0
        await self.cycles.edge()
        await self.cycles.settle()
        assert int(dut.bus__rvalid.value), "no data two cycles after the handshake"
        out = int(dut.bus__rdata.value), Response(int(dut.bus__rresp.value))
        await self.cycles.edge()
        return out

    async def read(self, name: str) -> int:
        value, response = await self.fetch(name)
        assert response == Response.OKAY
        return value

    async def start(self) -> None:
        """Write START; returns at the beginning of the cycle in which the write executes, 0."""
        dut = self.dut
        dut.bus__awaddr.value = REGISTERS["CONTROL"].address
        dut.bus__wdata.value = START
        dut.bus__wstrb.value = 15
        dut.bus__awvalid.value = dut.bus__wvalid.value = 1
        await self.cycles.edge()
        dut.bus__awvalid.value = dut.bus__wvalid.value = 0
        self.cycles.restart()

    async def until(self, cycle: int) -> None:
        """Go to the beginning of a cycle."""
        await self.cycles.edge(cycle - self.cycles.now)

    async def sample(self, *names: str) -> list[int]:
        await self.cycles.settle()
        return [int(getattr(self.dut, name).value) for name in names]

    async def pulse(self, **inputs: int) -> None:
        """Drive inputs for one cycle, then 0."""
        for name, value in inputs.items():
            getattr(self.dut, name).value = value
        await self.cycles.edge()
        for name in inputs:
            getattr(self.dut, name).value = 0

    async def fault(self, *sources: int, code: Error, pc: int) -> None:
        """One cycle in which these sources report; the later ones with other codes and places."""
        inputs = {}
        for i, source in enumerate(sources):
            inputs[f"faults__{source}__valid"] = 1
            inputs[f"faults__{source}__code"] = code + i
            inputs[f"faults__{source}__pc"] = pc + i
        await self.pulse(**inputs)


@cocotb.test()
async def every_address(dut):
    bench = await Bench.new(dut)
    by_address = {register.address: register for register in REGISTERS.values()}
    fixed = {
        "ID": ID_VALUE,
        "VERSION": VERSION_VALUE,
        "CONFIG_LO": CONFIG.fingerprint & 0xFFFFFFFF,
        "CONFIG_HI": CONFIG.fingerprint >> 32,
        "WATCHDOG": 0xFFFF_FFFF,
    }
    for address in range(0, 0x400, 4):
        value, response = await bench.fetch(address)
        register = by_address.get(address)
        assert response == (Response.SLVERR if register is None else Response.OKAY), hex(address)
        assert value == (fixed.get(register.name, 0) if register else 0)
        if register is None or register.access == "ro":
            assert await bench.write(address, 0xFFFF_FFFF) == Response.SLVERR


@cocotb.test()
async def read_write_registers(dut):
    bench = await Bench.new(dut)
    rng = random.Random(3)
    expected = {name: r.init for name, r in REGISTERS.items() if r.access == "rw"}
    for _ in range(4):
        for name, old in expected.items():
            data, strobe = rng.getrandbits(32), rng.getrandbits(4)
            lead = rng.choice((-2, -1, 0, 0, 1, 3))
            assert await bench.write(name, data, strobe, lead) == Response.OKAY
            mask = sum(0xFF << 8 * i for i in range(4) if strobe >> i & 1)
            value = (old & ~mask) | (data & mask)
            expected[name] = value & writable(REGISTERS[name], CONFIG)
        for name, value in expected.items():
            assert await bench.read(name) == value, name
    await bench.cycles.settle()
    windows = {
        port: unpack(
            Segments(CONFIG).members[port].shape, int(getattr(dut, f"segments__{port}").value)
        )
        for port in ("base", "size")
    }
    for segment in Segment:
        assert windows["base"][segment] == expected[f"{segment.name}_LO"]
        assert windows["size"][segment] == expected[f"{segment.name}_SIZE"]
    assert int(dut.base.value) == expected["PROGRAM_LO"]
    room = (1 << CONFIG.addr_bits) - expected["PROGRAM_LO"]
    assert int(dut.count.value) == min(expected["PROGRAM_SIZE"], room) // 32


@cocotb.test()
async def program_ends_with_the_address_space(dut):
    bench = await Bench.new(dut)
    for base, size, count in (
        (0xFFFF_F000, 0x1000, 128),
        (0xFFFF_F000, 0x1020, 128),
        (0xFFFF_F000, 0x1FFF_FFE0, 128),
        (0xE000_0000, 0x1FFF_FFE0, 0xFF_FFFF),
        (0, 0x1FFF_FFE0, 0xFF_FFFF),
    ):
        await bench.write("PROGRAM_LO", base)
        await bench.write("PROGRAM_SIZE", size)
        await bench.cycles.edge(2)
        assert int(dut.count.value) == count


@cocotb.test()
async def lock(dut):
    bench = await Bench.new(dut)
    for name in LOCKED:
        assert await bench.write(name, 0x0123_4000) == Response.OKAY
    before = {name: await bench.read(name) for name in LOCKED}
    assert await bench.write("CONTROL", LOCK, strobe=0b1110) == Response.OKAY
    assert await bench.read("STATUS") == 0
    assert await bench.write("CONTROL", LOCK) == Response.OKAY
    assert await bench.read("STATUS") == LOCKED_BIT
    for reset in (False, True):
        if reset:
            await bench.write("CONTROL", SOFT_RESET)
        for name in LOCKED:
            assert await bench.write(name, 0xFFFF_FFFF) == Response.SLVERR
            assert await bench.read(name) == before[name]
    assert await bench.write("IRQ_ENABLE", 3) == Response.OKAY
    assert await bench.read("IRQ_ENABLE") == 3
    bench = await Bench.new(dut)
    assert await bench.write("PROGRAM_LO", 0x5000) == Response.OKAY
    assert await bench.read("PROGRAM_LO") == 0x5000


@cocotb.test()
async def run_to_the_end(dut):
    """Cycles of start, run, DONE and irq; CYCLES is the cycle of `finish`."""
    bench = await Bench.new(dut)
    await bench.write("IRQ_ENABLE", IRQ_DONE)
    for end in (1, 2, 40):
        await bench.start()
        for cycle in range(end + 1):
            dut.finish.value = int(cycle == end)
            dut.tag.value = 0x1230 + end
            start, run, irq = await bench.sample("start", "run", "irq")
            assert (start, run, irq) == (cycle == 1, cycle >= 1, 0), cycle
            await bench.cycles.edge()
        dut.finish.value = 0
        assert await bench.sample("run", "irq", "kill") == [0, 1, 0]
        await bench.cycles.edge()
        assert await bench.read("STATUS") == DONE
        assert await bench.read("CYCLES") == end
        assert await bench.read("TAG") == 0x1230 + end
        assert await bench.read("IRQ_STATUS") == IRQ_DONE
        await bench.write("IRQ_STATUS", IRQ_ERROR)
        assert await bench.sample("irq") == [1]
        await bench.cycles.edge()
        await bench.write("IRQ_STATUS", IRQ_DONE)
        assert await bench.sample("irq") == [0]
        await bench.cycles.edge()


@cocotb.test()
async def start_only_when_idle(dut):
    bench = await Bench.new(dut)
    await bench.start()
    await bench.until(10)
    assert await bench.read("STATUS") == BUSY
    await bench.write("CONTROL", START)
    await bench.pulse(finish=1)
    assert await bench.read("CYCLES") > 10
    await bench.write("CONTROL", START | SOFT_RESET)
    await bench.cycles.edge(SETTLE + 4)
    assert await bench.read("STATUS") == 0


@cocotb.test()
async def counters(dut):
    """Random events and causes; the four causes of a unit sum to CYCLES."""
    bench = await Bench.new(dut)
    rng = random.Random(4)
    for end in (5, 300):
        events = dict.fromkeys(COUNTED, 0)
        causes = {(unit, cause): 0 for unit in Unit for cause in Cause}
        await bench.start()
        for cycle in range(end + 3):
            running = 1 <= cycle <= end
            bits = rng.getrandbits(len(COUNTED))
            dut.events.value = bits
            dut.finish.value = int(cycle == end)
            for i, name in enumerate(COUNTED):
                events[name] += running * (bits >> i & 1)
            for unit in Unit:
                cause = rng.choice(list(Cause))
                getattr(dut, f"causes__{unit}").value = 1 << cause
                causes[unit, cause] += running
            await bench.cycles.edge()
        for name, value in events.items():
            assert await bench.read(name) == value, name
        for unit in Unit:
            total = 0
            for cause in Cause:
                value = await bench.read(f"{unit.name}_{cause.name}")
                assert value == causes[unit, cause], (unit, cause)
                total += value
            assert total == end == await bench.read("CYCLES")


@cocotb.test()
async def fault_and_recovery(dut):
    bench = await Bench.new(dut)
    await bench.write("IRQ_ENABLE", IRQ_ERROR)
    for at, sources in ((1, (0, 1, 2)), (7, (1, 2)), (20, (2,))):
        await bench.start()
        await bench.until(at)
        dut.idle.value = 0
        dut.finish.value = 1
        await bench.fault(*sources, code=Error.WINDOW, pc=0x1234 + at)
        dut.finish.value = 0
        assert await bench.sample("run", "kill", "irq") == [0, 1, 0]
        await bench.cycles.edge()
        await bench.fault(0, code=Error.READ_BUS, pc=1)
        await bench.cycles.edge(30)
        assert await bench.read("STATUS") == BUSY | OPEN
        dut.idle.value = 1
        await bench.cycles.edge(2)
        assert await bench.sample("irq", "kill") == [1, 1]
        await bench.cycles.edge()
        assert await bench.read("STATUS") == ERROR
        assert await bench.read("ERROR") == Error.WINDOW
        assert await bench.read("ERROR_PC") == (0x1234 + at) * 32
        assert await bench.read("IRQ_STATUS") == IRQ_ERROR
        assert await bench.read("CYCLES") == at
        await bench.write("CONTROL", START)
        await bench.cycles.edge(5)
        assert await bench.sample("run", "kill") == [0, 1]
        await bench.cycles.edge()
        assert await bench.read("STATUS") == ERROR

        dut.idle.value = 0
        await bench.write("CONTROL", SOFT_RESET)
        await bench.cycles.edge(20)
        assert await bench.read("STATUS") == BUSY | OPEN
        assert await bench.sample("reset", "kill") == [0, 1]
        await bench.cycles.edge()
        dut.idle.value = 1
        resets = []
        for _ in range(4):
            resets.append(tuple(await bench.sample("reset", "kill")))
            await bench.cycles.edge()
        assert resets == [(0, 1), (1, 1), (0, 0), (0, 0)]
        for name in ("STATUS", "ERROR", "ERROR_PC"):
            assert await bench.read(name) == 0
        await bench.write("IRQ_STATUS", 3)


@cocotb.test()
async def soft_reset_of_a_run(dut):
    bench = await Bench.new(dut)
    await bench.start()
    await bench.until(5)
    await bench.write("CONTROL", SOFT_RESET)
    assert await bench.sample("run", "kill") == [0, 1]
    await bench.cycles.edge()
    await bench.fault(1, code=Error.WINDOW, pc=3)
    await bench.pulse(finish=1)
    await bench.cycles.edge(SETTLE + 4)
    assert await bench.sample("run", "kill", "reset") == [0, 0, 0]
    await bench.cycles.edge()
    for name in ("STATUS", "ERROR", "IRQ_STATUS"):
        assert await bench.read(name) == 0


@cocotb.test()
async def watchdog(dut):
    """It names the oldest instruction, also where that changed in the very last cycle."""
    bench = await Bench.new(dut)
    rng = random.Random(5)
    for limit in (1, 2, 12):
        for done in (None, 1, 9, limit):
            await bench.write("WATCHDOG", limit)
            await bench.start()
            expected = limit + 1 if done is None or done > limit else done + limit + 1
            pcs = [rng.randrange(1, 50) for _ in Unit]
            for cycle in range(expected + 1):
                pcs = [pc + rng.randrange(3) for pc in pcs]
                pcs[Unit.WEIGHT] = max(pcs[Unit.WEIGHT], pcs[Unit.MATMUL])
                for unit in Unit:
                    getattr(dut, f"pcs__{unit}").value = pcs[unit] if cycle else 0
                dut.done.value = 0b01000 if cycle == done else 0
                run, kill = await bench.sample("run", "kill")
                assert (run, kill) == (cycle >= 1, 0), cycle
                await bench.cycles.edge()
            for unit in Unit:
                getattr(dut, f"pcs__{unit}").value = 0
            assert await bench.sample("run", "kill") == [0, 1]
            await bench.cycles.edge(SETTLE + 2)
            assert await bench.read("ERROR") == Error.WATCHDOG
            assert await bench.read("ERROR_PC") == min(pcs) * 32
            for unit in Unit:
                assert await bench.read(f"{unit.name}_PC") == pcs[unit] * 32
            assert await bench.read("CYCLES") == expected
            await bench.write("CONTROL", SOFT_RESET)
            await bench.cycles.edge(SETTLE + 4)
    await bench.write("WATCHDOG", 0)
    await bench.start()
    await bench.until(200)
    assert await bench.read("STATUS") == BUSY


@cocotb.test()
async def oldest(dut):
    """The least program counter, three cycles later."""
    bench = await Bench.new(dut)
    rng = random.Random(6)
    await bench.start()
    await bench.until(1)
    history = []
    for _ in range(60):
        pcs = [rng.getrandbits(24) for _ in Unit]
        pcs[Unit.WEIGHT] = max(pcs[Unit.WEIGHT], pcs[Unit.MATMUL])
        history.append(min(pcs))
        for unit in Unit:
            getattr(dut, f"pcs__{unit}").value = pcs[unit]
        (got,) = await bench.sample("oldest")
        if len(history) > 3:
            assert got == history[-4]
        await bench.cycles.edge()


@cocotb.test()
async def bus_that_does_not_answer(dut):
    """WATCHDOG bounds the wait for the engines, after a fault and after SOFT_RESET."""
    bench = await Bench.new(dut)
    await bench.write("IRQ_ENABLE", IRQ_ERROR)
    for limit in (1, 40):
        await bench.write("WATCHDOG", limit + 1000)
        await bench.start()
        await bench.until(3)
        dut.idle.value = 0
        await bench.fault(2, code=Error.OPCODE, pc=9)
        await bench.write("WATCHDOG", limit)
        bench.cycles.restart()
        while not (await bench.sample("irq"))[0]:
            assert bench.cycles.now < SETTLE + limit + 2
            await bench.cycles.edge()
        await bench.cycles.edge()
        assert await bench.read("STATUS") == ERROR | OPEN
        assert await bench.read("ERROR") == Error.OPCODE
        assert await bench.read("ERROR_PC") == 9 * 32
        for answered in (False, False, True):
            await bench.write("IRQ_STATUS", 3)
            await bench.write("CONTROL", SOFT_RESET)
            dut.idle.value = int(answered)
            await bench.cycles.edge(SETTLE)
            assert (await bench.sample("reset", "irq", "kill"))[1:] == [0, 1]
            await bench.cycles.edge(limit + 2)
            if not answered:
                assert await bench.read("STATUS") == ERROR | OPEN
                assert await bench.read("ERROR") == Error.BUS_STUCK
                assert await bench.read("ERROR_PC") == 0
                assert await bench.sample("irq", "kill", "reset") == [1, 1, 0]
                await bench.cycles.edge()
                await bench.write("CONTROL", START)
                await bench.cycles.edge(3)
                assert (await bench.sample("run"))[0] == 0
                await bench.cycles.edge()
        assert await bench.read("STATUS") == 0
        assert await bench.sample("irq", "kill") == [0, 0]
        await bench.cycles.edge()


@cocotb.test()
async def patience_without_watchdog(dut):
    """WATCHDOG 0 waits for ever, and a WATCHDOG written meanwhile ends it."""
    bench = await Bench.new(dut)
    await bench.write("WATCHDOG", 0)
    await bench.start()
    await bench.until(3)
    dut.idle.value = 0
    await bench.fault(2, code=Error.OPCODE, pc=9)
    await bench.cycles.edge(300)
    assert await bench.read("STATUS") == BUSY | OPEN
    await bench.write("WATCHDOG", 100)
    await bench.cycles.edge(2)
    assert await bench.read("STATUS") == ERROR | OPEN


@cocotb.test()
async def refused_burst(dut):
    """The engines stop in the very cycle; a reported fault has precedence."""
    bench = await Bench.new(dut)
    for faults, error, pc in (((), Error.CORRUPT, 20), ((1,), Error.WRITE_BUS, 7)):
        await bench.start()
        await bench.until(5)
        for unit in Unit:
            getattr(dut, f"pcs__{unit}").value = 20 + unit
        dut.refused.value = 1
        assert await bench.sample("run", "kill") == [1, 1]
        await bench.cycles.edge()
        dut.refused.value = 0
        await bench.write("CONTROL", SOFT_RESET)
        await bench.cycles.edge(SETTLE + 4)
        await bench.start()
        await bench.until(6)
        dut.refused.value = 1
        await bench.fault(*faults, code=Error.WRITE_BUS, pc=7)
        dut.refused.value = 0
        assert await bench.sample("run", "kill") == [0, 1]
        await bench.cycles.edge(SETTLE + 2)
        assert await bench.read("STATUS") == ERROR
        assert (await bench.read("ERROR"), await bench.read("ERROR_PC")) == (error, pc * 32)
        await bench.write("CONTROL", SOFT_RESET)
        await bench.cycles.edge(SETTLE + 4)


async def invert(signal: Any, bit: int) -> None:
    """Flip a bit of a register, right after an edge."""
    signal.value = int(signal.value) ^ 1 << bit


async def corrupted(bench: Bench) -> None:
    """The run stops with CORRUPT, and a soft reset recovers."""
    await bench.cycles.edge(SETTLE + 3)
    assert await bench.read("STATUS") == ERROR
    assert await bench.read("ERROR") == Error.CORRUPT


@cocotb.test()
async def flips_of_the_state(dut):
    """Any bit, while it runs and while it rests: ERROR, never a rest without a reason."""
    bench = await Bench.new(dut)
    for signal in (dut.state, dut.check, dut.run):
        for bit in range(len(signal)):
            for end in (False, True):
                await bench.write("IRQ_ENABLE", 3)
                await bench.start()
                await bench.until(5)
                if end:
                    await bench.pulse(finish=1)
                    await bench.write("IRQ_STATUS", 3)
                await invert(signal, bit)
                await bench.cycles.edge()
                assert await bench.sample("run", "kill") == [0, 1], (signal._name, bit)
                await corrupted(bench)
                assert await bench.sample("irq") == [1]
                await bench.cycles.edge()
                await bench.write("CONTROL", SOFT_RESET)
                await bench.cycles.edge(SETTLE + 4)
                assert await bench.read("STATUS") == 0


@cocotb.test()
async def flips_of_the_windows(dut):
    """`kill` is up from the next cycle on; writing the register again heals it."""
    bench = await Bench.new(dut)
    rng = random.Random(7)
    values = {name: rng.getrandbits(32) & writable(REGISTERS[name], CONFIG) for name in LOCKED}
    values["WATCHDOG"] |= 1 << 20
    for name, value in values.items():
        await bench.write(name, value)
    for name, value in values.items():
        signals = [(getattr(dut.registers, name.lower()), bit) for bit in range(32)]
        signals = [(s, bit) for s, bit in signals if writable(REGISTERS[name], CONFIG) >> bit & 1]
        used = {bit // 8 for _, bit in signals}
        signals = rng.sample(signals, min(6, len(signals)))
        signals += [(getattr(dut.registers, f"{name.lower()}_parity_{i}"), 0) for i in used]
        for signal, bit in signals:
            await bench.start()
            await bench.until(1)  # FETCH samples the program's window in cycle 1
            await invert(signal, bit)
            assert await bench.sample("kill") == [0]
            await bench.cycles.edge()
            assert await bench.sample("run", "kill") == [1, 1], (signal._name, bit)
            await bench.cycles.edge()
            assert await bench.sample("run", "kill") == [0, 1]
            await corrupted(bench)
            await bench.write("CONTROL", SOFT_RESET)
            await bench.cycles.edge(SETTLE + 4)
            assert await bench.sample("kill") == [1]
            await bench.cycles.edge()
            await bench.write(name, value, strobe=1 << bit // 8 if len(signal) > 1 else 15)
            await bench.cycles.edge(2)
            assert await bench.sample("kill") == [0]
            await bench.cycles.edge()
            await bench.start()
            await bench.until(4)
            await bench.pulse(finish=1)
            assert await bench.read("STATUS") == DONE
