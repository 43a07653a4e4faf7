"""The compiler: an integer graph and a configuration in, a program out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hdl.isa import INSTRUCTION_BYTES, IsaError, Opcode, Segment, Unit
from .bound import bound_cycles, macs
from .check import check
from .codegen.conv import emit_conv
from .codegen.emit import Emitter
from .codegen.plan import plan
from .codegen.pool import emit_pool
from .codegen.views import Home, dram_pitch, whole
from .errors import CompileError
from .fuse import fuse
from .program import Layer, Port, Program
from .schedule import hoist_loads, synchronise

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .ir import Graph


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
    plans = plan(graph, ops, config)
    emitter = Emitter(config, plans)
    dumps: dict[int, Home] = {}
    scratch = plans.scratch_bytes
    for index, (op, cut) in enumerate(zip(ops, plans.ops, strict=True)):
        emitter.layer = index
        (emit_conv if op.conv is not None else emit_pool)(emitter, op, cut, graph)
        if inspect:
            tensor = graph.tensors[op.output]
            home = plans.homes.get(op.output)
            if home is None:
                pitch = dram_pitch(tensor.width * tensor.channels, config)
                home = Home(tensor, Segment.SCRATCH, scratch, pitch)
                scratch += home.bytes
                emitter.transfer(Opcode.STORE, home, plans.views[op.output], whole(tensor))
            dumps[index] = home
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
            dump=_port(dumps[index]) if inspect else None,
        )
        for index, op in enumerate(ops)
    )
    program = Program(
        name=graph.name,
        config=config,
        code=b"".join(instruction.encode() for instruction in instructions),
        const=bytes(emitter.const),
        input_bytes=plans.homes[graph.input].bytes,
        output_bytes=plans.homes[graph.output].bytes,
        scratch_bytes=scratch,
        input=_port(plans.homes[graph.input]),
        output=_port(plans.homes[graph.output]),
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


def _port(home: Home) -> Port:
    tensor = home.tensor
    return Port(
        name=tensor.name,
        segment=home.segment,
        offset=home.offset,
        shape=tensor.shape,
        row_pitch=home.row_pitch,
        pixel_pitch=home.pixel_pitch,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )
