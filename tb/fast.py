"""The fast path: the machine as compiled by Verilator, run by C++ from START to the interrupt.

`fast_main.cpp` is the loop, `axi_memory.h` the memory; this module builds them into a shared
library and calls it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..host.device import DeviceError
from . import cache, tools
from .lockstep import RECORD
from .memory_model import NEVER, Options
from .runner import BuildFailed, tail

if TYPE_CHECKING:
    from ..hdl.config import Config
    from ..hdl.isa import Unit

SOURCES = ("fast_main.cpp", "axi_memory.h", "lockstep.h", "lockstep.vlt")
TOP = "weft"
LIBRARY = "libweft.so"

VERILATOR_FLAGS = (
    *("--cc", "--exe", "--build", "-j", "2", "-O3", "--x-assign", "fast", "--x-initial", "unique"),
    *(
        "--default-language",
        "1364-2005",
        "--noassert",
        "-Wno-fatal",
        "-Wno-lint",
        "-Wno-style",
        "--output-split",
        "20000",
    ),
    *("--MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O1 OPT_GLOBAL=-O2"),
)
COMPILER_FLAGS = (
    *("-fPIC", "-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt"),
    *("-fno-math-errno", "-DVL_TIME_CONTEXT"),
)
LINKER_FLAGS = ("-shared", "-Wl,-Bsymbolic")

_INITIAL_VALUE = re.compile(
    r"^(\s*reg\s+(?:\[\d+:\d+\]\s*)?(?!weft_began\b)\S+)\s*=\s*\d*'?[bdh]?[0-9a-fA-F_xX]+\s*;$",
    re.MULTILINE,
)

#: The initial contents of a memory.
_CONTENTS = re.compile(
    r"^  initial begin\n(?:    \S+\[\d+\] = \d+'h[0-9a-f]+;\n)+  end\n", re.MULTILINE
)

#: What a clocked process assigns; declarations of variables, up to their initial value.
_ASSIGNED = re.compile(r"^\s+(\\\S+ |\w+)(?:\s*\[[^\]]*\])*\s*<=", re.MULTILINE)
_DECLARED = re.compile(
    r"^(\s*reg\s+(?:\[\d+:\d+\]\s*)?(\\\S+ |\w+)(?:\s*\[\d+:\d+\])?)(\s*[=;])", re.MULTILINE
)

#: Cycles that the machine may take to answer on AXI-Lite.
REGISTER_LIMIT = 1000


@dataclass(frozen=True)
class Element:
    """A register (of one word) or a memory of the machine."""

    index: int
    name: str
    bits: int
    words: int


class _Event(ctypes.Structure):
    _fields_ = [
        ("cycle", ctypes.c_uint64),
        ("channel", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    ]


_OPTION_NAMES = (
    *("latency", "beat_interval", "stall_seed", "stall_channels", "read_fault", "read_response"),
    *("last_fault", "write_fault", "write_response", "stop", "after", "pause", "log_traffic"),
)


class _Options(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _OPTION_NAMES]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def build(
    verilog: str,
    bus_bytes: int,
    *,
    trace: bool = False,
    state: bool = False,
    coverage: bool = False,
    progress: Callable[[str], None] = _say,
) -> Path:
    """The shared library for a machine's Verilog, from the cache or built now.

    Parameters
    ----------
    verilog
        Text with the module ``weft``.
    bus_bytes
        Bytes of its AXI data bus.
    trace
        With FST tracing, which is slower.
    state
        With access to what the Verilog marks as :func:`public_state` does:
        :meth:`FastMachine.elements`, :meth:`FastMachine.flip`, :meth:`FastMachine.invert`.
    coverage
        With :meth:`FastMachine.coverage`, of lines and toggles.
    progress
        Told when a build starts and ends.

    Raises
    ------
    SimulatorNotFound
        A tool is missing.
    BuildFailed
        Verilator or the compiler refused it.
    """
    here = Path(__file__).parent
    files = {name: (here / name).read_text() for name in SOURCES}
    files[f"{TOP}.v"] = re.sub(r"^//.*\n", "", verilog, flags=re.MULTILINE)
    options = ["--trace-fst"] if trace else []
    options += ["--coverage-line", "--coverage-toggle"] if coverage else []
    defines = [f"-DWEFT_BUS_BYTES={bus_bytes}", f"-DWEFT_STATE={int(state)}"]
    try:
        return verilate("fast", TOP, files, options, defines, progress=progress)
    except BuildFailed as error:
        if trace and re.search(r"(zlib|lz4)\w*\.h", str(error)):
            raise BuildFailed(
                "FST waveforms need the headers of zlib and lz4; install them "
                "(Debian: zlib1g-dev liblz4-dev)"
            ) from error
        raise


def verilate(
    kind: str,
    top: str,
    files: Mapping[str, str],
    options: Sequence[str] = (),
    defines: Sequence[str] = (),
    *,
    progress: Callable[[str], None] = _say,
) -> Path:
    """The shared library of C++ and Verilog files, from the cache or built now.

    Parameters
    ----------
    kind
        Sort of build: its folder in the cache.
    top
        The module that becomes class Vmodel.
    files
        Texts by name.
    options
        More options of Verilator.
    defines
        More options of the C++ compiler.
    progress
        Told when a build starts and ends.

    Raises
    ------
    SimulatorNotFound
        A tool is missing.
    BuildFailed
        Verilator or the compiler refused it; the end of what they said.
    """
    tool = tools.find_verilator()
    command = [
        *(*VERILATOR_FLAGS, *options),
        *("-CFLAGS", " ".join([*COMPILER_FLAGS, *defines]), "-LDFLAGS", " ".join(LINKER_FLAGS)),
        *("--prefix", "Vmodel", "--top-module", top, "--Mdir", "obj", "-o", f"../{LIBRARY}"),
        *(name for name in files if not name.endswith(".h")),
    ]

    def make(directory: Path) -> None:
        progress("building the simulator with Verilator; this happens once and takes a while …")
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
        log = directory / "build.log"
        with log.open("w") as file:
            done = subprocess.run(
                [str(tool.executable), *command],
                cwd=directory,
                env=tool.variables(),
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode or not (directory / LIBRARY).is_file():
            raise BuildFailed(f"the simulator could not be built:\n{tail(log)}")
        shutil.rmtree(directory / "obj")
        progress("simulator built")

    name = cache.key(tool.identity, *command, *files.values())
    return cache.cached(kind, name, make) / LIBRARY


def without_initial_values(verilog: str) -> str:
    """The Verilog without the initial values of registers, as silicon would come up.

    Memories keep theirs: that they read zero after power-up is part of the contract. So does
    ``weft_began``, which is no register of the machine but makes simulators evaluate at time 0.
    """
    # The blank ends an escaped identifier.
    return _INITIAL_VALUE.sub(r"\1 ;", verilog)


def without_memory_contents(verilog: str) -> str:
    """The Verilog without the zeros that memories hold after power-up."""
    return _CONTENTS.sub("", verilog)


def public_state(verilog: str) -> str:
    """The Verilog with every register and memory marked as accessible from C++."""
    registers: set[str] = set()
    out = []
    for module in re.split(r"^(?=module )", verilog, flags=re.MULTILINE):
        registers = set(_ASSIGNED.findall(module)) - {"weft_began"}
        out.append(
            _DECLARED.sub(
                lambda found, registers=registers: (
                    f"{found[1]} /*verilator public_flat_rw*/{found[3]}"
                    if found[2] in registers
                    else found[0]
                ),
                module,
            )
        )
    return "".join(out)


class FastMachine:
    """A machine and its memory in this process.

    Parameters
    ----------
    library
        From :func:`build`.
    options
        Of the memory.
    trace
        FST file to write (the library must be built with tracing).
    random_state
        Non-zero: seed of random values in all state that has no initial value; see
        :func:`without_initial_values`.
    """

    def __init__(
        self,
        library: Path,
        options: Options | None = None,
        *,
        trace: Path | None = None,
        random_state: int = 0,
    ):
        self._lib = _load(library)
        self._machine = self._lib.weft_create(random_state)
        self._process = os.getpid()
        self._mapped: list[object] = []
        if trace is not None:
            trace.parent.mkdir(parents=True, exist_ok=True)
            if not self._lib.weft_trace(self._machine, str(trace).encode()):
                raise DeviceError(f"cannot write the waveform {trace}")
        self.set_options(options or Options())
        self.reset()

    def set_options(self, options: Options) -> None:
        """Change latency, pace, stalls and faults of the memory; not while the machine runs."""
        values = {name: getattr(options, name) for name in _OPTION_NAMES}
        self._lib.weft_options(
            self._machine, ctypes.byref(_Options(**{k: min(v, NEVER) for k, v in values.items()}))
        )

    def reset(self, cycles: int = 4) -> None:
        """Hold the reset pin."""
        self._lib.weft_reset(self._machine, cycles)

    def map(self, *regions: tuple[int, bytearray]) -> None:
        """Replace the memory: (base address, contents) pairs, read and written in place."""
        self._lib.weft_unmap(self._machine)
        self._mapped = []
        for base, contents in regions:
            buffer = (ctypes.c_uint8 * len(contents)).from_buffer(contents)
            self._mapped.append(buffer)
            self._lib.weft_map(self._machine, base, buffer, len(contents))

    def window(self, base: int, size: int, *, writable: bool) -> None:
        """Expect bursts in this range of addresses (rounded up to beats) and others like it.

        To be called after :meth:`map`, which forgets all windows.
        """
        self._lib.weft_window(self._machine, base, size, writable)

    @property
    def escape(self) -> str:
        """The first burst outside all windows, as text; empty if there was none."""
        return self._lib.weft_escape(self._machine).decode()

    @property
    def violation(self) -> str:
        """The first breach of the bus protocol, as text; empty if there was none."""
        return self._lib.weft_violation(self._machine).decode()

    def elements(self) -> list[Element]:
        """Registers and memories of the machine, sorted by name."""
        out = []
        bits, words = ctypes.c_uint64(), ctypes.c_uint64()
        for index in range(self._lib.weft_state(self._machine)):
            name = self._lib.weft_element(
                self._machine, index, ctypes.byref(bits), ctypes.byref(words)
            )
            out.append(Element(index, name.decode(), bits.value, words.value))
        return out

    def contents(self, element: Element) -> np.ndarray:
        """Its words as they are now, uint8 [words, bytes], least significant byte first."""
        stride = ctypes.c_uint64()
        first = self._lib.weft_contents(self._machine, element.index, ctypes.byref(stride))
        data = ctypes.string_at(first, element.words * stride.value)
        words = np.frombuffer(data, np.uint8).reshape(element.words, stride.value)
        return words[:, : -(-element.bits // 8)].copy()

    def bit(self, element: Element, word: int, bit: int) -> int:
        """A bit of the state as it is now."""
        return self._lib.weft_bit(self._machine, element.index, word, bit)

    def flip(self, at: int, element: Element, word: int, bit: int) -> None:
        """Invert a bit of the state at the beginning of cycle `at` of the next run."""
        self._lib.weft_flip(self._machine, at, element.index, word, bit)

    def invert(self, element: Element, word: int, bit: int) -> None:
        """Invert a bit of the state now."""
        self._lib.weft_invert(self._machine, element.index, word, bit)

    def write(
        self, address: int, value: int, *, start: bool = False, strobes: int = 0b1111
    ) -> None:
        """Write a register, or those of its bytes whose bit of `strobes` is set.

        With `start`, cycle 0 of a run is the one after the handshake.
        """
        response = self._lib.weft_write(
            self._machine, address, value & 0xFFFFFFFF, strobes, REGISTER_LIMIT, start
        )
        if response:
            what = "does not answer" if response < 0 else f"answers {response}"
            raise DeviceError(f"the machine {what} when register 0x{address:03x} is written")

    def read(self, address: int) -> int:
        """Read a register."""
        value = self._lib.weft_read(self._machine, address, REGISTER_LIMIT)
        if value < 0:
            what = "does not answer" if value == -1 else "answers with an error"
            raise DeviceError(f"the machine {what} when register 0x{address:03x} is read")
        return value

    def run(self, limit: int, patience: int = NEVER, *, strict: bool = True) -> bool:
        """Run until the interrupt.

        False if it did not come within `limit` cycles, or if nothing happened for `patience`: no
        handshake on the memory bus, no completed instruction. If `strict`, a breach of the bus
        protocol raises DeviceError; it is in `violation` in any case.
        """
        done = self._lib.weft_run(self._machine, limit, patience, strict)
        if done < 0:
            text = self._lib.weft_violation(self._machine).decode()
            raise DeviceError(f"the machine broke the AXI protocol: {text}")
        return bool(done)

    def idle(self, cycles: int) -> None:
        """Let cycles pass."""
        self._lib.weft_idle(self._machine, cycles)

    @property
    def cycle(self) -> int:
        """Cycles since START."""
        return self._lib.weft_cycle(self._machine)

    @property
    def written(self) -> int:
        """Cycle since START in which the latest write beat with strobes was offered; -1: none."""
        return self._lib.weft_written(self._machine)

    @property
    def answered(self) -> bool:
        """The memory has answered whatever it was asked."""
        return bool(self._lib.weft_answered(self._machine))

    def retired(self) -> np.ndarray:
        """(cycle since START, unit) of each completed instruction."""
        return self._events(self._lib.weft_retired)[:, :2].astype(np.int64)

    def traffic(self) -> np.ndarray:
        """(cycle since START, channel, value) of each handshake, if the options asked for it."""
        return self._events(self._lib.weft_traffic)

    def lockstep(self, config: Config) -> None:
        """From the next START on, take down what every instruction writes.

        Raises
        ------
        DeviceError
            The Verilog is not one of our machines, whose memories are found by name.
        """
        bytes_ = config.act_bytes, config.wgt_bytes, config.par_bytes, config.tbl_bytes
        sizes = (ctypes.c_uint64 * len(bytes_))(*bytes_)
        if not self._lib.weft_lockstep(self._machine, sizes):
            raise DeviceError("this Verilog lacks the signals that lockstep needs")

    def digests(self, unit: Unit) -> np.ndarray:
        """The digest of each instruction of `unit`, uint64; of those that wrote, and before."""
        first = ctypes.POINTER(ctypes.c_uint64)()
        count = self._lib.weft_digests(self._machine, unit, ctypes.byref(first))
        return np.ctypeslib.as_array(first, (count,)).copy() if count else np.zeros(0, np.uint64)

    def writes(self) -> np.ndarray:
        """Every write, as RECORD of lockstep.py; valid until the next START."""
        first = ctypes.c_void_p()
        count = self._lib.weft_writes(self._machine, ctypes.byref(first))
        if not first.value or not count:
            return np.zeros(0, RECORD)
        flat = (ctypes.c_uint8 * (count * RECORD.itemsize)).from_address(first.value)
        return np.frombuffer(flat, RECORD)

    def _events(self, function: Callable[..., int]) -> np.ndarray:
        first = ctypes.POINTER(_Event)()
        count = function(self._machine, ctypes.byref(first))
        if count == 0:
            return np.zeros((0, 3), np.uint64)
        flat = np.ctypeslib.as_array(
            ctypes.cast(first, ctypes.POINTER(ctypes.c_uint64)), (count, 3)
        )
        return flat.copy()

    def flush(self) -> None:
        """Write what the waveform has so far."""
        self._lib.weft_flush(self._machine)

    def coverage(self, path: Path) -> None:
        """Write the counts of what was covered so far, in Verilator's format."""
        self._lib.weft_coverage(self._machine, str(path).encode())

    def close(self) -> None:
        """Free the machine and end its waveform.

        In a process that was forked since it only forgets the machine: a fork does not copy the
        machine's threads, and to free it would be to wait for them.
        """
        if self._machine and self._process == os.getpid():
            self._lib.weft_destroy(self._machine)
        self._machine = None
        self._mapped = []


