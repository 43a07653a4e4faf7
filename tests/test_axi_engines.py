"""The AXI signatures, the engines by themselves, and a foreign memory behind them."""

from __future__ import annotations

import gc

import pytest
from amaranth.lib.wiring import Out
from weft.hdl.axi import AxiLite, AxiRead, AxiWrite
from weft.hdl.burst import BurstSplitter
from weft.hdl.read_engine import ReadEngine
from weft.tb.runner import simulate

from tests.bench_dma import CONFIGS
from tests.test_load import LoadPath
from tests.test_store import StorePath

CONFIG = CONFIGS["default"]


@pytest.mark.parametrize("config", ["tiny", "default"])
def test_read_engine(config):
    simulate(
        ReadEngine(CONFIGS[config]),
        "tests.bench_axi_engines",
        simulator="icarus",
        env={"CONFIG": config},
        name=f"read_engine_{config}",
    )


@pytest.mark.parametrize("path", [LoadPath, StorePath])
def test_foreign_memory(path):
    simulate(
        path(CONFIG),
        "tests.bench_axi_oracle",
        simulator="verilator",
        name=f"oracle_{path.__name__.lower()}",
    )


def test_signature_names():
    address = {"id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "valid"}
    address |= {"ready"}
    names = {f"ar{n}" for n in address} | {"rid", "rdata", "rresp", "rlast", "rvalid", "rready"}
    assert set(AxiRead(CONFIG).members) == names
    names = {f"aw{n}" for n in address} | {"wdata", "wstrb", "wlast", "wvalid", "wready"}
    names |= {"bid", "bresp", "bvalid", "bready"}
    assert set(AxiWrite(CONFIG).members) == names
    lite = AxiLite(10).members
    assert len(lite) == 19
    assert {n for n in lite if lite[n].flow == Out} == {
        *("awaddr", "awprot", "awvalid", "wdata", "wstrb", "wvalid", "bready"),
        *("araddr", "arprot", "arvalid", "rready"),
    }


@pytest.mark.parametrize("addr_bits", [2, "10"])
def test_lite_refuses(addr_bits):
    with pytest.raises(ValueError, match="addr_bits must be an integer of at least 3, not"):
        AxiLite(addr_bits)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(("config", "beats"), [("default", 24), ("default", 1), ("wide", 128)])
def test_splitter_refuses(config, beats):
    with pytest.raises(ValueError, match=f"burst_beats must be a power of two .*, not {beats}"):
        BurstSplitter(CONFIGS[config], burst_beats=beats)
    gc.collect()
