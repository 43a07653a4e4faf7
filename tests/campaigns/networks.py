"""Every example network on the RTL: all bytes, all counters, and no slower than benchmarks/.

How long the RTL takes in Verilator and how long the timing model is measured besides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from weft.hdl.config import load
from weft.host.bench import Result, measure
from weft.host.networks import NETWORKS

from .. import results

CYCLES = Path(__file__).parents[2] / "benchmarks" / "cycles.json"
#: How much slower than there a network may be.
SLOWER = 1.01
#: Configuration, latency and backend of what is recorded.
RECORDED = "default", 50, "verilator"


def check(result: Result, table: dict) -> list[str]:
    """What is wrong with a network, in sentences."""
    where = f"{result.config}, latency {result.latency}"
    before = table.get(result.network, {}).get(where, {}).get("cycles")
    out = [result.failure] if result.failure else []
    if before is not None and result.cycles > SLOWER * before:
        out.append(
            f"{result.network} on {result.config} takes {result.cycles} cycles, "
            f"the table says {before}"
        )
    return out


def speed(result: Result) -> dict[str, float]:
    """Cycles, and processor seconds of the RTL and of the timing model."""
    return {
        "cycles": result.cycles,
        "rtl_seconds": round(result.device_seconds, 3),
        "model_seconds": round(result.model_seconds, 4),
    }


def record(found: dict[str, dict[str, float]], failures: int) -> None:
    """Replace what was recorded of these networks; that of others stays."""
    known = json.loads(results.FILE.read_text(encoding="utf-8")).get("networks", {})
    speeds = {**known.get("speeds", {}), **found}
    in_order = {name: speeds[name] for name in (*NETWORKS, *speeds) if name in speeds}
    results.write("networks", {"failures": failures, "speeds": in_order})


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many failures there were."""
    parser = argparse.ArgumentParser(prog="networks", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="by default all")
    parser.add_argument("--config", default="default", help="machine (%(default)s)")
    parser.add_argument("--latency", type=int, default=50, help="of the memory (%(default)s)")
    parser.add_argument("--backend", default="verilator", help="(%(default)s)")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    if options.write and (options.config, options.latency, options.backend) != RECORDED:
        parser.error("what is recorded is of the default machine, latency and backend")
    table = json.loads(CYCLES.read_text(encoding="utf-8"))
    wrong: list[str] = []
    speeds = {}
    for name in options.networks or NETWORKS:
        result = measure(
            name,
            load(options.config),
            backend=options.backend,
            latency=options.latency,
            quiet=False,
        )
        text = (
            f"{name}: {result.cycles} cycles, {result.ratio:.3f} of the bound, "
            f"{result.mismatches} mismatches, {result.seconds:.0f} s"
        )
        if options.backend == "verilator":
            rtl, model = result.device_seconds, result.model_seconds
            text += (
                f"; RTL {rtl:.2f} s, model {model:.4f} s of a processor: {rtl / model:.0f} times"
            )
        print(text, flush=True)
        wrong += check(result, table)
        speeds[name] = speed(result)
    for text in wrong:
        print(text, flush=True)
    if options.write:
        record(speeds, len(wrong))
    return len(wrong)