def _load(library: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(library))
    machine, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    events = ctypes.POINTER(ctypes.POINTER(_Event))
    signatures = {
        "weft_create": (machine, ctypes.c_int),
        "weft_destroy": (None, machine),
        "weft_trace": (ctypes.c_int, machine, ctypes.c_char_p),
        "weft_flush": (None, machine),
        "weft_coverage": (None, machine, ctypes.c_char_p),
        "weft_options": (None, machine, ctypes.POINTER(_Options)),
        "weft_reset": (None, machine, ctypes.c_uint),
        "weft_unmap": (None, machine),
        "weft_map": (None, machine, u64, ctypes.c_void_p, u64),
        "weft_window": (None, machine, u64, u64, ctypes.c_int),
        "weft_escape": (ctypes.c_char_p, machine),
        "weft_state": (u64, machine),
        "weft_element": (ctypes.c_char_p, machine, u64, ctypes.POINTER(u64), ctypes.POINTER(u64)),
        "weft_contents": (ctypes.c_void_p, machine, u64, ctypes.POINTER(u64)),
        "weft_bit": (ctypes.c_int, machine, u64, u64, u64),
        "weft_flip": (None, machine, u64, u64, u64, u64),
        "weft_invert": (None, machine, u64, u64, u64),
        "weft_write": (ctypes.c_int, machine, u32, u32, ctypes.c_uint, u64, ctypes.c_int),
        "weft_read": (ctypes.c_int64, machine, u32, u64),
        "weft_run": (ctypes.c_int, machine, u64, u64, ctypes.c_int),
        "weft_idle": (None, machine, u64),
        "weft_cycle": (u64, machine),
        "weft_written": (ctypes.c_int64, machine),
        "weft_answered": (ctypes.c_int, machine),
        "weft_violation": (ctypes.c_char_p, machine),
        "weft_retired": (u64, machine, events),
        "weft_lockstep": (ctypes.c_int, machine, ctypes.POINTER(u64)),
        "weft_digests": (u64, machine, ctypes.c_uint, ctypes.POINTER(ctypes.POINTER(u64))),
        "weft_writes": (u64, machine, ctypes.POINTER(ctypes.c_void_p)),
        "weft_traffic": (u64, machine, events),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib
