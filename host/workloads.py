"""What can be measured by name: the example networks, quantized, and single layers.

Quantizing takes a while and depends on nothing but the network, the front end and a configuration's
multiplier, so integer graphs are kept in the cache that simulators are built in.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from . import interpreter, shapes
from .batch import MOST_IMAGES
from .errors import ModelError, WeftError
from .graph_file import load_graph, save_graph
from .networks import NETWORKS

if TYPE_CHECKING:
    import numpy as np

    from ..hdl.config import Config
    from .ir import Graph

_PACKAGE = Path(__file__).parent
#: Inputs from which ranges are taken.
_CALIBRATION = 2


@dataclass(frozen=True, eq=False)
class Workload:
    """An integer graph, and int8 inputs [batch, height, width, channels] to run it on at once."""

    graph: Graph
    inputs: np.ndarray

    @property
    def batch(self) -> int:
        """Inputs that are run at once."""
        return len(self.inputs)


def load(name: str, config: Config) -> Workload:
    """The network or single layer called `name`, for `config`'s requantizer, with one input; with
    N of them if the name ends in ``,batch=N``.

    Raises
    ------
    WeftError
        There is no such network, `name` describes no layer, or torch is needed and missing.
    """
    name, _, count = name.partition(",batch=")
    if not re.fullmatch(r"|[1-9]\d{0,3}", count):
        raise WeftError(f"a batch is of 1 to {MOST_IMAGES} inputs, not of {count!r}")
    batch = int(count or 1)
    if shapes.is_shape(name):
        graph = shapes.graph(name, config.multiplier_bits)
        return Workload(graph, shapes.inputs(graph, batch))
    if name not in NETWORKS:
        raise WeftError(
            f"unknown network {name!r}; there are {', '.join(NETWORKS)}, and shapes: {shapes.FORMS}"
        )
    from ..tb import cache as builds

    key = builds.key(name, str(config.multiplier_bits), *_front_end())
    folder = builds.cached(
        "graphs", key, lambda path: save_graph(_quantize(name, config), path / "graph")
    )
    graph = load_graph(folder / "graph")
    return Workload(graph, interpreter.quantize_input(graph, NETWORKS[name].inputs(batch)))


def _quantize(name: str, config: Config) -> Graph:
    from . import frontend, lenet

    if name == "lenet":
        return lenet.quantized(config).graph
    example = NETWORKS[name]
    return frontend.quantize(
        example.build(),
        example.inputs(_CALIBRATION),
        name=name,
        multiplier_bits=config.multiplier_bits,
    )


@cache
def _front_end() -> tuple[str, ...]:
    """Everything that the integer graph of a network depends on, as text."""
    try:
        packages = [version(name) for name in ("torch", "torchao", "numpy")]
    except PackageNotFoundError as error:
        raise ModelError("quantizing a model needs torch: pip install -e '.[torch]'") from error
    files = {_PACKAGE / "lenet.py"}
    todo = [*files, *sorted((_PACKAGE / "networks").glob("*.py"))]
    while todo:
        file = todo.pop()
        files.add(file)
        todo += _imports(file) - files
    data = sorted((_PACKAGE / "data").glob("*.safetensors"))
    sizes = [f"{file.name} {file.stat().st_size}" for file in data]
    return (*packages, *sizes, *(file.read_text(encoding="utf-8") for file in sorted(files)))


def _imports(file: Path) -> set[Path]:
    """The modules of this package that `file` imports."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            candidates = [base.with_suffix(".py"), *(base / f"{a.name}.py" for a in node.names)]
            found.update(path for path in candidates if path.is_file())
    return found
