"""Proofs: the machine always ends, a reset always reaches idle, LOCK holds, no semaphore slips."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from amaranth.hdl import Cat, Mux, Signal, Value
from weft.hdl.burst import PAGE_BYTES
from weft.hdl.config import PRESETS, Config
from weft.hdl.control import SETTLE, Control, State
from weft.hdl.core import CORE_FAULTS
from weft.hdl.gate import Gate
from weft.hdl.isa import INSTRUCTION_BYTES, SEMAPHORE_MAX, SEMAPHORES, Unit, post_bit, wait_bit
from weft.hdl.register_file import LOCKED, WORD_BITS, RegisterFile, writable
from weft.hdl.registers import REGISTERS, Error
from weft.hdl.semaphores import Semaphores

from .formal import Bench, Damage, Proof, implies, stuck
from .proof_queues import UNIT

TINY = PRESETS["tiny"]
#: With upper words of addresses.
FAR = replace(TINY, name="tiny with 64-bit addresses", addr_bits=64)


def bit(mask: int) -> int:
    """The index of a mask's only bit."""
    return mask.bit_length() - 1


def semaphores(b: Bench, damage: Damage = None) -> None:
    """All semaphores and the gates before them; units start and complete as they like."""
    dut = b.add(Semaphores(), damage)
    posts, takes = {}, {}
    for unit in Unit:
        gate = b.add(Gate(overlap=1), name=f"gate_{unit.name.lower()}")
        b.assume(UNIT, implies(gate.ready, gate.valid & gate.go))
        b.m.d.comb += [gate.available.eq(dut.available[unit]), dut.take[unit].eq(gate.take)]
        posts[unit], takes[unit] = dut.post[unit], gate.take
    lost = Signal()  # an overflow was reported
    now = Cat(dut.overflow[unit] for unit in Unit).any()
    b.m.d.sync += lost.eq(lost | now)
    told: dict[Unit, list[Value]] = {unit: [] for unit in Unit}
    sums, ups, least, exact = [], [], [], []
    for producer, consumer, k in SEMAPHORES:
        name = f"{producer.name}_{consumer.name}_{k}".lower()
        post = posts[producer][bit(post_bit(producer, consumer, k))]
        take = takes[consumer][bit(wait_bit(consumer, producer, k))]
        given = Signal(8, name=f"{name}_sum")  # posts minus takes, as an integer
        b.m.d.sync += given.eq(given + post - take)
        told[producer].append((given == SEMAPHORE_MAX) & post & ~take)
        least.append(implies(take, given != 0))
        some = dut[f"{name}_some"] == (given != 0)
        exact.append((dut[name] == given) & some & (given <= SEMAPHORE_MAX))
        sums.append(given)
        ups.append(post)
    b.claim("never_below_zero", lost | Cat(least).all())
    b.claim("counts", lost | Cat(exact).all())
    for unit, terms in told.items():
        b.claim(f"{unit.name.lower()}_overflows", lost | (dut.overflow[unit] == Cat(terms).any()))
    none = ~Cat(sums).any()
    taken, posted = b.past(Cat(takes.values()).any()), b.past(Cat(ups).any())
    b.claim("zero", lost | taken | (dut.zero == none))
    b.claim("zero_is_true", lost | ~dut.zero | none)
    b.claim("zero_before", lost | (dut["none"] == b.past(none, init=1)))
    b.claim("posted_before", dut["posted"] == posted)


