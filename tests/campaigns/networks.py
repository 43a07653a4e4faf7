"""Every example network on the RTL: all bytes, all counters, and no slower than benchmarks/."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from weft.hdl.config import load
from weft.host.bench import measure
from weft.host.networks import NETWORKS

CYCLES = Path(__file__).parents[2] / "benchmarks" / "cycles.json"
#: How much slower than there a network may be.
SLOWER = 1.01


def failures(name: str, config: str, latency: int, backend: str, table: dict) -> list[str]:
    """What is wrong with a network, in sentences."""
    result = measure(name, load(config), backend=backend, latency=latency, quiet=False)
    print(
        f"{name}: {result.cycles} cycles, {result.ratio:.3f} of the bound, "
        f"{result.mismatches} mismatches, {result.seconds:.0f} s",
        flush=True,
    )
    before = table.get(name, {}).get(f"{config}, latency {latency}", {}).get("cycles")
    out = [result.failure] if result.failure else []
    if before is not None and result.cycles > SLOWER * before:
        out.append(f"{name} on {config} takes {result.cycles} cycles, the table says {before}")
    return out


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many failures there were."""
    parser = argparse.ArgumentParser(prog="networks", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="by default all")
    parser.add_argument("--config", default="default", help="machine (%(default)s)")
    parser.add_argument("--latency", type=int, default=50, help="of the memory (%(default)s)")
    parser.add_argument("--backend", default="verilator", help="(%(default)s)")
    options = parser.parse_args(args)
    table = json.loads(CYCLES.read_text(encoding="utf-8"))
    found = [
        text
        for name in options.networks or NETWORKS
        for text in failures(name, options.config, options.latency, options.backend, table)
    ]
    for text in found:
        print(text, flush=True)
    return len(found)
