"""The AXI-Lite slave with every register of ``registers.REGISTERS``, built by looping over it."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AxiLite, Response
from .config import Config
from .isa import INSTRUCTION_BYTES
from .ports import PC_BITS
from .registers import (
    ID_VALUE,
    REGISTER_ADDR_BITS,
    REGISTERS,
    VERSION_VALUE,
    Register,
)

WORD_BITS = 32
#: Registers that LOCK makes read-only: where the program and the segments are, and the watchdog.
LOCKED = tuple(
    name for name, register in REGISTERS.items() if register.access == "rw" and name != "IRQ_ENABLE"
)


def constants(config: Config) -> dict[str, int]:
    """Registers whose value is a property of the machine."""
    return {
        "ID": ID_VALUE,
        "VERSION": VERSION_VALUE,
        "CONFIG_LO": config.fingerprint & 0xFFFF_FFFF,
        "CONFIG_HI": config.fingerprint >> WORD_BITS,
    }


def writable(register: Register, config: Config) -> int:
    """Mask of a "rw" register's bits that exist; the others read 0.

    Addresses are multiples of 4096 and end at `addr_bits`, the program is a whole number of
    instructions and no more than their counter can count.
    """
    if register.name.endswith("_LO"):
        return 0xFFFF_F000
    if register.name.endswith("_HI"):
        return (1 << (config.addr_bits - WORD_BITS)) - 1
    if register.name == "PROGRAM_SIZE":
        return ((1 << PC_BITS) - 1) * INSTRUCTION_BYTES
    return (1 << register.bits) - 1


def _bytes(word: int) -> bytes:
    return word.to_bytes(WORD_BITS // 8, "little")


class RegisterFile(wiring.Component):
    """AXI-Lite registers.

    A write executes in the cycle after the later of its AW and W handshakes, if the previous
    response was taken by then; `bvalid` rises one cycle later, and so do "rw" registers change. A
    read is answered two cycles after its AR handshake, with the value of the cycle between.
    Address bits 1:0 are ignored. SLVERR answers a read where no register is (data 0), and a write
    that changes nothing because there is no register, or it is read-only or locked. Byte strobes
    count everywhere.

    Ports
    -----
    bus : AxiLite, slave
    locked : In(1)
        Make the registers in :data:`LOCKED` read-only.
    corrupt : Out(1)
        In the cycle before, a byte of a register in :data:`LOCKED` was not what was written: each
        has a parity bit.
    NAME : In(bits) for a "ro" register that is not constant
        Its value.
    NAME : Out(bits) for a "rw" register
        Its value.
    NAME : Out(bits) for a "w1" register
        Ones that are written, in the cycle in which the write executes.
    NAME, NAME_set : Out(bits), In(bits) for a "w1c" register
        Its value, and bits to set (which wins over a clear in the same cycle).

    NAME is a register's name in lower case.
    """

    def __init__(self, config: Config):
        self._config = config
        members = {"bus": In(AxiLite(REGISTER_ADDR_BITS)), "locked": In(1), "corrupt": Out(1)}
        for name, register in REGISTERS.items():
            if name in constants(config):
                continue
            if register.access == "ro":
                members[name.lower()] = In(register.bits)
                continue
            members[name.lower()] = Out(register.bits, init=register.init)
            if register.access == "w1c":
                members[f"{name.lower()}_set"] = In(register.bits)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module):
        bus = self.bus
        address = Signal(REGISTER_ADDR_BITS - 2)
        data = Signal(WORD_BITS)
        mask = Signal(WORD_BITS)
        has_address = Signal()
        has_data = Signal()
        execute = Signal()
        known = Signal()
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_data),
            execute.eq(has_address & has_data & (~bus.bvalid | bus.bready)),
        ]
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_data.eq(0), bus.bvalid.eq(1)]
            m.d.sync += bus.bresp.eq(Mux(known, Response.OKAY, Response.SLVERR))
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [has_address.eq(1), address.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [has_data.eq(1), data.eq(bus.wdata)]
            m.d.sync += mask.eq(Cat(bit.replicate(8) for bit in bus.wstrb))

        effective = []
        wrong = []
        for name, register in REGISTERS.items():
            if register.access == "ro":
                continue
            value = getattr(self, name.lower())
            here = Signal(name=f"{name.lower()}_written")
            m.d.comb += here.eq(execute & (address == register.address >> 2))
            allowed = here & ~self.locked if name in LOCKED else here
            effective.append(allowed)
            ones = data & mask
            if register.access == "w1":
                with m.If(here):
                    m.d.comb += value.eq(ones)
            elif register.access == "w1c":
                clear = Mux(here, ones[: register.bits], 0)
                m.d.sync += value.eq((value & ~clear) | getattr(self, f"{name.lower()}_set"))
            else:
                changed = Signal(WORD_BITS, name=f"{name.lower()}_changed")
                m.d.comb += changed.eq(((value & ~mask) | ones) & writable(register, self._config))
                with m.If(allowed):
                    m.d.sync += value.eq(changed)
                if name in LOCKED:
                    wrong += self._parity(m, name, value, changed, mask, allowed)
        m.d.comb += known.eq(Cat(effective).any())
        m.d.sync += self.corrupt.eq(Cat(wrong).any())

    def _parity(self, m: Module, name: str, value, changed, mask, allowed) -> list:
        """Keep the parity of every byte of `value`; what is wrong with them in this cycle."""
        register = REGISTERS[name]
        wrong = []
        for i, byte in enumerate(_bytes(writable(register, self._config))):
            if not byte:
                continue
            init = _bytes(register.init)[i].bit_count() & 1
            parity = Signal(init=init, name=f"{name.lower()}_parity_{i}")
            at = slice(8 * i, 8 * i + 8)
            with m.If(allowed & mask[8 * i]):
                m.d.sync += parity.eq(changed[at].xor())
            wrong.append(value[at].xor() ^ parity)
        return wrong

    def _read(self, m: Module):
        bus = self.bus
        pending = Signal()
        fixed = constants(self._config)
        m.d.comb += bus.arready.eq(~pending & ~bus.rvalid)
        m.d.sync += pending.eq(bus.arvalid & bus.arready)
        # The address is taken as a bit for each register, so that reading is an and, then an or.
        read = []
        values = []
        for name, register in REGISTERS.items():
            chosen = Signal(name=f"{name.lower()}_read")
            with m.If(bus.arvalid & bus.arready):
                m.d.sync += chosen.eq(bus.araddr[2:] == register.address >> 2)
            read.append(chosen)
            value = fixed.get(name)
            if value is None and register.access != "w1":
                value = getattr(self, name.lower())
            if value is not None:
                values.append(Mux(chosen, value, 0))
        with m.If(pending):
            m.d.sync += [
                bus.rvalid.eq(1),
                bus.rdata.eq(reduce(or_, values)),
                bus.rresp.eq(Mux(Cat(read).any(), Response.OKAY, Response.SLVERR)),
            ]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return m
