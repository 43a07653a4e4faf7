"""The compiler: an integer graph and a configuration in, a program out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.isa import IsaError, Opcode, Segment, Unit
from .batch import batched, regions
from .bound import bound_cycles, macs
from .check import check
from .codegen.conv import emit_conv
from .codegen.emit import Emitter
from .codegen.matmul import emit_matmul
from .codegen.planner import plan
from .codegen.pool import emit_pool
from .codegen.views import Home, dram_pitch
from .errors import CompileError
from .fuse import fuse
from .ir import Graph, sources
from .legalize import legalize
from .program import Call, Layer, Port, Program
from .schedule import hoist_loads, synchronise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hdl.config import Config
    from .codegen.plan import Plan
    from .fuse import Op
    from .schedule import Step


def compile(graph: Graph, config: Config, *, batch: int = 1, inspect: bool = False) -> Program:
    """Compile `graph` for `config`.

    Parameters
    ----------
    graph
        A verified integer graph.
    config
        The machine.
    batch
        Images that a run of the program takes; see :mod:`.batch`.
    inspect
        Also store every layer's output, so that a run can be compared layer by layer; this costs
        cycles.

    Raises
    ------
    CompileError
        The network does not fit this machine.
    """
    _check_multipliers(graph, config)
    ops, plans = _plan(graph, config, batch)
    emitter = Emitter(config, plans)
    dumps: dict[int, Home] = {}
    scratch = plans.scratch_bytes
    runs: list[list[Step]] = []
    calls: list[Call] = []
    run_of: dict[int, int] = {}
    if inspect:
        for index, op in enumerate(ops):
            if op.output in graph.tensors:
                home = plans.homes.get(op.output)
                if home is None:
                    home = _dump(plans, op.output, Segment.SCRATCH, scratch, config)
                    scratch += home.bytes
                dumps[index] = home
    for index, image in _order(ops, batch):
        op, cut = ops[index], plans.ops[index]
        emitter.layer, emitter.image = index, image
        tensors = plans.batch.graph(op.nodes[0].name)
        if op.on_host:
            if emitter.steps:
                runs.append(emitter.steps)
                emitter.begin()
            calls.append(_call(len(runs), op, plans))
        elif op.conv is not None:
            emit_conv(emitter, op, cut, tensors)
        elif op.matmul is not None:
            emit_matmul(emitter, op, cut, tensors)
        else:
            emit_pool(emitter, op, cut, tensors)
        run_of[index] = len(runs) - op.on_host
        if index in dumps and op.output not in plans.homes:
            emitter.store(op.output, plans.part(dumps[index], image))
    if graph.output in plans.views:
        plans.homes[graph.output] = _dump(plans, graph.output, Segment.OUTPUT, 0, config)
        emitter.image = None
        emitter.store(graph.output, plans.homes[graph.output])
    runs += [emitter.steps] if emitter.steps else []
    code: list[bytes] = []
    ends: dict[int, list[int]] = defaultdict(list)
    for steps in runs:
        ordered = hoist_loads(steps)
        try:
            instructions = synchronise(ordered, config.queue_depth)
        except IsaError as error:
            raise CompileError(f"{graph.name}: an instruction {error}") from error
        code.append(b"".join(instruction.encode() for instruction in instructions))
        vectors = [step.layer for step in ordered if step.unit == Unit.VECTOR]
        for number, (layer, following) in enumerate(pairwise([*vectors, -1]), 1):
            if layer != following:
                ends[layer].append(number)
    traffic = _traffic(runs, config)
    layers = tuple(
        _layer(
            op,
            graph,
            config,
            traffic[index],
            batch,
            ends=tuple(ends[index]),
            dump=_port(dumps[index]) if index in dumps else None,
            run=run_of[index],
        )
        for index, op in enumerate(ops)
    )
    program = Program(
        name=graph.name,
        config=config,
        batch=batch,
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


def _plan(graph: Graph, config: Config, images: int) -> tuple[tuple[Op, ...], Plan]:
    """The operations and their plan: concatenations on chip if there is room."""

    def attempt(**joined: int) -> tuple[tuple[Op, ...], Plan]:
        legal, on_host = legalize(graph, config, **joined)
        batch = batched(legal, on_host, config, images)
        ops = fuse(batch, config, on_host)
        return ops, plan(batch, ops, config)

    try:
        return attempt()
    except CompileError:
        return attempt(most_joined=0)


def _order(ops: tuple[Op, ...], images: int) -> Iterator[tuple[int, int | None]]:
    """The operations in the order of their work, each with its image, or None for all of them."""
    for region in regions(ops):
        for image in (None,) if ops[region.start].joint else range(images):
            for index in region:
                yield index, image


def _call(after: int, op: Op, plans: Plan) -> Call:
    """What the host does for `op` when `after` runs of the machine have ended."""
    node = op.nodes[0]
    names = dict.fromkeys((*sources(node), node.output))
    tensors = {name: plans.batch.one.tensors[name] for name in names}
    part = Graph(node.name, node.output, node.output, tensors, (node,))
    return Call(after, part, tuple(_port(plans.homes[name]) for name in names))


def _dump(plans: Plan, name: str, segment: Segment, offset: int, config: Config) -> Home:
    """Where in DRAM a tensor that lives in ACT is stored to be looked at, in all images."""
    tensor = plans.batch.stacked.tensors[name]
    pixel = tensor.channels
    if plans.views[name].pixel_pitch != pixel:
        pixel = dram_pitch(pixel, config)
    return Home(tensor, segment, offset, dram_pitch(tensor.width * pixel, config), pixel)


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


def _layer(
    op: Op, graph: Graph, config: Config, traffic: _Traffic, batch: int, **where: Any
) -> Layer:
    """The report of an operation: its work is that of the network's own nodes, not the host's."""
    names = {node.name for node in op.nodes}
    nodes = [node for node in graph.nodes if node.name in names and not op.on_host]
    return Layer(
        name=op.name,
        kind=op.kind,
        macs=batch * sum(macs(node, graph) for node in nodes),
        bound_cycles=bound_cycles(nodes, graph, config, batch=batch),
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
