"""Damage of every sort: to bytes, and to trees of JSON, dataclasses and arrays."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

#: What a value may be replaced by; sizes that nobody has, numbers that are none, other types.
NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 127, 128, -128, -129, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31),
    *(-(1 << 31), 1 << 32, 1 << 40, 1 << 53, 1 << 60, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 64),
    *(10**30, 10**400, 0.0, -0.0, 0.5, 1.5, 5e-324, 1e-300, 1e300, -1e300),
    *(float("nan"), float("inf"), float("-inf"), True, False, None),
)
TEXTS = ("", "x", "0", "-1", "NaN", "conv", "\0", "\n", "é", "../x", "$type", "a" * 5000)
DTYPES = ("?", "i1", "u1", "i2", "i4", "i8", ">i4", "u8", "f2", "f4", "f8", "c8")


def damaged(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """`data` with a few bytes changed, missing, repeated, or taken from one of `others`."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        if rng.random() < 0.4:  # headers are at the beginning
            at = min(at, rng.randrange(16))
        end = min(len(out), at + rng.choice((1, 1, 4, 8, rng.randrange(200))))
        match rng.randrange(8):
            case 0:
                del out[at:]
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case 3:
                out[at:end] = rng.randbytes(end - at)
            case 4:
                out[at:end] = rng.choice((b"\0", b"\xff", b"\x7f", b"9", b"[")) * (end - at)
            case 5:
                other = rng.choice(others)
                begin = rng.randrange(len(other) + 1)
                out[at:end] = other[begin : begin + rng.choice((end - at, len(other)))]
            case _:
                if at < len(out):
                    out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def foreign(rng: Random, others: Sequence[bytes]) -> bytes:
    """A file of quite another sort."""
    return rng.choice(
        (
            b"",
            rng.randbytes(rng.randrange(400)),
            bytes(rng.randrange(4000)),
            b"PK\x03\x04" + rng.randbytes(60),
            b"\x80\x04\x95" + rng.randbytes(60),
            b"\x93NUMPY\x01\0" + rng.randbytes(100),
            (1 << rng.randrange(64)).to_bytes(8, "little") + b"{}" + bytes(20),
            b"[" * rng.choice((10, 100_000)),
            b"\xff\xfe" + "name".encode("utf-16-le"),
            rng.choice(others),
        )
    )


def mutated(rng: Random, tree: Any) -> Any:
    """`tree` with one to three of its parts changed.

    Dataclasses are built anew, so they may refuse with an error of their own.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree, ()))
        path = rng.choice(places)
        tree = _put(tree, path, _changed(rng, _get(tree, path), tree, places))
    return tree


def weird_array(rng: Random, array: np.ndarray) -> np.ndarray:
    """`array` with another shape, type or contents."""
    match rng.randrange(9):
        case 0:
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
                return array.astype(rng.choice(DTYPES))
        case 1:
            return array.reshape(-1)
        case 2:
            return array[None]
        case 3:
            return array.T
        case 4:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array.reshape(1)
        case 5:
            return np.concatenate([array, array]) if array.ndim else array
        case 6:
            return np.zeros(rng.choice(((), (0,), (1,), (0, 5), (1 << 20,))), array.dtype)
        case 7:
            return np.full_like(array, _extreme(rng, array.dtype))
        case _:
            out = array.copy()
            if out.size:
                out.reshape(-1)[rng.randrange(out.size)] = _extreme(rng, array.dtype)
            return out


def _extreme(rng: Random, dtype: np.dtype) -> Any:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.choice((limits.min, limits.max, 0, rng.randint(limits.min, limits.max)))
    if dtype.kind == "f":
        return rng.choice((0, np.nan, np.inf, -np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny))
    return rng.choice((0, 1))


def _changed(rng: Random, value: Any, tree: Any, places: Sequence[tuple]) -> Any:
    """Something to stand in the place of `value`."""
    if rng.random() < 0.15:  # from elsewhere in the tree: another name, number or part
        return _get(tree, rng.choice(places))
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        return weird_array(rng, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.5:
        if isinstance(value, float):
            return value * rng.choice((-1, 2, 1e-30, 1 << 60))
        near = (value + 1, value - 1, -value, 2 * value, value ^ (1 << rng.randrange(20)))
        return rng.choice((*near, float(value) if abs(value) < 1 << 1000 else 0.0))
    if isinstance(value, (list, tuple)) and rng.random() < 0.7:
        items = list(value)
        at = rng.randrange(len(items) + 1)
        match rng.randrange(4):
            case 0:
                del items[at : at + 1]
            case 1:
                items[at:at] = items[at : at + 1]
            case 2:
                items.insert(at, _any(rng))
            case _:
                rng.shuffle(items)
        return type(value)(items)
    if isinstance(value, dict) and value and rng.random() < 0.7:
        items = list(value.items())
        at = rng.randrange(len(items))
        key, item = items.pop(at)
        if rng.random() < 0.5:
            items.insert(at, (rng.choice([str(key) + "x", "$type", *value]), item))
        return dict(items)
    return _any(rng)


def _any(rng: Random) -> Any:
    deep: Any = 0
    for _ in range(rng.choice((1, 3, 400))):
        deep = [deep]
    return rng.choice((rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(TEXTS), [], {}, deep))


def _places(tree: Any, path: tuple) -> Any:
    """Paths to all parts of a tree; long lists count by their first parts."""
    yield path
    if dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from _places(getattr(tree, field.name), (*path, field.name))
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*path, key))
    elif isinstance(tree, (list, tuple)) and len(path) < 40:
        for index, value in enumerate(tree[:100]):
            yield from _places(value, (*path, index))


def _get(tree: Any, path: tuple) -> Any:
    for step in path:
        tree = getattr(tree, step) if dataclasses.is_dataclass(tree) else tree[step]
    return tree


def _put(tree: Any, path: tuple, value: Any) -> Any:
    """A copy of `tree` with `value` at `path`."""
    if not path:
        return value
    step, *rest = path
    inner = getattr(tree, step) if dataclasses.is_dataclass(tree) else tree[step]
    inner = _put(inner, tuple(rest), value)
    if dataclasses.is_dataclass(tree):
        return dataclasses.replace(tree, **{step: inner})  # pyright: ignore[reportArgumentType]
    if isinstance(tree, dict):
        return {**tree, step: inner}
    return type(tree)([*tree[:step], inner, *tree[step + 1 :]])