def registers(b: Bench, damage: Damage = None, config: Config = TINY) -> None:
    """The AXI-Lite slave, whatever its master does."""
    dut = b.add(RegisterFile(config), damage)
    bus = dut.bus
    b.claim("write_response_holds", b.held(bus.bvalid, bus.bready, bus.bresp))
    b.claim("read_response_holds", b.held(bus.rvalid, bus.rready, Cat(bus.rdata, bus.rresp)))
    # Addresses, data and reads that were taken and not yet answered.
    answered, read = bus.bvalid & bus.bready, bus.rvalid & bus.rready
    addresses = b.count((bus.awvalid & bus.awready) - answered, "addresses", 3)
    words = b.count((bus.wvalid & bus.wready) - answered, "words", 3)
    reads = b.count((bus.arvalid & bus.arready) - read, "reads", 3)
    b.claim("answers_each_write", addresses == dut["has_address"] + bus.bvalid)
    b.claim("answers_only_writes", words == dut["has_data"] + bus.bvalid)
    b.claim("answers_each_read", (reads == dut["pending"] + bus.rvalid) & (reads <= 1))

    # Registers that LOCK protects, and what they can be at all.
    b.claim("locked_ones_stay", implies(
        b.past(dut.locked), Cat(getattr(dut, n.lower()) == b.past(
            getattr(dut, n.lower()), init=REGISTERS[n].init) for n in LOCKED).all()))  # fmt: skip
    low = [getattr(dut, n.lower()) for n in LOCKED if n.endswith("_LO")]
    b.claim("whole_pages", Cat(value % PAGE_BYTES == 0 for value in low).all())
    b.claim("whole_instructions", dut.program_size % INSTRUCTION_BYTES == 0)
    for name in LOCKED:
        none = ((1 << WORD_BITS) - 1) ^ writable(REGISTERS[name], config)
        b.claim(f"{name}_has_no_other_bits", (getattr(dut, name.lower()) & none) == 0)
    # Their parity is right as long as no bit flips.
    strobes = [dut["mask"][8 * i : 8 * i + 8] for i in range(WORD_BITS // 8)]
    b.claim("strobes_are_bytes", Cat(byte.all() == byte.any() for byte in strobes).all())
    for name in LOCKED:
        value, register = getattr(dut, name.lower()), REGISTERS[name]
        for i in range(register.bits // 8):
            try:
                parity = dut[f"{name.lower()}_parity_{i}"]
            except LookupError:  # a byte of which no bit can be written
                b.claim(f"{name}_{i}_is_zero", value[8 * i : 8 * i + 8] == 0)
                continue
            b.claim(f"{name}_{i}_parity", parity == value[8 * i : 8 * i + 8].xor())
    b.claim("never_corrupt", ~dut.corrupt)


def control(b: Bench, damage: Damage = None, config: Config = TINY) -> None:
    """The control block; core, engines, bus and host do what they like."""
    dut = b.add(Control(config, sources=CORE_FAULTS + 2), damage)
    for fault in dut.faults:
        b.assume("a fault has a code (decoder.dispatch)", implies(fault.valid, fault.code))
    state, killing, settle = dut["state"], dut["killing"], dut["settle"]
    watched, expired = dut["watched"], dut["expired"]
    error, code = dut["~error"], dut["~error_code"]
    limit = dut["registers.watchdog"]
    start_bit = dut["registers.control"][0]
    reset_bit, lock_bit = (dut["registers.control"][k] for k in (1, 2))
    corrupt, locked = dut["registers.corrupt"], dut["~locked"]
    alarm = corrupt | dut.refused | dut.wrong
    idle, running, halting, failed, clearing, resetting = (
        state == s for s in (State.IDLE, State.RUN, State.HALT, State.FAILED, State.CLEAR,
                             State.RESET)
    )  # fmt: skip
    before = b.past(state, "before")
    was = {s: before == s.value for s in State}
    asked = b.past(reset_bit, "asked")  # for a reset, in the cycle before
    begun = Signal()  # not the first cycle
    b.m.d.sync += begun.eq(1)

    # Nothing but a flipped bit tears the state.
    b.claim("known_state", state <= State.RESET.value)
    b.claim("whole", ~dut["torn"])
    b.claim("runs_in_run", dut.run == running)
    b.claim("kills_until_reset", killing == (halting | failed | clearing | resetting))
    b.claim("kill_with_an_alarm", dut.kill == (killing | alarm))
    b.claim("one_start", dut.start == (running & begun & was[State.IDLE]))

    # What may follow what.
    steps = {
        "leaves_idle": (idle, (before == state) | was[State.RESET] | was[State.RUN]),
        "starts_from_idle": (running, was[State.RUN] | (was[State.IDLE] & b.past(start_bit))),
        "halts_a_run": (halting, was[State.HALT] | was[State.RUN]),
        "fails_after_waiting": (failed, was[State.FAILED] | was[State.HALT] | was[State.CLEAR]),
        "clears_when_asked": (clearing, was[State.CLEAR] | asked),
        "resets_after_clearing": (resetting, was[State.CLEAR]),
    }
    for label, (now, follows) in steps.items():
        b.claim(label, implies(begun & now, follows))
    trouble = Cat(fault.valid for fault in dut.faults).any() | alarm | expired
    ends = b.past(dut.finish, "finish")
    troubled = b.past(trouble, "trouble")
    b.claim("ends_for_a_reason", implies(
        begun & was[State.RUN] & ~running,
        Mux(asked, clearing, Mux(troubled, halting, idle & ends & dut["~done"]))))  # fmt: skip
    b.claim("trouble_ends_a_run", implies(was[State.RUN] & (troubled | ends | asked), ~running))
    b.claim("halts_with_a_code", implies(halting | (failed & ~error), code != Error.NONE))
    b.claim("fails_with_a_code", implies(failed, error & (code != Error.NONE)))
    b.claim("no_error_else", implies(error, failed))
    shown = Value.cast(dut["=status"])
    b.claim("shows", (shown[0] == ~(idle | failed)) & (shown[2] == error)
            & (shown[4] == ~dut.idle))  # fmt: skip

    # A run: no longer than `limit` cycles without a completion.
    since = Signal(WORD_BITS)  # cycles of the run since the last one that completed an instruction
    with b.m.If(running & ~dut.done.any()):
        b.m.d.sync += since.eq(since + 1)
    with b.m.Else():
        b.m.d.sync += since.eq(0)
    b.claim("watches", implies(running, watched == since))
    late = b.past((limit != 0) & (since >= limit), "late")
    b.claim("ends_without_completions", implies(was[State.RUN] & late, ~running))

    # A wait for the engines: no longer than SETTLE + `limit` cycles.
    waits = halting | clearing
    waited = Signal(WORD_BITS + 1)  # cycles of this wait
    same = Signal()  # WATCHDOG has not changed in it
    with b.m.If(waits & ~reset_bit):
        b.m.d.sync += waited.eq(waited + 1)
    with b.m.Else():
        b.m.d.sync += waited.eq(0)
    entered = waits & b.past(~waits | reset_bit, "entered", init=1)
    held = Signal(WORD_BITS)
    with b.m.If(entered):
        b.m.d.sync += held.eq(limit)
    b.m.d.comb += same.eq(entered | (limit == held))
    changed = Signal()
    with b.m.If(waits & ~reset_bit):
        b.m.d.sync += changed.eq(changed | ~same)
    with b.m.Else():
        b.m.d.sync += changed.eq(0)
    timed = waited == Mux(settle != 0, SETTLE - settle, SETTLE + watched)
    begins = entered & (settle == SETTLE) & (waited == 0)
    bound = waits & same & ~changed & (limit != 0)
    b.claim("times_waits", implies(bound, begins | (timed & ((settle == 0) | (watched == 0)))))
    b.claim("waits_end", implies(bound & ~entered, waited <= SETTLE + limit))
    ready = b.past(dut["settled"] & dut.idle, "ready")
    b.claim("ends_when_idle", implies(was[State.HALT] & ready & ~asked, failed))
    b.claim("reset_when_idle", implies(was[State.CLEAR] & ready & ~asked, resetting))

    # SOFT_RESET: from any state, torn ones too.
    clean = ~dut.run & dut.kill & ~error & ~dut["~done"] & (code == 0) & (dut["~error_pc"] == 0)
    b.claim("reset_is_heard", implies(asked, clearing & clean))
    b.claim("resets_the_engines", dut.reset == resetting)
    b.claim("reaches_idle", implies(was[State.RESET] & ~asked & begun, idle & ~killing & ~error))

    # LOCK.
    b.claim("stays_locked", implies(b.past(locked | lock_bit), locked))
    b.claim("locks_the_registers", dut["=locked"] == locked)

    # Where the program ends.
    space = 1 << config.addr_bits
    b.claim("program_ends_in_space", implies(
        dut.start & (dut["registers.program_lo"] % PAGE_BYTES == 0),
        dut.base + dut.count * INSTRUCTION_BYTES <= space))  # fmt: skip


PROOFS = (
    Proof(
        name="control.semaphores",
        says="Each of the 28 semaphores is the integer number of its posts less its takes: it is "
        "taken from only when it is not zero, and a post beyond the maximum is reported in its "
        "cycle, and only such a post; `zero` says that all are, in the cycle after a take perhaps "
        "late. After an overflow, which stops the machine, nothing is claimed.",
        of="Semaphores, Gate",
        bench=semaphores,
        breaks={
            "never_below_zero": stuck("load_weight_0_some", 1),
            "load_overflows": stuck("load_weight_0", SEMAPHORE_MAX),
        },
        breaks_depth=6,
    ),
    *(
        Proof(
            name=f"control.registers{suffix}",
            says="AXI-Lite: no write or read is forgotten or answered twice, and an answer that "
            "waits stays; registers under LOCK do not change; windows and programs begin at whole "
            "pages; without flipped bits CORRUPT is never reported.",
            of="RegisterFile",
            sizes=config.name,
            bench=partial(registers, config=config),
            slow=config is not TINY,
            breaks={"answers_only_writes": stuck("has_data", 1)} if config is TINY else {},
        )
        for suffix, config in (("", TINY), ("_64", FAR))
    ),
    *(
        Proof(
            name=f"control.ends{suffix}",
            says="A run ends at END, at a fault, when asked to, and whatever happens as soon as "
            "WATCHDOG ≠ 0 cycles passed without a completed instruction. Then, and after "
            f"SOFT_RESET, the wait for the engines ends as soon as they are idle, {SETTLE} cycles "
            f"on, and even if they never are after {SETTLE} + WATCHDOG cycles (unless it is "
            "written meanwhile). SOFT_RESET is heard in every state, pulses `reset` and reaches "
            "idle; from the end of a run by an error on `kill` is up until then. LOCK stays. "
            "`start` is up in a run's first cycle only. The program ends where the address space "
            "does.",
            of="Control",
            sizes=config.name,
            bench=partial(control, config=config),
            slow=config is not TINY,
            breaks={
                "ends_without_completions": stuck("expired", 0),
                "waits_end": stuck("settled", 0),
                "reaches_idle": stuck("killing", 1),
            }
            if config is TINY
            else {},
            breaks_depth=12,
        )
        for suffix, config in (("", TINY), ("_64", FAR))
    ),
)
