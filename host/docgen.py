"""The reference pages ``docs/isa.md`` and ``docs/registers.md``, written from the definitions.

``python -m weft.host.docgen`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..hdl.isa import (
    FORMATS,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    PEERS,
    SEMAPHORE_MAX,
    SEMAPHORES,
    UNIT_OF,
    Field,
    Opcode,
    Unit,
    layout,
)
from ..hdl.numerics import PARAMETER_FIELDS
from ..hdl.registers import ERRORS, REGISTERS, Cause, Error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

DOCS = Path(__file__).resolve().parent.parent / "docs"
_NOTE = "<!-- Written by `python -m weft.host.docgen`; edit the definitions, not this page. -->"

OPCODE_DOC: dict[Opcode, str] = {
    Opcode.END: "Waits until everything before it has completed, then stops the machine.",
    Opcode.LOAD: "Copies rows from a DRAM segment into an on-chip memory.",
    Opcode.MATMUL: (
        "Streams windows of ACT through weight tiles and accumulates column sums in ACC: a "
        "convolution, or a matrix product with a 1×1 window."
    ),
    Opcode.DRAIN: (
        "Reduces windows of ACC, requantizes them, looks them up in a table if asked to and "
        "writes INT8 channels to ACT."
    ),
    Opcode.POOL: (
        "Reduces windows of ACT, requantizes them, looks them up in a table if asked to and "
        "writes INT8 channels to ACT."
    ),
    Opcode.STORE: "Copies rows from ACT into a DRAM segment.",
}
_PARAMETER_DOC = {
    "bias": "added to the reduced value",
    "multiplier": "M; `multiplier_bits` of it are used",
    "shift": "s, right shift after rounding",
    "residual_shift": "t ≤ s",
    "residual_multiplier": "R",
    "zero_point": "z, added last before the clamp",
    "residual_zero": "z_r",
    "low": "lower clamp",
    "high": "upper clamp",
}
_ACCESS_DOC = {
    "ro": "read",
    "rw": "read, write",
    "w1": "writing 1 acts; reads 0",
    "w1c": "read; writing 1 clears",
}


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _bits(at: int, width: int) -> str:
    return f"{at + width - 1}:{at}" if width > 1 else str(at)


def _range(field: Field, opcode: Opcode) -> str:
    if field.name == "opcode":
        return str(int(opcode))
    if field.name in ("wait", "post"):
        unit = UNIT_OF.get(opcode)
        most = (1 << 2 * len(PEERS[unit])) - 1 if unit is not None else 0
        return f"0 … {most}" if most else "0"
    if field.kind is not None:
        return ", ".join(f"{member.value} {member.name}" for member in field.kind)
    return f"{field.minimum} … {field.maximum}"


def _meaning(field: Field, opcode: Opcode) -> str:
    return f"`{opcode.name}`" if field.name == "opcode" else field.doc


def _field_rows(opcode: Opcode) -> list[tuple[str, str, str, str]]:
    rows = [
        (_bits(at, f.bits), f.name, _range(f, opcode), _meaning(f, opcode))
        for f, at in layout(opcode)
    ]
    used = sum(f.bits for f in FORMATS[opcode])
    if used < INSTRUCTION_BITS:
        rows.append((_bits(used, INSTRUCTION_BITS - used), "–", "0", "reserved"))
    return rows


def _set_bits(unit: Unit) -> list[tuple[str, str, str]]:
    """Per bit of a unit's semaphore sets: what waiting and posting it means."""
    return [
        (str(2 * at + k), f"{peer.name} → {unit.name} {k}", f"{unit.name} → {peer.name} {k}")
        for at, peer in enumerate(PEERS[unit])
        for k in (0, 1)
    ]


