"""Quantize, compile and run a model: the README's example."""

from torch import nn, rand
from weft.hdl.config import load
from weft.host import compiler, device, frontend, interpreter, run

images = rand(8, 3, 16, 16).numpy()
graph = frontend.quantize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), images, name="first")
program = compiler.compile(graph, load("small"))
x = interpreter.quantize_input(graph, images)
machine = device.open_device("verilator", program.config)
report = run.run(program, machine, x, reference=interpreter.run_all(graph, x))
print(f"{report.mismatches} mismatches, {report.cycles_per_image:.0f} cycles an image")
