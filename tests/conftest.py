"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from weft.hdl.config import PRESETS, Config

COPY_ENGINE = Path(__file__).with_name("copy_engine.v")


def copy_engine(config: Config) -> str:
    """Verilog of a machine with Weft's pins that copies CONST to OUTPUT; see its first lines."""
    text = COPY_ENGINE.read_text()
    values = {
        "BUS_BITS": str(config.bus_bits),
        "CONFIG_LO": f"{config.fingerprint & 0xFFFFFFFF:08x}",
        "CONFIG_HI": f"{config.fingerprint >> 32:08x}",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


@pytest.fixture(scope="session")
def small() -> Config:
    """An 8×8 machine on a 64-bit bus."""
    return PRESETS["small"]
