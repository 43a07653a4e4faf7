"""Nothing relies on what registers and memories hold before reset and before they are written."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from weft.hdl.config import PRESETS
from weft.host import compiler, interpreter
from weft.host.device import DeviceError
from weft.host.golden import GoldenDevice
from weft.tb.devices import IcarusDevice, machine_verilog

from . import networks
from .filled import filled_program
from .programs import Generator

TINY = PRESETS["tiny"]


@pytest.mark.parametrize("parity", [False, True], ids=["plain", "parity"])
def test_random_program(parity):
    """x in every register and memory: exact results, no x on an output that counts."""
    config = replace(TINY, parity=parity)
    program = filled_program(config, 0)
    expected = GoldenDevice(config).run(program.job)
    got = IcarusDevice(config, undefined=True, latency=7, stalls=1).run(program.job).require()
    assert got.segments == expected.segments
    assert got.tag == expected.tag


def test_network():
    rng = np.random.default_rng(1)
    x = networks.Tensor("x", 6, 6, 4, 1.0)
    first, maps = networks.conv(rng, "conv", x, 8, TINY.multiplier_bits, kernel=(3, 3), low=0)
    pool, pooled = networks.maxpool("pool", maps, 2, 2)
    last, out = networks.conv(
        rng, "linear", pooled, 12, TINY.multiplier_bits, kernel=(2, 2), kind="linear"
    )
    graph = networks.graph("network", x, (first, maps), (pool, pooled), (last, out))
    program = compiler.compile(graph, TINY)
    image = rng.integers(-128, 128, (6, 6, 4)).astype(np.int8)
    result = IcarusDevice(TINY, undefined=True).run(program.job(image)).require()
    expected = interpreter.run_all(graph, image[None])[graph.output][0]
    assert np.array_equal(program.unpack(program.output, result.segments), expected)


def without_reset(verilog: str, module: str, register: str) -> str:
    """The Verilog with a register that no reset reaches."""
    begin = verilog.index(f"module {module}(")
    end = verilog.index("endmodule", begin)
    text = verilog[begin:end]
    (value,) = re.findall(rf"^    {register} <= (\w+);$", text, re.MULTILINE)
    reset = rf"^    if \(re?se?t\) begin\n      {value} = .*;\n    end\n"
    text, found = re.subn(reset, "", text, flags=re.MULTILINE)
    assert found
    return verilog[:begin] + text + verilog[end:]


@pytest.mark.parametrize(
    ("module", "register", "output"),
    [
        ("weft_write_engine", "some_whole", "m_axi_awvalid"),
        ("weft_registers", "has_address", "s_axil_awready"),
    ],
)
def test_an_undefined_output_is_noticed(module, register, output):
    verilog = without_reset(machine_verilog(TINY), module, register)
    device = IcarusDevice(TINY, undefined=True, verilog=verilog, patience=500)
    with pytest.raises(DeviceError, match=f"an output is undefined: {output} is X"):
        device.run(Generator(TINY).program(0, most=2).job)
