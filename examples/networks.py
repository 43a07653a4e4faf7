"""Quantize an example network and compare it with the float model.

python examples/networks.py mobilenetv2
"""

import sys

import numpy as np
import torch
from weft.host import frontend, interpreter
from weft.host.graph_file import save_graph
from weft.host.ir import Host
from weft.host.networks import NETWORKS

example = NETWORKS[sys.argv[1] if len(sys.argv) > 1 else "squeezenet"]
model, inputs = example.build(), example.inputs(2)
graph = frontend.quantize(model, inputs, name=example.name)
levels = interpreter.run(graph, interpreter.quantize_input(graph, inputs))
got = interpreter.dequantize(graph, graph.output, levels).ravel()
with torch.no_grad():
    real = model(torch.from_numpy(inputs)).numpy().ravel()
print(f"{len(graph.nodes)} nodes, correlation with float {np.corrcoef(got, real)[0, 1]:.4f}")
for node in graph.nodes:
    if isinstance(node, Host):
        print(f"on the host: {node.operator} at {node.name}")
if len(sys.argv) > 2:
    save_graph(graph, sys.argv[2])
