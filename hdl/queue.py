"""The in-order instruction queue before each unit."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .isa import Opcode
from .ports import PC_BITS, instruction_layout


def entry_layout(*opcodes: Opcode) -> data.StructLayout:
    """What a queue holds: an instruction word as wide as the widest of `opcodes`, and its pc."""
    return data.StructLayout({"word": instruction_layout(*opcodes), "pc": PC_BITS})


class InstructionQueue(wiring.Component):
    """A FIFO whose oldest entry stands in a register, so that a unit may decode it at once.

    An entry accepted in cycle t is offered in cycle t + 1 if the queue was empty or ran empty in
    cycle t. It takes and gives one entry a cycle; `i.ready` depends on registers only, so a full
    queue accepts again in the cycle after one entry left.

    Parameters
    ----------
    opcodes
        The formats that its unit executes.
    depth
        Entries that it holds, the offered one included; at least 2.

    Ports
    -----
    i, o : streams of :func:`entry_layout`
    """

    def __init__(self, *opcodes: Opcode, depth: int):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"depth must be an integer of at least 2, not {depth!r}")
        self._depth = depth
        self._entry = entry_layout(*opcodes)
        entries = stream.Signature(self._entry)
        super().__init__({"i": In(entries), "o": Out(entries)})

    def elaborate(self, platform):
        m = Module()
        behind = self._depth - 1
        m.submodules.store = store = memory.Memory(
            shape=self._entry.as_shape().width, depth=max(behind, 2), init=[]
        )
        write = store.write_port()
        read = store.read_port(domain="comb")
        level = Signal(range(behind + 1))
        head = Signal.like(self.o.payload)
        valid = Signal()
        pull = Signal()
        push = Signal()
        kept = Signal()
        leaves = Signal()
        room = Signal(init=1)  # level is not `behind`
        stored = Signal()  # level is not 0

        def after(index: Signal):
            return Mux(index == behind - 1, 0, index + 1)

        m.d.comb += [
            self.i.ready.eq(room),
            self.o.valid.eq(valid),
            self.o.payload.eq(head),
            pull.eq(~valid | self.o.ready),
            push.eq(self.i.valid & self.i.ready),
            # Written in any case, for speed; the place stays free where the head takes the entry.
            write.data.eq(self.i.payload.as_value()),
            write.en.eq(push),
            kept.eq(push & (stored | ~pull)),
            leaves.eq(pull & stored),
        ]
        with m.If(kept):
            m.d.sync += write.addr.eq(after(write.addr))
        with m.If(pull):
            m.d.sync += valid.eq(stored | push)
            m.d.sync += head.as_value().eq(Mux(stored, read.data, self.i.payload.as_value()))
            with m.If(stored):
                m.d.sync += read.addr.eq(after(read.addr))
        m.d.sync += [
            level.eq(level + kept - leaves),
            room.eq(leaves | (level != Mux(kept, behind - 1, behind))),
            stored.eq(kept | (level != leaves)),
        ]
        return m
