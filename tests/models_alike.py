"""A quantized network on the golden machine, the timing model and the RTL, and what differs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from weft.hdl.config import Config, load
from weft.host import compiler, frontend, interpreter
from weft.host.errors import WeftError
from weft.host.ir import Graph
from weft.host.timing.device import ModelDevice
from weft.tb.devices import VerilatorDevice

from .random_models import sample
from .torch_models import compare_layers, export

ODD = str(Path(__file__).with_name("configs") / "odd.toml")
#: Machines of the random models; one has not as many rows as columns.
CONFIGS = ("tiny", ODD, "small")
LATENCIES = (1, 50, 13)


@cache
def devices(config: str, latency: int) -> tuple[VerilatorDevice, ModelDevice]:
    """The RTL, and golden machine with timing model; one of each for each process."""
    machine = load(config)
    return VerilatorDevice(machine, latency=latency), ModelDevice(machine, latency=latency)


def differences(
    graph: Graph, config: Config, rtl, model, x: np.ndarray, batch: int = 1
) -> list[str]:
    """What differs, of every byte in DRAM and every stored layer, of counters and completions.

    Parameters
    ----------
    graph
        The network; it runs as it is, and compiled to store every layer.
    rtl, model
        Devices of the machine `config`.
    x
        int8 inputs [N, height, width, channels].
    batch
        How many of them the machine takes at a time; divides N.
    """
    want = interpreter.run_all(graph, x)
    wrong: list[str] = []
    for inspect in (False, True):
        program = compiler.compile(graph, config, batch=batch, inspect=inspect)
        ports = [program.output, *(p for layer in program.layers if (p := layer.dump) is not None)]
        assert not inspect or len(ports) > 1
        for first in range(0, len(x), batch):
            images = slice(first, first + batch)
            segments, results = program.execute(rtl, x[images])
            others, predictions = program.execute(model, x[images])
            names = zip(("CONST", "INPUT", "OUTPUT", "SCRATCH"), segments, others, strict=True)
            wrong += [f"{name} on golden machine and RTL" for name, a, b in names if a != b]
            for number, (got, predicted) in enumerate(zip(results, predictions, strict=True)):
                retired = got.retired[np.lexsort((got.retired[:, 1], got.retired[:, 0]))]
                if got.counters != predicted.counters:
                    wrong.append(f"counters of run {number}")
                if not np.array_equal(retired, predicted.retired):
                    wrong.append(f"completions of run {number}")
            for port in ports:
                if not np.array_equal(program.images(port, segments), want[port.name][images]):
                    wrong.append(f"{port.name} on interpreter and RTL")
    return wrong


def run(seed: int) -> tuple[str, list[str]]:
    """The outcome of the model of a seed, and what is wrong with it."""
    rng = Random(f"model {seed}")
    name, latency = CONFIGS[seed % 3], LATENCIES[seed // 3 % 3]
    config = load(name)
    subject = sample(rng, config)
    try:
        made = frontend.simulate(
            export(subject.model, subject.inputs),
            subject.inputs,
            name="m",
            asymmetric=subject.asymmetric,
            multiplier_bits=config.multiplier_bits,
        )
        compiler.compile(made.graph, config)
    except WeftError as error:
        return f"refused: {error}", []
    wrong = []
    try:
        compare_layers(made, subject.inputs[:2])
    except AssertionError as error:
        wrong.append(f"interpreter and torch: {error}")
    x = interpreter.quantize_input(made.graph, subject.inputs[:1].numpy())
    x = np.concatenate([x, np.full_like(x, rng.choice((-128, 127)))])
    batch = rng.choice((1, 1, 2))
    wrong += differences(made.graph, config, *devices(name, latency), x, batch)
    if not wrong:
        return "alike", []
    where = f"seed {seed}, {config.name}, latency {latency}, batch {batch}"
    return "different", [f"{where}: {'; '.join(wrong)} differ\n{subject.model}"]


def build(config: str) -> None:
    """Build the simulator of a configuration, for all processes."""
    VerilatorDevice(load(config)).close()


def quiet() -> None:
    """One thread for torch, where processes share the cores."""
    torch.set_num_threads(1)