def isa_page() -> str:
    """The text of ``docs/isa.md``."""
    parts = [
        "# Instruction set",
        _NOTE,
        f"An instruction is {INSTRUCTION_BITS} bits ({INSTRUCTION_BYTES} bytes), little-endian: "
        "bit 0 is the least significant bit of byte 0. Reserved bits must be 0. What the "
        "instructions compute is in [architecture.md](architecture.md).",
        _table(
            ("Opcode", "Name", "Unit", "Does"),
            (
                (
                    int(opcode),
                    f"[{opcode.name}](#{opcode.name.lower()})",
                    _units(opcode),
                    OPCODE_DOC[opcode],
                )
                for opcode in Opcode
            ),
        ),
    ]
    for opcode in Opcode:
        parts += [
            f"## {opcode.name}",
            OPCODE_DOC[opcode],
            _table(("Bits", "Field", "Values", "Meaning"), _field_rows(opcode)),
        ]
    parts += [
        "## Legal instructions",
        "The decoder stops the machine at an instruction that breaks one of these rules; where "
        "several are broken it reports the first:",
        "\n".join(
            (
                "1. OPCODE: the opcode is one of the table above.",
                "2. RESERVED: reserved bits are 0.",
                "3. FIELD: every field is in its range; `wait` and `post` name only peers that "
                "exist (END: none); DRAIN and POOL with `reduce` = NONE have a 1×1 window, and "
                "`table` is at most the number of tables; LOAD fills TBL only where there are "
                "tables.",
                "4. ALIGNMENT: in LOAD and STORE `offset` and `dram_pitch` are multiples of the "
                "bus width in bytes; in a LOAD to WGT, PAR or TBL so are `local`, `local_pitch` "
                "and `length`.",
            )
        ),
        "## Semaphores",
        f"There are {len(SEMAPHORES)} semaphores, two per ordered pair of units that talk. Each "
        f"counts from 0 to {SEMAPHORE_MAX}. An instruction starts when every semaphore of its "
        "`wait` set is above 0, and takes one from each; when it completes it adds one to each of "
        "its `post` set. The bits of both sets, per unit (WEIGHT's are `weight_wait` and "
        "`weight_post` of MATMUL):",
    ]
    for unit in Unit:
        parts += [
            f"### {unit.name}",
            _table(("Bit", "`wait` takes", "`post` gives"), _set_bits(unit)),
        ]
    parts += [
        "## Parameter entry",
        "Sixteen bytes a channel in PAR, little-endian: "
        "`clamp((((acc + bias)·M + ((r − z_r)·R << (s − t)) + round) >> s) + z, low, high)` with "
        "`round = 1 << (s − 1)`, or 0 where s = 0.",
        _table(("Bits", "Field", "Values", "Meaning"), _parameter_rows()),
    ]
    return "\n\n".join(parts) + "\n"


def _units(opcode: Opcode) -> str:
    if opcode == Opcode.MATMUL:
        return "WEIGHT, MATMUL"
    unit = UNIT_OF.get(opcode)
    return unit.name if unit is not None else "–"


def _parameter_rows() -> list[tuple[str, str, str, str]]:
    rows = []
    at = 0
    for name, bits, signed in PARAMETER_FIELDS:
        least, most = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
        rows.append((_bits(at, bits), name, f"{least} … {most - 1}", _PARAMETER_DOC[name]))
        at += bits
    rows.append((_bits(at, 128 - at), "–", "any", "ignored"))
    return rows


def registers_page() -> str:
    """The text of ``docs/registers.md``."""
    counters = [r for r in REGISTERS.values() if r.address >= REGISTERS["CYCLES"].address]
    control = [r for r in REGISTERS.values() if r not in counters]
    single = [r for r in counters if not r.name.endswith(tuple(f"_{c.name}" for c in Cause))]
    causes = [r for r in counters if r not in single]
    parts = [
        "# Register map",
        _NOTE,
        "AXI4-Lite, 32-bit registers at byte addresses; a 64-bit quantity takes two, low word "
        "first. Bits above a register's width read 0 and ignore writes.",
        "## Control and status",
        _register_table(control),
        "## Counters",
        "They start at 0 with every START and keep their values after the end.",
        _register_table(single),
        "Per unit, four causes share out the cycles: in each cycle exactly one of them counts, so "
        "the four of a unit sum to CYCLES.",
        _register_table(causes),
        "## Errors",
        "The first error stops the machine: ERROR tells its code, ERROR_PC the byte offset of the "
        "instruction concerned, and a soft reset clears both. Errors in turn are reported in the "
        "order of the program, when everything before their instruction has completed. What the "
        "machine does then, and how to recover, is in [architecture.md](architecture.md#faults).",
        _table(
            ("Code", "Name", "Cause", "ERROR_PC", "Reported", "What to do"),
            (
                (int(e), e.name, info.meaning, info.place, _reported(e), info.advice)
                for e, info in ERRORS.items()
            ),
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _reported(error: Error) -> str:
    if error in (Error.NONE, Error.BUS_STUCK):
        return "–"
    return "in turn" if ERRORS[error].in_turn else "at once"


def _register_table(registers: Iterable) -> str:
    return _table(
        ("Address", "Register", "Bits", "Access", "Meaning"),
        (
            (f"0x{r.address:03x}", r.name, _bits(0, r.bits), _ACCESS_DOC[r.access], r.doc)
            for r in registers
        ),
    )


def isa_tables() -> list[Table]:
    """The formats as tables for the terminal."""
    from rich.table import Table

    tables = []
    for opcode in Opcode:
        table = Table(
            "Bits", "Field", "Values", "Meaning", title=f"{opcode.name}: {OPCODE_DOC[opcode]}"
        )
        for row in _field_rows(opcode):
            table.add_row(*(cell.replace("`", "") for cell in row))
        tables.append(table)
    return tables


PAGES = {"isa.md": isa_page, "registers.md": registers_page}


def write(directory: Path = DOCS) -> list[Path]:
    """Write both pages into `directory`; returns their paths."""
    paths = []
    for name, page in PAGES.items():
        path = directory / name
        path.write_text(page(), encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write():
        print(written)
