"""Define, calibrate, compile, run: an example network, whose definition is in host/networks.

python examples/networks.py squeezenet                  on the timing model
python examples/networks.py mlp mlp.weft                and keep the program
"""

import sys

import numpy as np
import torch
from rich import print
from weft.hdl.config import load
from weft.host import compiler, device, frontend, interpreter, run
from weft.host.networks import NETWORKS
from weft.host.report import host_table, layer_table

example = NETWORKS[sys.argv[1] if len(sys.argv) > 1 else "squeezenet"]
model, inputs = example.build(), example.inputs(2)

graph = frontend.quantize(model, inputs, name=example.name)
program = compiler.compile(graph, load("default"))
machine = device.open_device("model", program.config)
report = run.run(program, machine, interpreter.quantize_input(graph, inputs))

print(layer_table(report))
if report.host_calls:
    print(host_table(report.host_calls))
got = interpreter.dequantize(graph, graph.output, np.stack(report.outputs)).ravel()
with torch.no_grad():
    real = model(torch.from_numpy(inputs)).numpy().ravel()
print(f"correlation with float {np.corrcoef(got, real)[0, 1]:.4f}")
if len(sys.argv) > 2:
    program.save(sys.argv[2])
