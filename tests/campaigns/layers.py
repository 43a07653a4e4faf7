"""Example networks at published sizes: every layer within a level of torch's, time, memory.

Each network has a process of its own, whose largest resident set is reported: once after
quantizing, which is what the front end takes, and not what the comparison adds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from weft.host import frontend, interpreter
from weft.host.networks import NETWORKS

from ..torch_models import compare_layers

#: What quantizing an exported network may take.
MOST_SECONDS, MOST_BYTES = 30.0, 3 << 30
#: What the interpreter may take for one image.
MOST_INTERPRETING = 30.0


@dataclass(frozen=True)
class Measured:
    """What one network took, in seconds of processor time and in bytes, and how it compares."""

    export: float
    quantize: float
    bytes: int
    interpret: float
    nodes: int
    correlation: float
    levels: int


def measure(name: str) -> Measured:
    """Quantize, interpret and compare a network; AssertionError where a layer is wrong."""
    torch.set_num_threads(1)
    example = NETWORKS[name]
    model, inputs = example.build(), example.inputs(2)
    image = torch.from_numpy(inputs[:1])
    start = time.process_time()
    program = torch.export.export(model, (image,))
    exported = time.process_time()
    made = frontend.simulate(program, inputs, name=name)
    quantized = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    graph = made.graph
    levels = interpreter.run(graph, interpreter.quantize_input(graph, inputs[:1]))
    interpreted = time.process_time()
    with torch.no_grad():
        real = model(image).numpy().ravel()
    got = interpreter.dequantize(graph, graph.output, levels).ravel()
    return Measured(
        exported - start,
        quantized - exported,
        peak,
        interpreted - quantized,
        len(graph.nodes),
        float(np.corrcoef(got, real)[0, 1]),
        compare_layers(made, image),
    )


def main(arguments: Sequence[str] = ()) -> int:
    """Measure every network, or those named; returns how many exceed a limit or are wrong."""
    parser = argparse.ArgumentParser(prog="make verify ARGS='layers …'", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="all unless named")
    names = parser.parse_args(arguments).names or list(NETWORKS)
    failures = 0
    print(f"{'':12} export quantize   peak interpret  nodes  correlation   levels compared")
    for name in names:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                m = pool.submit(measure, name).result()
            except AssertionError as error:
                print(f"{name:12} differs from torch: {error}", flush=True)
                failures += 1
                continue
        print(
            f"{name:12} {m.export:4.1f} s {m.quantize:6.1f} s {m.bytes / 2**30:4.1f} G"
            f" {m.interpret:7.1f} s {m.nodes:6} {m.correlation:12.4f} {m.levels:17,}",
            flush=True,
        )
        failures += (
            m.quantize > MOST_SECONDS or m.bytes > MOST_BYTES or m.interpret > MOST_INTERPRETING
        )
    return failures
