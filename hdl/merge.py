"""Merging equal modules in RTLIL, so that each distinct one is exported once, with a short name.

Amaranth emits one module for every instance. Two of them are equal here if they differ in nothing
but the order and the generated names of their ports, and the names of equal submodules.
"""

from __future__ import annotations

import re

_MODULE = re.compile(r"^module (\\\S+)\n(.*?)^end\n", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^  cell (\\\S+) (\S+)\n((?:    .*\n)*)  end\n", re.MULTILINE)
_CONNECT = re.compile(r"^    connect (\\\S+) ", re.MULTILINE)
_PORT = re.compile(
    r"^((?:  attribute .*\n)*)  wire width (\d+) (input|output) \d+ ( signed)? ?(\\\S+)\n\n",
    re.MULTILINE,
)
#: A port that has no name of its own gets one with a number that counts through the whole design.
_GENERATED = re.compile(r"\\port\$[\w$]+")


def merge_modules(text: str) -> str:
    """RTLIL with every group of equal modules replaced by one.

    Names are ``<top>_<submodule>`` with the instance's index left out, preceded by the names of
    what contains it as far as needed to tell modules apart; where these are equal too, a number
    follows. Ports are in alphabetical order, after clock and reset.
    """
    merger = _Merger({match[1]: match[2] for match in _MODULE.finditer(text)})
    for module in merger.bodies:
        merger.visit(module)
    kept = [module for module in merger.bodies if merger.same_as[module] == module]
    names = _names(kept)
    parts = ["attribute \\top 1\n"]
    for module in kept:
        body = _CELL.sub(
            lambda cell: f"  cell {names.get(cell[1], cell[1])} {cell[2]}\n{cell[3]}  end\n",
            merger.bodies[module],
        )
        parts.append(f"module {names[module]}\n{body}end\n")
    return "".join(parts)


class _Merger:
    """Finds, from the leaves up, the first module that equals each module.

    Parameters
    ----------
    bodies
        Each module's text; made canonical by :meth:`visit`.
    """

    def __init__(self, bodies: dict[str, str]):
        self.bodies = bodies
        self.same_as: dict[str, str] = {}
        self._renamed: dict[str, dict[str, str]] = {}
        self._first: dict[str, str] = {}

    def visit(self, module: str) -> None:
        """Make `module` and everything in it canonical, and compare it."""
        if module in self.same_as:
            return
        body, self._renamed[module] = _canonical(_CELL.sub(self._instance, self.bodies[module]))
        self.bodies[module] = body
        self.same_as[module] = self._first.setdefault(body, module)

    def _instance(self, cell: re.Match[str]) -> str:
        """An instance with its module and its ports by their canonical names, in order."""
        child, name, connections = cell[1], cell[2], cell[3]
        if child not in self.bodies:  # a cell of the technology
            return cell[0]
        self.visit(child)
        ports = self._renamed[child]
        lines = _CONNECT.sub(
            lambda port: f"    connect {ports.get(port[1], port[1])} ", connections
        ).splitlines(keepends=True)
        return f"  cell {self.same_as[child]} {name}\n{''.join(sorted(lines))}  end\n"


def _canonical(body: str) -> tuple[str, dict[str, str]]:
    """A module's text with its ports sorted and without generated names; and what was renamed."""
    ports = list(_PORT.finditer(body))
    rest = _PORT.sub("", body)
    generated = dict.fromkeys(_GENERATED.findall(rest))
    generated |= dict.fromkeys(port[5] for port in ports if _GENERATED.fullmatch(port[5]))
    renamed = {old: f"\\port_{i}" for i, old in enumerate(generated)}

    def rename(text: str) -> str:
        return _GENERATED.sub(lambda name: renamed[name[0]], text)

    found = sorted(
        (rename(port[5]) not in ("\\clk", "\\rst"), rename(port[5]), port) for port in ports
    )
    declared = [
        f"{port[1]}  wire width {port[2]} {port[3]} {i}{port[4] or ''} {name}\n\n"
        for i, (_, name, port) in enumerate(found, start=1)
    ]
    return "".join(declared) + rename(rest), renamed


def _names(modules: list[str]) -> dict[str, str]:
    """A short name for each hierarchical one: as few of its last parts as make it unique."""
    top, *pending = modules
    paths = {
        module: [re.sub(r"((_|\$)\d+)+$", "", part) for part in module[1:].split(".")[1:]]
        for module in pending
    }
    names = {top: top}
    used = {top}

    def give(module: str, name: str) -> None:
        while name in used:
            name += "_"
        used.add(name)
        names[module] = name

    depth = 1
    while pending:
        groups: dict[str, list[str]] = {}
        for module in pending:
            groups.setdefault("_".join(paths[module][-depth:]), []).append(module)
        pending = []
        for short, group in groups.items():
            if len(group) == 1:
                give(group[0], f"{top}_{short}")
            elif len({tuple(paths[module]) for module in group}) == 1:
                for i, module in enumerate(group):
                    give(module, f"{top}_{short}_{i}")
            else:
                pending += group
        depth += 1
    return names
