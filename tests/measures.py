"""What the campaigns on coverage and mutants recorded, for tools/measures.py to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "measures.json"
#: Of the campaigns' option that records.
HELP = "record the outcome in docs/measures.json; then run tools/measures.py"


def write(name: str, values: Any) -> None:
    """Replace the results of one campaign; those of the others stay."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known[name] = values
    text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
    FILE.write_text(text + "\n", encoding="utf-8")
