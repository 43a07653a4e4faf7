"""Whether dataclasses hold what their annotations promise, before anything computes with it."""

from __future__ import annotations

import dataclasses
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..hdl.brief import brief, is_name

#: How messages call what an annotation stands for.
_WORDS = {
    int: "an integer of 64 bits",
    float: "a number",
    bool: "True or False",
    str: "a printable name of 1 to 200 characters",
    np.ndarray: "an array of numbers",
    NoneType: "None",
}


def check_types(value: object, hint: Any, what: str) -> None:
    """Compare `value` with a type annotation, its parts included.

    Integers and numbers may be NumPy's scalars. Strings are names, see :func:`.brief.is_name`.

    Raises
    ------
    TypeError
        The text begins with `what`, or with the part that is wrong.
    """
    if hint is Any:
        return
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if type(value) is not hint:
            raise TypeError(f"{what} must be {_words(hint)}, not {brief(value)}")
        for name, inner in _fields(hint):
            check_types(getattr(value, name), inner, f"{what}.{name}")
        return
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # A dataclass of the union is looked into; it says more than the union could.
        kinds = [kind for kind in arguments if type(value) is kind] or arguments
        if len(kinds) == 1:
            check_types(value, kinds[0], what)
        elif not any(_is(value, kind) for kind in kinds):
            raise TypeError(f"{what} must be {_words(hint)}, not {brief(value)}")
    elif origin is tuple:
        inner = arguments
        if isinstance(value, tuple) and arguments[-1] is Ellipsis:
            inner = (arguments[0],) * len(value)
        if not isinstance(value, tuple) or len(value) != len(inner):
            raise TypeError(f"{what} must be {_words(hint)}, not {brief(value)}")
        for index, (item, kind) in enumerate(zip(value, inner, strict=True)):
            check_types(item, kind, f"{what}[{index}]")
    elif origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"{what} must be {_words(hint)}, not {brief(value)}")
        for key, item in value.items():
            check_types(key, arguments[0], f"a key of {what}")
            check_types(item, arguments[1], f"{what}[{key!r}]")
    elif not _is(value, hint):
        raise TypeError(f"{what} must be {_words(hint)}, not {brief(value)}")


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


def _is(value: object, kind: Any) -> bool:
    """Whether `value` is of a type that has no parts."""
    if kind is int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            return False
        return -(1 << 63) <= int(value) < 1 << 63
    if kind is float:
        return isinstance(value, float | np.floating) or _is(value, int)
    if kind is str:
        return is_name(value)
    if kind is np.ndarray:
        return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    return isinstance(value, kind)


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(kind) for kind in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return "a tuple"
    if origin is tuple:
        return f"a tuple of {len(arguments)}"
    if origin is dict:
        return "a dictionary"
    return _WORDS.get(hint) or f"a {hint.__name__}"
