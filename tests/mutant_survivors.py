"""Why mutants that no test notices are not noticed."""

from __future__ import annotations

import re

#: (component, pattern of the mutant as text, reason); the first that fits counts.
EXPLAINED: tuple[tuple[str, str, str], ...] = ()


def reason(component: str, mutant: str) -> str:
    """The explanation of a survivor; empty if there is none."""
    for part, pattern, why in EXPLAINED:
        if re.fullmatch(part, component) and re.fullmatch(rf"{part}: {pattern}", mutant):
            return why
    return ""
