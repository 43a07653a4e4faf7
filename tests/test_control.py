"""The control block behind its AXI-Lite port."""

from weft.hdl.config import PRESETS, Config
from weft.hdl.control import Control
from weft.hdl.counters import COUNTERS
from weft.hdl.isa import Unit
from weft.hdl.register_file import LOCKED, constants, writable
from weft.hdl.registers import REGISTERS
from weft.tb.runner import simulate


def test_control():
    simulate(Control(PRESETS["default"], sources=3), "tests.bench_control", simulator="icarus")


def test_every_counter_is_a_register_and_every_other_register_is_known():
    assert [name for name in COUNTERS if REGISTERS[name].access != "ro"] == []
    others = {name for name, register in REGISTERS.items() if register.access == "ro"}
    others -= {*COUNTERS, *constants(PRESETS["default"])}
    others -= {f"{unit.name}_PC" for unit in Unit}
    assert others == {"STATUS", "ERROR", "ERROR_PC", "TAG"}


def test_lock_covers_the_program_the_segments_and_the_watchdog():
    assert len(LOCKED) == 3 + 4 * 3 + 1
    assert "IRQ_ENABLE" not in LOCKED


def test_writable_bits():
    wide = Config(addr_bits=40)
    assert writable(REGISTERS["PROGRAM_HI"], wide) == 0xFF
    assert writable(REGISTERS["PROGRAM_HI"], PRESETS["default"]) == 0
    assert writable(REGISTERS["INPUT_LO"], wide) == 0xFFFFF000
    assert writable(REGISTERS["PROGRAM_SIZE"], wide) == 0x1FFFFFE0
    assert writable(REGISTERS["IRQ_ENABLE"], wide) == 3
