"""The tables of docs/verification.md, from the campaigns' results in docs/robustness.json.

usage: python tools/verification.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "verification.md"
RESULTS = PAGE.with_name("robustness.json")


def table(results: dict[str, Any]) -> str:
    """Cases, failures and times of each campaign that recorded them."""
    lines = ["| Campaign | Cases | Failures | Wall | Processors | a case |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name, found in results.items():
        if "cases" in found:
            seconds, used = found["seconds"], found["processor_seconds"]
            each = 1000 * used / max(1, found["cases"])
            lines.append(
                f"| `{name}` | {found['cases']:,} | {found['failures']:,} | {seconds:,.0f} s "
                f"| {used:,.0f} s | {each:.0f} ms |"
            )
    return "\n".join(lines) + "\n"


def speeds(results: dict[str, Any]) -> str:
    """How long RTL and timing model take for each network."""
    lines = ["| Network | Cycles | RTL | Model | RTL / model |", "|---|---:|---:|---:|---:|"]
    for name, found in results.get("networks", {}).get("speeds", {}).items():
        rtl, model = found["rtl_seconds"], found["model_seconds"]
        lines.append(
            f"| `{name}` | {found['cycles']:,} | {rtl:.2f} s | {1000 * model:,.0f} ms "
            f"| {rtl / model:.0f} |"
        )
    return "\n".join(lines) + "\n"


def fill(text: str, results: dict[str, Any]) -> str:
    """The page with its tables replaced."""
    for name, make in (("campaigns", table), ("speeds", speeds)):
        mark = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = mark.sub(lambda _, make=make: make(results), text)
    return text


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(old, json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
