"""Measures the example networks: benchmarks/*.json, and the pages and tables made from them.

usage: python tools/measure.py [NETWORK…] [--backend model] [--docs]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path

from benchmark_tables import LATENCIES, LATENCY, OTHERS, Cycles, Record, place, write
from weft.hdl.config import PRESETS
from weft.host.bench import measure, predicted_cycles
from weft.host.errors import CompileError
from weft.host.networks import NETWORKS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
CYCLES = ROOT / "benchmarks" / "cycles.json"

#: What is measured, in this order.
NAMES = (*NETWORKS, "gemm:128x256x256", "gemm:512x512x512", "conv:56x56x64,k=3,s=1,p=1,n=64")


def load() -> tuple[dict[str, Record], Cycles]:
    """The results by network, and the cycles by network and "configuration, latency"."""
    return tuple(
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for path in (RESULTS, CYCLES)
    )  # pyright: ignore[reportReturnType]


def save(results: dict[str, Record], cycles: Cycles) -> None:
    """Write both files, in the order of NAMES, a layer a line."""
    lines = []
    for name in (n for n in NAMES if n in results):
        record = dict(results[name])
        layers = ",\n  ".join(json.dumps(layer, ensure_ascii=False) for layer in record["layers"])
        record["layers"] = []
        text = json.dumps(record, ensure_ascii=False)
        lines.append(f'"{name}": {text[:-2]}\n  {layers}]}}')
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    ordered = {name: cycles[name] for name in NAMES if name in cycles}
    CYCLES.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def run(name: str, backend: str) -> tuple[Record, dict[str, int]]:
    """Measure one network or layer on the default machine, and predict the other cycles."""
    result = measure(name, PRESETS["default"], backend=backend, latency=LATENCY, quiet=False)
    if result.failure:
        sys.exit(result.failure)
    predicted = predicted_cycles(name, PRESETS["default"], LATENCIES)
    cycles = {place("default", n): c for n, c in zip(LATENCIES, predicted, strict=True)}
    for other in OTHERS:
        with contextlib.suppress(CompileError):  # it does not fit
            (cycles[place(other, LATENCY)],) = predicted_cycles(name, PRESETS[other], [LATENCY])
    assert cycles[place("default", LATENCY)] == result.cycles
    return result.to_json(), cycles


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="by default all")
    parser.add_argument("--backend", default="verilator", help="verilator (default) or model")
    parser.add_argument("--docs", action="store_true", help="only write the pages again")
    options = parser.parse_args()
    for name in [] if options.docs else options.networks or NAMES:
        record, predicted = run(name, options.backend)
        results, cycles = load()
        save({**results, name: record}, {**cycles, name: predicted})
    write(*load())


if __name__ == "__main__":
    main()
