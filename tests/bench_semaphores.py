"""Bench of the semaphores: random posts and takes against counters in Python."""

import random

import cocotb
from weft.hdl.isa import PEERS, SEMAPHORE_MAX, SEMAPHORES, Unit, post_bit, wait_bit
from weft.tb.bench import Cycles

from .bench_common import restart


class Model:
    """The counters, as a table."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SEMAPHORES, 0)
        self.zero = True

    def available(self, unit: Unit) -> int:
        return sum(
            wait_bit(unit, producer, k)
            for producer, consumer, k in SEMAPHORES
            if consumer == unit and self.counts[producer, consumer, k]
        )

    def step(self, take: list[int], post: list[int]) -> list[int]:
        """Apply a cycle; returns for each unit whether it overflowed."""
        overflow = [0] * len(Unit)
        self.zero = not any(self.counts.values())
        for key in SEMAPHORES:
            producer, consumer, k = key
            up = bool(post[producer] & post_bit(producer, consumer, k))
            down = bool(take[consumer] & wait_bit(consumer, producer, k))
            self.zero = self.zero and not up
            if up and not down and self.counts[key] == SEMAPHORE_MAX:
                overflow[producer] = 1
            else:
                self.counts[key] += up - down
        return overflow


async def compare(dut, cycles: Cycles, model: Model, take: list[int], post: list[int]) -> None:
    """One cycle with these takes and posts; every output against the model."""
    for unit in Unit:
        getattr(dut, f"take__{unit}").value = take[unit]
        getattr(dut, f"post__{unit}").value = post[unit]
    await cycles.settle()
    for unit in Unit:
        available = int(getattr(dut, f"available__{unit}").value)
        assert available == model.available(unit), f"{unit.name} in cycle {cycles.now}"
    assert int(dut.zero.value) == model.zero
    overflow = model.step(take, post)
    assert [int(getattr(dut, f"overflow__{unit}").value) for unit in Unit] == overflow
    await cycles.edge()


def zeros() -> dict[str, int]:
    return {f"{port}__{unit}": 0 for port in ("take", "post") for unit in Unit}


@cocotb.test()
async def random_traffic(dut):
    rng = random.Random(1)
    cycles = await restart(dut, **zeros())
    model = Model()
    both = 0
    for _ in range(1500):
        take = [rng.getrandbits(8) & rng.getrandbits(8) & model.available(unit) for unit in Unit]
        post = [
            rng.getrandbits(2 * len(PEERS[unit])) & rng.getrandbits(8) & rng.getrandbits(8)
            for unit in Unit
        ]
        both += any(
            post[p] & post_bit(p, c, k) and take[c] & wait_bit(c, p, k) for p, c, k in SEMAPHORES
        )
        await compare(dut, cycles, model, take, post)
    assert both > 100


@cocotb.test()
async def each_to_its_maximum_and_back(dut):
    for producer, consumer, k in SEMAPHORES:
        cycles = await restart(dut, **zeros())
        model = Model()
        nothing = [0] * len(Unit)
        post = list(nothing)
        post[producer] = post_bit(producer, consumer, k)
        take = list(nothing)
        take[consumer] = wait_bit(consumer, producer, k)
        for _ in range(SEMAPHORE_MAX):
            await compare(dut, cycles, model, nothing, post)
        assert model.counts[producer, consumer, k] == SEMAPHORE_MAX
        await compare(dut, cycles, model, take, post)
        await compare(dut, cycles, model, nothing, post)
        assert model.counts[producer, consumer, k] == SEMAPHORE_MAX
        for _ in range(SEMAPHORE_MAX):
            await compare(dut, cycles, model, take, nothing)
        await compare(dut, cycles, model, nothing, nothing)
        assert not any(model.counts.values())
