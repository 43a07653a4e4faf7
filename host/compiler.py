"""The compiler: an integer graph and a configuration in, a program out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.isa import IsaError, Opcode, Segment, Unit
from .bound import bound_cycles, macs
from .check import check
from .codegen.conv import emit_conv
from .codegen.emit import Emitter
from .codegen.matmul import emit_matmul
from .codegen.plan import Plan, plan
from .codegen.pool import emit_pool
from .codegen.views import Home, dram_pitch, whole
from .errors import CompileError
from .fuse import fuse
from .ir import Graph, sources
from .legalize import legalize
from .program import Call, Layer, Port, Program
from .schedule import hoist_loads, synchronise

if TYPE_CHECKING:
    from ..hdl.config import Config
    from .codegen.views import View
    from .fuse import Op
    from .schedule import Step


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
    legal, ops, plans = _plan(graph, config)
    emitter = Emitter(config, plans)
    dumps: dict[int, Home] = {}
    scratch = plans.scratch_bytes
    runs: list[list[Step]] = []
    calls: list[Call] = []
    run_of: dict[int, int] = {}
    for index, (op, cut) in enumerate(zip(ops, plans.ops, strict=True)):
        emitter.layer = index
        if op.on_host:
            if emitter.steps:
                runs.append(emitter.steps)
                emitter.begin()
            calls.append(_call(len(runs), op, legal, plans.homes))
        elif op.conv is not None:
            emit_conv(emitter, op, cut, legal)
        elif op.matmul is not None:
            emit_matmul(emitter, op, cut, legal)
        else:
            emit_pool(emitter, op, cut, legal)
        run_of[index] = len(runs) - op.on_host
        if inspect and op.output in graph.tensors:
            home = plans.homes.get(op.output)
            if home is None:
                home = _dump(plans.views[op.output], scratch, config)
                scratch += home.bytes
                emitter.transfer(Opcode.STORE, home, plans.views[op.output], whole(home.tensor))
            dumps[index] = home
    if graph.output in plans.views:
        home = _output(plans.views[graph.output], config)
        plans.homes[graph.output] = home
        emitter.transfer(Opcode.STORE, home, plans.views[graph.output], whole(home.tensor))
    runs += [emitter.steps] if emitter.steps else []
    code, lasts = [], {}
    for steps in runs:
        ordered = hoist_loads(steps)
        try:
            instructions = synchronise(ordered, config.queue_depth)
        except IsaError as error:
            raise CompileError(f"{graph.name}: an instruction {error}") from error
        code.append(b"".join(instruction.encode() for instruction in instructions))
        vectors = [step.layer for step in ordered if step.unit == Unit.VECTOR]
        lasts |= {layer: number for number, layer in enumerate(vectors, 1)}
    traffic = _traffic(runs, config)
    layers = tuple(
        _layer(
            op,
            graph,
            config,
            traffic[index],
            last_vector=lasts.get(index, 0),
            dump=_port(dumps[index]) if index in dumps else None,
            run=run_of[index],
        )
        for index, op in enumerate(ops)
    )
    program = Program(
        name=graph.name,
        config=config,
        code=b"".join(code),
        const=bytes(emitter.const),
        input_bytes=plans.homes[graph.input].bytes,
        output_bytes=plans.homes[graph.output].bytes,
        scratch_bytes=scratch,
        input=_port(plans.homes[graph.input]),
        output=_port(plans.homes[graph.output]),
        layers=layers,
        calls=tuple(calls),
    )
    for part in program.runs:
        check(part, config, program.sizes)
    return program


def _plan(graph: Graph, config: Config) -> tuple[Graph, tuple[Op, ...], Plan]:
    """The legal graph, its operations and their plan: concatenations on chip if there is room."""
    try:
        legal, on_host = legalize(graph, config)
        ops = fuse(legal, config, on_host)
        return legal, ops, plan(legal, ops, config)
    except CompileError:
        legal, on_host = legalize(graph, config, most_joined=0)
        ops = fuse(legal, config, on_host)
        return legal, ops, plan(legal, ops, config)


def _call(after: int, op: Op, graph: Graph, homes: dict[str, Home]) -> Call:
    """What the host does for `op` when `after` runs of the machine have ended."""
    node = op.nodes[0]
    names = dict.fromkeys((*sources(node), node.output))
    tensors = {name: graph.tensors[name] for name in names}
    part = Graph(node.name, node.output, node.output, tensors, (node,))
    return Call(after, part, tuple(_port(homes[name]) for name in names))


def _dump(view: View, offset: int, config: Config) -> Home:
    """Where in SCRATCH a tensor that lives in ACT is stored to be looked at."""
    tensor = view.tensor
    pixel = tensor.channels
    if view.pixel_pitch != pixel:
        pixel = dram_pitch(pixel, config)
    return Home(tensor, Segment.SCRATCH, offset, dram_pitch(tensor.width * pixel, config), pixel)


def _output(view: View, config: Config) -> Home:
    return replace(_dump(view, 0, config), segment=Segment.OUTPUT)


def _check_multipliers(graph: Graph, config: Config) -> None:
    most = 1 << (config.multiplier_bits - 1)
    for node in graph.nodes:
        requant = getattr(node, "requant", None)
        if requant is not None and np.any(requant.multiplier >= most):
            raise CompileError(
                f"{node.name}: a multiplier exceeds the {config.multiplier_bits} bits of this "
                f"machine; quantize with multiplier_bits={config.multiplier_bits}"
            )


@dataclass
class _Traffic:
    """What the instructions of a layer move over the bus, in whole beats."""

    read_bytes: int = 0
    written_bytes: int = 0
    instructions: int = 0


def _traffic(runs: list[list[Step]], config: Config) -> dict[int, _Traffic]:
    """The traffic of each layer; END belongs to the last one of its run."""
    out: dict[int, _Traffic] = defaultdict(_Traffic)
    bus = config.bus_bytes
    for steps in runs:
        for step in steps:
            mine = out[step.layer]
            mine.instructions += 1
            if step.opcode in (Opcode.LOAD, Opcode.STORE):
                moved = step.fields["rows"] * -(-step.fields["length"] // bus) * bus
                mine.read_bytes += moved * (step.opcode == Opcode.LOAD)
                mine.written_bytes += moved * (step.opcode == Opcode.STORE)
        out[max(step.layer for step in steps)].instructions += 1
    return out


def _layer(op: Op, graph: Graph, config: Config, traffic: _Traffic, **where: Any) -> Layer:
    """The report of an operation: its work is that of the network's own nodes, not the host's."""
    names = {node.name for node in op.nodes}
    nodes = [node for node in graph.nodes if node.name in names and not op.on_host]
    return Layer(
        name=op.name,
        kind=op.kind,
        macs=sum(macs(node, graph) for node in nodes),
        bound_cycles=bound_cycles(nodes, graph, config),
        on_host=op.on_host,
        read_bytes=traffic.read_bytes,
        written_bytes=traffic.written_bytes,
        instructions=traffic.instructions,
        **where,
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
        channel_pitch=home.channel_pitch,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )
