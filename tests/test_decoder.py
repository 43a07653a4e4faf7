"""The decoder against the golden classification, word by word."""

import pytest
from weft.hdl.config import PRESETS
from weft.hdl.decoder import Decoder
from weft.tb.runner import simulate


@pytest.mark.parametrize("preset", ["tiny", "large"])
def test_decoder(preset):
    simulate(
        Decoder(PRESETS[preset]),
        "tests.bench_decoder",
        simulator="icarus",
        env={"WEFT_CONFIG": preset},
        name=f"decoder-{preset}",
    )
