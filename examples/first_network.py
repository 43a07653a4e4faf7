"""Compile, run and inspect a model: the README's example."""

import numpy as np
import torch
from weft.hdl.config import load
from weft.host import compiler, frontend, interpreter
from weft.host.device import open_device
from weft.host.run import run

model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
images = np.random.default_rng(0).random((8, 3, 16, 16), np.float32)
graph = frontend.quantize(model, images, name="first")
program = compiler.compile(graph, load("small"))
x = interpreter.quantize_input(graph, images)
machine = open_device("verilator", program.config)
report = run(program, machine, x, reference=interpreter.run_all(graph, x))
print(f"{report.mismatches} mismatches, {report.cycles_per_image:.0f} cycles an image")
