"""Requantization against the TOSA reference model: every width of multiplier, every shift.

The model comes as a Python package that wants an older NumPy than Weft does, so the campaign makes
a virtual environment for it, in Weft's cache, the first time it runs. That takes the package
registry; what it has once installed works without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from weft.host.errors import WeftError
from weft.tb.tools import cache_directory

from .. import results
from ..rescaling import MISTAKES, Case, cases, defined, differences, interpreted, load, save

MODEL = Path(__file__).parents[1] / "tosa_model.py"
#: A sample of cases and the model's results, for tests without the model.
RECORDED = Path(__file__).parents[1] / "data" / "rescale.npz"
RECORDED_WIDTHS, RECORDED_VALUES = (8, 16, 18, 24, 32), 24
#: The model, and what it runs with.
PACKAGES = ("tosa-tools==2026.8.0", "numpy==2.1.3")


class OracleError(WeftError):
    """The reference model cannot be had, or fails."""


def environment() -> Path:
    """The Python that has the reference model; installed where it is not there yet.

    Raises
    ------
    OracleError
        It is not there and cannot be installed.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_directory() / f"{PACKAGES[0].replace('==', '-')}-python{version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", folder], [*install, *PACKAGES]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OracleError(
                f"the TOSA reference model ({', '.join(PACKAGES)}) is not installed and cannot be "
                f"now: {_last(done)}; run this campaign once where pip finds packages"
            )
    ready.touch()
    return python


def reference(found: Sequence[Case], python: Path) -> list[np.ndarray]:
    """The model's results: int8 of the shape of each case's accumulators.

    Raises
    ------
    OracleError
        The model refuses a case or does not run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / name for name in ("cases.npz", "results.npz")]
        save(files[0], found)
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [python, MODEL, *files]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OracleError(f"the TOSA reference model in {python} failed: {_last(done)}")
        return load(files[1])[1]


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many values differ, and how many mistakes go unnoticed."""
    parser = argparse.ArgumentParser(prog="tosa", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--count", type=int, default=10, help="seeds (%(default)s)")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name}, no more")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(args)
    try:
        python = environment()
        if options.record:
            sample = list(cases(0, RECORDED_WIDTHS, RECORDED_VALUES))
            save(RECORDED, sample, reference(sample, python))
            return 0
        wrong = values = ties = 0
        noticed = dict.fromkeys(MISTAKES, 0)
        for seed in range(options.first, options.first + options.count):
            found = list(cases(seed))
            expected = reference(found, python)
            values += sum(case.acc.size for case in found)
            ties += sum(case.ties for case in found)
            for ours in (interpreted, defined):
                count = differences(expected, found, ours)
                wrong += count
                if count:
                    print(f"seed {seed}: {count} values of `{ours.__name__}` differ")
            for name, mistaken in MISTAKES.items():
                noticed[name] += differences(expected, found, mistaken)
    except OracleError as error:
        print(error)
        return 1
    print(f"{values:,} values, {ties:,} of them ties: {wrong} differences")
    for name, count in noticed.items():
        print(f"with a mistake on purpose ({name}): {count:,} differences")
    failures = wrong + sum(not count for count in noticed.values())
    if options.write:
        counts = {"values": values, "ties": ties, "differences": wrong, "mistakes": noticed}
        results.write("tosa", counts)
    return failures
