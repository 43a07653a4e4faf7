"""The core: front end, queues, semaphores, the five units and the memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .act_memory import ActMemory
from .config import Config
from .dispatch import QUEUED, TAG_BITS
from .frontend import Frontend
from .gate import Gate
from .gemm import GemmCore
from .isa import PEERS, Unit, layout
from .load_unit import LOADS_IN_FLIGHT, LoadUnit
from .numerics import PARAMETER_BYTES
from .ports import ERROR_BITS, PC_BITS, BeatReturn, BurstRequest, Fault, Segments
from .queue import InstructionQueue
from .registers import Cause, Error
from .row_memory import RowMemory
from .semaphores import Semaphores
from .store_unit import StoreUnit
from .vector_unit import VectorUnit
from .write_engine import WritePort

#: Fault reports of the core: dispatch, LOAD, STORE, semaphores, memory banks.
CORE_FAULTS = 5


class Core(wiring.Component):
    """Everything between the bus engines and the control block; to be reset before each `start`.

    An instruction that is dispatched in cycle t stands at the head of its queue in cycle t + 1 if
    that was empty, and may start in that cycle. A semaphore posted in cycle t lets an instruction
    start in cycle t + 1.

    SEMAPHORE_OVERFLOW is reported with the instruction that posts, in the cycle after;
    BANK_CONFLICT with the instruction that was in progress in the cycle before, of VECTOR, else of
    STORE, else of LOAD, else of MATMUL. A WINDOW waits until its instruction is the oldest, so that
    everything before it has completed.

    Ports
    -----
    start, base, count : In
        See :class:`~.fetch_unit.FetchUnit`.
    idle : In(1)
        No transfer is under way in the engines.
    segments : Segments
    fetch, load : streams of BurstRequest; fetch_data, load_data : BeatReturn
        The read engine.
    write : WritePort
        The write engine.
    finish, tag : Out
        See :class:`~.dispatch.Dispatch`.
    pcs : list of Out(PC_BITS), indexed by Unit
        Program counter of the oldest instruction that the unit has not completed, see
        :class:`~.gate.Gate`.
    oldest : In(PC_BITS)
        The least of `pcs`, some cycles later.
    done : Out(5)
        Bit u: unit u completes an instruction in this cycle.
    vector_read, dispatched : Out(1)
        Events for the counters.
    causes : list of Out(len(Cause)), indexed by Unit
        See :class:`~.gate.Gate`.
    faults : list of Fault
    wrong : Out(1)
        What was read from an on-chip memory has the wrong parity; for STORE, in the cycle in which
        it is given to the write engine.
    """

    def __init__(self, config: Config):
        self._config = config
        requests = stream.Signature(BurstRequest(config))
        super().__init__(
            {
                "start": In(1),
                "base": In(config.addr_bits),
                "count": In(PC_BITS),
                "idle": In(1),
                "segments": In(Segments(config)),
                "fetch": Out(requests),
                "load": Out(requests),
                "fetch_data": In(BeatReturn(config)),
                "load_data": In(BeatReturn(config)),
                "write": Out(WritePort(config)),
                "finish": Out(1),
                "tag": Out(TAG_BITS),
                "pcs": Out(PC_BITS).array(len(Unit)),
                "oldest": In(PC_BITS),
                "done": Out(len(Unit)),
                "vector_read": Out(1),
                "dispatched": Out(1),
                "causes": Out(len(Cause)).array(len(Unit)),
                "faults": Out(Fault()).array(CORE_FAULTS),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.frontend = frontend = Frontend(config)
        m.submodules.load_unit = load = LoadUnit(config)
        m.submodules.gemm = gemm = GemmCore(config)
        m.submodules.vector_unit = vector = VectorUnit(config)
        m.submodules.store_unit = store = StoreUnit(config)
        units = {
            Unit.LOAD: load.unit,
            Unit.WEIGHT: gemm.weight,
            Unit.MATMUL: gemm.matmul,
            Unit.VECTOR: vector.unit,
            Unit.STORE: store.unit,
        }
        overlap = {
            Unit.LOAD: LOADS_IN_FLIGHT,
            Unit.WEIGHT: gemm.weight_overlap,
            Unit.MATMUL: gemm.matmul_overlap,
        }
        conflict = self._memories(m, load, gemm, vector, store)
        gates = self._gates(m, frontend, units, overlap)

        connect(m, frontend.request, flipped(self.fetch))
        connect(m, flipped(self.fetch_data), frontend.data)
        connect(m, load.request, flipped(self.load))
        connect(m, flipped(self.load_data), load.data)
        connect(m, store.write, flipped(self.write))
        connect(m, flipped(self.segments), load.segments)
        connect(m, flipped(self.segments), store.segments)
        m.d.comb += [
            frontend.start.eq(self.start),
            frontend.base.eq(self.base),
            frontend.count.eq(self.count),
            self.finish.eq(frontend.finish),
            self.tag.eq(frontend.tag),
            self.dispatched.eq(frontend.dispatched),
            self.vector_read.eq(gemm.vectors),
            self.done.eq(Cat(units[unit].done for unit in Unit)),
        ]

        connect(m, frontend.fault, flipped(self.faults[0]))
        for i, unit in ((1, load), (2, store)):
            m.d.comb += [
                self.faults[i].valid.eq(unit.fault.valid & (unit.fault.pc == self.oldest)),
                self.faults[i].code.eq(unit.fault.code),
                self.faults[i].pc.eq(unit.fault.pc),
            ]
        bank = self.faults[4]
        suspect = Signal(PC_BITS)
        m.d.comb += [
            bank.valid.eq(conflict),
            bank.code.eq(Const(Error.BANK_CONFLICT, ERROR_BITS)),
            bank.pc.eq(suspect),
        ]
        m.d.sync += suspect.eq(gates[Unit.MATMUL].active)
        for unit in (Unit.LOAD, Unit.STORE, Unit.VECTOR):
            with m.If(units[unit].busy):
                m.d.sync += suspect.eq(gates[unit].active)
        return m

    def _gates(self, m: Module, frontend: Frontend, units, overlap) -> dict[Unit, Gate]:
        """Queue, gate and semaphores of every unit, and what dispatch wants to know of them."""
        m.submodules.semaphores = semaphores = Semaphores()
        gates = {}
        working = Const(0)
        overflow = self.faults[3]
        overflowing = Signal(len(Unit))
        m.d.comb += overflow.code.eq(Const(Error.SEMAPHORE_OVERFLOW, ERROR_BITS))
        for unit, port in units.items():
            name = unit.name.lower()
            opcodes = QUEUED[unit]
            queue = InstructionQueue(*opcodes, depth=self._config.queue_depth)
            gate = Gate(overlap=overlap.get(unit, 1))
            m.submodules[f"{name}_queue"] = queue
            m.submodules[f"{name}_gate"] = gate
            gates[unit] = gate
            connect(m, getattr(frontend, name), queue.i)
            head = queue.o.payload
            wait = "weight_wait" if unit == Unit.WEIGHT else "wait"
            entry, at = next((f, at) for f, at in layout(opcodes[0]) if f.name == wait)
            bits = min(entry.bits, 2 * len(PEERS[unit]))  # the others are 0, says the decoder
            m.d.comb += [
                port.instr.payload.as_value().eq(head.as_value()),
                port.instr.valid.eq(queue.o.valid),
                queue.o.ready.eq(port.instr.ready),
                port.go.eq(gate.go),
                gate.valid.eq(queue.o.valid),
                gate.wait.eq(head.word.as_value()[at : at + bits]),
                gate.pc.eq(head.pc),
                gate.next_pc.eq(frontend.pc),
                gate.ready.eq(port.instr.ready),
                gate.done.eq(port.done),
                gate.busy.eq(port.busy),
                gate.stall.eq(port.stall),
                gate.available.eq(semaphores.available[unit]),
                semaphores.take[unit].eq(gate.take),
                semaphores.post[unit].eq(port.post),
                self.causes[unit].eq(gate.cause),
                self.pcs[unit].eq(gate.oldest),
            ]
            active = Signal(PC_BITS, name=f"{name}_active")  # of the cycle before
            m.d.sync += active.eq(gate.active)
            with m.If(overflowing[unit]):
                m.d.comb += overflow.pc.eq(active)
            working = working | port.busy | queue.o.valid
        overflows = Cat(semaphores.overflow[unit] for unit in Unit)
        some = Signal(name="some_overflowing")
        m.d.sync += [overflowing.eq(overflows), some.eq(overflows.any())]
        m.d.comb += overflow.valid.eq(some)
        m.d.comb += [
            # An overflow is to be told before END tells what is left.
            frontend.empty.eq(~working & self.idle & ~overflow.valid),
            frontend.zero.eq(semaphores.zero),
        ]
        return gates

    def _memories(self, m: Module, load, gemm, vector, store) -> Signal:
        """ACT, WGT and PAR; TBL is VECTOR's. Returns the pulse of a bank conflict in any memory."""
        config = self._config
        m.submodules.act = act = ActMemory(config)
        m.submodules.wgt = wgt = RowMemory(
            rows=config.wgt_rows,
            row_bytes=config.wgt_row_bytes,
            bus_bytes=config.bus_bytes,
            parity=config.parity,
        )
        m.submodules.par = par = RowMemory(
            rows=config.par_entries,
            row_bytes=PARAMETER_BYTES,
            bus_bytes=config.bus_bytes,
            parity=config.parity,
        )
        connect(m, gemm.act, act.matmul)
        connect(m, vector.act, act.vector)
        connect(m, store.act, act.store)
        connect(m, load.act, act.w_load)
        connect(m, vector.out, act.w_vector)
        connect(m, gemm.wgt, wgt.read)
        connect(m, load.wgt, wgt.write)
        connect(m, vector.par, par.read)
        connect(m, load.par, par.write)
        if config.tables:
            connect(m, load.tbl, vector.tbl)
        connect(m, vector.acc, gemm.acc)
        conflict = Signal()
        m.d.comb += [
            conflict.eq(act.conflict | gemm.acc_conflict),
            self.wrong.eq(Cat(memory.wrong for memory in (act, wgt, par, gemm, vector)).any()),
        ]
        return conflict
