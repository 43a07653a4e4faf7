"""Random fields of instructions: usual shapes, and any field at its edges, at a bounded cost.

A draw starts from a shape as a compiler would make it, small and around the machine's dimensions.
Then some fields, any of them, are set to their least, their greatest or any value, and the others
are cut down until the instruction takes no more cycles than it may.
"""

from __future__ import annotations

from random import Random

from weft.hdl.config import Config
from weft.hdl.isa import FORMATS, Field, Memory, Opcode, Reduce, Segment
from weft.hdl.numerics import PARAMETER_BYTES

#: Bytes at the start of CONST that are parameter entries, which nothing overwrites.
ENTRY_BYTES = 8192
#: Fields that say what to do, which are not set at random afterwards; semaphores are drawn later.
_KINDS = {"opcode", "wait", "post", "weight_wait", "weight_post", "memory", "segment", "table"}
_KINDS |= {"reduce", "residual", "accumulate"}
_SIZES = {
    Opcode.LOAD: ("length", "rows"),
    Opcode.STORE: ("length", "rows"),
    Opcode.MATMUL: ("blocks", "kc", "ky", "kx", "oy", "ox"),
    Opcode.DRAIN: ("channels", "oy", "ox", "ry", "rx"),
    Opcode.POOL: ("channels", "oy", "ox", "ry", "rx"),
}
#: Cycles that an instruction may take at all.
_AFFORDABLE = 9000
#: Fields that can be set to anything.
FREE: dict[Opcode, tuple[Field, ...]] = {
    opcode: tuple(entry for entry in FORMATS[opcode] if entry.name not in _KINDS)
    for opcode in _SIZES
}


