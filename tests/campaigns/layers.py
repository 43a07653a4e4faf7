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
from dataclasses import asdict, dataclass

import numpy as np
import torch
from weft.host import frontend, interpreter
from weft.host.networks import NETWORKS

from .. import results
from ..torch_models import Compared, compare

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
    correlation: float
    compared: Compared


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
        float(np.corrcoef(got, real)[0, 1]),
        compare(made, image),
    )


def main(arguments: Sequence[str] = ()) -> int:
    """Measure every network, or those named; returns how many exceed a limit or are wrong."""
    parser = argparse.ArgumentParser(prog="make verify ARGS='layers …'", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="all unless named")
    parser.add_argument("--write", action="store_true", help=results.HELP)
    options = parser.parse_args(arguments)
    failures, found = 0, {}
    head = "export quantize   peak interpret  nodes  correlation   levels compared    differ"
    print(f"{'':12} {head}")
    for name in options.names or NETWORKS:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                m = pool.submit(measure, name).result()
            except AssertionError as error:
                print(f"{name:12} differs from torch: {error}", flush=True)
                failures += 1
                continue
        seen = m.compared
        print(
            f"{name:12} {m.export:4.1f} s {m.quantize:6.1f} s {m.bytes / 2**30:4.1f} G"
            f" {m.interpret:7.1f} s {seen.nodes:6} {m.correlation:12.4f} {seen.levels:17,}"
            f" {seen.differ:9,}",
            flush=True,
        )
        found[name] = asdict(seen)
        failures += (
            m.quantize > MOST_SECONDS or m.bytes > MOST_BYTES or m.interpret > MOST_INTERPRETING
        )
    if options.write and not failures:
        results.write("layers", found)
    return failures
