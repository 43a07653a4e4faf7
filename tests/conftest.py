"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from weft.hdl.config import PRESETS, Config, load

from .faults import Bench

COPY_ENGINE = Path(__file__).with_name("copy_engine.v")


def copy_engine(config: Config) -> str:
    """Verilog of a machine with Weft's pins that copies CONST to OUTPUT; see its first lines."""
    text = COPY_ENGINE.read_text()
    values = {
        "BUS_BITS": str(config.bus_bits),
        "CONFIG_LO": f"{config.fingerprint & 0xFFFFFFFF:08x}",
        "CONFIG_HI": f"{config.fingerprint >> 32:08x}",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


@pytest.fixture(scope="session")
def small() -> Config:
    """An 8×8 machine on a 64-bit bus."""
    return PRESETS["small"]


#: Rows are not columns, and addresses are as wide as they can be.
ODD = load(Path(__file__).with_name("configs") / "odd.toml")


@pytest.fixture(scope="module")
def benches() -> Iterator[Callable[..., Bench]]:
    """Machines to do harm to, one for each set of parameters."""
    opened = cache(Bench)
    made: list[Bench] = []

    def get(config: Config, **options: int) -> Bench:
        bench = opened(config, **options)
        if bench not in made:
            made.append(bench)
        bench.reset(hard=True)
        return bench

    yield get
    for bench in made:
        bench.close()


@pytest.fixture(params=[PRESETS["tiny"], ODD], ids=lambda c: c.name)
def bench(request, benches) -> Bench:
    """A machine to do harm to, fresh from reset."""
    return benches(request.param)


@pytest.fixture
def tiny_bench(benches) -> Bench:
    """The 4×4 machine, for what takes many runs."""
    return benches(PRESETS["tiny"])


@pytest.fixture
def stalling_bench(benches) -> Bench:
    """The 4×4 machine on a memory that stalls at random."""
    return benches(PRESETS["tiny"], latency=9, stalls=3)
