"""The semaphores and the gates of the units."""

import pytest
from weft.hdl.gate import Gate
from weft.hdl.semaphores import Semaphores
from weft.tb.runner import simulate


def test_semaphores():
    simulate(Semaphores(), "tests.bench_semaphores", simulator="icarus")


@pytest.mark.parametrize("overlap", [1, 2, 8])
def test_gate(overlap):
    simulate(
        Gate(overlap=overlap),
        "tests.bench_gate",
        simulator="icarus",
        env={"WEFT_OVERLAP": overlap},
        name=f"gate-{overlap}",
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_gate_refuses_an_overlap_that_is_no_power_of_two():
    with pytest.raises(ValueError, match="overlap must be a power of two, not 3"):
        Gate(overlap=3)
