"""The compiler: an integer graph and a configuration in, a program out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import INSTRUCTION_BYTES, IsaError, Segment, Unit
from .bound import bound_cycles, macs
from .check import check
from .emit import Emitter
from .errors import CompileError
from .fuse import fuse
from .layout import place
from .program import Layer, Port, Program
from .schedule import hoist_loads, synchronise

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .ir import Graph
    from .layout import Placement


def compile(graph: Graph, config: Config, *, inspect: bool = False) -> Program:
    """Compile `graph` for `config`.

    Parameters
    ----------
    graph
        A verified integer graph.
    config
        The machine.
    inspect
        Also store every layer's output, so that a run can be compared layer by layer; this costs
        cycles.

    Raises
    ------
    CompileError
        The network does not fit this machine.
    """
    _check_multipliers(graph, config)
    ops = fuse(graph, config)
    places = place(graph, ops, config)
    emitter = Emitter(config, places)
    emitter.input(graph.input)
    dumps: dict[int, Port] = {}
    scratch = 0
    for index, op in enumerate(ops):
        emitter.op(op, index)
        if inspect:
            dumps[index] = _port(places[op.output], Segment.SCRATCH, scratch, emitter)
            emitter.store(op.output, Segment.SCRATCH, scratch)
            scratch += _port_bytes(dumps[index])
    output = _port(places[graph.output], Segment.OUTPUT, 0, emitter)
    emitter.store(graph.output, Segment.OUTPUT, 0)
    source = _port(places[graph.input], Segment.INPUT, 0, emitter)
    steps = hoist_loads(emitter.steps)
    try:
        instructions = synchronise(steps, config.queue_depth)
    except IsaError as error:
        raise CompileError(f"{graph.name}: a layer needs an instruction that {error}") from error
    vectors = [step.layer for step in steps if step.unit == Unit.VECTOR]
    layers = tuple(
        Layer(
            name=op.name,
            kind=op.kind,
            macs=sum(macs(node, graph) for node in op.nodes),
            bound_cycles=bound_cycles(op.nodes[0], graph, config),
            last_vector=max(i for i, layer in enumerate(vectors) if layer == index) + 1,
            dump=dumps.get(index),
        )
        for index, op in enumerate(ops)
    )
    program = Program(
        name=graph.name,
        config=config,
        code=b"".join(instruction.encode() for instruction in instructions),
        const=bytes(emitter.const),
        input_bytes=_port_bytes(source),
        output_bytes=_port_bytes(output),
        scratch_bytes=scratch,
        input=source,
        output=output,
        layers=layers,
    )
    assert len(program.code) == len(instructions) * INSTRUCTION_BYTES
    check(program.code, config, program.sizes)
    return program


def _check_multipliers(graph: Graph, config: Config) -> None:
    most = 1 << (config.multiplier_bits - 1)
    for node in graph.nodes:
        if node.requant is not None and np.any(node.requant.multiplier >= most):
            raise CompileError(
                f"{node.name}: a multiplier exceeds the {config.multiplier_bits} bits of this "
                f"machine; quantize with multiplier_bits={config.multiplier_bits}"
            )


def _port(place: Placement, segment: Segment, offset: int, emitter: Emitter) -> Port:
    tensor = place.tensor
    return Port(
        name=tensor.name,
        segment=segment,
        offset=offset,
        shape=tensor.shape,
        row_pitch=emitter.dram_pitch(tensor.width * tensor.channels),
        pixel_pitch=tensor.channels,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )


def _port_bytes(port: Port) -> int:
    return port.shape[0] * port.row_pitch
