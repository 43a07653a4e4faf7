"""Lint: Verilator has nothing to say about the Verilog of any preset, with and without options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from weft.hdl.config import PRESETS

from ..lint import complaints


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many machines have warnings that are not waived."""
    parser = argparse.ArgumentParser(prog="lint", description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), help="(all)")
    failures = 0
    for name in parser.parse_args(args).presets:
        for more in (False, True):
            text = complaints(replace(PRESETS[name], parity=more, packed=more))
            print(f"{name}{' with parity, packed' if more else ''}: {text or 'clean'}", flush=True)
            failures += bool(text)
    return failures
