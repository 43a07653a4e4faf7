"""The memory model and an AXI-Lite master as cocotb agents on a design's pins."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import First, ValueChange

from .bench import Cycles
from .memory_model import Address, AxiMemoryModel, Beat, Master, Options

_READ_PINS = ("arready", "rvalid", "rdata", "rresp", "rlast")
_WRITE_PINS = ("awready", "wready", "bvalid", "bresp")


class AxiMemory:
    """An AXI4 slave memory, from the next rising edge on; see :class:`AxiMemoryModel`.

    Create it right after an edge (as :func:`~.bench.clock_and_reset` returns). If the design breaks
    the protocol, the running test fails with a ProtocolError. A design with only one half of the
    bus gets only that half.

    Parameters
    ----------
    dut
        The design; its pins are called ``<prefix>araddr`` and so on.
    cycles
        Cycle numbers.
    bus_bytes
        Bytes of a beat.
    prefix
        "m_axi_" at the chip's pins, "m_axi__" for a component's member `m_axi`.
    options
        Behaviour of the memory.
    """

    def __init__(
        self,
        dut: Any,
        cycles: Cycles,
        *,
        bus_bytes: int,
        prefix: str = "m_axi_",
        options: Options | None = None,
    ):
        self.model = AxiMemoryModel(bus_bytes, options)
        self._dut = dut
        self._prefix = prefix
        self._cycles = cycles
        self._reads = self._pin("araddr") is not None
        self._writes = self._pin("awaddr") is not None
        if not (self._reads or self._writes):
            raise ValueError(f"there are no pins {prefix}araddr or {prefix}awaddr")
        self._valids = [
            pin for name in ("arvalid", "awvalid", "wvalid") if (pin := self._pin(name)) is not None
        ]
        names = (_READ_PINS if self._reads else ()) + (_WRITE_PINS if self._writes else ())
        self._outputs = [(name, self._pin(name)) for name in names]
        self._driven: dict[str, int] = {}
        for name in ("rid", "bid"):
            if (pin := self._pin(name)) is not None:
                pin.value = 0
        cocotb.start_soon(self._run())

    def map(self, *regions: tuple[int, bytearray]) -> None:
        """Replace the memory: (base address, contents) pairs, read and written in place."""
        self.model.regions = list(regions)

    def _pin(self, name: str) -> Any:
        return getattr(self._dut, self._prefix + name, None)

    def _number(self, name: str) -> int:
        pin = self._pin(name)
        return 0 if pin is None else int(pin.value)

    async def _run(self) -> None:
        cycles, model = self._cycles, self.model
        while True:
            model.drive(cycles.now)
            self._drive()
            await cycles.settle()
            model.sample(cycles.now, self._master())
            if model.idle and not model.options.stall_seed and self._silent:
                await self._wake()
            await cycles.edge()

    async def _wake(self) -> None:
        """Sleep until a valid changes; then take the cycle in which it does.

        The outputs of an idle memory stay as they are, so the cycles between need no driving.
        """
        await First(*(ValueChange(pin) for pin in self._valids))
        await self._cycles.settle()
        self.model.sample(self._cycles.now, self._master())

    @property
    def _silent(self) -> bool:
        return not (self._driven.get("rvalid") or self._driven.get("bvalid"))

    def _drive(self) -> None:
        driven = self._driven
        for name, pin in self._outputs:
            value = getattr(self.model, name)
            if driven.get(name) != value:
                pin.value = driven[name] = int(value)

    def _master(self) -> Master:
        return Master(
            ar=self._address("ar") if self._reads and int(self._pin("arvalid").value) else None,
            aw=self._address("aw") if self._writes and int(self._pin("awvalid").value) else None,
            w=self._beat() if self._writes and int(self._pin("wvalid").value) else None,
            rready=self._number("rready"),
            bready=self._number("bready"),
        )

    def _address(self, channel: str) -> Address:
        parts = ("addr", "len", "size", "burst", "id")
        return Address(*(self._number(f"{channel}{part}") for part in parts))

    def _beat(self) -> Beat:
        return Beat(self._number("wdata"), self._number("wstrb"), self._number("wlast"))


class AxiLiteMaster:
    """Reads and writes registers, one at a time.

    Parameters are those of :class:`AxiMemory`; call the methods right after an edge, they return
    right after one.
    """

    def __init__(self, dut: Any, cycles: Cycles, *, prefix: str = "s_axil_", limit: int = 1000):
        self._dut = dut
        self._cycles = cycles
        self._prefix = prefix
        self._limit = limit
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready", "awprot", "arprot"):
            self._set(name, 0)

    def _set(self, name: str, value: int) -> None:
        getattr(self._dut, self._prefix + name).value = value

    def _get(self, name: str) -> int:
        return int(getattr(self._dut, self._prefix + name).value)

    async def write(self, address: int, value: int, *, strobe: int = 15) -> int:
        """Write a register; the cycle of the later of its AW and W handshakes."""
        for name, number in (("awaddr", address), ("wdata", value), ("wstrb", strobe)):
            self._set(name, number)
        for name in ("awvalid", "wvalid", "bready"):
            self._set(name, 1)
        open_channels = {"aw", "w"}
        taken = 0
        for _ in range(self._limit):
            await self._cycles.settle()
            done = {c for c in open_channels if self._get(f"{c}ready")}
            if done:
                taken = self._cycles.now
            answered, response = self._get("bvalid"), self._get("bresp")
            await self._cycles.edge()
            for channel in done:
                self._set(f"{channel}valid", 0)
            open_channels -= done
            if answered:
                self._set("bready", 0)
                assert response == 0, f"register 0x{address:03x}: write answered {response}"
                return taken
        raise AssertionError(f"register 0x{address:03x}: no answer to the write")

    async def read(self, address: int) -> int:
        """Read a register."""
        self._set("araddr", address)
        self._set("arvalid", 1)
        self._set("rready", 1)
        for _ in range(self._limit):
            await self._cycles.settle()
            taken = self._get("arvalid") and self._get("arready")
            answered, response, value = self._get("rvalid"), self._get("rresp"), 0
            if answered:
                value = self._get("rdata")
            await self._cycles.edge()
            if taken:
                self._set("arvalid", 0)
            if answered:
                self._set("rready", 0)
                assert response == 0, f"register 0x{address:03x}: read answered {response}"
                return value
        raise AssertionError(f"register 0x{address:03x}: no answer to the read")
