"""Lint: Verilator has nothing to say about the Verilog of any machine.

Presets with and without options, and machines at the ends of what configurations may say.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from weft.hdl.config import PRESETS

from ..lint import ENDS, complaints


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many machines have warnings that are not waived."""
    parser = argparse.ArgumentParser(prog="lint", description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), help="(all)")
    machines = dict(ENDS)
    for name in parser.parse_args(args).presets:
        machines[name] = PRESETS[name]
        machines[f"{name} with parity, packed"] = replace(PRESETS[name], parity=True, packed=True)
    failures = 0
    for name, config in machines.items():
        text = complaints(config)
        print(f"{name}: {text or 'clean'}", flush=True)
        failures += bool(text)
    return failures
