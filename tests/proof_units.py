"""Proofs: units start only what they may, and complete only what they started."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Mux, Value
from amaranth.lib import data
from weft.hdl.accumulator import RMW_LATENCY
from weft.hdl.config import PRESETS, Config
from weft.hdl.load_unit import LOADS_IN_FLIGHT, LoadUnit
from weft.hdl.matmul_unit import MatmulUnit, instructions_in_flight
from weft.hdl.planner import TilePlan
from weft.hdl.store_unit import StoreUnit
from weft.hdl.weight_unit import OFFSET, WeightUnit

from . import proof_vector
from .formal import Bench, Damage, Opened, Proof, implies, stuck
from .proof_queues import rule

TINY, SMALL = PRESETS["tiny"], PRESETS["small"]


def load(b: Bench, damage: Damage = None) -> None:
    """LOAD, whatever beats come."""
    dut = b.add(LoadUnit(TINY), damage)
    count = rule(b, dut.unit, LOADS_IN_FLIGHT)
    behind, offered = dut["jobs.inner_level"], dut["jobs.r_rdy"]
    b.claim("counts", dut["in_flight"] == count)
    b.claim("fits", count <= LOADS_IN_FLIGHT)
    b.claim("busy_with_some", dut["busy"] == (count != 0))
    rows_left = dut["now"][-20:-8]  # below it `post`
    final = dut["row_end"] & (rows_left == 0)
    b.claim("ends", implies(dut["active"], dut["ends"] == final))
    b.claim("jobs", count == behind + offered + dut["active"])


def store(b: Bench, damage: Damage = None) -> None:
    """STORE; that it completes only what it started is part of `bus.store`."""
    dut = b.add(StoreUnit(TINY), damage)
    unit = dut.unit
    b.claim("starts_only_when_allowed", implies(unit.instr.ready, unit.instr.valid & unit.go))
    b.claim("one_at_a_time", implies(unit.instr.ready, ~unit.busy))
    b.claim("posts_only_when_done", implies(~unit.done, unit.post == 0))


def weight(b: Bench, config: Config, damage: Damage = None) -> None:
    """WEIGHT, whenever MATMUL launches tiles."""
    dut = b.add(WeightUnit(config), damage)
    b.assume(
        "a tile is launched only when it is loaded (units.matmul)", implies(dut.launch, dut.loaded)
    )
    count = rule(b, dut.unit, 2)
    waiting, reading, left = dut["waiting"], dut["reading"], dut["left"]
    free, loaded = dut["free"], dut["loaded"]
    launched = [dut[f"launch_{k}"] for k in range(1, OFFSET)]
    coming = reading & (left >= OFFSET + 1) & ~loaded & ~free
    coming = coming & ~Cat(launched).any()
    b.claim("counts", count == waiting + (reading & dut["last_tile"]))
    b.claim("more_to_come", implies(reading & ~dut["last_tile"], waiting))
    # Launches are `rows` cycles apart.
    launches = [dut.launch]
    for k in range(1, config.rows):
        launches.append(b.past(launches[-1], f"launched_{k}"))
        b.claim(f"not_loaded_{k}", implies(launches[k], ~loaded))
        if k < OFFSET:
            b.claim(f"not_yet_free_{k}", implies(launches[k], launched[k - 1]))
        else:
            b.claim(f"on_its_way_{k}", implies(
                launches[k], free | (coming & (left >= config.rows + OFFSET - k))))  # fmt: skip
    # The shadow weights are in one of these states, and the tile read by then.
    states = [free, loaded, *launched, coming]
    for k, state in enumerate(states):
        others = Cat(s for i, s in enumerate(states) if i != k)
        b.claim(f"one_state_{k}", implies(state, ~others.any()))
    b.claim("some_state", Cat(states).any())
    for k, state in enumerate([loaded, *launched, free]):
        b.claim(f"read_by_{k}", implies(state & reading, left <= OFFSET - k))


def matmul(b: Bench, damage: Damage = None) -> Opened:
    """MATMUL, with accumulators that retire what it tags as last."""
    config = TINY
    dut = b.add(MatmulUnit(config), damage)
    unit = dut.unit
    # What `Accumulator` makes of `control`, a delay line.
    ends = [dut.control.valid & dut.control.last]
    for k in range(config.cols + 2):
        ends.append(b.past(ends[-1], f"retire_{k}"))
    b.m.d.comb += dut.retired.eq(ends[-1])
    most = instructions_in_flight(config)
    count = rule(b, unit, most)
    waits = b.past(unit.instr.valid & ~unit.instr.ready, "waits")
    word = b.past(unit.instr.payload, "word")
    b.assume(
        "an instruction stays at the head of its queue until it starts (queues.instructions)",
        implies(waits, unit.instr.valid & (unit.instr.payload.as_value() == word)),
    )
    head = unit.instr.payload.word
    for name in ("oy", "ox", "kc", "kx", "ky", "blocks"):
        b.assume("fields are legal (decoder)", getattr(head, name) != 0)

    b.claim("launches_only_what_is_loaded", implies(dut.launch, dut.loaded))
    active, streaming, last_tile = dut["active"], dut["streaming"], dut["last_tile"]
    depth = 1 + 5 + config.rows
    stages = [Value.cast(dut[f"control_{k}"]) for k in range(1, depth + 1)]
    flying = sum(stage[0] & stage[1] for stage in stages) + sum(ends[1:])
    level = dut["posts.level"]
    b.claim("in_the_pipeline", level == flying)
    b.claim("posted", dut["posted"] == (level != 0))
    # All but the oldest have started since that launched its last vector, `rows` cycles apart.
    flags = [stage[0] & stage[1] for stage in stages] + ends[1:]
    starts = [unit.instr.ready]
    for k in range(len(flags)):
        starts.append(b.past(starts[-1], f"started_{k}"))
    for k in range(1, len(flags) + 1):
        younger = sum(flags[: k - 1]) + active
        b.claim(f"younger_{k}", implies(flags[k - 1], younger <= sum(starts[1 : k + 1])))
    for k in range(1, config.rows):
        making_next = ~dut["planner.~ready"] & (dut["planner.lane"] <= k)
        b.claim(f"planning_{k}", implies(starts[k], making_next))
    for k in range(1, len(starts) - config.rows + 2):
        b.claim(f"apart_{k}", sum(starts[k : k + config.rows]) <= 1)
    b.claim("fits", level <= most)
    b.claim("counts", count == level + active)
    b.claim("streams_what_is_active", implies(streaming, active))
    final = dut["x_last"] & dut["y_last"]
    b.claim("freeing", dut["freeing"] == (~streaming | (final & ~dut["first"])))
    b.claim("alone", dut["alone"] == (streaming & final & dut["first"]))
    b.claim("streams_its_last_tile", implies(active & last_tile, streaming))
    # The plan that is taken next is of the active instruction while that has tiles left.
    more = active & ~last_tile
    plan = data.View(TilePlan(config), dut["planner.plan"])
    ready, first, last = dut["planner.~ready"], plan.first, plan.last
    walking, lane, making_first = (dut[f"planner.{n}"] for n in ("walking", "lane", "first"))
    b.claim("goes", dut["planner.goes"] == (walking & ~ready))
    b.claim("waits", dut["planner.waits"] == (walking & ready))
    b.claim("plan_ready", implies(ready, first == ~more))
    making = Mux(lane == 0, making_first, first)
    b.claim("plan_made", implies(~ready & walking, making == ~more))
    b.claim("plan_to_come", implies(~ready & more, walking))
    b.claim("next_plan", implies(ready & walking, (lane == 0) & (making_first == last)))
    b.claim("rests_at_lane_0", implies(~walking, lane == 0))
    b.claim("plan_goes_on", implies(ready & ~last, walking))
    b.claim("lane_first", dut["planner.lane_first"] == (lane == 0))
    b.claim("lane_last", dut["planner.lane_last"] == (lane == config.rows - 1))
    return dut


def accumulates(b: Bench, damage: Damage = None) -> None:
    """MATMUL, and the entries that it reads."""
    dut = matmul(b, damage)
    plan = data.View(TilePlan(TINY), dut["planner.plan"])
    may = ~plan.first | (dut.unit.instr.valid & dut.unit.go)
    take = dut["planner.~ready"] & (~dut["streaming"] | dut["tile_end"]) & may
    launches, takes = [dut.launch], [take]
    for k in range(1, TINY.rows):
        launches.append(b.past(launches[-1], f"first_{k}"))
        takes.append(b.past(takes[-1], f"took_{k}"))
        b.assume("tiles are loaded `rows` cycles apart (units.weight)",
                 implies(launches[k], ~dut.loaded))  # fmt: skip
        planning = ~dut["planner.~ready"] & (dut["planner.lane"] <= k)
        b.claim(f"plans_take_{k}", implies(takes[k], planning))
    entry, reads = dut["entry"], dut["launching"] & dut["reads"]
    in_flight = [(dut[f"launched_{k}"], dut[f"entry_{k}"]) for k in range(1, RMW_LATENCY - 1)]
    for k, (_, at) in enumerate(in_flight, start=1):
        b.claim(f"under_{k}", dut[f"under_{k}"] == (at - 1)[: len(at)])
    in_flight.append(tuple(b.past(value, "last_one") for value in in_flight[-1]))
    same = [launched & (at == entry) for launched, at in in_flight]
    b.claim("held", dut["held"] == (dut["reads"] & Cat(same).any()))
    for k in range(1, RMW_LATENCY):
        b.claim(f"no_entry_in_flight_{k}", implies(reads, ~same[k - 1]))


PROOFS = (
    Proof(
        name="units.load",
        says="LOAD starts only instructions that may start, 8 at most; completes only what it "
        "started; posts only then; `busy` is up while it has any.",
        of="LoadUnit",
        sizes="tiny",
        bench=load,
        slow=True,
        breaks={"completes_only_what_started": stuck("active", 1)},
    ),
    Proof(
        name="units.store",
        says="STORE starts only an instruction that may start, one at a time, and posts only when "
        "it is done.",
        of="StoreUnit",
        sizes="tiny",
        bench=store,
        slow=True,
        breaks={"one_at_a_time": stuck("unit__instr__ready", 1)},
    ),
    *(
        Proof(
            name=f"units.weight_{config.rows}",
            says="WEIGHT starts only instructions that may start, 2 at most; completes only what "
            "it started; posts only then; `busy` is up while it has any.",
            of="WeightUnit",
            sizes=f"{config.rows} rows",
            bench=partial(weight, config=config),
            slow=config is not TINY,
            breaks={"starts_only_with_room": stuck("waiting", 0)} if config is TINY else {},
            breaks_depth=14,
        )
        for config in (TINY, SMALL)
    ),
    Proof(
        name="units.matmul",
        says="MATMUL starts only instructions that may start, no more than its gate and its posts "
        "have room for; completes only what it started; posts only then; `busy` is up while it has "
        "any; a tile is launched only when it is loaded.",
        of="MatmulUnit, Planner",
        sizes="tiny",
        bench=matmul,
        breaks={"busy": stuck("active", 1)},
    ),
    *proof_vector.PROOFS,
    Proof(
        name="units.accumulates",
        says="MATMUL launches no vector that is to be added to an accumulator entry while an "
        "earlier sum is on its way into this entry.",
        of="MatmulUnit, Planner",
        sizes="tiny",
        bench=accumulates,
        depth=7,
        slow=True,
        breaks={"no_entry_in_flight_1": stuck("held", 0)},
        breaks_depth=24,
    ),
)
