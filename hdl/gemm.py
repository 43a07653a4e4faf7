"""The GEMM core: WEIGHT and MATMUL units, systolic array, accumulators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .accumulator import Accumulator
from .array import SystolicArray
from .isa import Opcode
from .matmul_unit import MatmulUnit, instructions_in_flight
from .ports import AccRead, ActRead, RowRead, UnitPort
from .weight_unit import WeightUnit

if TYPE_CHECKING:
    from .config import Config


class GemmCore(wiring.Component):
    """Executes MATMUL instructions: weights from WGT, activations from ACT, sums into ACC.

    Tiles of M vectors follow each other every max(M, rows) cycles, within an instruction and from
    one to the next, as long as instructions, permissions and semaphores are there in time; only an
    instruction of a single tile is planned for no sooner than it is at its queue's head, and takes
    max(M, rows + 2) cycles at least. The times of every event are those of
    ``host/timing/matmul.py``; the shortest instruction (one vector) takes ``rows + cols + 9``
    cycles from its start to `done`.

    Parameters
    ----------
    config
        The machine.

    Ports
    -----
    weight, matmul : Out(UnitPort)
        The two units' ports, as the units see them; the two queues get the same instructions.
    act : Out(ActRead)
        Read port of the activation scratchpad, as the reader sees it.
    wgt : Out(RowRead)
        Read port of the weight scratchpad, as the reader sees it.
    acc : In(AccRead)
        VECTOR's read port of the accumulators, as the memory sees it.
    acc_conflict : Out(1)
        In the cycle before, VECTOR read a half of the accumulators that the array was using.
    wrong : Out(1)
        An accumulator that was read has the wrong parity.
    vectors : Out(1)
        A vector is read for the array in this cycle.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "weight": Out(UnitPort(Opcode.MATMUL)),
                "matmul": Out(UnitPort(Opcode.MATMUL)),
                "act": Out(ActRead(config, config.rows, jumps=True)),
                "wgt": Out(RowRead(config.wgt_rows, config.wgt_row_bytes)),
                "acc": In(AccRead(config)),
                "acc_conflict": Out(1),
                "wrong": Out(1),
                "vectors": Out(1),
            }
        )

    @property
    def matmul_overlap(self) -> int:
        """Most MATMUL instructions that are started and not done, as a power of two."""
        return instructions_in_flight(self._config)

    @property
    def weight_overlap(self) -> int:
        """Most WEIGHT instructions that are started and not done."""
        return 2

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.weight_unit = weight = WeightUnit(config)
        m.submodules.matmul_unit = matmul = MatmulUnit(config)
        m.submodules.array = array = SystolicArray(config)
        m.submodules.accumulator = accumulator = Accumulator(config)
        connect(m, flipped(self.weight), weight.unit)
        connect(m, flipped(self.matmul), matmul.unit)
        connect(m, flipped(self.act), matmul.act)
        connect(m, flipped(self.wgt), weight.wgt)
        connect(m, flipped(self.acc), accumulator.read)
        m.d.comb += [
            matmul.loaded.eq(weight.loaded),
            weight.launch.eq(matmul.launch),
            array.act.eq(matmul.vector),
            array.swap.eq(matmul.swap),
            array.weights.eq(weight.weights),
            array.load.eq(weight.load),
            array.load_first.eq(weight.load_first),
            accumulator.psum.eq(array.psum),
            accumulator.control.eq(matmul.control),
            matmul.retired.eq(accumulator.done),
            self.acc_conflict.eq(accumulator.conflict),
            self.wrong.eq(accumulator.wrong),
            self.vectors.eq(matmul.vectors),
        ]
        return m
