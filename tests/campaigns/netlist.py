"""Netlist: what synthesis makes for an ECP5 gives the same bytes in the same cycles as the RTL.

The netlist's cells are simulated by Yosys's models and those of `boards/models/`: in Verilator a
trained LeNet from end to end and random programs, in Icarus a small program.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from weft.boards.netlist import netlist
from weft.hdl.config import Config, load
from weft.host import compiler, interpreter, lenet
from weft.host.device import Device, Result
from weft.tb.devices import IcarusDevice, VerilatorDevice

from ..gemm import Gemm
from ..programs import Generator


def differences(got: Result, expected: Result) -> list[str]:
    """In what two results differ."""
    pairs = {
        "status": ((got.error, got.error_pc, got.tag), (expected.error, expected.error_pc,
                   expected.tag)),
        "memory": (got.segments, expected.segments),
        "counters": (got.counters, expected.counters),
        "completions": (got.retired.tolist(), expected.retired.tolist()),
    }  # fmt: skip
    return [name for name, (a, b) in pairs.items() if a != b]


def check_lenet(config: Config, device: Device, rtl: Device, images: int) -> Iterator[str]:
    """What is wrong with LeNet on the netlist."""
    network = lenet.quantized(config)
    program = compiler.compile(network.graph, config)
    for number, image in enumerate(network.inputs[:images]):
        reference = interpreter.run(network.graph, image[None])[0]
        job = program.job(image)
        got = device.run(job).require()
        wrong = differences(got, rtl.run(job))
        if not np.array_equal(program.unpack(program.output, got.segments), reference):
            wrong.append("reference")
        cycles = got.counters["CYCLES"]
        print(f"LeNet, image {number}: {cycles} cycles, {', '.join(wrong) or 'alike'}", flush=True)
        if wrong:
            yield f"LeNet, image {number}: {', '.join(wrong)}"


def check_programs(config: Config, device: Device, rtl: Device, count: int) -> Iterator[str]:
    """Random programs that end differently on the netlist."""
    generator = Generator(config)
    for seed in range(count):
        job = generator.program(seed).job
        if wrong := differences(device.run(job), rtl.run(job)):
            yield f"random program {seed}: {', '.join(wrong)}"
    print(f"{count} random programs", flush=True)


def failures(config: Config, images: int, count: int) -> list[str]:
    """What differs on one machine, in sentences."""
    text = netlist(config)
    print(f"{config.name}: netlist of {text.count(chr(10))} lines", flush=True)
    rtl, device = VerilatorDevice(config), VerilatorDevice(config, verilog=text)
    try:
        found = [*check_lenet(config, device, rtl, images)]
        found += check_programs(config, device, rtl, count)
        gemm = Gemm(config)
        result = IcarusDevice(config, verilog=text).run(gemm.job())
        if wrong := differences(result, rtl.run(gemm.job())):
            found.append(f"in Icarus: {', '.join(wrong)}")
        print(f"in Icarus: {result.counters['CYCLES']} cycles", flush=True)
    finally:
        rtl.close()
        device.close()
    return [f"{config.name}: {text}" for text in found]


def main(args: Sequence[str] = ()) -> int:
    """Run the campaign; returns how many programs differ."""
    parser = argparse.ArgumentParser(prog="netlist", description=__doc__)
    parser.add_argument("--config", default="tiny", help="machine (%(default)s)")
    parser.add_argument("--images", type=int, default=2, help="of LeNet (%(default)s)")
    parser.add_argument("--count", type=int, default=50, help="random programs (%(default)s)")
    options = parser.parse_args(args)
    config = load(options.config)
    machines = [config, replace(config, name=f"{config.name}, packed", packed=True)]
    found = [
        text for machine in machines for text in failures(machine, options.images, options.count)
    ]
    for text in found:
        print(text, flush=True)
    return len(found)
