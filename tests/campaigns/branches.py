"""Branches: how much of the Python in hdl/ and host/ the tests run, lines and branches."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import measures

ROOT = Path(__file__).parents[2]
#: Share of the branches that must be taken in each of `TOPS` and what is below it.
WANTED = 0.95
TOPS = ("hdl", "host")


def parts(files: dict[str, dict]) -> dict[str, list[int]]:
    """Folder → lines run, all lines, branches taken, all branches; from coverage.py's JSON."""
    out: dict[str, list[int]] = {}
    for name, found in files.items():
        folder = str(Path(name).parent)
        counts = found["summary"]
        keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
        sums = out.setdefault(folder, [0, 0, 0, 0])
        out[folder] = [a + counts[key] for a, key in zip(sums, keys, strict=True)]
    return dict(sorted(out.items()))


def share(folders: dict[str, list[int]], top: str) -> float:
    """The share of the branches that are taken in a folder and those in it."""
    counts = [row[2:] for name, row in folders.items() if name.split("/")[0] == top]
    return sum(taken for taken, _ in counts) / sum(of for _, of in counts)


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how much went wrong: tests, folders with too few branches."""
    parser = argparse.ArgumentParser(prog="branches", description=__doc__)
    parser.add_argument("tests", nargs="*", default=["tests"], help="files; all unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--missing", action="store_true", help="list what was not run")
    parser.add_argument("--write", action="store_true", help=measures.HELP)
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "coverage.json"
        reports = [f"--cov-report=json:{file}"]
        reports += ["--cov-report=term-missing"] if options.missing else []
        # Counting makes Python several times slower, so speed says nothing.
        command = ["-m", "pytest", "-n", str(options.jobs), "--dist", "loadfile", "-m", "not speed"]
        command += ["--cov", *reports, *options.tests]
        failed = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        found = parts(json.loads(file.read_text())["files"])
    for folder, (lines, all_lines, branches, all_branches) in found.items():
        print(f"{folder}: {lines} of {all_lines} lines, {branches} of {all_branches} branches")
    if options.write:
        measures.write("python", {"tests": options.tests, "folders": found})
    few = [top for top in TOPS if share(found, top) < WANTED]
    for top in few:
        print(
            f"{top}: {100 * share(found, top):.1f} % of the branches, {100 * WANTED:.0f} % wanted"
        )
    return int(failed != 0) + len(few)
