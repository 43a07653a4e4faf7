"""What the compiler and the machine are held to, in cycles, against the measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A network's measurement on the default machine, as :class:`weft.host.bench.Result` has it.
Record = dict[str, Any]
#: By network and :func:`place`: cycles, bound_cycles, backend, and the seconds of a run.
Cycles = dict[str, dict[str, dict[str, Any]]]

#: Most that cycles may grow from latency 0 to latency 100.
LATENCY_COST = 0.03
#: Most seconds that the RTL may run on two cores.
RTL_SECONDS = {"resnet18": 120, "resnet50": 360}


def place(config: str, latency: int) -> str:
    """The key of cycles on a machine with a memory."""
    return f"{config}, latency {latency}"


@dataclass(frozen=True)
class Goal:
    """Cycles that part of a network may take.

    Parameters
    ----------
    network
        Its name.
    what
        The part, and where.
    most
        Cycles.
    found
        Those of the measurements.
    """

    network: str
    what: str
    most: int
    found: Callable[[dict[str, Record], Cycles], int]


def _at(name: str, most: int, config: str = "default", what: str = "all of it") -> Goal:
    return Goal(name, what, most, lambda _, cycles: cycles[name][place(config, 50)]["cycles"])


def _layers(
    name: str, most: int, what: str, counts: Callable[[list[Record]], list[Record]]
) -> Goal:
    return Goal(
        name,
        what,
        most,
        lambda results, _: sum(layer["cycles"] for layer in counts(results[name]["layers"])),
    )


def _products(layers: list[Record]) -> list[Record]:
    return [layer for layer in layers if layer["macs"]]


#: All at latency 50.
GOALS = (
    _at("lenet", 8_000),
    Goal(
        "lenet,batch=16",
        "an image of 16",
        3_400,
        lambda results, _: -(-results["lenet,batch=16"]["cycles"] // 16),
    ),
    _at("alexnet", 6_500_000),
    _at("resnet18", 7_310_000),
    _layers(
        "resnet18", 6_800_000, "without first convolution and classifier", lambda all_: all_[1:-1]
    ),
    _at("resnet50", 16_500_000),
    _at("mobilenetv2", 2_800_000),
    _layers("bert_layer", 3_750_000, "matrix products", _products),
    _at("gemm:128x256x256", 33_500),
    _at("resnet18", 7_500_000, "bus64", "all of it, on a 64-bit bus"),
    _at("resnet50", 17_200_000, "bus64", "all of it, on a 64-bit bus"),
)
