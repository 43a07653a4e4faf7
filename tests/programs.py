"""Random legal programs: every opcode and field, semaphores where hazards demand them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import Instruction, IsaError, Memory, Opcode, Reduce, Segment, Unit, check
from weft.hdl.numerics import PARAMETER_BYTES, Parameter
from weft.host import check as checker
from weft.host.device import Job
from weft.host.errors import WeftError
from weft.host.golden import GoldenDevice
from weft.host.regions import RegionError, accesses
from weft.host.schedule import Access, Step, synchronise
from weft.host.timing.machine import predict
from weft.tb.devices import VerilatorDevice
from weft.tb.lockstep import first_difference

_SPACE = {"ACT": "act", "WGT": "wgt", "PAR": "par", "TBL": "tbl"}


@dataclass(frozen=True)
class RandomProgram:
    """A program, and memory to run it on."""

    seed: int
    config: Config
    instructions: tuple[Instruction, ...]
    job: Job


class Bench:
    """Golden machine, timing model and RTL of one configuration, side by side."""

    def __init__(self, config: Config, *, latency: int = 50):
        self._config = config
        self._latency = latency
        self._generator = Generator(config)
        self._open()

    def _open(self) -> None:
        self._golden = GoldenDevice(self._config)
        self._golden.machine.written = []
        self._device = VerilatorDevice(self._config, latency=self._latency, lockstep=True)

    def differences(self, seed: int) -> list[str]:
        """What differs between the three for one program; each text shows the program."""
        program = self._generator.program(seed)
        written = self._golden.machine.written = []
        expected, got = self._golden.run(program.job), self._device.run(program.job)
        prediction = predict(self._config, program.job.code, latency=self._latency)
        retired = got.retired[np.lexsort((got.retired[:, 1], got.retired[:, 0]))]
        pairs = {
            "status": ((got.error, got.tag), (expected.error, expected.tag)),
            "memory": (got.segments, expected.segments),
            "completions": (retired.tolist(), prediction.retired.tolist()),
            "counters": (got.counters, prediction.counters),
        }
        wrong = [name for name, (a, b) in pairs.items() if a != b]
        first = first_difference(
            program.job.code, written, self._device.writes, got.retired, prediction.retired
        )
        if not wrong and first is None:
            return []
        self.close()
        self._open()  # memories that went apart would only repeat the difference
        head = f"seed {seed}, {self._config.name}, latency {self._latency}: "
        head += f"{', '.join(wrong) or 'writes'} differ; {first}"
        return [head + "\n" + "\n".join(f"{i:3} {x}" for i, x in enumerate(program.instructions))]

    def close(self) -> None:
        """Free the simulator."""
        self._device.close()


class Generator:
    """Draws the programs of one configuration; the same seed gives the same program."""

    def __init__(self, config: Config):
        self._config = config
        self._sizes = (8192, 4096, 4096, 4096)

    def program(self, seed: int, *, most: int = 24) -> RandomProgram:
        """A program of up to `most` instructions, of which the last stores show what came out."""
        self._rng = rng = random.Random(f"{self._config.fingerprint}:{seed}")
        steps: list[Step] = [self._parameters()]
        for _ in range(rng.randint(2, most)):
            opcode = rng.choices(
                (Opcode.LOAD, Opcode.MATMUL, Opcode.DRAIN, Opcode.POOL, Opcode.STORE),
                (6, 6, 5, 2, 2),
            )[0]
            steps.append(self._legal(opcode))
        steps += [self._legal(Opcode.STORE) for _ in range(rng.randint(1, 2))]
        return self._finish(seed, steps)

    def assemble(self, seed: int, steps: Iterable[tuple[Opcode, dict[str, int]]]) -> RandomProgram:
        """A program of given opcodes and fields, with semaphores, on random memory."""
        self._rng = random.Random(f"{self._config.fingerprint}:{seed}")
        return self._finish(seed, [self._step(opcode, fields) for opcode, fields in steps])

    def _finish(self, seed: int, steps: list[Step]) -> RandomProgram:
        rng = self._rng
        instructions = synchronise(
            steps,
            self._config.queue_depth,
            tag=rng.randrange(1 << 16),
            pick=lambda: rng.randrange(2),
        )
        code = b"".join(instruction.encode() for instruction in instructions)
        checker.check(code, self._config, self._sizes)
        return RandomProgram(seed, self._config, tuple(instructions), Job(code, self._segments()))

    def _segments(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Random bytes, sometimes all −128; CONST begins with parameter entries."""
        rng = np.random.default_rng(self._rng.getrandbits(64))
        contents = [rng.integers(0, 256, size, np.uint8) for size in self._sizes]
        if self._rng.random() < 0.1:
            contents[0][:], contents[1][:] = 0x80, 0x80
        entries = b"".join(self._entry().encode() for _ in range(128))
        return (
            entries + contents[0].tobytes()[len(entries) :],
            contents[1].tobytes(),
            bytes(self._sizes[2]),
            contents[3].tobytes(),
        )

    def _entry(self) -> Parameter:
        rng, bits = self._rng, self._config.multiplier_bits
        shift = rng.choice((0, 1, bits - 2, bits, bits + 4, bits + 8, 62))
        low = rng.choice((-128, -128, 0, rng.randint(-128, 127)))
        return Parameter(
            bias=rng.choice(
                (0, rng.randint(-(1 << 15), 1 << 15), rng.randint(-(1 << 31), (1 << 31) - 1))
            ),
            multiplier=rng.choice((rng.randrange(1 << (bits - 1)), 1 << (bits - 2))),
            shift=shift,
            residual_shift=rng.randint(0, shift),
            residual_multiplier=rng.randint(-(1 << 17), (1 << 17) - 1),
            zero_point=rng.choice((0, rng.randint(-128, 127))),
            residual_zero=rng.choice((0, rng.randint(-128, 127))),
            low=low,
            high=rng.randint(low, 127) if rng.random() < 0.3 else 127,
        )

    def _parameters(self) -> Step:
        """The first instruction: parameters that let something other than zero through."""
        config = self._config
        entries = min(128, config.par_entries // 2)
        return self._step(
            Opcode.LOAD,
            {"memory": Memory.PAR, "segment": Segment.CONST, "length": entries * PARAMETER_BYTES},
        )

    def _legal(self, opcode: Opcode) -> Step:
        """A legal step of `opcode` that neither wraps around nor reads what it writes."""
        draw = getattr(self, f"_{opcode.name.lower()}")
        while True:
            try:
                return self._step(opcode, draw())
            except (IsaError, RegionError, WeftError):
                continue

    def _step(self, opcode: Opcode, fields: dict[str, int]) -> Step:
        config = self._config
        instruction = Instruction(opcode, fields)
        check(instruction, config)
        touched = accesses(instruction, config)
        checker.check_transfer(0, instruction, self._sizes)
        checker.check_overlap(0, instruction, touched, strict=True)
        own: list[Access] = []
        weights: list[Access] = []
        for access in touched:
            region = access.region
            if region.memory == "ACC":
                halves = region.low // config.acc_half, (region.high - 1) // config.acc_half
                own.append(Access("acc", halves[0], halves[1] + 1, access.write))
                continue
            space = _SPACE.get(region.memory, region.memory)
            effect = Access(space, region.low, region.high, access.write)
            (weights if access.unit == Unit.WEIGHT else own).append(effect)
            if space == "act":
                size = config.act_bank_bytes
                port = "write bank" if access.write else "read bank"
                own.append(Access(port, region.low // size, (region.high - 1) // size + 1, True))
        return Step(opcode, fields, own, 0, 0, weights)

    # -- fields --------------------------------------------------------------------------------

    def _edge(self, size: int, most: int) -> int:
        """Around a dimension, or small, or prime."""
        choices = [1, 1, 2, 3, size - 1, size, size + 1, 7, 13, self._rng.randint(1, most)]
        return max(1, min(most, self._rng.choice(choices)))

    def _act(self) -> int:
        """Few places, so that instructions meet; aligned or not."""
        rng, config = self._rng, self._config
        bank = rng.randrange(config.act_banks)
        near = rng.choice((0, 0, rng.randrange(64), config.act_bank_bytes - rng.randrange(1, 40)))
        return min(bank * config.act_bank_bytes + near, config.act_bytes - 1)

    def _load(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        bus = config.bus_bytes
        memories = [Memory.ACT, Memory.ACT, Memory.ACT, Memory.WGT, Memory.WGT, Memory.PAR]
        memory = rng.choice([*memories, Memory.TBL] if config.tables else memories)
        segment = rng.choice((Segment.CONST, Segment.INPUT, Segment.SCRATCH))
        rows = self._edge(4, 8)
        pitch = bus * rng.randrange(0, 5)
        fields = {"memory": memory, "segment": segment, "rows": rows, "dram_pitch": pitch}
        if memory == Memory.ACT:
            length = self._edge(bus, 200)
            local = self._act()
            local_pitch = length + rng.randrange(0, 9) if rng.random() < 0.9 else rng.randrange(64)
        else:
            length = bus * rng.randint(1, 24)
            local = bus * rng.choice((0, 0, rng.randrange(32)))
            local_pitch = length + bus * rng.randrange(0, 3)
            if memory == Memory.TBL:
                local = bus * rng.randrange(config.tbl_bytes // bus)
                fields |= {"rows": 1}
                length = min(length, config.tbl_bytes - local)
            if memory == Memory.PAR:
                fields |= {"segment": Segment.CONST, "rows": 1}
        offset = 0 if memory == Memory.PAR else bus * rng.randrange(self._sizes[segment] // bus)
        return {
            **fields,
            "offset": offset,
            "length": length,
            "local": local,
            "local_pitch": local_pitch,
        }

    def _store(self) -> dict[str, int]:
        rng, bus = self._rng, self._config.bus_bytes
        segment = rng.choice((Segment.OUTPUT, Segment.OUTPUT, Segment.SCRATCH))
        length = self._edge(bus, 300)
        return {
            "segment": segment, "offset": bus * rng.randrange(self._sizes[segment] // bus),
            "length": length, "rows": self._edge(3, 6), "local": self._act(),
            "dram_pitch": -(-length // bus) * bus + bus * rng.randrange(0, 2),
            "local_pitch": length + rng.randrange(0, 17),
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
            return {"height": 2047, "width": 2047, "fill": rng.randint(-128, 127)}
        return {
            "height": max(1, height - rng.randrange(3)), "width": max(1, width - rng.randrange(3)),
            "iy0": -rng.randrange(3), "ix0": -rng.randrange(3), "fill": rng.randint(-128, 127),
        }  # fmt: skip

    def _matmul(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        kc = self._edge(config.rows, 3 * config.rows)
        ky, kx = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))
        dy, dx = rng.choice((1, 1, 2)), rng.choice((1, 1, 1, 2))
        window = self._window()
        width = (window["ox"] - 1) * window["sx"] + (kx - 1) * dx + 1
        height = (window["oy"] - 1) * window["sy"] + (ky - 1) * dy + 1
        pixel = kc if rng.random() < 0.8 else kc + config.act_lanes * rng.randrange(2)
        row = width * pixel
        if rng.random() < 0.8:  # make vectors continue in the next byte lane
            row += (kx * kc - row) % config.act_lanes
        half = config.acc_half * rng.randrange(2)
        return {
            "accumulate": int(rng.random() < 0.4), "act": self._act(),
            "wgt": max(1, config.bus_bytes // config.wgt_row_bytes) * rng.randrange(8),
            "acc": half + rng.choice((0, 0, rng.randrange(8))), "blocks": rng.choice((1, 1, 2, 3)),
            "kc": kc, "ky": ky, "kx": kx, "dy": dy, "dx": dx, "row_pitch": row,
            "pixel_pitch": pixel, **window, **self._padding(height, width),
        }  # fmt: skip

    def _vector(self) -> dict[str, int]:
        rng, config = self._rng, self._config
        window = self._window()
        channels = self._edge(config.vector_lanes, 2 * config.cols)
        reduce = rng.choice((Reduce.NONE, Reduce.MAX, Reduce.SUM))
        ry, rx = (1, 1) if reduce == Reduce.NONE else (rng.randint(1, 3), rng.randint(1, 3))
        pixel = channels + rng.choice((0, 0, rng.randrange(9)))
        row = window["ox"] * pixel + rng.choice((0, 0, rng.randrange(17)))
        return {
            "dst": self._act(), "par": rng.choice((0, 0, rng.randrange(16))), "dst_row": row,
            "dst_pixel": pixel, "reduce": reduce, "ry": ry, "rx": rx, "channels": channels,
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
        }  # fmt: skip
        if rng.random() < 0.4:
            fields |= {
                "residual": 1, "res": self._act(), "res_row": fields["dst_row"] + rng.randrange(4),
                "res_pixel": fields["dst_pixel"],
            }  # fmt: skip
            if rng.random() < 0.3:
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
