"""Machine configuration: one frozen dataclass, its presets, and every derived size.

Everything that sizes hardware, lays out memory or bounds an instruction field is a property of
:class:`Config`; RTL, compiler, golden machine and test bench all read it from here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .brief import brief, is_name, one_line

#: Bytes of a lookup table, one for every INT8 value.
TABLE_BYTES = 256


class ConfigError(ValueError):
    """A configuration that cannot be built; the message says which field, and why."""


def pow2_ceil(value: int) -> int:
    """The smallest power of two that is not less than `value`."""
    return 1 << (value - 1).bit_length()


def _is_pow2(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Parameters of one accelerator.

    Parameters
    ----------
    name
        What reports call it; no effect on the hardware.
    rows, cols
        Size of the systolic array: `rows` input channels times `cols` output channels a cycle.
    bus_bits
        Width of the AXI4 data bus.
    act_bytes, act_banks
        Size of the activation scratchpad, and in how many banks; each bank serves one reading
        and one writing unit at a time.
    wgt_bytes
        Size of the weight scratchpad.
    acc_depth
        Accumulator entries per column, both halves together.
    par_entries
        Channels whose requantization parameters fit on chip at once.
    tables
        Lookup tables of 256 bytes that the vector unit may send its results through: 0, 1, 2, 4
        or 8; 0 leaves the hardware out.
    vector_lanes
        Channels that the vector unit handles in a cycle; divides `cols`.
    multiplier_bits
        Width of the requantizer's signed multiplier; 32 is TOSA's.
    queue_depth
        Instructions that wait before each unit.
    burst_beats
        Longest AXI burst.
    read_beats
        Most read beats that may be outstanding; at least latency + burst to hide the latency.
    addr_bits
        Width of AXI addresses.
    parity
        Whether the scratchpads have a parity bit for each byte, and the accumulators for each
        word; a wrong one stops the machine. Costs no time.
    packed
        Whether two columns of the array share one multiplier of 18 × 18 bits. Costs lookup tables,
        no time; results and programs are the same.
    """

    name: str = "default"
    rows: int = 16
    cols: int = 16
    bus_bits: int = 128
    act_bytes: int = 131072
    act_banks: int = 4
    wgt_bytes: int = 65536
    acc_depth: int = 1024
    par_entries: int = 1024
    tables: int = 2
    vector_lanes: int = 8
    multiplier_bits: int = 32
    queue_depth: int = 4
    burst_beats: int = 64
    read_beats: int = 256
    addr_bits: int = 32
    parity: bool = False
    packed: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                if not is_name(value):
                    raise ConfigError(
                        f"name must be printable, 1 to 200 characters, not {brief(value)}"
                    )
            elif field.name in ("parity", "packed"):
                if not isinstance(value, bool):
                    raise ConfigError(f"{field.name} must be true or false, not {brief(value)}")
            elif not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{field.name} must be an integer, not {brief(value)}")
            elif abs(value) >> 64:
                raise ConfigError(f"{field.name} has more than 64 bits: {brief(value)}")
        for field in ("rows", "cols"):
            value = getattr(self, field)
            if not (4 <= value <= 64 and value % 4 == 0):
                raise ConfigError(f"{field} must be a multiple of 4 from 4 to 64, not {value}")
        if self.bus_bits not in (64, 128, 256, 512):
            raise ConfigError(f"bus_bits must be 64, 128, 256 or 512, not {self.bus_bits}")
        if not 1 <= self.vector_lanes <= 16 or self.cols % self.vector_lanes:
            raise ConfigError(
                f"vector_lanes must be 1 to 16 and divide cols = {self.cols}, "
                f"not {self.vector_lanes}"
            )
        if not 8 <= self.multiplier_bits <= 32:
            raise ConfigError(f"multiplier_bits must be 8 to 32, not {self.multiplier_bits}")
        if not 32 <= self.addr_bits <= 64:
            raise ConfigError(f"addr_bits must be 32 to 64, not {self.addr_bits}")
        if not 2 <= self.queue_depth <= 32:
            raise ConfigError(f"queue_depth must be 2 to 32, not {self.queue_depth}")
        self._check_memory("act_bytes", 1 << 20, self.act_lanes * self.act_banks * 16)
        most_wgt = min(1 << 20, self.wgt_row_bytes << 16)  # an instruction counts rows in 16 bits
        self._check_memory("wgt_bytes", most_wgt, max(2 * self.tile_bytes, 2 * self.bus_bytes))
        self._check_memory("acc_depth", 4096, 32)
        self._check_memory("par_entries", 4096, max(64, pow2_ceil(self.cols)))
        if self.tables not in (0, 1, 2, 4, 8):
            raise ConfigError(f"tables must be 0, 1, 2, 4 or 8, not {self.tables}")
        if self.act_banks not in (2, 4, 8, 16):
            raise ConfigError(f"act_banks must be 2, 4, 8 or 16, not {self.act_banks}")
        if not _is_pow2(self.burst_beats) or not 8 <= self.burst_beats <= 256:
            raise ConfigError(
                f"burst_beats must be a power of two from 8 to 256, not {self.burst_beats}"
            )
        if self.burst_beats * self.bus_bytes > 4096:
            raise ConfigError(
                f"burst_beats = {self.burst_beats} times {self.bus_bytes} bytes "
                "exceeds AXI's 4096 bytes a burst"
            )
        if not 2 * self.burst_beats <= self.read_beats <= 4096:
            raise ConfigError(
                f"read_beats must be {2 * self.burst_beats} (two bursts) to 4096, "
                f"not {self.read_beats}"
            )

    def _check_memory(self, field: str, most: int, least: int) -> None:
        value = getattr(self, field)
        if not _is_pow2(value) or not least <= value <= most:
            raise ConfigError(
                f"{field} must be a power of two from {pow2_ceil(least)} to {most}, not {value}"
            )

    # -- derived sizes -------------------------------------------------------------------------

    @property
    def bus_bytes(self) -> int:
        """Bytes a bus beat carries."""
        return self.bus_bits // 8

    @property
    def byte_bits(self) -> int:
        """Bits of a byte in a scratchpad, with its parity bit if there is one."""
        return 8 + self.parity

    @property
    def act_lanes(self) -> int:
        """Byte-wide memories side by side in an activation bank (a power of two)."""
        return pow2_ceil(max(self.rows, self.bus_bytes, self.vector_lanes))

    @property
    def act_words(self) -> int:
        """Words (of `act_lanes` bytes) in all activation banks together."""
        return self.act_bytes // self.act_lanes

    @property
    def act_bank_bytes(self) -> int:
        """Bytes in one activation bank; bank b holds addresses from b · act_bank_bytes."""
        return self.act_bytes // self.act_banks

    @property
    def wgt_row_bytes(self) -> int:
        """Bytes that one row of a weight tile occupies: `cols`, padded to a power of two."""
        return pow2_ceil(self.cols)

    @property
    def wgt_rows(self) -> int:
        """Tile rows that the weight scratchpad holds; the unit of weight addresses."""
        return self.wgt_bytes // self.wgt_row_bytes

    @property
    def tile_bytes(self) -> int:
        """Bytes of one stationary weight tile."""
        return self.rows * self.wgt_row_bytes

    @property
    def acc_half(self) -> int:
        """Entries in one accumulator half."""
        return self.acc_depth // 2

    @property
    def multipliers(self) -> int:
        """Multipliers of the systolic array."""
        return self.rows * self.cols // (2 if self.packed else 1)

    @property
    def psum_bits(self) -> int:
        """Width of a column's partial sum: rows products of 16 bits."""
        return 16 + (self.rows - 1).bit_length()

    @property
    def par_bytes(self) -> int:
        """Bytes of the parameter memory (16 an entry)."""
        return self.par_entries * 16

    @property
    def tbl_bytes(self) -> int:
        """Bytes of the table memory (256 a table)."""
        return self.tables * TABLE_BYTES

    @property
    def fingerprint(self) -> int:
        """64-bit hash over every field that programs depend on; equal means program-compatible."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("name", "packed")}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:8], "little")

    # -- files ---------------------------------------------------------------------------------

    def to_toml(self) -> str:
        """This configuration as a TOML file that :func:`load` reads back."""
        lines = [f"{k} = {json.dumps(v)}" for k, v in dataclasses.asdict(self).items()]
        return "\n".join(lines) + "\n"


PRESETS: dict[str, Config] = {
    c.name: c
    for c in (
        Config(
            name="tiny", rows=4, cols=4, bus_bits=64, act_bytes=32768, wgt_bytes=16384,
            acc_depth=512, par_entries=256, tables=1, vector_lanes=2, multiplier_bits=18,
            read_beats=128,
        ),
        Config(
            name="small", rows=8, cols=8, bus_bits=64, act_bytes=65536, wgt_bytes=32768,
            par_entries=512, tables=1, vector_lanes=4,
        ),
        Config(),
        Config(
            name="large", rows=32, cols=32, bus_bits=256, act_bytes=262144, wgt_bytes=262144,
            vector_lanes=16,
        ),
    )
}  # fmt: skip


def load(source: str | Path) -> Config:
    """The preset called `source`, or the configuration in the TOML file at that path.

    Raises
    ------
    ConfigError
        Neither a preset nor a readable file; unknown or missing keys; an illegal combination.
    """
    text = str(source)
    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    try:
        if not path.is_file():
            names = ", ".join(PRESETS)
            raise ConfigError(f"{brief(text)} is neither a preset ({names}) nor a TOML file")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"cannot read configuration {one_line(text)}: {reason}") from error
    except RecursionError as error:
        raise ConfigError(f"cannot read configuration {one_line(text)}: it is nested") from error
    known = {field.name for field in dataclasses.fields(Config)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigError(
            f"{text}: unknown key {brief(unknown[0])}; known keys are {', '.join(sorted(known))}"
        )
    try:
        return Config(**{"name": path.stem, **table})
    except ConfigError as error:
        raise ConfigError(f"{text}: {error}") from error
