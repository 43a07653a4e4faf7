"""Values as error messages show them: one short line, whatever they are."""

from __future__ import annotations

import reprlib

_LONGEST = 100
_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST


def brief(value: object) -> str:
    """``repr(value)``, cut to about a hundred characters."""
    try:
        text = " ".join(_REPR.repr(value).split())
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def one_line(text: object, most: int = 300) -> str:
    """The text of an error of somebody else's, on one line and cut to `most` characters."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[: most - 4]} ..."


def is_name(value: object) -> bool:
    """Whether `value` is text that fits into a sentence: printable, 1 to 200 characters."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
