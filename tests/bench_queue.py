"""Bench of the instruction queue: order, room and latency under every stall."""

import os

import cocotb
from weft.hdl.isa import Opcode
from weft.hdl.queue import entry_layout
from weft.host.timing.fetch import QUEUE_LATENCY
from weft.tb.bench import STALLS, StreamSink, StreamSource

from .bench_common import restart

DEPTH = int(os.environ["WEFT_DEPTH"])
ENTRY = entry_layout(Opcode.LOAD)


def items(count: int) -> list[dict]:
    return [{"word": {"length": i + 1, "offset": 3 * i}, "pc": i} for i in range(count)]


@cocotb.test()
async def order_and_cycles(dut):
    for stall, (idle, backpressure) in STALLS.items():
        cycles = await restart(dut)
        source = StreamSource(dut, "i", cycles, ENTRY, idle=idle)
        sink = StreamSink(dut, "o", cycles, ENTRY, backpressure=backpressure)
        table = items(120)
        sending = cocotb.start_soon(source.send(table))
        received = await sink.receive(len(table))
        sent = await sending
        assert [payload["pc"] for _, payload in received] == list(range(len(table))), stall
        for (_, payload), item in zip(received, table, strict=True):
            assert payload["word"]["length"] == item["word"]["length"]
            assert payload["word"]["offset"] == item["word"]["offset"]
        left = [cycle for cycle, _ in received]
        for i in range(len(table)):
            assert left[i] >= sent[i] + QUEUE_LATENCY
            assert i < DEPTH or sent[i] > left[i - DEPTH]
        if not backpressure:
            assert left == [cycle + QUEUE_LATENCY for cycle in sent], stall
        if not idle and not backpressure:
            assert sent == list(range(len(table)))


@cocotb.test()
async def holds_exactly_its_depth(dut):
    """Refuses entry number depth + 1, and takes it in the cycle after the first one left."""
    cycles = await restart(dut)
    source = StreamSource(dut, "i", cycles, ENTRY)
    sink = StreamSink(dut, "o", cycles, ENTRY)
    sending = cocotb.start_soon(source.send(items(DEPTH + 2)))
    await cycles.edge(DEPTH + 10)
    received = await sink.receive(DEPTH + 2)
    sent = await sending
    left = [cycle for cycle, _ in received]
    assert sent[:DEPTH] == list(range(DEPTH))
    assert sent[DEPTH:] == [left[0] + 1, left[1] + 1]
    assert left == list(range(DEPTH + 10, 2 * DEPTH + 12))
