"""What an instruction touches: the bytes, rows and entries of every memory, as affine regions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..hdl.config import TABLE_BYTES
from ..hdl.isa import Instruction, Memory, Opcode, Segment, Unit, channel_step

if TYPE_CHECKING:
    from ..hdl.config import Config

#: Byte addresses of ACT in MATMUL and POOL are modulo this.
_ADDRESS_SPACE = 1 << 20


class RegionError(ValueError):
    """An instruction whose addresses are not what they seem: they wrap around, or are rounded."""


@dataclass(frozen=True, eq=False)
class Region:
    """Addresses ``rows[i] + pixels[j] + [0, run)`` of one memory.

    Parameters
    ----------
    memory
        "ACT", "WGT", "PAR", "TBL", "ACC" or the name of a segment.
    rows, pixels
        int64 vectors, not empty, in ascending order.
    run
        Contiguous addresses at each.
    """

    memory: str
    rows: np.ndarray
    pixels: np.ndarray
    run: int

    @cached_property
    def low(self) -> int:
        """The first address."""
        return int(self.rows[0]) + int(self.pixels[0])

    @cached_property
    def high(self) -> int:
        """The address after the last one."""
        return int(self.rows[-1]) + int(self.pixels[-1]) + self.run

    @cached_property
    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """First addresses and ends of the maximal contiguous stretches, ascending."""
        starts = np.sort((self.rows[:, None] + self.pixels).reshape(-1))
        return _stretches(starts, starts + self.run)

    @property
    def injective(self) -> bool:
        """Whether no address occurs twice."""
        starts, ends = self.intervals
        return int((ends - starts).sum()) == self.rows.size * self.pixels.size * self.run

    def banks(self, size: int) -> int:
        """The banks of `size` addresses that it touches, as a mask."""
        if (np.diff(self.pixels) - self.run < size).all():  # each row touches all banks it spans
            lows = self.rows + self.pixels[0]
            highs = self.rows + self.pixels[-1] + self.run
        else:
            lows, highs = self.intervals
        return _mask(lows // size, (highs - 1) // size)

    def meet(self, other: Region) -> tuple[int, int] | None:
        """The first contiguous stretch common to both, or None."""
        if self.memory != other.memory or self.low >= other.high or other.low >= self.high:
            return None
        starts, ends = self.intervals
        others, other_ends = other.intervals
        at = np.searchsorted(other_ends, starts, side="right")
        found = np.flatnonzero(np.append(others, np.iinfo(np.int64).max)[at] < ends)
        if not found.size:
            return None
        first = found[0]
        low = max(starts[first], others[at[first]])
        return int(low), int(min(ends[first], other_ends[at[first]]))


@dataclass(frozen=True, eq=False)
class WrappedRegion(Region):
    """Addresses modulo the size of their memory.

    Parameters
    ----------
    size
        Of the memory.
    """

    size: int

    @cached_property
    def low(self) -> int:
        """The first address."""
        return int(self.intervals[0][0])

    @cached_property
    def high(self) -> int:
        """The address after the last one."""
        return int(self.intervals[1][-1])

    @cached_property
    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """First addresses and ends of the maximal contiguous stretches, ascending."""
        starts = np.unique((self.rows[:, None] + self.pixels) % self.size)
        ends = starts + min(self.run, self.size)
        around = int(ends[-1]) - self.size
        if around > 0:  # runs are equally long, so the last one goes furthest around the end
            starts, ends = np.r_[0, starts], np.r_[around, np.minimum(ends, self.size)]
            ends = np.maximum.accumulate(ends)
        return _stretches(starts, ends)

    def banks(self, size: int) -> int:
        """The banks of `size` addresses that it touches, as a mask."""
        starts, ends = self.intervals
        return _mask(starts // size, (ends - 1) // size)


def _stretches(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals in ascending order, those that touch or overlap joined."""
    apart = starts[1:] > ends[:-1]
    return starts[np.append(True, apart)], ends[np.append(apart, True)]


