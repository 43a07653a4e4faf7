"""What the report says of the host's operations, against the program and the RTL."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from weft.hdl.config import PRESETS
from weft.hdl.isa import Unit
from weft.host import compiler, frontend, interpreter
from weft.host.device import open_device
from weft.host.ir import Graph
from weft.host.report import host_table, summary
from weft.host.run import Report, run

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 2, 8, 8)).astype(np.float32)


def quantized(inputs: np.ndarray, *middle: nn.Module) -> Graph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), *middle, nn.Conv2d(8, 4, 3))
    return frontend.quantize(model, inputs, name="m", multiplier_bits=TINY.multiplier_bits)


def test_one_call_on_the_rtl(inputs) -> None:
    graph = quantized(inputs, nn.Softmax(1))
    program = compiler.compile(graph, TINY)
    levels = interpreter.quantize_input(graph, inputs[:1])
    device = open_device("verilator", TINY)
    try:
        report = run(program, device, levels, reference=interpreter.run_all(graph, levels))
        _, results = program.execute(device, levels[0])
    finally:
        device.close()
    assert report.mismatches == 0
    (call,) = report.host_calls
    assert (call.operator, call.layer, call.after) == ("softmax", "1", 1)

    first, _, last = program.layers
    loaded = call.moved_bytes - first.written_bytes
    assert 6 * 6 * 8 <= loaded < last.read_bytes
    assert first.written_bytes >= 6 * 6 * 8

    end = results[0].counters["CYCLES"] - results[0].completions(Unit.VECTOR)[-1]
    begin = report.predictions[1].account(0, call.lost_cycles - end)
    assert begin[Unit.MATMUL].busy <= 1  # the array starts in the very last of these cycles
    assert begin[Unit.LOAD].busy > 0
    later = report.predictions[1].account(0, call.lost_cycles - end + 4)
    assert later[Unit.MATMUL].busy > begin[Unit.MATMUL].busy


def test_slow_memory_costs_more(inputs) -> None:
    program = compiler.compile(quantized(inputs, nn.Softmax(1)), TINY)
    near, far = (Report(program, latency=latency).host_calls[0] for latency in (50, 150))
    assert near.moved_bytes == far.moved_bytes
    # a latency for the store's response, one for instructions, one for what they load
    assert 250 < far.lost_cycles - near.lost_cycles <= 300


def test_calls_in_one_pause(inputs) -> None:
    program = compiler.compile(quantized(inputs, nn.Softmax(1), nn.GLU(1), _Twice()), TINY)
    report = Report(program)
    calls = report.host_calls
    assert calls[0].operator == "softmax"
    assert len(calls) >= 2
    assert {call.after for call in calls} == {1}
    assert calls[0].lost_cycles > 0
    assert [call.lost_cycles for call in calls[1:]] == [0] * (len(calls) - 1)
    assert host_table(calls).row_count == len(calls) + 1
    assert summary(report, backend="model")["host"] == [dataclasses.asdict(call) for call in calls]


class _Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)


def test_what_a_machine_lacks_is_the_hosts(inputs) -> None:
    """Tables, on a machine without; the graph has no host operator."""
    plain = dataclasses.replace(TINY, name="plain", tables=0)
    program = compiler.compile(quantized(inputs, nn.GELU()), plain)
    (call,) = Report(program).host_calls
    assert (call.operator, call.layer) == ("gelu", "1")
    assert call.lost_cycles > 0
    assert Report(compiler.compile(quantized(inputs, nn.GELU()), TINY)).host_calls == []


def test_ends_of_a_program_lose_nothing(inputs) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Softmax(1), nn.Conv2d(2, 8, 3), nn.Softmax(1))
    graph = frontend.quantize(model, inputs, name="m", multiplier_bits=TINY.multiplier_bits)
    report = Report(compiler.compile(graph, TINY))
    assert [call.lost_cycles for call in report.host_calls] == [0, 0]
    assert all(call.moved_bytes > 0 for call in report.host_calls)
