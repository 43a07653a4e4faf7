"""Brings README.md up to date: the output of `make lenet`, and the Python example.

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
#: What `make lenet` runs.
LENET = ("run", "lenet")


def lenet_output(*options: str) -> str:
    """What `weft run lenet` prints on an 80-column terminal."""
    out = subprocess.run(
        [sys.executable, "-m", "weft.host.cli", *LENET, *options],
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        check=True,
        encoding="utf-8",
    ).stdout
    return "".join(f"{line.rstrip()}\n" for line in out.splitlines())


def example() -> str:
    """The example without its docstring."""
    return EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')[2]


def blocks(text: str) -> tuple[str, str]:
    """README's output of LeNet and its Python code."""
    lenet = re.search(r"<!-- lenet -->\n```text\n(.*?)```\n<!-- /lenet -->", text, re.DOTALL)
    python = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    if lenet is None or python is None:
        raise ValueError("README.md lacks the lenet markers or the Python block")
    return lenet[1], python[1]


def fill(text: str, lenet: str, python: str) -> str:
    """README with both blocks replaced."""
    for pattern, block in (
        (r"(?<=<!-- lenet -->\n).*?(?=<!-- /lenet -->)", f"```text\n{lenet}```\n"),
        (r"(?<=```python\n).*?(?=```)", python),
    ):
        text = re.sub(pattern, lambda _, block=block: block, text, count=1, flags=re.DOTALL)
    return text


def main() -> None:
    """Run LeNet and rewrite README.md."""
    text = README.read_text(encoding="utf-8")
    README.write_text(fill(text, lenet_output(), example()), encoding="utf-8")


if __name__ == "__main__":
    main()