def cost(opcode: Opcode, f: dict[str, int], config: Config) -> int:
    """About how many cycles an instruction takes; what is slow in software counts too."""
    if opcode in (Opcode.LOAD, Opcode.STORE):
        return f["rows"] * (f["length"] // config.bus_bytes + 2)
    outputs = f["oy"] * f["ox"]
    if opcode == Opcode.MATMUL:
        depth = f["ky"] * f["kx"] * f["kc"]
        tiles = -(-depth // config.rows)
        return f["blocks"] * tiles * max(config.rows, outputs) + outputs * depth // 100
    groups = -(-f["channels"] // config.vector_lanes)
    return groups * outputs * f["ry"] * f["rx"] + f["channels"]


class Draws:
    """Fields for one program.

    Parameters
    ----------
    config
        The machine.
    rng
        Where chance comes from.
    sizes
        Bytes of the four segments.
    wild
        How likely it is that fields leave their usual shape.
    """

    def __init__(self, config: Config, rng: Random, sizes: tuple[int, ...], *, wild: float):
        self._config = config
        self._rng = rng
        self._sizes = sizes
        self._wild = wild

    def fields(self, opcode: Opcode, most: int) -> dict[str, int]:
        """Fields of an instruction of about `most` cycles at most; mostly, but not surely, legal.

        What is not legal has bytes beyond a segment, or reads what it overwrites.
        """
        fields = getattr(self, f"_{opcode.name.lower()}")()
        pinned: set[str] = set()
        while self._rng.random() < self._wild:
            entry = self._rng.choice(FREE[opcode])
            fields[entry.name] = self._extreme(entry)
            pinned.add(entry.name)
        if opcode in (Opcode.LOAD, Opcode.STORE):
            fields["length"] = min(fields["length"], self._sizes[fields["segment"]])
        self._cut(opcode, fields, pinned, most)
        if opcode in (Opcode.LOAD, Opcode.STORE):
            self._place(opcode, fields, pinned)
        elif fields.get("reduce") == Reduce.NONE:
            fields["ry"] = fields["rx"] = 1
        return fields

    def _extreme(self, entry: Field) -> int:
        """The least, the greatest, or any value; small ones are as likely as large ones."""
        rng = self._rng
        kind = rng.randrange(4)
        if kind == 0:
            return entry.minimum
        if kind == 1:
            return entry.maximum
        if kind == 2:
            return rng.randint(entry.minimum, entry.maximum)
        value = rng.getrandbits(rng.randint(1, entry.bits)) * (rng.choice((-1, 1)) ** entry.signed)
        return min(max(value, entry.minimum), entry.maximum)

    def _cut(self, opcode: Opcode, f: dict[str, int], pinned: set[str], most: int) -> None:
        """Halve sizes until the instruction is cheap enough, those that were set at last.

        Sometimes those may stay as they are, where the instruction is affordable with them alone.
        """
        if pinned & {*_SIZES[opcode]} and self._rng.random() < 0.3:
            alone = cost(
                opcode, {**f, **{n: 1 for n in _SIZES[opcode] if n not in pinned}}, self._config
            )
            most = max(most, alone) if alone < _AFFORDABLE else most
        while cost(opcode, f, self._config) > most:
            sizes = [name for name in _SIZES[opcode] if f[name] > 1]
            name = max(sizes, key=lambda n: (n not in pinned, f[n]))
            smaller = 1 if name not in pinned and self._rng.random() < 0.2 else f[name] // 2
            f[name] = smaller

    def _place(self, opcode: Opcode, f: dict[str, int], pinned: set[str]) -> None:
        """Round addresses to beats (in PAR to entries), and put the transfer into its segment."""
        rng, bus = self._rng, self._config.bus_bytes
        start, end = 0, self._sizes[f["segment"]]
        memory = f["memory"] if opcode == Opcode.LOAD else Memory.ACT
        beat = max(bus, PARAMETER_BYTES) if memory == Memory.PAR else bus
        if memory != Memory.ACT:
            f["local"] -= f["local"] % beat
            f["local_pitch"] -= f["local_pitch"] % beat
            f["length"] = max(bus, f["length"] - f["length"] % bus)
        if f["segment"] == Segment.CONST and opcode == Opcode.STORE:
            start = ENTRY_BYTES
        elif memory == Memory.PAR:
            end = ENTRY_BYTES
        f["dram_pitch"] -= f["dram_pitch"] % beat
        f["length"] = min(f["length"], end - start - beat)
        room = end - start - f["length"]
        steps = f["rows"] - 1
        if steps and steps * f["dram_pitch"] > room:
            if "dram_pitch" in pinned:
                f["rows"] = 1 + room // f["dram_pitch"]
            else:
                f["dram_pitch"] = room // steps // beat * beat
        room -= (f["rows"] - 1) * f["dram_pitch"]
        f["offset"] -= f["offset"] % beat
        if not start <= f["offset"] <= start + room:
            f["offset"] = start + beat * rng.choice((0, room // beat, rng.randint(0, room // beat)))
        if memory == Memory.ACT and f["rows"] == 1 and rng.random() < 0.05:  # up to the last byte
            f["offset"] = end - end % bus - bus * rng.randrange(1, 4)
            f["length"] = end - f["offset"]

    # -- usual shapes --------------------------------------------------------------------------

    def _edge(self, size: int, most: int) -> int:
        """Around a dimension of the machine, or small, or prime."""
        choices = (1, 1, 2, 3, size - 1, size, size + 1, 7, 13, self._rng.randint(1, most))
        return max(1, min(most, self._rng.choice(choices)))

    def _act(self) -> int:
        """Few places, so that instructions meet: around the banks' ends, aligned or not."""
        rng, config = self._rng, self._config
        bank = rng.randrange(config.act_banks) * config.act_bank_bytes
        near = rng.choice((0, 0, rng.randrange(64), -rng.randrange(1, 40)))
        return (bank + near) % config.act_bytes

    def _load(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        bus = config.bus_bytes
        memories = [*3 * [Memory.ACT], Memory.WGT, Memory.WGT, Memory.PAR]
        memory = rng.choice([*memories, Memory.TBL] if config.tables else memories)
        length = self._edge(bus, 200)
        local, pitch = self._act(), length + rng.randrange(9)
        if memory != Memory.ACT:
            length = bus * rng.randint(1, 24)
            local, pitch = bus * rng.choice((0, 0, rng.randrange(32))), length
        if rng.random() < 0.1:  # several bursts
            length = bus * rng.randint(config.burst_beats, 5 * config.burst_beats)
        return {
            "memory": memory, "segment": Segment.CONST if memory == Memory.PAR
            else rng.choice((*Segment, Segment.INPUT, Segment.SCRATCH)),
            "rows": self._edge(4, 8), "dram_pitch": bus * rng.randrange(5), "length": length,
            "offset": rng.randrange(1 << 14), "local": local, "local_pitch": pitch,
        }  # fmt: skip

    def _store(self) -> dict[str, int]:
        rng, bus = self._rng, self._config.bus_bytes
        length = self._edge(bus, 300)
        if rng.random() < 0.1:
            length = bus * rng.randint(16, 80) + rng.randrange(bus)
        return {
            "segment": rng.choice((*Segment, Segment.OUTPUT, Segment.OUTPUT, Segment.SCRATCH)),
            "offset": rng.randrange(1 << 14), "length": length, "rows": self._edge(3, 6),
            "local": self._act(), "local_pitch": length + rng.randrange(17),
            "dram_pitch": -(-length // bus) * bus + bus * rng.randrange(2),
        }  # fmt: skip

    def _window(self) -> dict[str, int]:
        rng = self._rng
        return {
            "sy": rng.randint(1, 3), "sx": rng.randint(1, 3),
            "oy": self._edge(3, 6), "ox": self._edge(self._config.rows, 20),
        }  # fmt: skip

    def _padding(self, height: int, width: int) -> dict[str, int]:
        rng = self._rng
        if rng.random() < 0.4:
            return {
                "iy0": 0,
                "ix0": 0,
                "height": 2047,
                "width": 2047,
                "fill": rng.randint(-128, 127),
            }
        return {
            "height": max(1, height - rng.randrange(3)), "width": max(1, width - rng.randrange(3)),
            "iy0": -rng.randrange(3), "ix0": -rng.randrange(3), "fill": rng.randint(-128, 127),
        }  # fmt: skip

    def _matmul(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        kc = self._edge(config.rows, 4 * config.rows)
        ky, kx = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))
        dy, dx = rng.choice((1, 1, 2)), rng.choice((1, 1, 1, 2))
        window = self._window()
        width = (window["ox"] - 1) * window["sx"] + (kx - 1) * dx + 1
        height = (window["oy"] - 1) * window["sy"] + (ky - 1) * dy + 1
        pixel = kc if rng.random() < 0.8 else kc + config.act_lanes * rng.randrange(2)
        row = width * pixel
        if rng.random() < 0.8:  # make vectors continue in the next byte lane
            row += (kx * kc - row) % config.act_lanes
        return {
            "accumulate": int(rng.random() < 0.4), "act": self._act(),
            "wgt": max(1, config.bus_bytes // config.wgt_row_bytes) * rng.randrange(8),
            "acc": config.acc_half * rng.randrange(2) + rng.choice((0, 0, rng.randrange(8))),
            "blocks": rng.choice((1, 1, 2, 3)), "kc": kc, "ky": ky, "kx": kx, "dy": dy, "dx": dx,
            "row_pitch": row, "pixel_pitch": pixel, **window, **self._padding(height, width),
        }  # fmt: skip

    def _vector(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        window = self._window()
        channels = self._edge(config.vector_lanes, 4 * config.cols)
        pixel = channels + rng.choice((0, 0, rng.randrange(9)))
        row = window["ox"] * pixel + rng.choice((0, 0, rng.randrange(17)))
        return {
            "dst": self._act(), "par": rng.choice((0, 0, rng.randrange(16))), "dst_row": row,
            "dst_pixel": pixel, "reduce": rng.choice([*Reduce]), "ry": rng.randint(1, 3),
            "rx": rng.randint(1, 3), "channels": channels,
            "table": rng.choice((0, rng.randint(0, config.tables))), **window,
        }  # fmt: skip

    def _drain(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        fields = self._vector()
        width = (fields["ox"] - 1) * fields["sx"] + fields["rx"]
        height = (fields["oy"] - 1) * fields["sy"] + fields["ry"]
        fields |= {
            "src": config.acc_half * rng.randrange(2) + rng.choice((0, 0, rng.randrange(8))),
            "src_row": width + rng.randrange(2), "src_block": width * height,
            "residual": int(rng.random() < 0.4), "res": self._act(),
            "res_row": fields["dst_row"] + rng.randrange(4), "res_pixel": fields["dst_pixel"],
            "dst_jump": 0,
        }  # fmt: skip
        if rng.random() < 0.3:  # in place
            fields |= {"res": fields["dst"], "res_row": fields["dst_row"]}
        return fields | self._transposed(fields) if rng.random() < 0.3 else fields

    def _transposed(self, fields: dict[str, int]) -> dict[str, int]:
        """A channel a row: close together, or so far apart that they lie in several banks."""
        rng, config = self._rng, self._config
        row = fields["ox"] + rng.choice((0, rng.randrange(5)))
        jump = -(-fields["oy"] * row // config.act_lanes) + rng.randrange(3)
        if rng.random() < 0.3:
            jump = config.act_words // rng.randint(1, 2 * fields["channels"])
        return {"dst_row": row, "dst_pixel": 1, "dst_jump": min(jump, (1 << 16) - 1)}

    def _pool(self) -> dict[str, int]:
        rng = self._rng
        fields = self._vector()
        width = (fields["ox"] - 1) * fields["sx"] + fields["rx"]
        height = (fields["oy"] - 1) * fields["sy"] + fields["ry"]
        pixel = fields["channels"] + rng.choice((0, rng.randrange(5)))
        return {
            **fields, "src": self._act(), "src_pixel": pixel,
            "src_row": width * pixel + rng.choice((0, rng.randrange(9))),
            **self._padding(height, width),
        }  # fmt: skip
