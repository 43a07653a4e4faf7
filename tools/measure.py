"""Measures the example networks: benchmarks/*.json, and the pages and tables made from them.

usage: python tools/measure.py [NETWORK…] [--at CONFIG LATENCY] [--backend model]
       python tools/measure.py NETWORK… --predict
       python tools/measure.py NETWORK… --compile
       python tools/measure.py --docs

Without --at on the default machine at latency 50, and by the timing model everywhere else; without
networks all of them, and what compiling ResNet-50 costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import compile_cost
from benchmark_goals import Cycles, Record, place
from benchmark_tables import LATENCIES, LATENCY, MACHINES, write
from weft.host.bench import measure, predict_cycles
from weft.host.errors import CompileError
from weft.host.networks import NETWORKS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
CYCLES = ROOT / "benchmarks" / "cycles.json"

#: What is measured, in this order.
NAMES = (
    *NETWORKS,
    "lenet,batch=16",
    "gemm:128x256x256",
    "gemm:512x512x512",
    "conv:56x56x64,k=3,s=1,p=1,n=64",
)
#: Where, besides the default machine at LATENCY.
PLACES = tuple(
    (config, latency)
    for config in MACHINES
    for latency in (LATENCIES if config == "default" else (LATENCY,))
)


def load() -> tuple[dict[str, Record], Cycles]:
    """The results by network, and the cycles by network and place."""
    return tuple(
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for path in (RESULTS, CYCLES)
    )  # pyright: ignore[reportReturnType]


def save(results: dict[str, Record], cycles: Cycles) -> None:
    """Write both files, in the order of NAMES, a layer or a place a line."""
    lines = []
    for name in (n for n in NAMES if n in results):
        record = dict(results[name])
        layers = ",\n  ".join(_json(layer) for layer in record["layers"])
        record["layers"] = []
        lines.append(f'"{name}": {_json(record)[:-2]}\n  {layers}]}}')
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    lines = []
    for name in (n for n in NAMES if n in cycles):
        order = [p for p in (place(*where) for where in PLACES) if p in cycles[name]]
        places = ",\n  ".join(f'"{p}": {_json(cycles[name][p])}' for p in order)
        lines.append(f'"{name}": {{\n  {places}}}')
    CYCLES.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def predict(name: str, before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The timing model's cycles everywhere; RTL's stay where they are the same."""
    out = {}
    for config, machine in MACHINES.items():
        with contextlib.suppress(CompileError):  # it does not fit
            latencies = [latency for c, latency in PLACES if c == config]
            bound, found = predict_cycles(name, machine, latencies)
            for latency, cycles in found.items():
                where = place(config, latency)
                entry = {"cycles": cycles, "bound_cycles": bound}
                kept = before.get(where, {})
                same = entry.items() <= kept.items()
                out[where] = kept if same else {**entry, "backend": "model"}
    return out


def run(name: str, config: str, latency: int, backend: str) -> tuple[Record, dict[str, Any]]:
    """Measure one network or layer in one place: everything, and what cycles.json holds of it."""
    result = measure(name, MACHINES[config], backend=backend, latency=latency, quiet=False)
    if result.failure:
        sys.exit(result.failure)
    record = asdict(result)
    return record, {
        "cycles": result.cycles,
        "bound_cycles": result.bound_cycles,
        "backend": backend,
        **(
            {
                "seconds": round(result.seconds, 1),
                "processor_seconds": round(result.processor_seconds, 1),
            }
            if backend != "model"
            else {}
        ),
    }


def measure_all(names: Iterable[str], config: str, latency: int, backend: str) -> None:
    """Measure in one place, everywhere else too where that is the main one, and take it down."""
    for name in names:
        record, entry = run(name, config, latency, backend)
        results, cycles = load()
        if (config, latency) == ("default", LATENCY):
            results[name] = record
            cycles[name] = predict(name, cycles.get(name, {}))
            assert cycles[name][place(config, latency)]["cycles"] == entry["cycles"]
        cycles[name] = {**cycles.get(name, {}), place(config, latency): entry}
        save(results, cycles)


def predict_all(names: Iterable[str]) -> None:
    """Take down the timing model's cycles, where the RTL has not counted the same."""
    for name in names:
        results, cycles = load()
        predicted = predict(name, cycles.get(name, {}))
        results, cycles = load()
        save(results, {**cycles, name: predicted})


def measure_compiling(names: Iterable[str]) -> None:
    """Take down what compiling costs."""
    for name in names:
        costs = {name: compile_cost.measure(name)}
        compile_cost.save({**compile_cost.load(), **costs})


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="by default all")
    places = ", ".join(f"{config} {latency}" for config, latency in PLACES)
    parser.add_argument(
        "--at", nargs=2, metavar=("CONFIG", "LATENCY"), default=("default", LATENCY), help=places
    )
    parser.add_argument("--backend", default="verilator", help="verilator (default) or model")
    parser.add_argument("--predict", action="store_true", help="the timing model, nothing else")
    parser.add_argument("--compile", action="store_true", help="what compiling costs, nothing else")
    parser.add_argument("--docs", action="store_true", help="only write the pages again")
    options = parser.parse_args()
    config, latency = options.at[0], int(options.at[1])
    if (config, latency) not in PLACES:
        parser.error(f"--at takes one of {places}")
    if not options.docs:
        if options.predict:
            predict_all(options.networks or NAMES)
        elif not options.compile:
            measure_all(options.networks or NAMES, config, latency, options.backend)
        if options.compile or not (options.networks or options.predict):
            measure_compiling(options.networks or ["resnet50"])
    write(*load())


if __name__ == "__main__":
    main()
