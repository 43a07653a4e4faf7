"""Why mutants that no test notices are not noticed."""

from __future__ import annotations

import re

from .mutants import Mutant

#: (component, pattern of the wire, reason).
EXPLAINED: tuple[tuple[str, str, str], ...] = ()


def reason(mutant: Mutant) -> str:
    """The explanation of a survivor; empty if there is none."""
    for component, wire, text in EXPLAINED:
        if component == mutant.component and re.fullmatch(wire, mutant.wire):
            return text
    return ""
