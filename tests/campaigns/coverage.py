"""Coverage: lines and port toggles of the Verilog, and the plan of what must happen on it.

Random programs, broken programs, errors at every opcode, all registers, programs at the ends of
what fields can hold (``tests/reach.py``), the ends of long ones (``tests/late.py``) and flipped
bits run on a Verilator build that counts (``tests/verilog_coverage.py``). Errors and random
programs run under every condition of the bus of ``tests/functional.py``, whose plan must be reached
completely.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

from rich.progress import track
from weft.hdl.config import Config, load
from weft.hdl.registers import REGISTER_ADDR_BITS, REGISTERS
from weft.host.device import DeviceError
from weft.tb import fast
from weft.tb.session import DONE

from .. import functional, late, measures, reach, test_faults
from ..faults import Bench
from ..flips import check_address_registers, check_control, check_guard
from ..programs import Generator
from ..verilog_coverage import Point, by_module, counts, library, port_bit, ranges
from . import broken

#: Bit of CONTROL.
LOCK = 4
#: Share of the lines that must be reached.
WANTED = 0.95
#: Instructions of the longest program.
LONG = 1 << 18


def exercise(bench: Bench, programs: int) -> functional.Seen:
    """Run everything that counts."""
    seen = functional.Seen()
    registers(bench)
    todo = [(s, stalls) for stalls in functional.STALLS for s in functional.stimuli(bench)]
    for stimulus, stalls in track(todo, "Errors at every opcode"):
        functional.run(bench, stimulus, seen, stalls)
    generator = Generator(bench.config)
    for seed in track(range(programs), "Random programs"):
        stalls = list(functional.STALLS)[seed % len(functional.STALLS)]
        program = generator.program(seed)
        stimulus = functional.Stimulus(program.job)
        functional.run(bench, stimulus, seen, stalls, seed + 1, place=seed + 1)
    test_faults.test_semaphores_left_and_overflowing(bench)
    test_faults.test_program_at_the_top_of_the_address_space(bench)
    jobs = [
        program.job for program in (*reach.programs(bench.config), *reach.pitches(bench.config))
    ]
    for job in track([*jobs, reach.long(bench.config, LONG)], "Long programs"):
        bench.prepare(job)
        bench.go()
        assert bench.finish(1 << 30).status == DONE
        bench.reset(hard=True)
    check_guard(bench)
    check_address_registers(bench)
    check_control(bench)
    late.check(bench)
    bench.reset(hard=True)
    if bench.config.name == "tiny":
        for seed in track(range(programs // 2), "Broken programs"):
            if broken.CONFIGS[seed // broken.BATCH % len(broken.CONFIGS)] == "tiny":
                broken.run(seed, bench)
    return seen


def registers(bench: Bench) -> None:
    """Every address read, and every register written, byte by byte, that starts nothing."""
    machine = bench.machine
    known = {register.address for register in REGISTERS.values()}
    for address in range(0, 1 << REGISTER_ADDR_BITS, 4):
        if address in known:
            # The lowest two bits of an address do not count.
            assert machine.read(address) == machine.read(address | 3)
            continue
        for access in (machine.read, partial(machine.write, value=0)):
            with contextlib.suppress(DeviceError):
                access(address | 3)
                raise AssertionError(f"there is no register at 0x{address:x}")
    for name, register in REGISTERS.items():
        if name in ("CONTROL", "LOCK"):
            continue
        with contextlib.suppress(DeviceError):  # those that are only read
            for value in (0xFFFF_FFFF, 0, 0x5555_5555, 0xAAAA_AAAA):
                for strobes in (0b1111, 0b0001, 0b0010, 0b0100, 0b1000):
                    machine.write(register.address, value, strobes=strobes)
                machine.read(register.address)
    bench.write("CONTROL", LOCK)
    before = bench.read("CONST_LO")
    with contextlib.suppress(DeviceError):
        bench.write("CONST_LO", before ^ 0xFFFF_F000)
    assert bench.read("CONST_LO") == before, "a window that is locked was written"
    bench.reset(hard=True)


def summary(config: Config, points: Counter[Point], seen: functional.Seen) -> dict:
    """What is recorded."""
    plan = functional.plan()
    still: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for point, count in points.items():
        if point.kind == "toggle" and not count:
            port, bit = port_bit(point.what)
            still[point.module][port].append(bit)
    return {
        "config": config.name,
        "modules": {
            module: {kind: list(pair) for kind, pair in sorted(kinds.items())}
            for module, kinds in sorted(by_module(points).items())
        },
        "lines not reached": sorted(
            f"{point.module} {point.what}"
            for point, count in points.items()
            if point.kind != "toggle" and not count
        ),
        "ports not toggled": {
            module: {port: [len(bits), ranges(bits)] for port, bits in sorted(ports.items())}
            for module, ports in sorted(still.items())
        },
        "plan": len(plan),
        "reached": len(plan) - len(seen.missing()),
        "errors": {
            error.name: {
                (name or "none"): sum(
                    seen.points["error", error.name, name, stalls] for stalls in functional.STALLS
                )
                for name in ([o.name for o in functional.ERRORS.get(error, ())] or [""])
            }
            for error in (*functional.ERRORS, *functional.ALONE)
        },
        "pairs": {
            a.name: {
                b.name: sum(
                    seen.points["pair", a.name, b.name, stalls] for stalls in functional.STALLS
                )
                for b in functional.Opcode
            }
            for a in functional.UNITS
        },
    }


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many points of the plan were missed, or whether lines were."""
    parser = argparse.ArgumentParser(prog="coverage", description=__doc__)
    parser.add_argument("--config", default="tiny", help="preset or TOML file (%(default)s)")
    parser.add_argument("--programs", type=int, default=120, help="random programs (%(default)s)")
    parser.add_argument("--write", action="store_true", help=measures.HELP)
    options = parser.parse_args(args)
    config = load(options.config)
    machine = fast.FastMachine(library(config))
    seen = exercise(Bench(config, machine=machine), options.programs)
    found = summary(config, counts(machine), seen)
    for kind in ("line", "branch", "toggle"):
        pairs = [kinds[kind] for kinds in found["modules"].values() if kind in kinds]
        covered, total = (sum(pair[k] for pair in pairs) for k in (0, 1))
        print(f"{kind}: {covered} of {total}, {100 * covered / max(1, total):.2f} %")
    for point in seen.missing():
        print(f"not reached: {' '.join(point)}")
    if options.write:
        measures.write(f"coverage of {config.name}", found)
    machine.close()
    pairs = [kinds["line"] for kinds in found["modules"].values() if "line" in kinds]
    few = sum(covered for covered, _ in pairs) < WANTED * sum(lines for _, lines in pairs)
    return len(seen.missing()) + few
