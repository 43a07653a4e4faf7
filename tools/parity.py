"""What parity costs, from synthesis for the ECP5: into docs/robustness.json.

usage: python tools/parity.py [PRESET ...]; then python tools/robustness.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from weft.boards.ecp5 import cells, synthesize
from weft.hdl.config import PRESETS, Config

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import results

KINDS = ("LUT4", "CCU2C", "TRELLIS_FF", "DP16KD", "TRELLIS_DPR16X4", "MULT18X18D")


def memory_bits(config: Config) -> int:
    """Bits of all on-chip memories; every lane of VECTOR has tables of its own."""
    tables = config.tbl_bytes * config.vector_lanes
    by_byte = config.act_bytes + config.wgt_bytes + config.par_bytes + tables
    by_word = config.acc_depth * config.cols
    return (8 + config.parity) * by_byte + (32 + config.parity) * by_word


def measure(config: Config) -> dict[str, int]:
    """Memory bits and cells of a machine."""
    with tempfile.TemporaryDirectory() as scratch:
        found = cells(synthesize(config, Path(scratch)))
    return {"Memory bits": memory_bits(config), **{kind: found.get(kind, 0) for kind in KINDS}}


def main(presets: list[str]) -> None:
    """Measure presets without and with parity."""
    results.write(
        "cost",
        {
            name: {
                which: measure(replace(PRESETS[name], parity=parity))
                for which, parity in (("without", False), ("with", True))
            }
            for name in presets
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["tiny", "small"])
