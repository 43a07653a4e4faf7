"""Every proof, and the page that lists them.

``python -m tests.proofs`` proves what is not in the cache and writes ``docs/proofs.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from . import (
    proof_arithmetic,
    proof_bus,
    proof_control,
    proof_decoder,
    proof_queues,
    proof_units,
    proof_windows,
)
from .formal import Proof, Result

PAGE = Path(__file__).parents[1] / "docs" / "proofs.md"
#: Modules with PROOFS, in the order of the page.
MODULES: tuple[ModuleType, ...] = (
    proof_queues,
    proof_bus,
    proof_windows,
    proof_decoder,
    proof_control,
    proof_units,
    proof_arithmetic,
)
PROOFS: dict[str, Proof] = {proof.name: proof for module in MODULES for proof in module.PROOFS}
#: What the proofs in ``make test`` may take without cached results, in processor seconds; building
#: the designs and breaking some of them takes some twenty more.
MOST_SECONDS = 40

_TABLE = "<!-- Below: written by `python -m tests.proofs`; edit the proofs, not the tables. -->\n"
_COLUMNS = (
    *("Proof", "Property", "Components", "Configurations", "Method", "Assumptions"),
    *("Runs in", "Broken designs found", "Seconds"),
)


def row(proof: Proof, assumes: tuple[str, ...], seconds: float) -> str:
    """A line of the tables."""
    cells = (
        proof.name,
        proof.says,
        proof.of,
        proof.sizes,
        f"{proof.method}, {proof.solver}",
        "; ".join(assumes) or "none",
        "`make verify`" if proof.slow else "`make test`",
        ", ".join(proof.breaks) or "–",
        f"{seconds:.0f}",
    )
    return f"| {' | '.join(cells)} |\n"


def tables(results: dict[str, Result]) -> str:
    """The tables, one for each module."""
    parts = []
    for module in MODULES:
        title = (module.__doc__ or "").partition("\n")[0].removeprefix("Proofs: ").rstrip(".")
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n")
        parts.append(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * (len(_COLUMNS) - 1)}---:|\n")
        for proof in module.PROOFS:
            result = results[proof.name]
            parts.append(row(proof, result.assumes, result.seconds))
    return "".join(parts)


def written_rows(text: str) -> dict[str, tuple[str, float]]:
    """The line and the seconds that a page gives each proof."""
    rows = re.findall(r"^(\| ([a-z]\S*\.\S+) \|.*\| (\d+) \|\n)", text, re.MULTILINE)
    return {name: (line, float(number)) for line, name, number in rows}


def main() -> None:
    """Prove everything and write the tables."""
    results = {}
    for proof in PROOFS.values():
        results[proof.name] = result = proof.run()
        assert result.passed, f"{proof.name}: {result}"
        print(f"{proof.name}: {result.seconds:.1f} s", flush=True)
    head = PAGE.read_text(encoding="utf-8").partition(_TABLE)[0]
    PAGE.write_text(head + _TABLE + tables(results), encoding="utf-8")


if __name__ == "__main__":
    main()
