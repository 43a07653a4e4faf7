"""Brings README.md up to date: the output of its commands, and the Python example.

usage: python tools/readme.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLE = ROOT / "examples" / "first_network.py"
#: The commands whose output it shows, by marker.
COMMANDS = {
    "lenet": ("run", "lenet"),
    "bench": ("bench", "gemm:128x256x256"),
    "profile": ("profile", "lenet"),
}


def output(marker: str, *options: str) -> str:
    """What the command prints on an 80-column terminal, or on as many columns as it needs."""
    out = subprocess.run(
        [sys.executable, "-m", "weft.host.cli", *COMMANDS[marker], *options],
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        check=True,
        encoding="utf-8",
    ).stdout
    return "".join(f"{line.rstrip()}\n" for line in out.splitlines())


def example() -> str:
    """The example without its docstring."""
    return EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')[2]


def _pattern(marker: str) -> re.Pattern[str]:
    text = rf"(?<=<!-- {marker} -->\n```text\n).*?(?=```\n<!-- /{marker} -->)"
    return re.compile(r"(?<=```python\n).*?(?=```)" if marker == "python" else text, re.DOTALL)


def blocks(text: str) -> dict[str, str]:
    """README's outputs by marker, and its "python" code."""
    found = {marker: _pattern(marker).search(text) for marker in (*COMMANDS, "python")}
    if missing := [marker for marker, match in found.items() if match is None]:
        raise ValueError(f"README.md has no block for {', '.join(missing)}")
    return {marker: match[0] for marker, match in found.items() if match is not None}


def fill(text: str, contents: dict[str, str]) -> str:
    """README with these blocks replaced."""
    for marker, block in contents.items():
        text = _pattern(marker).sub(lambda _, block=block: block, text, count=1)
    return text


def main() -> None:
    """Run the commands and rewrite README.md."""
    text = README.read_text(encoding="utf-8")
    contents = {marker: output(marker) for marker in COMMANDS}
    README.write_text(fill(text, {**contents, "python": example()}), encoding="utf-8")


if __name__ == "__main__":
    main()
