"""ONNX operators that move elements, as torch operators."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..aten import CAT, PAD, aten

if TYPE_CHECKING:
    from torch.fx import Node as FxNode

    from .walk import Call, Emit, Walk


def _same(walk: Walk, call: Call) -> FxNode:
    return walk.node(call.inputs[0])


def _cast(walk: Walk, call: Call) -> FxNode:
    if call.get("to") not in (1, 10, 11, 16):  # float32, float16, float64, bfloat16
        raise call.unsupported("activations stay real numbers")
    return walk.node(call.inputs[0])


def _shaped(walk: Walk, source: FxNode, size: list[int]) -> FxNode:
    return walk.emit(aten.reshape.default, source, size)


def _reshape(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    have, want = walk.size(source), call.integers(1, "shape")
    assert want is not None
    if not call.get("allowzero", 0):
        want = [have[i] if n == 0 else n for i, n in enumerate(want)]
    known = math.prod(n for n in want if n != -1)
    want = [math.prod(have) // max(known, 1) if n == -1 else n for n in want]
    if math.prod(want) != math.prod(have):
        raise call.unsupported(
            f"{list(have)} is not {want}: export the model with a batch of one, or of any size"
        )
    return _shaped(walk, source, want)


def _flatten(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    size, axis = walk.size(source), int(call.get("axis", 1))
    axis += len(size) * (axis < 0)
    return _shaped(walk, source, [math.prod(size[:axis]), math.prod(size[axis:])])


def _transpose(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    order = call.get("perm", list(range(len(walk.size(source))))[::-1])
    return walk.emit(aten.permute.default, source, list(order))


def _squeeze(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    size, axes = walk.size(source), call.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, count in enumerate(size) if axis and count == 1]
    gone = {axis % len(size) for axis in axes}
    if any(size[axis] != 1 for axis in gone):
        raise ValueError(f"axes {sorted(gone)} of {list(size)} are not all 1")
    return _shaped(walk, source, [n for axis, n in enumerate(size) if axis not in gone])


def _unsqueeze(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    axes = call.integers(1, "axes") or []
    size = list(walk.size(source))
    for axis in sorted(axis % (len(size) + len(axes)) for axis in axes):
        size.insert(axis, 1)
    return _shaped(walk, source, size)


def _slice(walk: Walk, call: Call) -> FxNode:
    node = walk.node(call.inputs[0])
    starts, ends = (call.integers(i, key) for i, key in ((1, "starts"), (2, "ends")))
    assert starts is not None
    assert ends is not None
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        indices = range(walk.size(node)[axis])[start:end:step]
        if not indices:
            raise ValueError("it selects nothing")
        if step < 0:
            raise call.unsupported("steps must be positive")
        node = walk.emit(aten.slice.Tensor, node, axis, indices[0], indices[-1] + 1, step)
    return node


def _split(walk: Walk, call: Call) -> list[FxNode]:
    source = walk.node(call.inputs[0])
    axis = int(call.get("axis", 0)) % len(walk.size(source))
    total, sizes = walk.size(source)[axis], call.integers(1, "split")
    if sizes is None:
        count = len(call.outputs)
        each = -(-total // count)
        sizes = [min(each, total - each * i) for i in range(count)]
    if sum(sizes) != total or min(sizes) < 1:
        raise ValueError(f"parts {sizes} do not add up to {total}")
    starts = np.cumsum([0, *sizes]).tolist()
    return [walk.emit(aten.slice.Tensor, source, axis, a, b) for a, b in pairwise(starts)]


def _gather(walk: Walk, call: Call) -> FxNode:
    source, index = walk.node(call.inputs[0]), call.array(1)
    assert index is not None
    size = walk.size(source)
    axis = int(call.get("axis", 0)) % len(size)
    index = np.where(index < 0, index + size[axis], index)
    if index.size and not (index.min() >= 0 and index.max() < size[axis]):
        raise ValueError(f"it reads outside of axis {axis}")
    if index.ndim == 0:
        return walk.emit(aten.select.int, source, axis, int(index))
    if index.ndim > 1:
        raise call.unsupported("its indices must be a list")
    return walk.emit(aten.index_select.default, source, axis, walk.node(index.astype(np.int64)))


def _concat(walk: Walk, call: Call) -> FxNode:
    parts = [walk.node(value) for value in call.inputs]
    axis = int(call.get("axis", 0)) % len(walk.size(parts[0]))
    return parts[0] if len(parts) == 1 else walk.emit(CAT, parts, axis)


def _expand(walk: Walk, call: Call) -> FxNode:
    source, want = walk.node(call.inputs[0]), call.integers(1)
    size = np.broadcast_shapes(walk.size(source), tuple(want or ()))
    return walk.emit(aten.expand.default, source, list(size))


def _tile(walk: Walk, call: Call) -> FxNode:
    return walk.emit(aten.repeat.default, walk.node(call.inputs[0]), call.integers(1))


def _pad(walk: Walk, call: Call) -> FxNode:
    source, pads = walk.node(call.inputs[0]), call.integers(1, "pads")
    assert pads is not None
    rank = len(walk.size(source))
    axes = call.integers(3) or list(range(rank))
    before, after = [0] * rank, [0] * rank
    for at, axis in enumerate(axes):
        before[axis], after[axis] = pads[at], pads[at + len(axes)]
    mode = call.get("mode", "constant")
    widths = [n for axis in reversed(range(rank)) for n in (before[axis], after[axis])]
    if mode == "constant":
        value = call.array(2, "value")
        number = 0.0 if value is None else float(value.reshape(()))
        return walk.emit(PAD, source, widths, number)
    targets = {"reflect": aten.reflection_pad2d.default, "edge": aten.replication_pad2d.default}
    if mode not in targets or rank != 4 or any(widths[4:]):
        raise call.unsupported(f"padding by {mode!r} is known around maps, by reflect and edge")
    return walk.emit(targets[mode], source, widths[:4])


def _resize(walk: Walk, call: Call) -> FxNode:
    source = walk.node(call.inputs[0])
    size = walk.size(source)
    sizes, scales = call.integers(3), call.array(2)
    if sizes is None and scales is not None and scales.size:
        sizes = [int(n * float(s)) for n, s in zip(size, scales, strict=True)]
    if walk.opset < 11 or len(size) != 4 or sizes is None or tuple(sizes[:2]) != tuple(size[:2]):
        raise call.unsupported("only maps are resized, in height and width")
    mode, way = (
        call.get("mode", "nearest"),
        call.get("coordinate_transformation_mode", "half_pixel"),
    )
    if mode == "nearest":
        ratios = {want // have for have, want in zip(size[2:], sizes[2:], strict=True)}
        whole = all(want % have == 0 for have, want in zip(size[2:], sizes[2:], strict=True))
        rounding = call.get("nearest_mode", "round_prefer_floor")
        half = way in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
        low = way == "asymmetric" and (rounding == "floor" or ratios <= {1, 2})
        if whole and ((half and rounding.startswith("round")) or (low and rounding != "ceil")):
            return walk.emit(aten.upsample_nearest2d.default, source, list(sizes[2:]))
    elif mode == "linear" and way in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = way == "align_corners"
        return walk.emit(aten.upsample_bilinear2d.default, source, list(sizes[2:]), corners)
    raise call.unsupported("known are whole factors to nearest, and linear to pixel centres")


def _depth_to_space(walk: Walk, call: Call) -> FxNode:
    source, block = walk.node(call.inputs[0]), int(call.get("blocksize"))
    count, channels, height, width = walk.size(source)
    depth = channels // (block * block)
    if call.get("mode", "DCR") == "CRD":
        return walk.emit(aten.pixel_shuffle.default, source, block)
    made = _shaped(walk, source, [count, block, block, depth, height, width])
    made = walk.emit(aten.permute.default, made, [0, 3, 4, 1, 5, 2])
    return _shaped(walk, made, [count, depth, height * block, width * block])


def _space_to_depth(walk: Walk, call: Call) -> FxNode:
    source, block = walk.node(call.inputs[0]), int(call.get("blocksize"))
    count, channels, height, width = walk.size(source)
    down, across = height // block, width // block
    made = _shaped(walk, source, [count, channels, down, block, across, block])
    made = walk.emit(aten.permute.default, made, [0, 3, 5, 1, 2, 4])
    return _shaped(walk, made, [count, channels * block * block, down, across])


MOVES: dict[str, Emit] = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
