"""What cocotb benches share: clock, cycle numbers, struct packing, stream drivers with stalls.

The discipline of every bench here: drive right after a rising edge, wait for
:meth:`Cycles.settle`, then sample. What is sampled so in cycle t is what the rising edge that ends
cycle t will see. (Right after ``RisingEdge`` Icarus still shows the old values of registers, and
Verilator the new ones.)
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Sequence
from typing import Any

from amaranth.hdl import Shape, ShapeCastable, unsigned
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge
from cocotb.utils import get_sim_steps, get_sim_time

#: Whether the source idles at random, and whether the sink refuses at random.
STALLS: dict[str, tuple[bool, bool]] = {
    "none": (False, False),
    "idle": (True, False),
    "backpressure": (False, True),
    "both": (True, True),
}

PERIOD_NS = 10


class Cycles:
    """Numbers of clock cycles: cycle 0 is the first after reset.

    Cycle t lasts from one rising edge to the next; every coroutine sees the same number.
    """

    def __init__(self, clk: Any):
        self.clk = clk
        self.restart()

    def restart(self) -> None:
        """Call the cycle that begins now 0."""
        self._zero = get_sim_time("step")
        self._period = get_sim_steps(PERIOD_NS, "ns")

    @property
    def now(self) -> int:
        """The current cycle."""
        return (get_sim_time("step") - self._zero) // self._period

    async def edge(self, count: int = 1) -> None:
        """Go to right after the `count`-th next rising edge, where inputs are driven."""
        for _ in range(count):
            await RisingEdge(self.clk)

    async def settle(self) -> None:
        """Wait until everything driven in this cycle has settled; then only read."""
        await ReadOnly()


async def clock_and_reset(dut: Any, cycles: int = 2, **inputs: int) -> Cycles:
    """Start ``dut.clk``, hold ``dut.rst`` for `cycles` cycles with `inputs` driven.

    Returns right after the rising edge at which cycle 0 begins, with ``rst`` low.
    """
    Clock(dut.clk, PERIOD_NS, "ns").start(start_high=True)
    dut.rst.value = 1
    for name, value in inputs.items():
        getattr(dut, name).value = value
    count = Cycles(dut.clk)
    await count.edge(cycles)
    dut.rst.value = 0
    count.restart()
    return count


def pack(shape: Any, value: Any) -> int:
    """The bits of `value` in `shape`, checked against every field's range.

    Parameters
    ----------
    shape
        Anything that casts to an Amaranth layout or shape.
    value
        A dict for a structure (missing fields are 0), a dict with one key for a union, a sequence
        for an array, otherwise an integer or a member of an enumeration.

    Raises
    ------
    ValueError
        A field does not exist, or its value does not fit.
    """
    layout = _layout(shape)
    if layout is None:
        bits = Shape.cast(shape)
        number = int(value.value if isinstance(value, enum.Enum) else value)
        least = -(1 << (bits.width - 1)) if bits.signed and bits.width else 0
        if not least <= number < least + (1 << bits.width):
            raise ValueError(f"{number} does not fit {bits!r}")
        return number & ((1 << bits.width) - 1)
    items = value.items() if isinstance(value, dict) else enumerate(value)
    out = 0
    for key, part in items:
        try:
            entry = layout[key]
            out |= pack(entry.shape, part) << entry.offset
        except KeyError:
            raise ValueError(f"there is no field {key!r}") from None
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return out


def unpack(shape: Any, bits: int) -> Any:
    """The value that `bits` stand for: the inverse of :func:`pack`, all fields present."""
    layout = _layout(shape)
    if layout is None:
        cast = Shape.cast(shape)
        number = bits & ((1 << cast.width) - 1)
        if cast.signed and cast.width and number >> (cast.width - 1):
            number -= 1 << cast.width
        if isinstance(shape, enum.EnumMeta):
            return shape(number)
        return number
    if isinstance(layout, data.ArrayLayout):
        return [unpack(f.shape, bits >> f.offset & ((1 << f.width) - 1)) for _, f in layout]
    return {key: unpack(f.shape, bits >> f.offset & ((1 << f.width) - 1)) for key, f in layout}


def _layout(shape: Any) -> data.Layout | None:
    """`shape` as a layout, or None where it is a plain number (or an enum)."""
    while isinstance(shape, ShapeCastable) and not isinstance(shape, data.Layout):
        if isinstance(shape, enum.EnumMeta):
            return None
        shape = shape.as_shape()
    return shape if isinstance(shape, data.Layout) else None


class StreamSource:
    """Drives a stream input ``<name>__payload/valid/ready``.

    Parameters
    ----------
    dut, name
        Component and its stream.
    cycles
        From :func:`clock_and_reset`.
    shape
        Shape of the payload.
    idle
        Wait at random between items.
    seed
        Of the waiting.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        cycles: Cycles,
        shape: Any = None,
        *,
        idle: bool = False,
        seed: int = 0,
    ):
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._cycles = cycles
        self._shape = unsigned(len(self._payload)) if shape is None else shape
        self._idle = idle
        self._random = random.Random(f"source {name} {seed}")
        self._valid.value = 0

    async def send(self, items: Iterable[Any]) -> list[int]:
        """Send `items`; call right after an edge. Returns the cycle of each transfer.

        Returns right after the edge that took the last item.
        """
        taken = []
        for item in items:
            while self._idle and self._random.random() < 0.5:
                self._valid.value = 0
                await self._cycles.edge()
            self._payload.value = pack(self._shape, item)
            self._valid.value = 1
            while True:
                await self._cycles.settle()
                ready = int(self._ready.value)
                now = self._cycles.now
                await self._cycles.edge()
                if ready:
                    break
            taken.append(now)
        self._valid.value = 0
        return taken


class StreamSink:
    """Takes from a stream output ``<name>__payload/valid/ready``, and checks that it holds still.

    Parameters are those of :class:`StreamSource`; `backpressure` refuses at random.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        cycles: Cycles,
        shape: Any = None,
        *,
        backpressure: bool = False,
        seed: int = 0,
    ):
        self._name = name
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready", None)
        self._cycles = cycles
        self._shape = unsigned(len(self._payload)) if shape is None else shape
        self._backpressure = backpressure
        self._random = random.Random(f"sink {name} {seed}")
        self._set_ready(0)

    def _set_ready(self, value: int) -> None:
        if self._ready is not None:
            self._ready.value = value

    async def receive(self, count: int, *, limit: int = 100_000) -> list[tuple[int, Any]]:
        """Take `count` items; call right after an edge. Returns (cycle of transfer, payload) pairs.

        Raises AssertionError if that takes more than `limit` cycles.
        """
        out: list[tuple[int, Any]] = []
        waiting: int | None = None
        end = self._cycles.now + limit
        while len(out) < count:
            assert self._cycles.now < end, f"{self._name}: {len(out)} of {count} items came"
            ready = not (self._backpressure and self._random.random() < 0.5)
            self._set_ready(int(ready))
            await self._cycles.settle()
            if int(self._valid.value):
                payload = int(self._payload.value)
                assert waiting in (None, payload), f"{self._name}: payload changed while waiting"
                waiting = payload
                if ready:
                    out.append((self._cycles.now, unpack(self._shape, payload)))
                    waiting = None
            else:
                assert waiting is None, f"{self._name}: valid fell before the transfer"
            await self._cycles.edge()
        self._set_ready(0)
        return out


def random_bytes(seed: int, count: int) -> bytes:
    """Reproducible random bytes."""
    return random.Random(seed).randbytes(count)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """`items` in pieces of `size`; the last may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]
