"""Proofs: every one, the slow ones too, and every design that was broken on purpose."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import proofs


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many proofs went wrong."""
    parser = argparse.ArgumentParser(prog="proofs", description=__doc__)
    parser.add_argument("names", nargs="*", help="only proofs whose names contain one of these")
    options = parser.parse_args(args)
    failures = 0
    rows = proofs.written_rows(proofs.PAGE.read_text(encoding="utf-8"))
    for proof in proofs.PROOFS.values():
        if options.names and not any(name in proof.name for name in options.names):
            continue
        result = proof.run()
        failures += not result.passed
        print(f"{proof.name}: {result} ({result.seconds:.1f} s)", flush=True)
        line, seconds = rows.get(proof.name, ("", 0))
        if line != proofs.row(proof, result.assumes, seconds):
            failures += 1
            print(f"{proof.name}: docs/proofs.md differs, run `python -m tests.proofs`")
        for label in proof.breaks:
            result = proof.run_broken(label)
            failures += result.failed != [label]
            print(f"{proof.name}, broken: {result}", flush=True)
    return failures
