"""Broken programs: random programs with up to three faults end alike on golden machine and RTL.

A fault is an illegal word, a transfer that leaves its segment, a segment that is too short,
semaphores that are not posted any more, or the lack of an END. Both must report the same error and
program counter: of the first instruction in program order that is at fault, whichever unit notices
first. Everything before it has completed. The memory must be the golden machine's as well, unless
younger instructions may have run (docs/architecture.md). After a reset a known program is exact.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from rich.progress import track
from weft.hdl.isa import (
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    Instruction,
    Opcode,
)
from weft.hdl.registers import Error
from weft.host.golden import classify

from .. import results
from ..faults import LIMIT, Bench, Hang, check_same
from ..gemm import encode
from .withheld import BATCH, CONFIGS, bench, generator

#: More than any instruction of these programs takes.
WATCHDOG = 30_000

#: Errors before which younger instructions may have run.
RUN_AHEAD = (Error.WINDOW, Error.WATCHDOG)

#: A program while it is broken: instructions, or words that are none.
Words = list[Instruction | bytes]


def illegal_word(rng: random.Random, words: Words, machine: Bench) -> None:
    """A few flipped bits that the decoder does not like."""
    place = rng.randrange(len(words))
    word = words[place] if isinstance(words[place], bytes) else words[place].encode()
    bits = int.from_bytes(word, "little")
    while classify(word, machine.config) == Error.NONE:
        bits ^= 1 << rng.choice(
            (rng.randrange(4), rng.randrange(20), rng.randrange(INSTRUCTION_BITS))
        )
        word = bits.to_bytes(INSTRUCTION_BYTES, "little")
    words[place] = word


def transfers(words: Words) -> list[int]:
    """Places of LOADs and STOREs."""
    kinds = (Opcode.LOAD, Opcode.STORE)
    return [k for k, w in enumerate(words) if isinstance(w, Instruction) and w.opcode in kinds]


def outside(rng: random.Random, words: Words, machine: Bench) -> None:
    """A LOAD or STORE that leaves its segment, somewhere; after a few rows, within WATCHDOG."""
    place = rng.choice(transfers(words))
    bus = machine.config.bus_bytes
    fields = rng.choice(
        (
            {"offset": rng.randrange(8192, 1 << 32) // bus * bus},
            {"rows": rng.randrange(100, 4096), "dram_pitch": bus * rng.randrange(200, 2000)},
            {"length": rng.randrange(8193, 1 << 20) // bus * bus, "rows": 1},
        )
    )
    old = words[place]
    assert isinstance(old, Instruction)
    words[place] = replace(old, fields={**old.fields, **fields})


def unposted(rng: random.Random, words: Words, machine: Bench) -> None:
    """From some instruction on, none posts a semaphore that it posts."""
    del machine
    posts = [
        (place, name, 1 << bit)
        for place, word in enumerate(words)
        if isinstance(word, Instruction)
        for name in ("post", "weight_post")
        for bit in range(8)
        if word.fields.get(name, 0) >> bit & 1
    ]
    if not posts:
        return
    first, name, bit = rng.choice(posts)
    unit = words[first].unit
    for place, word in enumerate(words):
        if place >= first and isinstance(word, Instruction) and word.unit == unit:
            words[place] = replace(word, fields={**word.fields, name: word.fields[name] & ~bit})


def endless(rng: random.Random, words: Words, machine: Bench) -> None:
    """The program is cut off."""
    del machine
    del words[rng.randrange(len(words)) :]


FAULTS: tuple[Callable[[random.Random, Words, Bench], None], ...] = (
    illegal_word,
    outside,
    unposted,
    endless,
)


def run(seed: int, machine: Bench | None = None) -> str:
    """Break a program and run it; returns the error. AssertionError where it is wrong.

    Without `machine` on a new one, as the golden machine is; the memories of another hold what
    programs before left there, so that what this one writes is not compared.
    """
    rng = random.Random(f"broken {seed}")
    config = CONFIGS[seed // BATCH % len(CONFIGS)]
    new = machine is None
    if machine is None:
        machine = bench(config)
        machine.renew()
    subject = generator(config).program(seed, most=12)
    words: Words = list(subject.instructions)
    for _ in range(rng.randint(1, 3)):
        if transfers(words):
            rng.choice(FAULTS)(rng, words, machine)
    code = b"".join(w if isinstance(w, bytes) else encode(w) for w in words)
    segments = list(subject.job.segments)
    if rng.random() < 0.3:
        at = rng.randrange(4)
        segments[at] = segments[at][: rng.randrange(0, len(segments[at]), 8)]
    job = replace(subject.job, code=code, segments=tuple(segments))
    memory = {"latency": rng.choice((1, 20)), "stall_seed": rng.choice((0, 0, seed + 1))}
    machine.prepare(job, watchdog=WATCHDOG, **memory)
    machine.go()
    outcome = machine.finish(LIMIT + 2 * WATCHDOG)
    compared = new and outcome.result.error not in RUN_AHEAD
    assert outcome.error == check_same(machine, job, outcome, memory=compared)
    if outcome.result.error == Error.NONE:
        machine.check_account(outcome)
    else:
        machine.check_stopped(outcome)
    assert machine.reset() == 0
    machine.check_known()
    return outcome.result.error.name


def check(seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """How often each error came, and (seed, text) of each run that went wrong."""
    errors: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        try:
            errors[run(seed)] += 1
        except Exception as error:
            errors["hang" if isinstance(error, Hang) else "failure"] += 1
            wrong.append((seed, traceback.format_exc(limit=-2)))
            bench(CONFIGS[seed // BATCH % len(CONFIGS)]).reset(hard=True)
    return errors, wrong


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many seeds failed."""
    parser = argparse.ArgumentParser(prog="broken", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=10_000, help="runs (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    for config in set(CONFIGS):
        bench(config).close()  # builds the simulators, one after the other
    bench.cache_clear()  # a machine has threads, which a forked process would wait for in vain
    begin = time.perf_counter()
    end = options.first + options.count
    todo = [range(at, min(at + BATCH, end)) for at in range(options.first, end, BATCH)]
    errors: Counter[str] = Counter()
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for seen, wrong in track(pool.map(check, todo), "Broken programs", total=len(todo)):
            errors += seen
            for seed, text in wrong:
                failed += 1
                print(f"seed {seed}: {text}", flush=True)
    seconds = time.perf_counter() - begin
    listed = ", ".join(f"{count} {error}" for error, count in errors.most_common())
    print(f"{options.count} broken programs, {failed} differences ({listed}), {seconds:.0f} s")
    if options.write:
        results.write_runs("broken", options.count, errors)
    return failed
