"""What other accelerators need for the same work: a closed form, and published measurements.

A cycle count means nothing without its memory, so each number here carries its memory model, and
whoever shows one shows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .bound import Product


@dataclass(frozen=True)
class Peer:
    """An accelerator, or a simulator of one.

    Parameters
    ----------
    name
        What it is called.
    memory
        The memory that its cycles refer to.
    source
        Where its numbers are from.
    """

    name: str
    memory: str
    source: str


SCALE_SIM = Peer(
    name="SCALE-Sim 3.0, weight-stationary",
    memory="ideal: every operand is there when it is needed (CALC mode)",
    source="closed form, checked against the package",
)


def scale_sim_cycles(products: Iterable[Product], rows: int, cols: int) -> int:
    """Cycles of SCALE-Sim's weight-stationary array of this size, product after product.

    ``⌈K/R⌉ · ⌈N/C⌉ · (M + 2R + C − 2) − 1`` each: a tile loads its weights, streams and drains
    before the next one does. Pools and requantization cost nothing.
    """
    return sum(
        p.count * (-(-p.k // rows) * -(-p.n // cols) * (p.m + 2 * rows + cols - 2) - 1)
        for p in products
    )


@dataclass(frozen=True)
class Published:
    """A measurement that others published, of a 16×16 INT8 array.

    Parameters
    ----------
    network
        The name of the network, or the shape, that it is of.
    cycles
        For one input.
    scope
        What they count.
    skipped
        Layers that they do not count: so many first ones, so many last ones.
    """

    peer: Peer
    network: str
    cycles: int
    scope: str
    skipped: tuple[int, int] = (0, 0)


#: Rows and columns of the arrays in :data:`PUBLISHED`.
PUBLISHED_ARRAY = 16

_VTA = Peer(
    name="VTA, pipelined GEMM",
    memory="simulated (tsim): 64 bits a cycle, data two cycles after the address",
    source="https://github.com/apache/tvm-vta/pull/30",
)
_GEMMINI = Peer(
    name="Gemmini",
    memory="a full system's L2 cache and DRAM",
    source="https://github.com/ucb-bar/gemmini/pull/69",
)
_CGRA4ML = Peer(
    name="cgra4ml",
    memory="simulated: three 128-bit ports that never stall",
    source="its RTL, run on this shape",
)

PUBLISHED = (
    Published(_VTA, "resnet18", 7_729_601, "offloaded convolutions: all but the first", (1, 1)),
    Published(
        _VTA, "resnet50", 22_012_906, "resnet50_v2's convolutions, all but the first", (1, 1)
    ),
    Published(_GEMMINI, "resnet50", 153_709_356 // 4, "a quarter of a batch of 4"),
    Published(_CGRA4ML, "gemm:128x256x256", 33_267, "INT32 sums, without requantization"),
)


def published(network: str, rows: int, cols: int) -> tuple[Published, ...]:
    """What others published for this network on an array of this size."""
    if (rows, cols) != (PUBLISHED_ARRAY, PUBLISHED_ARRAY):
        return ()
    return tuple(entry for entry in PUBLISHED if entry.network == network)
