"""Programs as large as those of whole networks, without a network: layers of convolutions.

Weights come in long rows and double-buffered, activations in stripes of rows, every column block is
drained by itself, and stripes are stored whole; semaphores are placed as in compiled programs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from weft.hdl.config import PRESETS, Config
from weft.hdl.isa import Memory, Opcode, Segment
from weft.hdl.numerics import PARAMETER_BYTES
from weft.host.device import Job
from weft.host.program import Layer
from weft.host.schedule import Access, Step, synchronise
from weft.host.timing.machine import MachineTiming


@dataclass(frozen=True)
class Conv:
    """A square convolution: output rows and columns, channels in and out, kernel, stride."""

    size: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1

    @property
    def width(self) -> int:
        """Input rows and columns, without padding."""
        return self.size * self.stride


#: The convolutions of ResNet-18 on 224 × 224 images.
RESNET18 = (
    Conv(112, 3, 64, 7, 2),
    *[Conv(56, 64, 64)] * 4,
    *(Conv(28, 64, 128, 3, 2), Conv(28, 64, 128, 1, 2), *[Conv(28, 128, 128)] * 3),
    *(Conv(14, 128, 256, 3, 2), Conv(14, 128, 256, 1, 2), *[Conv(14, 256, 256)] * 3),
    *(Conv(7, 256, 512, 3, 2), Conv(7, 256, 512, 1, 2), *[Conv(7, 512, 512)] * 3),
)


@dataclass(frozen=True)
class Synthetic:
    """A program, its layers, and the sizes of the segments it uses."""

    code: bytes
    layers: tuple[Layer, ...]
    sizes: tuple[int, int, int, int]

    @property
    def job(self) -> Job:
        """The program on memory full of zeros."""
        const, input_, output, scratch = map(bytes, self.sizes)
        return Job(self.code, (const, input_, output, scratch))


def synthetic(config: Config, convs: tuple[Conv, ...], *, most_rows: int = 64) -> Synthetic:
    """Convolutions one after the other; a stripe has up to `most_rows` output rows.

    The fewer they are, the more often weights are loaded.
    """
    return _Writer(config, most_rows).write(convs)


def _ceil(value: int, step: int) -> int:
    return -(-value // step)


class _Writer:
    def __init__(self, config: Config, most_rows: int):
        self._config = config
        self._most_rows = most_rows
        self._steps: list[Step] = []
        self._const = 0
        self._input = self._output = 0
        self._half = self._bank = self._wgt = 0

    def write(self, convs: tuple[Conv, ...]) -> Synthetic:
        layers = []
        for index, conv in enumerate(convs):
            self._conv(index, conv)
            macs = conv.size**2 * conv.inputs * conv.outputs * conv.kernel**2
            vectors = sum(step.opcode == Opcode.DRAIN for step in self._steps)
            bound = macs // (self._config.rows * self._config.cols)
            layers.append(Layer(f"conv{index}", "conv", macs, bound, (vectors,)))
        code = synchronise(self._steps, self._config.queue_depth)
        sizes = self._const, self._input, self._output, 0
        return Synthetic(b"".join(i.encode() for i in code), tuple(layers), sizes)

    def _conv(self, layer: int, conv: Conv) -> None:
        config = self._config
        bank, half = config.act_bank_bytes, config.acc_half
        row = conv.width * conv.inputs
        rows = min(
            self._most_rows,
            conv.size,
            half // conv.size,
            (bank // row - conv.kernel) // conv.stride + 1,
            bank // (conv.size * conv.outputs),
        )
        assert rows > 0, f"a row of {conv} does not fit {config.name}"
        self._step(
            Opcode.LOAD, layer, [Access("par", 0, conv.outputs, True)], memory=Memory.PAR,
            segment=Segment.CONST, offset=self._take_const(conv.outputs * PARAMETER_BYTES),
            length=conv.outputs * PARAMETER_BYTES,
        )  # fmt: skip
        weights = self._take_const(
            _ceil(conv.kernel**2 * conv.inputs, config.rows)
            * _ceil(conv.outputs, config.cols)
            * config.tile_bytes
            * 2
        )
        for y in range(0, conv.size, rows):
            self._stripe(layer, conv, y, min(rows, conv.size - y), weights)
        bus = config.bus_bytes
        self._input = max(self._input, conv.width * _ceil(row, bus) * bus)
        out = _ceil(conv.size * conv.outputs, bus) * bus
        self._output = max(self._output, conv.size * out)

    def _stripe(self, layer: int, conv: Conv, y: int, rows: int, weights: int) -> None:
        config, bus = self._config, self._config.bus_bytes
        bank = config.act_bank_bytes
        self._bank ^= 1
        source, target = self._bank * bank, (config.act_banks // 2 + self._bank) * bank
        pad = conv.kernel // 2
        first = max(0, y * conv.stride - pad)
        last = min(conv.width, (y + rows - 1) * conv.stride - pad + conv.kernel)
        row = conv.width * conv.inputs
        read = Access("act", source, source + bank, False)
        self._step(
            Opcode.LOAD, layer, [read._replace(exclusive=True), *_port("write", source, bank)],
            memory=Memory.ACT, segment=Segment.INPUT, offset=first * _ceil(row, bus) * bus,
            length=row, rows=last - first, dram_pitch=_ceil(row, bus) * bus, local=source,
            local_pitch=row,
        )  # fmt: skip
        blocks = _ceil(conv.outputs, config.cols)
        vectors = rows * conv.size
        capacity = config.wgt_bytes // 2 // config.tile_bytes
        per_row = _ceil(conv.kernel * conv.inputs, config.rows)  # tiles of a kernel row and block
        group = min(blocks, config.acc_half // vectors, capacity // per_row)
        for block in range(0, blocks, group):
            count = min(group, blocks - block)
            self._half ^= 1
            acc = self._half * config.acc_half
            accumulators = Access("acc", acc, acc + config.acc_half, True)
            step = capacity // (per_row * count)
            for ky in range(0, conv.kernel, step):
                self._tiles(layer, conv, y, rows, ky, min(step, conv.kernel - ky), count, weights,
                            source - first * row, [accumulators, read])  # fmt: skip
            channels = min(config.cols * count, conv.outputs - block * config.cols)
            pixel = conv.outputs
            wrote = Access("act", target, target + bank, True)
            self._step(
                Opcode.DRAIN, layer,
                [accumulators, wrote, Access("par", 0, conv.outputs, False),
                 *_port("write", target, bank)],
                dst=target + block * config.cols, dst_row=conv.size * pixel, dst_pixel=pixel,
                par=block * config.cols % config.par_entries, src=acc, src_row=conv.size,
                src_block=vectors, channels=channels, oy=rows, ox=conv.size,
            )  # fmt: skip
        out = conv.size * conv.outputs
        pitch = _ceil(out, bus) * bus
        self._step(
            Opcode.STORE, layer,
            [Access("act", target, target + bank, False), *_port("read", target, bank)],
            segment=Segment.OUTPUT, offset=y * pitch, length=out, rows=rows, dram_pitch=pitch,
            local=target, local_pitch=out,
        )  # fmt: skip

    def _tiles(
        self, layer: int, conv: Conv, y: int, rows: int, ky: int, taps: int, count: int,
        weights: int, source: int, touched: list[Access],
    ) -> None:  # fmt: skip
        """Load the weights of some kernel rows and column blocks, and stream the stripe."""
        config = self._config
        tiles = _ceil(taps * conv.kernel * conv.inputs, config.rows) * count
        size = tiles * config.tile_bytes
        self._wgt ^= 1
        base = self._wgt * config.wgt_bytes // 2
        wgt = Access("wgt", base, base + config.wgt_bytes // 2, True)
        assert size <= config.wgt_bytes // 2
        self._step(
            Opcode.LOAD, layer, [wgt], memory=Memory.WGT, segment=Segment.CONST,
            offset=weights // config.bus_bytes * config.bus_bytes, length=size, local=base,
            local_pitch=0,
        )  # fmt: skip
        pad = conv.kernel // 2
        row = conv.width * conv.inputs
        bank = config.act_bank_bytes
        self._step(
            Opcode.MATMUL, layer, [*touched, *_port("read", self._bank * bank, bank)], [wgt],
            act=(source + (y * conv.stride - pad + ky) * row - pad * conv.inputs) % (1 << 20),
            wgt=base // config.wgt_row_bytes, acc=self._half * config.acc_half, blocks=count,
            kc=conv.inputs, ky=taps, kx=conv.kernel, row_pitch=row, pixel_pitch=conv.inputs,
            sy=conv.stride, sx=conv.stride, oy=rows, ox=conv.size, iy0=y * conv.stride - pad + ky,
            ix0=-pad, height=conv.width, width=conv.width, accumulate=int(ky > 0),
        )  # fmt: skip

    def _take_const(self, size: int) -> int:
        at = self._const
        self._const += _ceil(size, self._config.bus_bytes) * self._config.bus_bytes
        return at

    def _step(
        self, opcode: Opcode, layer: int, touched: list[Access],
        weights: list[Access] | None = None, **fields: int,
    ) -> None:  # fmt: skip
        self._steps.append(Step(opcode, fields, touched, 0, layer, weights or []))


def _port(kind: str, address: int, bank: int) -> list[Access]:
    number = address // bank
    return [Access(f"{kind} bank", number, number + 1, True)]


def main() -> None:
    """Print how long predictions take."""
    config = PRESETS["default"]
    print("| rows a stripe | instructions | read bursts | cycles | seconds | cycles a second |")
    print("|---:|---:|---:|---:|---:|---:|")
    for most_rows in (64, 2, 1):
        code = synthetic(config, RESNET18, most_rows=most_rows).code
        seconds = float("inf")
        for _ in range(5):
            begin = time.process_time()
            timing = MachineTiming(config, code)
            prediction = timing.run()
            assert prediction.counters
            seconds = min(seconds, time.process_time() - begin)
        instructions = prediction.counts["INSTRUCTIONS"]
        print(
            f"| {most_rows if most_rows < 64 else 'all that fit'} | {instructions:,} "
            f"| {timing.read_bursts:,} | {prediction.cycles:,} | {seconds:.2f} "
            f"| {prediction.cycles / seconds / 1e6:.0f} million |"
        )


if __name__ == "__main__":
    main()