def _mask(firsts: np.ndarray, lasts: np.ndarray) -> int:
    """Bits firsts[i] to lasts[i], of all i."""
    mask = 0
    for first, last in {*zip(firsts.tolist(), lasts.tolist(), strict=True)}:
        mask |= (2 << last) - (1 << first)
    return mask


@dataclass(frozen=True)
class Access:
    """One unit of an instruction reads or writes a region."""

    unit: Unit
    write: bool
    region: Region


def accesses(instruction: Instruction, config: Config, *, strict: bool = True) -> list[Access]:
    """Everything that `instruction` reads and writes.

    Parameters
    ----------
    instruction
        A legal instruction.
    config
        The machine.
    strict
        Refuse addresses that wrap around or are rounded. Else the regions are where they end up;
        that of rounded ones is a little too large.

    Raises
    ------
    RegionError
        An address would wrap around the end of its memory, or be rounded.
    """
    match instruction.opcode:
        case Opcode.LOAD:
            out = _load(instruction)
        case Opcode.STORE:
            out = _store(instruction)
        case Opcode.MATMUL:
            out = _matmul(instruction, config, strict)
        case Opcode.DRAIN:
            out = _drain(instruction, config)
        case Opcode.POOL:
            out = _pool(instruction, config)
        case _:
            out = []
    sizes = _sizes(config)
    return [
        Access(unit, write, _inside(region, sizes.get(region.memory), strict))
        for unit, write, region in out
    ]


_ZERO = np.zeros(1, np.int64)


def _steps(count: int, stride: int, start: int = 0) -> np.ndarray:
    """`count` addresses from `start` on, `stride` apart."""
    return start + np.arange(count, dtype=np.int64) * stride


@cache
def _sizes(config: Config) -> dict[str, int]:
    """Addresses of each memory on chip."""
    return {
        "ACT": config.act_bytes,
        "WGT": config.wgt_bytes,
        "PAR": config.par_bytes,
        "TBL": config.tbl_bytes,
        "ACC": config.acc_depth,
    }


def _inside(region: Region, size: int | None, strict: bool) -> Region:
    """The region in a memory of so many addresses; segments have no end here."""
    if size is None or (region.low >= 0 and region.high <= size):
        return region
    if strict:
        raise RegionError(
            f"{region.memory} addresses {region.low} to {region.high - 1} wrap around its {size}"
        )
    return WrappedRegion(region.memory, region.rows, region.pixels, region.run, size)


#: A unit, whether it writes, and where, on a memory that never ends.
_Touch = tuple[Unit, bool, Region]


def _remote(i: Instruction) -> Region:
    return Region(Segment(i.segment).name, _steps(i.rows, i.dram_pitch, i.offset), _ZERO, i.length)


def _load(i: Instruction) -> list[_Touch]:
    local = Region(Memory(i.memory).name, _steps(i.rows, i.local_pitch, i.local), _ZERO, i.length)
    return [(Unit.LOAD, False, _remote(i)), (Unit.LOAD, True, local)]


def _store(i: Instruction) -> list[_Touch]:
    local = Region("ACT", _steps(i.rows, i.local_pitch, i.local), _ZERO, i.length)
    return [(Unit.STORE, False, local), (Unit.STORE, True, _remote(i))]


@lru_cache(maxsize=1024)
def _window(outputs: int, stride: int, taps: int, dilation: int, first: int, size: int):
    """Input coordinates in [0, size) that a window visits, relative to `first`, ascending."""
    at = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation
    at = np.unique(at)
    return at[(at + first >= 0) & (at + first < size)].astype(np.int64)


def _source(i: Instruction, base: int, pitches: tuple[int, int], ky, kx, dy, dx, run):
    """The ACT bytes that a padded window reads, or None where it lies in padding altogether."""
    rows = _window(i.oy, i.sy, ky, dy, i.iy0, i.height)
    cols = _window(i.ox, i.sx, kx, dx, i.ix0, i.width)
    if not (rows.size and cols.size):
        return None
    rows, cols = base + rows * pitches[0], cols * pitches[1]
    low = rows[0] + cols[0]
    return Region("ACT", rows - low + low % _ADDRESS_SPACE, cols, run)


