"""The decoder against the golden classification, word by word."""

from dataclasses import replace

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.decoder import Decoder
from weft.tb.runner import simulate


@pytest.mark.parametrize(("preset", "tables"), [("tiny", 1), ("large", 0)])
def test_decoder(preset, tables):
    simulate(
        Decoder(replace(PRESETS[preset], tables=tables)),
        "tests.bench_decoder",
        simulator="icarus",
        env={"WEFT_CONFIG": preset, "WEFT_TABLES": tables},
        name=f"decoder-{preset}",
    )
