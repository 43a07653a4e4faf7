"""Weft on a Zynq board under PYNQ: one file that needs NumPy and pynq alone, Python 3.8 or later.

Copy it to the board with ``weft.json`` beside it, which says what the machine's registers are::

    from pynq import Overlay
    from weft_pynq import Driver, Program

    driver = Driver(Overlay("weft.bit").weft)
    levels = Program("lenet.weft").run(driver, images)  # int8 [N, height, width, channels]

Where Weft itself is installed, ``weft.boards.pynq_device.PynqDevice`` makes it a device like the
simulators, and programs with operations of the host run too.
"""

import json
import time
from pathlib import Path

import numpy as np

PAGE = 4096
START, SOFT_RESET = 1, 2
BUSY, FAILED = 1, 4
INTERRUPTS = 3
#: Of the program file.
FORMAT = 3


class WeftError(RuntimeError):
    """What went wrong, in one sentence."""


class Driver:
    """The machine: its registers, and buffers in the memory that it shares with the processor.

    Parameters
    ----------
    ip
        Has ``read(offset)`` and ``write(offset, value)`` of the machine's registers: the
        peripheral of an overlay, or a ``pynq.MMIO``.
    description
        The contents of ``weft.json``, or where it lies; by default beside this file.
    allocate
        Makes a buffer that the machine can reach; ``pynq.allocate``.
    watchdog
        Cycles without progress after which the machine stops with an error; 0: never.
    timeout
        Seconds after which a run is given up.
    """

    def __init__(self, ip, description=None, allocate=None, watchdog=4000000, timeout=60.0):
        if not isinstance(description, dict):
            path = Path(description or Path(__file__).with_name("weft.json"))
            try:
                description = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise WeftError(f"cannot read {path}: {error}") from error
        if allocate is None:
            from pynq import allocate
        self.about = description
        self._ip, self._allocate = ip, allocate
        self._watchdog, self._timeout = watchdog, timeout
        self._buffers = {}
        self._held = {}
        found = self.read("ID")
        if found != self.about["id"]:
            raise WeftError(f"this is not Weft: its ID register reads 0x{found:08x}")
        found = self.read("VERSION")
        if found >> 16 != self.about["version"] >> 16:
            raise WeftError(
                f"the machine has register map version {found >> 16}, this driver needs "
                f"{self.about['version'] >> 16}"
            )
        found = f"{self.read('CONFIG_HI'):08x}{self.read('CONFIG_LO'):08x}"
        if found != self.about["fingerprint"]:
            raise WeftError(
                f"the bitstream has configuration {found}, but {self.about['name']} is "
                f"{self.about['fingerprint']}: load the bitstream that was built with it"
            )

    def read(self, register):
        """Read a register by its name."""
        return int(self._ip.read(self.about["registers"][register])) & 0xFFFFFFFF

    def write(self, register, value):
        """Write a register by its name."""
        self._ip.write(self.about["registers"][register], int(value) & 0xFFFFFFFF)

    def run(self, code, segments, stored=None):
        """Run a program.

        Parameters
        ----------
        code
            Encoded instructions.
        segments
            Contents of CONST, INPUT, OUTPUT and SCRATCH, bytes.
        stored
            Numbers of the segments that the program stores to; by default any may be.

        Returns
        -------
        registers
            Value of every register by name, after the end. ERROR is 0 if all went well.
        segments
            Their contents, bytes.
        """
        if not self.reset():
            raise WeftError("SOFT_RESET does not succeed: load the bitstream again")
        held, self._held = self._held, {}  # forgotten if anything goes wrong
        names = self.about["segments"]
        parts = dict(zip(["PROGRAM", *names], [code, *segments]))
        for name, contents in parts.items():
            address = self._place(held, name, bytes(contents))
            self.write(name + "_LO", address)
            self.write(name + "_HI", address >> 32)
            self.write(name + "_SIZE", len(contents))
        self.write("WATCHDOG", self._watchdog)
        self.write("IRQ_STATUS", INTERRUPTS)
        self.write("IRQ_ENABLE", INTERRUPTS)
        self.write("CONTROL", START)
        self._rest()
        values = {name: self.read(name) for name in self.about["registers"]}
        out = [bytes(part) for part in segments]
        for number in range(len(names)) if stored is None else stored:
            held[names[number]] = out[number] = self._fetch(names[number], len(out[number]))
        self._held = held
        return values, tuple(out)

    def reset(self):
        """Stop whatever runs; whether the machine is at rest, with no transfer under way."""
        self.write("CONTROL", SOFT_RESET)
        return not self._rest() & FAILED

    def error(self, values):
        """What went wrong in a run as a sentence, from its registers; empty if nothing did."""
        if not values["ERROR"]:
            return ""
        name, meaning, advice = self.about["errors"].get(
            str(values["ERROR"]), ("?", "an error that this driver does not know", "")
        )
        place = values["ERROR_PC"] // self.about["instruction_bytes"]
        return f"the machine stopped with {name} at instruction {place}: {meaning}; {advice}"

    def close(self):
        """Stop the machine and free its buffers, unless transfers to them are still under way."""
        if self._buffers and self.reset():
            for buffer in self._buffers.values():
                buffer.freebuffer()
        self._buffers, self._held = {}, {}

    def _rest(self):
        """Wait until the machine rests; STATUS."""
        end = time.monotonic() + self._timeout
        while True:
            status = self.read("STATUS")
            if not status & BUSY:
                return status
            if time.monotonic() > end:
                raise WeftError(f"the machine has not ended after {self._timeout:g} seconds")

    def _place(self, held, name, contents):
        """Put a segment into its buffer, unless that holds it already; the buffer's address."""
        size = max(-(-len(contents) // PAGE), 1) * PAGE
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size != size:
            if buffer is not None:
                buffer.freebuffer()
            held.pop(name, None)
            buffer = self._buffers[name] = self._allocate(shape=(size,), dtype=np.uint8)
        address = int(buffer.device_address)
        if address % PAGE or address + size > 1 << self.about["addr_bits"]:
            raise WeftError(
                f"the buffer of {name} lies at 0x{address:x}, which is no page that "
                f"{self.about['addr_bits']} address bits reach"
            )
        if held.get(name) != contents:
            buffer[: len(contents)] = np.frombuffer(contents, np.uint8)
            buffer.flush()
            held[name] = contents
        return address

    def _fetch(self, name, size):
        """What a segment's buffer holds after a run."""
        buffer = self._buffers[name]
        buffer.invalidate()
        return np.asarray(buffer[:size]).tobytes()


class Program:
    """A program file, as ``weft compile`` writes it, without operations of the host.

    Parameters
    ----------
    path
        The ``.weft`` file.

    Attributes
    ----------
    code
        Encoded instructions.
    segments
        Contents of CONST, INPUT, OUTPUT and SCRATCH before the first run.
    input, output
        Where activations lie: name, segment, offset, shape, pitches, scale, zero_point.
    batch
        Images that a run takes.
    """

    def __init__(self, path):
        try:
            data = Path(path).read_bytes()
            size = int.from_bytes(data[:8], "little")
            entries = json.loads(data[8 : 8 + size])
            header = json.loads(entries["__metadata__"]["weft"])
            body = data[8 + size :]
            parts = {}
            for name in ("code", "const"):
                begin, end = entries[name]["data_offsets"]
                parts[name] = body[begin:end]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise WeftError(f"cannot read the program {path}: {error}") from error
        if header["format"] != FORMAT:
            raise WeftError(f"{path} is of another version: compile it again")
        if header["calls"]:
            raise WeftError(
                f"{path} has operations of the host, which need Weft and its "
                "weft.boards.pynq_device.PynqDevice"
            )
        self.name, self.fingerprint = header["name"], header["fingerprint"]
        self.batch, self.input, self.output = header["batch"], header["input"], header["output"]
        self.code = parts["code"]
        self.segments = (parts["const"], *(bytes(n) for n in header["sizes"][1:]))

    def run(self, driver, images):
        """The outputs of `images`, int8 [N, height, width, channels], as the same; levels."""
        if self.fingerprint != driver.about["fingerprint"]:
            raise WeftError(f"{self.name} was compiled for another configuration")
        height, width, channels = self.input["shape"]
        wanted = (height // self.batch, width, channels)
        images = np.asarray(images)
        if images.dtype != np.int8 or images.shape[1:] != wanted:
            raise WeftError(
                f"the input must be int8 [N, {wanted[0]}, {width}, {channels}], not "
                f"{images.dtype} {[*images.shape]}"
            )
        outputs = []
        for first in range(0, len(images), self.batch):
            group = images[first : first + self.batch]
            whole = np.zeros((self.batch, *wanted), np.int8)
            whole[: len(group)] = group
            segments = list(self.segments)
            window = np.zeros(len(segments[self.input["segment"]]), np.int8)
            window[_indices(self.input)] = whole.reshape(self.input["shape"])
            segments[self.input["segment"]] = window.tobytes()
            values, segments = driver.run(self.code, segments)
            if values["ERROR"]:
                raise WeftError(driver.error(values))
            found = np.frombuffer(segments[self.output["segment"]], np.int8)[_indices(self.output)]
            outputs.append(found.reshape(self.batch, -1, *found.shape[1:])[: len(group)])
        return np.concatenate(outputs) if outputs else np.zeros((0, *wanted), np.int8)


def _indices(port):
    """Byte offset of each element of an activation map, [height, width, channels]."""
    h, w, c = (np.arange(n) for n in port["shape"])
    rows = port["offset"] + h * port["row_pitch"]
    pixels = w * port["pixel_pitch"]
    return rows[:, None, None] + pixels[None, :, None] + c * port["channel_pitch"]
