"""The golden machine: executes instruction streams bit-exactly, one instruction after the other.

It knows nothing of time. Memories, addressing and traps follow ``docs/architecture.md``; a legal
program (``host/check.py``) leaves the same bytes here and in hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hdl.config import TABLE_BYTES
from ..hdl.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    Memory,
    Opcode,
    Reduce,
    Segment,
    Unit,
    channel_step,
)
from ..hdl.numerics import PARAMETER_BYTES, PARAMETER_FIELDS, Parameter, requantize
from ..hdl.registers import Error
from .device import WATCHDOG, Job, Result
from .traps import Semaphores, Trap, classify, decode

if TYPE_CHECKING:
    from pathlib import Path

    from ..hdl.config import Config

__all__ = ["GoldenDevice", "GoldenMachine", "classify", "parameters"]

#: Longest reduction whose INT8 products sum exactly in float32 (2^24 / 2^14).
_EXACT_FLOAT32 = 1024


@dataclass(frozen=True, eq=False)
class Written:
    """What one instruction left behind in the memory that it writes.

    Parameters
    ----------
    space
        "ACT", "WGT", "PAR", "TBL" or "ACC", or the name of a segment.
    addresses : int64 [n]
        Bytes, each once; in ACC entry · cols + column.
    values : [n]
        Their contents after the instruction: bytes, or the INT32 of ACC.
    """

    space: str
    addresses: np.ndarray
    values: np.ndarray


class GoldenMachine:
    """A whole accelerator in NumPy.

    An instruction that traps here writes nothing; hardware may have moved the rows before the one
    that trapped. Within one DRAIN or POOL every read comes before every write; the checker
    refuses programs in which that could be told from hardware's overlap.

    Parameters
    ----------
    config
        The machine to be.

    Attributes
    ----------
    act : int8 [act_bytes]
    wgt : int8 [wgt_rows, wgt_row_bytes]
    par : uint8 [par_entries, 16]
    tbl : int8 [tables, 256]
    acc : int32 [acc_depth, cols]
    written : list of Written, or None
        If a list, is told what each instruction writes, in program order.
    """

    def __init__(self, config: Config):
        self.config = config
        self.act = np.zeros(config.act_bytes, np.int8)
        self.wgt = np.zeros((config.wgt_rows, config.wgt_row_bytes), np.int8)
        self.par = np.zeros((config.par_entries, PARAMETER_BYTES), np.uint8)
        self.tbl = np.zeros((config.tables, TABLE_BYTES), np.int8)
        self.acc = np.zeros((config.acc_depth, config.cols), np.int32)
        self.written: list[Written] | None = None
        self._segments: list[np.ndarray] = []

    def peek(self, address: int, length: int, memory: Memory = Memory.ACT) -> bytes:
        """`length` bytes of an on-chip memory from byte `address` on (modulo its size)."""
        flat = self._flat(memory)
        return flat[(address + np.arange(length)) % flat.size].tobytes()

    def execute(self, code: bytes, segments: tuple[bytes, bytes, bytes, bytes]) -> Result:
        """Run `code` from its first instruction to END or to the first error.

        Parameters
        ----------
        code
            Encoded instructions.
        segments
            Contents of the CONST, INPUT, OUTPUT and SCRATCH windows.

        Returns
        -------
        Result
            Without counters and retirement times.
        """
        if len(code) % INSTRUCTION_BYTES:
            raise ValueError(f"code must be whole instructions, not {len(code)} bytes")
        self._segments = [np.frombuffer(segment, np.uint8) for segment in segments]
        semaphores = Semaphores()
        error, error_pc, tag = Error.PROGRAM_END, len(code), 0
        for index, (instruction, illegal) in enumerate(decode(bytes(code), self.config)):
            try:
                if instruction is None:
                    raise Trap(illegal)
                if instruction.opcode == Opcode.END:
                    if any(semaphores.counts.values()):
                        raise Trap(Error.SEMAPHORE_LEFT)
                    error, error_pc, tag = Error.NONE, 0, instruction.tag
                else:
                    self._step(instruction, semaphores)
            except Trap as trap:
                error, error_pc = trap.error, index * INSTRUCTION_BYTES
                break
        final = [
            array.tobytes() if array.flags.writeable else bytes(before)
            for array, before in zip(self._segments, segments, strict=True)
        ]
        return Result(error, error_pc, tag, (final[0], final[1], final[2], final[3]))

    def _step(self, instruction: Instruction, semaphores: Semaphores) -> None:
        unit, opcode = instruction.unit, instruction.opcode
        assert unit is not None
        if opcode == Opcode.MATMUL:
            semaphores.wait(Unit.WEIGHT, instruction.weight_wait)
        semaphores.wait(unit, instruction.wait)
        {
            Opcode.LOAD: self._load,
            Opcode.STORE: self._store,
            Opcode.MATMUL: self._matmul,
            Opcode.DRAIN: self._drain,
            Opcode.POOL: self._pool,
        }[opcode](instruction)
        if opcode == Opcode.MATMUL:
            semaphores.post(Unit.WEIGHT, instruction.weight_post)
        semaphores.post(unit, instruction.post)

    def _flat(self, memory: int) -> np.ndarray:
        """The bytes of an on-chip memory, as a view."""
        arrays = {
            Memory.ACT: self.act,
            Memory.WGT: self.wgt,
            Memory.PAR: self.par,
            Memory.TBL: self.tbl,
        }
        return arrays[Memory(memory)].reshape(-1).view(np.uint8)

    def _log(self, space: str, flat: np.ndarray, at: np.ndarray, *, once: bool) -> None:
        """Elements `at` of `flat` were written; `once` says that none of them occurs twice."""
        if self.written is not None:
            at = at.reshape(-1) if once else np.unique(at)
            self.written.append(Written(space, at, flat[at]))

    # -- transfers -----------------------------------------------------------------------------

    def _rows(self, i: Instruction, memory: int) -> tuple[np.ndarray, np.ndarray]:
        """Byte addresses [rows, 1] of the rows on chip and in the segment; traps with WINDOW."""
        row = np.arange(i.rows, dtype=np.int64)[:, None]
        remote = i.offset + row * i.dram_pitch
        if remote[-1, 0] + i.length > self._segments[i.segment].size:
            raise Trap(Error.WINDOW)
        return (i.local + row * i.local_pitch) % self._flat(memory).size, remote

    def _load(self, i: Instruction) -> None:
        local, remote = self._rows(i, i.memory)
        byte = np.arange(i.length)
        flat = self._flat(i.memory)
        at = (local + byte) % flat.size
        flat[at] = self._segments[i.segment][remote + byte]
        once = _apart(i.rows, i.local_pitch, i.length) <= flat.size
        self._log(Memory(i.memory).name, flat, at, once=once)

    def _store(self, i: Instruction) -> None:
        local, remote = self._rows(i, Memory.ACT)
        if not self._segments[i.segment].flags.writeable:
            self._segments[i.segment] = self._segments[i.segment].copy()
        byte = np.arange(i.length)
        flat = self._flat(Memory.ACT)
        segment, at = self._segments[i.segment], remote + byte
        segment[at] = flat[(local + byte) % flat.size]
        once = _apart(i.rows, i.dram_pitch, i.length) <= segment.size
        self._log(Segment(i.segment).name, segment, at, once=once)

    # -- matrix multiplication -----------------------------------------------------------------

    def _matmul(self, i: Instruction) -> None:
        config = self.config
        rows, depth = config.rows, config.acc_depth
        tiles = -(-i.ky * i.kx * i.kc // rows)
        vectors = self._gather(i)
        kind = np.float32 if vectors.shape[1] <= _EXACT_FLOAT32 else np.float64
        vectors = vectors.astype(kind)
        positions = np.arange(vectors.shape[0])
        aliased = vectors.shape[0] > depth
        for n in range(i.blocks):
            row = i.wgt + n * tiles * rows + np.arange(tiles * rows)
            weights = self.wgt[row % config.wgt_rows, : config.cols].astype(kind)
            entry = (i.acc + n * vectors.shape[0] + positions) % depth
            # Where a pass over the outputs meets no entry twice, tiles may be added up in any
            # order; else each tile is a pass of its own.
            step = rows if aliased else tiles * rows
            for at in range(0, tiles * rows, step):
                part = slice(at, min(at + step, vectors.shape[1]))
                psum = (vectors[:, part] @ weights[part]).astype(np.int64)
                if at == 0 and not i.accumulate:
                    self.acc[entry] = psum.astype(np.int32)
                else:
                    np.add.at(self.acc, entry, psum.astype(np.int32))
        touched = np.arange(min(i.blocks * vectors.shape[0], depth)) + i.acc
        at = touched[:, None] % depth * config.cols + np.arange(config.cols)
        self._log("ACC", self.acc.reshape(-1), at, once=True)

    def _gather(self, i: Instruction) -> np.ndarray:
        """The activations as int8 [oy·ox, K], fill where outside the input."""
        config, lanes = self.config, self.config.act_lanes
        k = np.arange(i.ky * i.kx * i.kc)
        ky, kx, c = k // (i.kx * i.kc), k // i.kc % i.kx, k % i.kc
        offset = ky * i.dy * i.row_pitch + kx * i.dx * i.pixel_pitch + c
        lane, first = k % config.rows, offset[k - k % config.rows]
        offset = first + lane + lanes * ((offset - first - lane) // lanes)
        y, x = np.arange(i.oy)[:, None], np.arange(i.ox)[None, :]
        base = (i.act + y * i.sy * i.row_pitch + x * i.sx * i.pixel_pitch).reshape(-1, 1)
        vectors = self.act[(base + offset) & (config.act_bytes - 1)]
        row = i.iy0 + y.reshape(-1, 1) * i.sy + ky * i.dy
        col = i.ix0 + x.reshape(-1, 1) * i.sx + kx * i.dx
        row_in, col_in = (row >= 0) & (row < i.height), (col >= 0) & (col < i.width)
        if not (row_in.all() and col_in.all()):
            inside = row_in[:, None, :] & col_in[None, :, :]
            vectors[~inside.reshape(vectors.shape)] = i.fill
        return vectors

    # -- vector unit ---------------------------------------------------------------------------

    def _drain(self, i: Instruction) -> None:
        config = self.config
        c = np.arange(i.channels)
        y, x = np.arange(i.oy)[:, None, None], np.arange(i.ox)[None, :, None]
        base = i.src + c // config.cols * i.src_block + y * i.sy * i.src_row + x * i.sx
        total = _reduce(
            i,
            lambda dy, dx: self.acc[
                (base + dy * i.src_row + dx) % config.acc_depth, c % config.cols
            ],
        )
        residual = None
        if i.residual:
            at = (i.res + y * i.res_row + x * i.res_pixel + c) % config.act_bytes
            residual = self.act[at]
        self._requantize(i, total, residual)

    def _pool(self, i: Instruction) -> None:
        c = np.arange(i.channels)
        y, x = np.arange(i.oy)[:, None, None], np.arange(i.ox)[None, :, None]
        base = i.src + y * i.sy * i.src_row + x * i.sx * i.src_pixel + c

        def source(dy: int, dx: int) -> np.ndarray:
            at = (base + dy * i.src_row + dx * i.src_pixel) % self.config.act_bytes
            row, col = i.iy0 + y * i.sy + dy, i.ix0 + x * i.sx + dx
            inside = (row >= 0) & (row < i.height) & (col >= 0) & (col < i.width)
            return np.where(inside, self.act[at], i.fill).astype(np.int32)

        self._requantize(i, _reduce(i, source), None)

    def _requantize(self, i: Instruction, total: np.ndarray, residual: np.ndarray | None) -> None:
        """Requantize int32 [oy, ox, channels], look up and write, channel groups outermost."""
        config = self.config
        entries = (i.par + np.arange(i.channels)) % config.par_entries
        out = np.empty(total.shape, np.int8)
        for part, parameter in parameters(self.par[entries], config.multiplier_bits):
            out[..., part] = requantize(
                total[..., part], parameter, None if residual is None else residual[..., part]
            )
        if i.table:
            out = self.tbl[i.table - 1, out.astype(np.intp) + TABLE_BYTES // 2]
        y, x = np.arange(i.oy)[:, None, None], np.arange(i.ox)[None, :, None]
        step = channel_step(i, config)
        c = np.arange(i.channels) * step
        at = (i.dst + y * i.dst_row + x * i.dst_pixel + c) % config.act_bytes
        row_bytes = (i.ox - 1) * i.dst_pixel + i.channels
        disjoint = (
            step == 1
            and (i.ox == 1 or i.dst_pixel >= i.channels)
            and (i.oy == 1 or i.dst_row >= row_bytes)
            and (i.oy - 1) * i.dst_row + row_bytes <= config.act_bytes
        )
        size = i.channels if disjoint else config.vector_lanes
        for first in range(0, i.channels, size):
            group = slice(first, first + size)
            self.act[at[..., group]] = out[..., group]
        self._log("ACT", self._flat(Memory.ACT), at, once=disjoint)


def _apart(count: int, pitch: int, length: int) -> float:
    """Bytes from the first to the last of so many rows, if no two of them overlap."""
    return (count - 1) * pitch + length if count == 1 or pitch >= length else np.inf


def _reduce(i: Instruction, source) -> np.ndarray:
    """Reduce the window that `source(j, i)` yields element by element, in wrapping INT32."""
    total = source(0, 0)
    for dy in range(i.ry):
        for dx in range(i.rx):
            if (dy, dx) != (0, 0):
                value = source(dy, dx)
                total = np.maximum(total, value) if i.reduce == Reduce.MAX else total + value
    return total


def parameters(entries: np.ndarray, multiplier_bits: int) -> list[tuple[slice, Parameter]]:
    """Decode uint8 [channels, 16] parameter entries.

    Returns runs of channels with a :class:`Parameter` each whose fields are int64 arrays over the
    run. Only a shift of 63, whose rounding constant leaves int64 on the way, needs a run of its
    own with plain integers. Of the multipliers the low `multiplier_bits` count.
    """
    low, high = entries.copy().view("<u8").reshape(-1, 2).T
    fields: dict[str, np.ndarray] = {}
    at = 0
    for name, bits, signed in PARAMETER_FIELDS:
        word, shift = (low, at) if at < 64 else (high, at - 64)
        used = multiplier_bits if name == "multiplier" else bits
        value = (word >> np.uint64(shift)).astype(np.int64) & ((1 << used) - 1)
        fields[name] = value - ((value >> (used - 1)) << used) if signed else value
        at += bits
    wide = np.flatnonzero(fields["shift"] == 63)
    cuts = sorted({0, len(entries), *wide.tolist(), *(wide + 1).tolist()})
    out = []
    for first, last in pairwise(cuts):
        run: dict[str, Any] = {name: value[first:last] for name, value in fields.items()}
        if fields["shift"][first] == 63:
            run = {name: int(value[0]) for name, value in run.items()}
        out.append((slice(first, last), Parameter(**run)))
    return out


class GoldenDevice:
    """A device that runs on the golden machine.

    Memories keep their contents from run to run, as hardware's do over a soft reset.

    Parameters
    ----------
    config
        The machine.
    latency, beat_interval, watchdog, trace
        Taken for the sake of the device interface; this machine knows no time.
    """

    def __init__(
        self,
        config: Config,
        *,
        latency: int = 50,
        beat_interval: int = 1,
        watchdog: int = WATCHDOG,
        trace: Path | None = None,
    ):
        del latency, beat_interval, watchdog, trace
        self.config = config
        self.machine = GoldenMachine(config)

    def run(self, job: Job) -> Result:
        """Execute `job` to its end or its error."""
        return self.machine.execute(job.code, job.segments)

    def close(self) -> None:
        """Release nothing."""