@lru_cache(maxsize=1024)
def _contiguous(rows, lanes, ky, kx, kc, row_step, pixel_step) -> bool:
    """Whether every jump inside a tile is a multiple of the ACT width, so that none is rounded."""
    k = np.arange(ky * kx * kc)
    offset = k // (kx * kc) * row_step + k // kc % kx * pixel_step + k % kc
    lane = k % rows
    return not ((offset - offset[k - lane] - lane) % lanes).any()


def _matmul(i: Instruction, config: Config, strict: bool) -> list[_Touch]:
    exact = _contiguous(
        config.rows, config.act_lanes, i.ky, i.kx, i.kc, i.dy * i.row_pitch, i.dx * i.pixel_pitch
    )
    if strict and not exact:
        raise RegionError(
            f"kernel rows or pixels do not follow each other at multiples of {config.act_lanes} "
            "bytes, so that lanes would read rounded addresses"
        )
    pitches = i.row_pitch, i.pixel_pitch
    source = _source(i, i.act, pitches, i.ky, i.kx, i.dy, i.dx, i.kc)
    if source is not None and not exact:
        before = config.act_lanes - 1
        source = Region("ACT", source.rows - before, source.pixels, source.run + before)
    tiles = -(-i.ky * i.kx * i.kc // config.rows)
    row = config.wgt_row_bytes
    weights = Region("WGT", _ZERO + i.wgt * row, _ZERO, i.blocks * tiles * config.rows * row)
    sums = Region("ACC", _ZERO + i.acc, _ZERO, i.blocks * i.oy * i.ox)
    out: list[_Touch] = [(Unit.WEIGHT, False, weights), (Unit.MATMUL, True, sums)]
    if source is not None:
        out.append((Unit.MATMUL, False, source))
    return out


def _vector(i: Instruction, config: Config) -> list[_Touch]:
    """What DRAIN and POOL have in common: parameters, table and destination."""
    par = Region("PAR", _ZERO + i.par * 16, _ZERO, i.channels * 16)
    out: list[_Touch] = [
        (Unit.VECTOR, False, par),
        (Unit.VECTOR, True, _destination(i, config)),
    ]
    if i.table:
        table = Region("TBL", _ZERO + (i.table - 1) * TABLE_BYTES, _ZERO, TABLE_BYTES)
        out.append((Unit.VECTOR, False, table))
    return out


def _destination(i: Instruction, config: Config) -> Region:
    """Where DRAIN and POOL write; a transposed result is rows of channels of single bytes."""
    rows, pixels = _steps(i.oy, i.dst_row, i.dst), _steps(i.ox, i.dst_pixel)
    step = channel_step(i, config)
    if step == 1 or i.channels == 1:
        return Region("ACT", rows, pixels, i.channels)
    rows = np.sort((rows[:, None] + _steps(i.channels, step)).reshape(-1))
    if i.ox == 1 or i.dst_pixel == 1:
        return Region("ACT", rows, _ZERO, i.ox)
    return Region("ACT", rows, pixels, 1)


def _drain(i: Instruction, config: Config) -> list[_Touch]:
    blocks = _steps(-(-i.channels // config.cols), i.src_block, i.src)
    line = _steps(i.oy, i.sy * i.src_row)[:, None] + _steps(i.ry, i.src_row)
    rows = np.unique(blocks[:, None] + np.unique(line))
    cols = np.unique(_steps(i.ox, i.sx)[:, None] + _steps(i.rx, 1))
    out = _vector(i, config)
    out.append((Unit.VECTOR, False, Region("ACC", rows, cols, 1)))
    if i.residual:
        rows, pixels = _steps(i.oy, i.res_row, i.res), _steps(i.ox, i.res_pixel)
        out.append((Unit.VECTOR, False, Region("ACT", rows, pixels, i.channels)))
    return out


def _pool(i: Instruction, config: Config) -> list[_Touch]:
    pitches = i.src_row, i.src_pixel
    source = _source(i, i.src, pitches, i.ry, i.rx, 1, 1, i.channels)
    out = _vector(i, config)
    if source is not None:
        out.append((Unit.VECTOR, False, source))
    return out
