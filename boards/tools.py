"""The programs of a tool chain: native ones on PATH, else those of Python packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..host.errors import WeftError


class ToolError(WeftError):
    """A program that is missing or that failed; one sentence."""


def find_tool(name: str) -> Path:
    """Where a program is: on PATH, or beside this Python, where it may be called yowasp-`name`.

    Raises
    ------
    ToolError
        Nowhere.
    """
    beside = str(Path(sys.executable).parent)
    for wanted, path in ((name, None), (f"yowasp-{name}", None), (name, beside),
                         (f"yowasp-{name}", beside)):  # fmt: skip
        if found := shutil.which(wanted, path=path):
            return Path(found)
    raise ToolError(f"{name} is not installed: put it on PATH, or pip install -e '.[boards]'")


def run_tool(name: str, *arguments: str, log: Path) -> str:
    """Run a program in the log's folder; names of files are relative to it (WASM sees no other).

    Returns
    -------
    str
        What it printed, which is in `log` too.

    Raises
    ------
    ToolError
        It is missing or fails; says its first error.
    """
    tool = find_tool(name)
    with log.open("w") as file:
        done = subprocess.run(
            [tool, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, "LANG": "C"},
            check=False,
        )
    text = log.read_text(errors="replace")
    if done.returncode:
        errors = [line for line in text.splitlines() if "ERROR" in line]
        what = f": {errors[0].partition('ERROR:')[2].strip()}" if errors else ""
        raise ToolError(f"{tool.name} failed{what}; see {log}")
    return text
