"""Progress of long commands, on stderr."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

_err = Console(stderr=True)


def status(text: str, quiet: bool) -> AbstractContextManager[object]:
    """A spinner beside `text`; where stderr is no terminal, one line."""
    if quiet:
        return nullcontext()
    if not _err.is_terminal:
        _err.print(f"{text} …", highlight=False, soft_wrap=True)
        return nullcontext()
    return _err.status(f"{text} …")


class Bar:
    """A progress bar; entering gives the callback that moves it."""

    def __init__(self, text: str, total: int, quiet: bool):
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=_err,
            disable=quiet,
        )
        self._text, self._total = text, total

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        task = self._bar.add_task(self._text, total=self._total)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()


class Count:
    """A line with a number that grows; entering gives the callback that sets it."""

    def __init__(self, text: str, unit: str, quiet: bool):
        self._text, self._unit = text, unit
        self._status = None if quiet or not _err.is_terminal else _err.status(text)
        self._quiet = quiet

    def __enter__(self) -> Callable[[int], None]:
        if self._status is not None:
            self._status.start()
        elif not self._quiet:
            _err.print(f"{self._text} …", highlight=False, soft_wrap=True)
        return self._show

    def _show(self, number: int) -> None:
        if self._status is not None:
            self._status.update(f"{self._text}: {number:,} {self._unit}")

    def __exit__(self, *exc: object) -> None:
        if self._status is not None:
            self._status.stop()
