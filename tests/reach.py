"""Programs for what random ones leave still: large counts and strides, long programs."""

from __future__ import annotations

from collections.abc import Iterator

from weft.hdl.config import Config
from weft.hdl.isa import FORMATS, Instruction, Opcode, Reduce, Segment
from weft.hdl.write_engine import write_burst_beats
from weft.host.device import Job

from .gemm import encode
from .programs import Generator, RandomProgram

#: Fields that are addresses and strides; they cost no time.
_STRIDES = {
    Opcode.LOAD: ("local", "local_pitch"),
    Opcode.MATMUL: ("act", "wgt", "acc", "row_pitch", "pixel_pitch", "sy", "sx", "dy", "dx"),
    Opcode.DRAIN: (
        *("dst", "dst_row", "dst_pixel", "par", "src", "src_row", "src_block", "sy", "sx"),
        *("res", "res_row", "res_pixel", "dst_jump"),
    ),
    Opcode.POOL: (
        *("dst", "dst_row", "dst_pixel", "par", "src", "src_row", "src_pixel", "sy", "sx"),
        *("iy0", "ix0", "fill"),
    ),
    Opcode.STORE: ("local", "local_pitch"),
}
#: Their bits: all, every other, the others, none.
_PATTERNS = (-1, 0x55555555, 0xAAAAAAAA, 0)
#: What makes an instruction of two opcodes long in one direction, and what it takes to be legal.
_COUNTS = {
    Opcode.MATMUL: ({"oy": 1023}, {"ox": 1023}, {"blocks": 63}, {"kc": 2047}),
    Opcode.DRAIN: ({"channels": 4095}, {"oy": 1023}, {"ox": 1023}),
    Opcode.POOL: ({"channels": 4095}, {"oy": 1023}, {"ox": 1023}),
}


def fields(opcode: Opcode, pattern: int) -> dict[str, int]:
    """An instruction's strides with the bits of a pattern, as far as they are legal."""
    out = {}
    for entry in FORMATS[opcode]:
        if entry.name in _STRIDES[opcode]:
            value = pattern & ((1 << entry.bits) - 1)
            if entry.signed and value >> entry.bits - 1:
                value -= 1 << entry.bits
            out[entry.name] = min(max(value, entry.minimum), entry.maximum)
    return out


def programs(config: Config) -> Iterator[RandomProgram]:
    """Programs with every stride, and then every count, at its ends."""
    generator = Generator(config)
    for k, pattern in enumerate(_PATTERNS):
        steps = []
        for opcode in _STRIDES:
            extra = {"segment": Segment.INPUT} if opcode == Opcode.LOAD else {}
            extra = {"segment": Segment.OUTPUT} if opcode == Opcode.STORE else extra
            if opcode in (Opcode.DRAIN, Opcode.POOL):
                extra = {"reduce": Reduce.SUM, "ry": 1, "rx": 2}
            if opcode == Opcode.POOL and not pattern:
                extra["src"] = config.act_bank_bytes  # or it would overwrite what it reads
            steps.append((opcode, {**fields(opcode, pattern), **extra}))
        yield generator.assemble(k, steps)
    steps = []
    for opcode, several in _COUNTS.items():
        for counts in several:
            place = {"dst": config.act_bytes // 2} if opcode != Opcode.MATMUL else {}
            steps += [(opcode, {**place, **counts}), (opcode, place)]
    yield generator.assemble(0, steps)
    yield generator.assemble(0, pages(config))
    yield generator.assemble(0, _tails(config))


def pages(config: Config) -> list[tuple[Opcode, dict[str, int]]]:
    """Rows of a burst and a beat that begin everywhere in a page."""
    out = []
    for opcode, segment, most in (
        (Opcode.LOAD, Segment.INPUT, config.burst_beats),
        (Opcode.STORE, Segment.OUTPUT, write_burst_beats(config)),
    ):
        length = (most + 1) * config.bus_bytes
        fields = {"length": length, "dram_pitch": length, "local_pitch": length}
        out.append((opcode, {**fields, "segment": segment, "rows": 16000 // length}))
    return out


def _tails(config: Config) -> list[tuple[Opcode, dict[str, int]]]:
    """Rows whose last beat reaches into a bank, with no byte of it, that another unit is using."""
    bank, bus = config.act_bank_bytes, config.bus_bytes
    out = []
    for size in range(1, bus):
        shape = {"oy": 8, "ox": 8, "src_row": 8}
        drain = {**shape, "dst": 2 * bank, "dst_row": 64, "dst_pixel": 8, "channels": config.cols}
        load = {"segment": Segment.INPUT, "rows": 8, "length": size, "local": 2 * bank - size}
        out += [(Opcode.DRAIN, drain), (Opcode.LOAD, load)]
        image = {"oy": 16, "ox": 16, "height": 16, "width": 16, "pixel_pitch": 4, "row_pitch": 64}
        store = {"segment": Segment.OUTPUT, "rows": 8, "length": size, "local": 3 * bank - size}
        out += [(Opcode.MATMUL, {**image, "act": 3 * bank}), (Opcode.STORE, store)]
    return out


def pitches(config: Config) -> Iterator[RandomProgram]:
    """Two rows that lie each power of two apart, in windows that end with the second."""
    generator, bus = Generator(config), config.bus_bytes
    for bit in range(bus.bit_length() - 1, 24):
        fields = {"rows": 2, "dram_pitch": 1 << bit, "length": bus, "local_pitch": 1 << bit % 20}
        steps = [
            (Opcode.LOAD, {**fields, "segment": Segment.INPUT}),
            (Opcode.STORE, {**fields, "segment": Segment.OUTPUT, "local": 3}),
        ]
        size = (1 << bit) + bus
        yield generator.assemble(bit, steps, (16384, size, size, 8192))


def lengths(config: Config) -> Iterator[RandomProgram]:
    """Rows of each power of two of beats, and some beats more; they begin within a page."""
    generator, bus = Generator(config), config.bus_bytes
    for bit in range(21 - bus.bit_length()):
        length, offset = ((1 << bit) + 5) * bus + 3, (21 << bit % 2) * bus
        row = {"offset": offset, "length": length}
        steps = [
            (Opcode.LOAD, {**row, "segment": Segment.INPUT, "local": bit}),
            (Opcode.STORE, {**row, "segment": Segment.OUTPUT, "local": 64 - bit}),
        ]
        size = offset + length
        yield generator.assemble(bit, steps, (16384, size, size, 8192))


def long(config: Config, count: int) -> Job:
    """A program of `count` instructions of all units, which have nothing in common."""
    bank = config.act_bank_bytes
    several = encode(
        Instruction(Opcode.LOAD, {"segment": Segment.INPUT}),
        Instruction(Opcode.MATMUL, {"act": bank}),
        Instruction(Opcode.DRAIN, {"src": config.acc_half, "dst": 2 * bank}),
        Instruction(Opcode.STORE, {"segment": Segment.OUTPUT, "local": 3 * bank}),
    )
    code = several * (count // 4) + encode(Instruction(Opcode.END))
    return Job(code, (bytes(64), bytes(64), bytes(64), bytes(64)))
