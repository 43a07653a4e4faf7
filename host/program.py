"""The program file: everything a machine needs to run a network, and nothing that executes.

A ``.weft`` file is a safetensors container with two byte tensors, ``code`` and ``const``, and one
metadata entry ``weft``: JSON with the format version, the machine configuration, the segment
sizes, the input and output ports and the layers. ``digest`` covers all of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as container

from ..hdl.brief import brief, is_name, one_line
from ..hdl.config import Config, ConfigError
from ..hdl.files import write_whole
from ..hdl.isa import INSTRUCTION_BYTES, Instruction, IsaError, Opcode, Segment, Unit, check
from .device import Job, Result
from .errors import VerifyError, WeftError
from .graph_file import decode, encode
from .interpreter import evaluate
from .ir import Graph, sources
from .verify import verify_part

if TYPE_CHECKING:
    from .device import Device

FORMAT_VERSION = 3

#: Contents of the CONST, INPUT, OUTPUT and SCRATCH segments.
Segments = tuple[bytes, bytes, bytes, bytes]


class ProgramError(WeftError):
    """A program, or a program file, that cannot be used; the message says why."""


@dataclass(frozen=True)
class Port:
    """An activation map in a DRAM segment: where its bytes are and what they mean.

    Byte (y, x, c) of `shape` = (height, width, channels) lies at
    ``offset + y · row_pitch + x · pixel_pitch + c · channel_pitch``;
    real = (byte − zero_point) · scale.
    """

    name: str
    segment: Segment
    offset: int
    shape: tuple[int, int, int]
    row_pitch: int
    pixel_pitch: int
    scale: float = 1.0
    zero_point: int = 0
    channel_pitch: int = 1

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ProgramError(f"port {self.name!r} has no (height, width, channels): {self.shape}")
        if min(self.offset, self.row_pitch, self.pixel_pitch, self.channel_pitch) < 0:
            raise ProgramError(f"port {self.name!r} has a negative offset or pitch")
        reach = 1
        for pitch, count in sorted(
            zip((self.row_pitch, self.pixel_pitch, self.channel_pitch), self.shape, strict=True)
        ):
            if count > 1 and pitch < reach:
                raise ProgramError(f"port {self.name!r} has pitches at which its elements overlap")
            reach += (count - 1) * pitch
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ProgramError(f"port {self.name!r} has no positive scale: {self.scale}")
        if not -128 <= self.zero_point <= 127:
            raise ProgramError(f"port {self.name!r} has no INT8 zero point: {self.zero_point}")

    @property
    def end(self) -> int:
        """Byte after the last one of the map, in its segment."""
        h, w, c = self.shape
        last = (h - 1) * self.row_pitch + (w - 1) * self.pixel_pitch + (c - 1) * self.channel_pitch
        return self.offset + last + 1

    def indices(self) -> np.ndarray:
        """Byte offset of each element, [height, width, channels]."""
        h, w, c = (np.arange(n) for n in self.shape)
        rows = self.offset + h * self.row_pitch
        pixels = (w * self.pixel_pitch)[None, :, None]
        return rows[:, None, None] + pixels + c * self.channel_pitch


@dataclass(frozen=True)
class Layer:
    """What stretches of the program compute, for reports; numbers are those of a whole batch.

    Parameters
    ----------
    name, kind
        What the network calls it.
    macs
        Multiply-accumulates that it needs.
    bound_cycles
        The reference bound of its cycles.
    ends
        The layer ends, for each stretch in which it is worked on, when VECTOR has completed this
        many instructions of its run. Image by image a layer has a stretch for each of them.
    dump
        Where its output is stored, in programs compiled for inspection.
    run
        The run of the machine that computes it; for the host's layers, the one before.
    on_host
        Whether the host computes it.
    read_bytes, written_bytes
        What its LOADs and STOREs move, in whole beats.
    instructions
        How many it has; END belongs to the last layer of its run.
    """

    name: str
    kind: str
    macs: int
    bound_cycles: int
    ends: tuple[int, ...]
    dump: Port | None = None
    run: int = 0
    on_host: bool = False
    read_bytes: int = 0
    written_bytes: int = 0
    instructions: int = 0

    @property
    def moved_bytes(self) -> int:
        """Bytes over the bus: operands, results, and the instructions themselves."""
        return self.read_bytes + self.written_bytes + self.instructions * INSTRUCTION_BYTES


@dataclass(frozen=True)
class Call:
    """What the host computes between two runs of the machine.

    Parameters
    ----------
    after
        How many runs of the machine have ended before.
    graph
        One node, with its tensors of one image.
    ports
        Where, for all images, the tensors that it reads lie, and last the one that it writes.
    """

    after: int
    graph: Graph
    ports: tuple[Port, ...]

    def apply(self, segments: Segments) -> Segments:
        """The segments after the call."""
        values = {
            port.name: _view(port, segments).reshape(-1, *self.graph.tensors[port.name].shape)
            for port in self.ports
        }
        out = evaluate(self.graph, self.graph.nodes[0], values)
        target = self.ports[-1]
        data = np.frombuffer(segments[target.segment], np.int8).copy()
        data[target.indices()] = out.reshape(target.shape)
        changed = list(segments)
        changed[target.segment] = data.tobytes()
        return changed[0], changed[1], changed[2], changed[3]


def stretches(
    layers: Sequence[Layer], done: Sequence[int] | np.ndarray, total: int
) -> list[tuple[int, int]]:
    """The stretches of a run in order: which of `layers` it is, and the cycle in which it ends.

    Parameters
    ----------
    done
        Completion of each of VECTOR's instructions.
    total
        Cycles of the run; the last stretch takes the end of it.
    """
    order = sorted((end, index) for index, layer in enumerate(layers) for end in layer.ends)
    ends = [int(done[end - 1]) for end, _ in order]
    return [(index, end) for (_, index), end in zip(order, [*ends[:-1], total], strict=False)]


@dataclass(frozen=True)
class Program:
    """A compiled network.

    Parameters
    ----------
    name
        What reports call it.
    config
        The machine it was compiled for.
    code
        Encoded instructions, one END at their end.
    const
        Contents of the CONST segment.
    input_bytes, output_bytes, scratch_bytes
        Sizes of the other segments.
    input, output
        Where the network's input and output lie.
    layers
        In order of completion.
    calls
        What the host computes between runs of the machine, in order.
    batch
        Images that it takes at a time. Every map in DRAM has those of all of them, one below the
        other: a port's rows are `batch` times those of an image.

    Raises
    ------
    ProgramError
        Sizes or ports that contradict each other.
    """

    name: str
    config: Config
    code: bytes
    const: bytes
    input_bytes: int
    output_bytes: int
    scratch_bytes: int
    input: Port
    output: Port
    layers: tuple[Layer, ...] = ()
    calls: tuple[Call, ...] = ()
    batch: int = 1

    def __post_init__(self) -> None:
        if not (self.code or self.calls) or len(self.code) % INSTRUCTION_BYTES:
            raise ProgramError(
                f"code must be whole instructions of {INSTRUCTION_BYTES} bytes, "
                f"not {len(self.code)} bytes"
            )
        for segment, size in zip(Segment, self.sizes, strict=True):
            if not 0 <= size < 1 << 32:
                raise ProgramError(f"segment {segment.name} cannot have {size} bytes")
        for port, segment in ((self.input, Segment.INPUT), (self.output, Segment.OUTPUT)):
            if port.segment != segment:
                raise ProgramError(
                    f"port {port.name!r} must lie in {segment.name}, not in {port.segment.name}"
                )
        if self.batch < 1:
            raise ProgramError(f"a batch has at least 1 image, not {self.batch}")
        dumps = [layer.dump for layer in self.layers if layer.dump is not None]
        ports = [port for call in self.calls for port in call.ports]
        for port in (self.input, self.output, *dumps, *ports):
            if port.shape[0] % self.batch:
                raise ProgramError(
                    f"port {port.name!r} has {port.shape[0]} rows, "
                    f"which do not make {self.batch} images"
                )
            if port.end > self.sizes[port.segment]:
                raise ProgramError(
                    f"port {port.name!r} ends at byte {port.end} of {port.segment.name}, "
                    f"which has {self.sizes[port.segment]}"
                )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Bytes of the CONST, INPUT, OUTPUT and SCRATCH segments."""
        return len(self.const), self.input_bytes, self.output_bytes, self.scratch_bytes

    @property
    def runs(self) -> tuple[bytes, ...]:
        """The code of each run of the machine: one unless the host has something to do between."""
        words = np.frombuffer(self.code, np.uint8).reshape(-1, INSTRUCTION_BYTES)
        ends = np.flatnonzero(words[:, 0] & 15 == Opcode.END) + 1
        cuts = [0, *(int(end) * INSTRUCTION_BYTES for end in ends)]
        if cuts[-1] != len(self.code):
            cuts.append(len(self.code))
        return tuple(self.code[a:b] for a, b in pairwise(cuts))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers for a batch."""
        return sum(layer.macs for layer in self.layers)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        height, width, channels = self.input.shape
        return height // self.batch, width, channels

    def instructions(self) -> tuple[Instruction, ...]:
        """The decoded code; ProgramError where it is not legal for the configuration."""
        out = []
        for at in range(0, len(self.code), INSTRUCTION_BYTES):
            try:
                instruction = Instruction.decode(self.code[at : at + INSTRUCTION_BYTES])
                check(instruction, self.config)
            except IsaError as error:
                raise ProgramError(
                    f"instruction {at // INSTRUCTION_BYTES} is not legal: {error}"
                ) from error
            out.append(instruction)
        ends = [index for index, i in enumerate(out) if i.opcode == Opcode.END]
        last = len(out) - 1
        if last not in ends or (len(ends) > 1 and not self.calls):
            raise ProgramError(
                f"the code must have one END, at instruction {last}, not {ends or 'none'}"
            )
        return tuple(out)

    # -- data ----------------------------------------------------------------------------------

    def pack_input(self, x: np.ndarray) -> bytes:
        """The INPUT segment that holds int8 `x` [images, height, width, channels], zero elsewhere.

        A program for one image also takes it without the first axis.
        """
        full = self.batch, *self.input_shape
        short = full[1:] if self.batch == 1 else full
        if not isinstance(x, np.ndarray) or x.dtype != np.int8 or x.shape not in (full, short):
            given = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else brief(x)
            raise ProgramError(f"input {self.input.name!r} must be int8 {short}, not {given}")
        out = np.zeros(self.input_bytes, np.int8)
        out[self.input.indices()] = x.reshape(self.input.shape)
        return out.tobytes()

    def unpack(self, port: Port, segments: Segments) -> np.ndarray:
        """The int8 [images · height, width, channels] map that `port` shows in `segments`."""
        return _view(port, segments)

    def images(self, port: Port, segments: Segments) -> np.ndarray:
        """The same as int8 [images, height, width, channels]."""
        return self.unpack(port, segments).reshape(self.batch, -1, *port.shape[1:])

    def segments(self, x: np.ndarray) -> Segments:
        """The segments before the first run, for input `x`."""
        scratch = bytes(self.scratch_bytes)
        return self.const, self.pack_input(x), bytes(self.output_bytes), scratch

    def job(self, x: np.ndarray) -> Job:
        """What a device runs first for input `x`: all, unless there are calls."""
        return Job(self.runs[0], self.segments(x))

    def execute(self, device: Device, x: np.ndarray) -> tuple[Segments, list[Result]]:
        """Run the machine, and the host's calls between, for input `x`.

        Returns
        -------
        segments
            Their final contents.
        results
            One for each run of the machine.

        Raises
        ------
        DeviceError
            The machine stopped with an error.
        """
        segments, results = self.segments(x), []
        for number, code in enumerate((*self.runs, None)):
            for call in self.calls:
                if call.after == number:
                    segments = call.apply(segments)
            if code is not None:
                result = device.run(Job(code, segments))
                first = sum(map(len, self.runs[:number])) // INSTRUCTION_BYTES
                results.append(result.require(code, self.config, first=first))
                segments = results[-1].segments
        return segments, results

    # -- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the program to `path`, whole or not at all."""
        path = Path(path)
        arrays: list[np.ndarray] = []
        header = self._header(arrays)
        digest = _digest(header, self.code, self.const, *(array.tobytes() for array in arrays))
        meta = json.dumps({**header, "digest": digest}, default=_plain)
        tensors = {
            "code": np.frombuffer(self.code, np.uint8),
            "const": np.frombuffer(self.const, np.uint8),
            **{str(i): np.ascontiguousarray(array) for i, array in enumerate(arrays)},
        }
        data = container.save(tensors, metadata={"weft": meta})
        try:
            write_whole(path, data)
        except OSError as error:
            raise ProgramError(f"cannot write {path}: {error.strerror}") from error

    def _header(self, arrays: list[np.ndarray]) -> dict[str, Any]:
        """The description; the arrays of the host's operations are appended to `arrays`."""
        return {
            "format": FORMAT_VERSION,
            "name": self.name,
            "config": dataclasses.asdict(self.config),
            "fingerprint": f"{self.config.fingerprint:016x}",
            "batch": self.batch,
            "sizes": self.sizes,
            "input": dataclasses.asdict(self.input),
            "output": dataclasses.asdict(self.output),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "calls": [
                {
                    "after": call.after,
                    "graph": encode(call.graph, arrays),
                    "ports": [dataclasses.asdict(port) for port in call.ports],
                }
                for call in self.calls
            ],
        }


