"""What parity costs: the table in docs/robustness.md, from synthesis for the ECP5.

usage: python tools/parity.py [--write] [PRESET ...]
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from weft.boards.ecp5 import cells, synthesize
from weft.hdl.config import PRESETS

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
BLOCK = re.compile(r"(?<=<!-- cost -->\n).*?(?=<!-- /cost -->)", re.DOTALL)
KINDS = ("LUT4", "CCU2C", "TRELLIS_FF", "DP16KD", "TRELLIS_DPR16X4", "MULT18X18D")


def table(presets: list[str]) -> str:
    """Cells of every machine without and with parity, and the difference."""
    lines = [f"| Machine | Parity | {' | '.join(KINDS)} |", "|---|---|" + "---:|" * len(KINDS)]
    for preset in presets:
        counts = []
        for parity in (False, True):
            with tempfile.TemporaryDirectory() as scratch:
                config = replace(PRESETS[preset], parity=parity)
                found = cells(synthesize(config, Path(scratch)))
            counts.append([found.get(kind, 0) for kind in KINDS])
            numbers = " | ".join(f"{count:,}" for count in counts[-1])
            lines.append(f"| {preset} | {'yes' if parity else 'no'} | {numbers} |")
        changes = (f"{100 * (b - a) / a:+.1f} %" if a else "" for a, b in zip(*counts, strict=True))
        lines.append(f"| | | {' | '.join(changes)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = table([name for name in sys.argv[1:] if name != "--write"] or ["tiny", "small"])
    if "--write" in sys.argv[1:]:
        PAGE.write_text(BLOCK.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), "utf-8")
    else:
        print(text, end="")
