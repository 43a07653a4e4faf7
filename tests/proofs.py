"""Every proof, and the page that lists them.

``python -m tests.proofs`` proves what is not in the cache and writes ``docs/proofs.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from . import proof_bus, proof_decoder, proof_queues, proof_windows
from .formal import Proof

PAGE = Path(__file__).parents[1] / "docs" / "proofs.md"
#: Modules with PROOFS, in the order of the page.
MODULES: tuple[ModuleType, ...] = (proof_queues, proof_bus, proof_windows, proof_decoder)
PROOFS: dict[str, Proof] = {proof.name: proof for module in MODULES for proof in module.PROOFS}

_HEAD = """\
# Proofs

<!-- Written by `python -m tests.proofs`; edit the proofs, not this page. -->

What is proven of the hardware, by SymbiYosys and an SMT solver, from the same Amaranth components
that become Verilog. *Induction* covers runs of any length: if the claims hold for k cycles, they
hold in the next; *all runs of n cycles* from reset are covered by bounded model checking. Reset is
a free input everywhere, so every claim holds after any reset too, whatever came before. Inputs are
free but for the assumptions named; a component's assumptions are claims of the component that
drives it. Where sizes are reduced it says so: the code is the same, only a constant differs.

`make test` runs the proofs of some seconds, `make verify` (`ARGS=proofs`) also those marked *slow*,
and both show that a proof can fail: designs are broken on purpose, and the claim must fail.
Seconds are processor time of the run that wrote this page.
"""


def page(seconds: Mapping[str, float]) -> str:
    """The page, with the processor time of each proof by its name."""
    parts = [_HEAD]
    for module in MODULES:
        title = (module.__doc__ or "").partition("\n")[0].removeprefix("Proofs: ").rstrip(".")
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n")
        parts.append("| Proof | Proven | How | Broken designs | Seconds |\n")
        parts.append("|---|---|---|---:|---:|\n")
        for proof in module.PROOFS:
            slow = ", slow" if proof.slow else ""
            parts.append(
                f"| {proof.name} | {proof.says} | {proof.method}, {proof.solver}{slow} | "
                f"{len(proof.breaks)} | {seconds[proof.name]:.0f} |\n"
            )
    return "".join(parts)


def written_seconds(text: str) -> dict[str, float]:
    """The seconds that a page gives, by proof."""
    rows = re.findall(r"^\| ([a-z]\S*) \|.*\| (\d+) \|$", text, re.MULTILINE)
    return {name: float(number) for name, number in rows}


def main() -> None:
    """Prove everything and write the page."""
    seconds = {}
    for proof in PROOFS.values():
        result = proof.run()
        assert result.passed, f"{proof.name}: {result}"
        seconds[proof.name] = result.seconds
        print(f"{proof.name}: {result.seconds:.1f} s", flush=True)
    PAGE.write_text(page(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
