"""Proofs: VECTOR makes as many results as it has windows, and completes with the last of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data
from weft.hdl.config import PRESETS
from weft.hdl.isa import Opcode
from weft.hdl.ports import ACC_READ_LATENCY, ACT_READ_LATENCY, JUMP_LEAD, instruction_layout
from weft.hdl.vector_unit import VectorUnit

from .formal import Bench, Damage, Proof, implies, stuck
from .proof_queues import rule

TINY = PRESETS["tiny"]
LANES = TINY.vector_lanes
#: The loops over windows: channels, rows, columns; and their strides.
COUNTS = ("channels", "oy", "ox")
STRIDES = (LANES, 1, 1)


class Stage:
    """A place in the pipeline: whether a window's last element is there, and which window is next.

    Parameters
    ----------
    last
        A window's last element is in this stage.
    left
        What is left of each of COUNTS at the first window to come out of this stage or later.
    """

    def __init__(self, last: Any, left: list[Any]):
        self.last = last
        self.left = left
        self.final = last & ends(left)


def ends(left: list[Any]) -> Value:
    """Whether these counts are those of the last window."""
    return Cat(a <= stride for a, stride in zip(left, STRIDES, strict=True)).all()


def following(left: list[Any], counts: list[Any]) -> list[Any]:
    """What is left at the window after."""
    a, y, x = left
    row_ends, group_ends = x <= 1, (x <= 1) & (y <= 1)
    return [
        Mux(group_ends & (a > LANES), a - LANES, a),
        Mux(row_ends, Mux(y <= 1, Mux(a <= LANES, y, counts[1]), y - 1), y),
        Mux(row_ends, Mux(ends(left), x, counts[2]), x - 1),
    ]


def vector(b: Bench, damage: Damage = None) -> None:
    """VECTOR, on any instructions."""
    dut = b.add(VectorUnit(TINY), damage)
    unit = dut.unit
    b.claim("one_at_a_time", rule(b, unit, 1) <= 1)
    head = unit.instr.payload.word
    is_pool = head.pool.opcode == Opcode.POOL
    for kind, of_kind in ((head.pool, is_pool), (head.drain, ~is_pool)):
        legal = Cat(getattr(kind, name) != 0 for name in COUNTS).all()
        b.assume("fields are legal (decoder)", implies(of_kind, legal))

    pool, setup, busy = dut["~pool"], dut["~setup"], unit.busy
    word = data.View(instruction_layout(Opcode.DRAIN, Opcode.POOL), dut["~word"])
    counts = [Mux(pool, word.pool[name], word.drain[name]) for name in COUNTS]
    begun = busy & ~setup
    b.claim("setup", implies(setup, busy))
    b.claim("idle", dut["idle"] == ~busy)
    b.claim("counts", implies(busy, Cat(c != 0 for c in counts).all()))
    single = Cat(c <= stride for c, stride in zip(counts, STRIDES, strict=True))
    b.claim("once", implies(busy, dut["~once"][:3] == single))

    # Every stage's windows, from the loops over elements to those over results.
    issued, arrived = dut["issued"], dut["~arrived"]
    stages = [Stage(issued[2], [dut[f"loops.left_{k}"] for k in range(3)])]

    def behind(before: list[Any], name: str) -> list[Any]:
        registers = [Signal(12, name=f"{name}_{count}") for count in COUNTS]
        for register, value, count in zip(registers, before, counts, strict=True):
            b.m.d.sync += register.eq(Mux(setup, count, value))
        return registers

    for k in range(1, ACT_READ_LATENCY):
        left = behind(stages[-1].left, f"token_{k}")
        stages.append(Stage(dut[f"token_{k}"][2], left))
    short = stages[ACC_READ_LATENCY - 1]
    left = [Mux(pool, a, d) for a, d in zip(stages[-1].left, short.left, strict=True)]
    tokens = stages
    results = [Stage(arrived[2], behind(left, "arrived"))]
    address = len(dut["results"]) - 1 - JUMP_LEAD
    for k in range(address + 1):
        results.append(Stage(dut["results"][k], behind(results[-1].left, f"result_{k}")))
    # Only the stages on this instruction's way.
    used = [(stage, pool | (k < ACC_READ_LATENCY)) for k, stage in enumerate(tokens)]
    used += [(stage, 1) for stage in results]
    for label, group in (("token", tokens), ("result", results)):
        for k, (stage, older) in enumerate(pairwise(group)):
            after = following(older.left, counts)
            same = Cat(
                s == Mux(older.last, f, o)
                for s, f, o in zip(stage.left, after, older.left, strict=True)
            ).all()
            b.claim(f"{label}_{k}_is_next", implies(begun, same))
    after = following(results[0].left, counts)
    same = Cat(
        s == Mux(results[0].last, f, o)
        for s, f, o in zip(left, after, results[0].left, strict=True)
    ).all()
    b.claim("arrived_is_next", implies(begun, same))
    outputs = [dut[f"outputs.left_{k}"] for k in range(3)]
    same = Cat(o == r for o, r in zip(outputs, results[-1].left, strict=True)).all()
    b.claim("results_are_the_windows", implies(begun, same))
    for name, digits in (("loops", stages[0].left), ("outputs", outputs)):
        for k, stride in enumerate(STRIDES):
            last = dut[f"{name}.last"][k] == (digits[k] <= stride)
            b.claim(f"{name}_{k}", implies(begun, last & (digits[k] != 0)))
            near = dut[f"{name}.near_{k}"] == (digits[k] <= 2 * stride)
            b.claim(f"{name}_near_{k}", implies(begun, near))
        last = dut[f"{name}.last"]
        for k in range(len(last)):
            advances = ~last[k] & last[k + 1 :].all()
            b.claim(f"{name}_advance_{k}", dut[f"{name}.advance"][k] == advances)

    # A DRAIN's go on through the stages that only POOL uses.
    spare = tokens[ACC_READ_LATENCY:]
    for k, (stage, twin) in enumerate(zip(spare, results, strict=False)):
        b.claim(f"spare_{k}", implies(~pool, stage.last == twin.last))
    b.claim("empty_when_idle", busy | ~Cat(stage.last for stage in tokens[1:] + results).any())
    b.claim("empty_at_setup", ~setup | ~Cat(stage.last for stage in tokens[1:] + results).any())

    # One final window, and nothing after it.
    over = Signal(init=1)  # it was issued
    with b.m.If(unit.instr.ready):
        b.m.d.sync += over.eq(0)
    with b.m.Elif(stages[0].final):
        b.m.d.sync += over.eq(1)
    ending = dut["ending"]
    # The final one in each stage but the first, which holds it for no cycle.
    finals = [stage.final & there for stage, there in used[1:]]
    b.claim("one_final", sum(finals) + sum(ending) == (busy & over))
    b.claim("over_when_idle", busy | over)
    for k, (stage, there) in enumerate(used[1:]):
        b.claim(f"nothing_after_it_{k}", implies(
            over & stage.last & there, Cat(finals[: k + 1]).any()))  # fmt: skip
    b.claim("issues_nothing_more", implies(over, ~issued[0]))
    b.claim("loops_over", implies(over | setup, dut["loops.last"].all()))
    b.claim("outputs_over", implies(~busy | setup | ending.any(), dut["outputs.last"].all()))

    # Why: as many groups of parameters are granted as there are groups of channels.
    reading, unread, lane = dut["fetch.reading"], dut["fetch.~left"], dut["fetch.lane"]
    credits = dut["credits"]
    rest = Mux(over, 0, Mux(setup, counts[0], stages[0].left[0]))
    place = sum(Mux(lane[k], k, 0) for k in range(LANES))
    groups = (rest + (LANES - 1)) // LANES
    granted = credits + (unread + (LANES - 1)) // LANES
    exact = rest == unread + place + credits * LANES
    one_lane = (lane & (lane - 1)) == 0
    b.claim("parameters", Mux(reading, exact & (unread != 0) & lane.any() & one_lane, 1))
    b.claim("groups", reading | (groups == granted))
    b.claim("whole_groups", reading | (unread == 0) | (rest == unread + credits * LANES))
    last_entry = reading & (lane[-1] | dut["fetch.single"])
    b.claim("granted_with_the_last_entry", dut["fetch.granted"] == last_entry)
    b.claim("single", implies(busy, dut["fetch.single"] == (unread == 1)))
    fresh, release = dut["fresh"], dut["~release"]
    every = [dut[f"token_{k}"][3] for k in range(1, ACT_READ_LATENCY)]
    every += [arrived[3], *release]
    for k, (load, (stage, _)) in enumerate(zip(every, used[1:], strict=False)):
        b.claim(f"loads_{k}", implies(load, stage.last))
    loads = [load & there for load, (_, there) in zip(every, used[1:], strict=False)]
    turns = reading + sum(loads) + (credits == 2) + ((credits == 1) & fresh)
    b.claim("one_group_ahead", setup | (turns == 1) | ((turns == 0) & (unread == 0)))
    b.claim("at_most_two", (credits < 2) | ((credits == 2) & ~fresh))
    b.claim("fresh", setup | (credits != 0) | fresh | ~busy)
    b.claim("setup_reads", implies(setup, reading & (credits == 0) & (sum(loads) == 0)))


PROOFS = (
    Proof(
        name="units.vector",
        says="VECTOR starts only an instruction that may start, one at a time; it addresses one "
        "result for each window, in the order of the windows; it completes with the last one, "
        "once, and posts only then; it is busy until then.",
        of="VectorUnit, Loops, ParameterFetch",
        sizes="tiny",
        bench=vector,
        slow=True,
        breaks={"results_are_the_windows": stuck("outputs.left_0", 1)},
    ),
)
