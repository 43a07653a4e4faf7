"""The reference pages say what the definitions say."""

import re

import pytest
from weft.hdl.isa import FORMATS, SEMAPHORES, Opcode
from weft.hdl.registers import REGISTERS, Error
from weft.host import docgen
from weft.host.device import WATCHDOG

from .campaigns.__main__ import CAMPAIGNS


@pytest.mark.parametrize("name", docgen.PAGES)
def test_pages_are_current(name):
    written = (docgen.DOCS / name).read_text(encoding="utf-8")
    assert written == docgen.PAGES[name](), "run `python -m weft.host.docgen`"


def test_write(tmp_path):
    assert {path.name for path in docgen.write(tmp_path)} == set(docgen.PAGES)
    for name, page in docgen.PAGES.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("page", docgen.PAGES.values(), ids=docgen.PAGES)
def test_tables_are_rectangular(page):
    columns = None
    for line in page().splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        columns = columns or line.count("|")
        assert line.count("|") == columns, line


def test_everything_is_documented():
    isa, registers = docgen.isa_page(), docgen.registers_page()
    for opcode, fields in FORMATS.items():
        section = isa.split(f"\n## {opcode.name}\n")[1].split("\n## ")[0]
        for field in fields:
            assert f"| {field.name} |" in section
    for register in REGISTERS.values():
        assert registers.count(f"| 0x{register.address:03x} | {register.name} |") == 1
    for error in Error:
        assert f"| {error.value} | {error.name} |" in registers
    for producer, consumer, k in SEMAPHORES:
        assert isa.count(f"| {producer.name} → {consumer.name} {k} |") == 2


def test_terminal_tables():
    tables = docgen.isa_tables()
    assert [str(table.title).split(":")[0] for table in tables] == [o.name for o in Opcode]
    assert all(table.row_count >= len(FORMATS[o]) for o, table in zip(Opcode, tables, strict=True))


def test_the_contract_of_faults_names_every_error_and_its_tests():
    text = (docgen.DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## Faults\n")[1].split("\n## ")[0]
    for error in set(Error) - {Error.NONE}:
        assert error.name in section, error
    for name in set(re.findall(r"`(tests/\w+\.py)`", section)):
        assert (docgen.DOCS.parent / name).is_file(), name
    for name in re.findall(r"`make verify ARGS=(\w+)`", section):
        assert name in CAMPAIGNS
    assert f"{WATCHDOG:,}" in section