def _view(port: Port, segments: Segments) -> np.ndarray:
    data = np.frombuffer(segments[port.segment], np.int8)
    if data.size < port.end:
        raise ProgramError(
            f"port {port.name!r} ends at byte {port.end} of {port.segment.name}, "
            f"which has {data.size}"
        )
    return data[port.indices()]


def load(path: str | Path, config: Config | None = None) -> Program:
    """Read and check a program file.

    Parameters
    ----------
    path
        The file.
    config
        The machine that is to run it, if known.

    Raises
    ------
    ProgramError
        The file cannot be read, is no program file, is damaged, contradicts itself, or is for
        another configuration than `config`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ProgramError(f"cannot read {path}: {error.strerror}") from error
    try:
        program = _parse(data)
        _verify(program)
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ProgramError(f"{path}: not a program file, or a damaged one") from error
    if config is not None and config.fingerprint != program.config.fingerprint:
        raise ProgramError(
            f"{path}: compiled for configuration {program.config.name!r} "
            f"({program.config.fingerprint:016x}), not for {config.name!r} "
            f"({config.fingerprint:016x}); compile it again"
        )
    return program


def _plain(value: np.generic) -> float:
    """NumPy scalars as JSON knows numbers."""
    return value.item()


def _digest(header: dict[str, Any], *parts: bytes) -> str:
    sha = hashlib.sha256(json.dumps(header, sort_keys=True, default=_plain).encode())
    for part in parts:
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def _parse(data: bytes) -> Program:
    """The program in the bytes of a file."""
    try:
        tensors = container.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["weft"])
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ProgramError("not a program file, or a damaged one") from error
    if not isinstance(header, dict) or "format" not in header:
        raise ProgramError("not a program file, or a damaged one")
    if header["format"] != FORMAT_VERSION:
        raise ProgramError(
            f"program format {brief(header['format'])} is not format {FORMAT_VERSION}, "
            "the one this version reads; compile it again"
        )
    arrays = {name: array for name, array in tensors.items() if name not in ("code", "const")}
    numbers = [str(i) for i in range(len(arrays))]
    if set(tensors) != {"code", "const", *numbers} or any(
        tensors[name].dtype != np.uint8 or tensors[name].ndim != 1 for name in ("code", "const")
    ):
        raise ProgramError("not a program file: it must hold byte tensors 'code' and 'const'")
    code, const = tensors["code"].tobytes(), tensors["const"].tobytes()
    parts = code, const, *(arrays[name].tobytes() for name in numbers)
    if header.pop("digest", None) != _digest(header, *parts):
        raise ProgramError("the file is damaged: its digest does not match its contents")
    try:
        config = Config(**header["config"])
        batch = _integer(header["batch"])
        if header["fingerprint"] != f"{config.fingerprint:016x}":
            raise ProgramError("the fingerprint is not that of the configuration beside it")
        sizes = [_integer(size) for size in header["sizes"]]
        if len(sizes) != len(Segment) or sizes[0] != len(const):
            raise ProgramError(f"segment sizes {sizes} contradict {len(const)} bytes of constants")
        return Program(
            name=_text(header["name"]),
            config=config,
            code=code,
            const=const,
            input_bytes=sizes[1],
            output_bytes=sizes[2],
            scratch_bytes=sizes[3],
            input=_port(header["input"]),
            output=_port(header["output"]),
            layers=tuple(_layer(entry) for entry in header["layers"]),
            calls=tuple(_call(entry, arrays, batch) for entry in header["calls"]),
            batch=batch,
        )
    except ConfigError as error:
        raise ProgramError(f"its configuration is not legal: {error}") from error
    except VerifyError as error:
        raise ProgramError(f"its description is not legal: {error}") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ProgramError(f"its description is not complete: {one_line(error)}") from error


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >> 64:
        raise TypeError(f"{brief(value)} is not an integer")
    return value


def _text(value: object) -> str:
    if not is_name(value):
        raise TypeError(f"{brief(value)} is not a name of 1 to 200 characters")
    return str(value)


def _port(entry: dict[str, Any]) -> Port:
    return Port(
        name=_text(entry["name"]),
        segment=Segment(_integer(entry["segment"])),
        offset=_integer(entry["offset"]),
        shape=tuple(_integer(n) for n in entry["shape"]),  # pyright: ignore[reportArgumentType]
        row_pitch=_integer(entry["row_pitch"]),
        pixel_pitch=_integer(entry["pixel_pitch"]),
        scale=float(entry["scale"]),
        zero_point=_integer(entry["zero_point"]),
        channel_pitch=_integer(entry["channel_pitch"]),
    )


def _layer(entry: dict[str, Any]) -> Layer:
    return Layer(
        name=_text(entry["name"]),
        kind=_text(entry["kind"]),
        macs=_integer(entry["macs"]),
        bound_cycles=_integer(entry["bound_cycles"]),
        ends=tuple(_integer(end) for end in entry["ends"]),
        dump=None if entry["dump"] is None else _port(entry["dump"]),
        run=_integer(entry["run"]),
        on_host=bool(entry["on_host"]),
        read_bytes=_integer(entry["read_bytes"]),
        written_bytes=_integer(entry["written_bytes"]),
        instructions=_integer(entry["instructions"]),
    )


def _call(entry: dict[str, Any], arrays: dict[str, np.ndarray], batch: int) -> Call:
    graph = decode(entry["graph"], arrays)
    if not isinstance(graph, Graph) or len(graph.nodes) != 1:
        raise TypeError("a call of the host is no single node")
    verify_part(graph)
    ports = tuple(_port(port) for port in entry["ports"])
    names = dict.fromkeys((*sources(graph.nodes[0]), graph.nodes[0].output))
    shapes = [
        replace(graph.tensors[n], height=batch * graph.tensors[n].height).shape for n in names
    ]
    if [(port.name, port.shape) for port in ports] != [*zip(names, shapes, strict=True)]:
        raise ValueError(f"the ports of {graph.name!r} are not its tensors")
    return Call(_integer(entry["after"]), graph, ports)


def _verify(program: Program) -> None:
    """What only the decoded code shows."""
    program.instructions()
    vectors = [
        sum(
            Instruction.decode(code[at : at + INSTRUCTION_BYTES]).unit == Unit.VECTOR
            for at in range(0, len(code), INSTRUCTION_BYTES)
        )
        for code in program.runs
    ]
    for call in program.calls:
        if not 0 <= call.after <= len(vectors):
            raise ProgramError(
                f"{call.graph.name!r} is called after run {call.after} of {len(vectors)}"
            )
    for layer in program.layers:
        if layer.on_host:
            continue
        most = vectors[layer.run] if 0 <= layer.run < len(vectors) else -1
        wrong = [end for end in layer.ends or (0,) if not 0 < end <= most]
        if wrong:
            raise ProgramError(
                f"layer {layer.name!r} ends with VECTOR instruction {wrong[0]} of {most}"
            )
