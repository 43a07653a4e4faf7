"""RESCALE by the TOSA reference model; runs in an environment of its own.

usage: python tosa_model.py CASES.npz RESULTS.npz

Each case of ``tests/rescaling.py`` becomes a graph ADD (the bias) → RESCALE with single rounding →
CLAMP. Imports nothing of Weft, whose NumPy is too new for the model.
"""

from __future__ import annotations

import sys

import numpy as np
import tosa_reference_model  # pyright: ignore[reportMissingImports]
import tosa_serializer as ts  # pyright: ignore[reportMissingImports]

NAMES = ("acc", "bias", "multiplier", "shift", "numbers")


def rescale(acc, bias, multiplier, shift, numbers):
    """INT8 of INT32 `acc` [values, channels].

    `multiplier` and `shift` have an element per channel or one for all; `multiplier` is int32 or
    int16, which are TOSA's two widths. `numbers` are zero point, low and high.
    """
    zero_point, low, high = (int(x) for x in numbers)
    shape = list(acc.shape)
    wide = multiplier.dtype == np.int32
    graph = ts.TosaSerializer("")

    def constant(values, kind):
        return graph.addConst(list(values.shape), kind, values).name

    x = graph.addPlaceholder(shape, ts.DType.INT32, None).name
    summed = graph.addIntermediate(shape, ts.DType.INT32).name
    attribute = ts.TosaSerializerAttribute()
    attribute.AddAttribute()
    graph.addOperator(ts.Op.ADD, [x, constant(bias[None], ts.DType.INT32)], [summed], attribute)

    scaled = graph.addIntermediate(shape, ts.DType.INT8).name
    attribute = ts.TosaSerializerAttribute()
    per_channel = len(multiplier) > 1
    attribute.RescaleAttribute(wide, ts.RoundingMode.SINGLE_ROUND, per_channel, False, False)
    inputs = [
        summed,
        constant(multiplier, ts.DType.INT32 if wide else ts.DType.INT16),
        constant(shift, ts.DType.INT8),
        constant(np.zeros(1, np.int32), ts.DType.INT32),
        constant(np.array([zero_point], np.int8), ts.DType.INT8),
    ]
    graph.addOperator(ts.Op.RESCALE, inputs, [scaled], attribute)

    clamped = graph.addOutput(shape, ts.DType.INT8).name
    attribute = ts.TosaSerializerAttribute()
    limits = ([value & 255, *[0] * 7] for value in (low, high))  # bytes, padded to words
    attribute.ClampAttribute(*limits, ts.NanPropagationMode.PROPAGATE)
    graph.addOperator(ts.Op.CLAMP, [scaled], [clamped], attribute)

    (out,), status = tosa_reference_model.run(bytes(graph.serialize()), [acc])
    if status != tosa_reference_model.GraphStatus.TOSA_VALID:
        raise SystemExit(f"the reference model calls a case {status.name}")
    return out.view(np.int8).reshape(shape)


def main(source: str, target: str) -> None:
    """Every case of a file."""
    with np.load(source) as data:
        count = len(data.files) // len(NAMES)
        results = [rescale(*(data[f"{name}{i}"] for name in NAMES)) for i in range(count)]
    np.savez(target, **{f"result{i}": result for i, result in enumerate(results)})


if __name__ == "__main__":
    main(*sys.argv[1:])
