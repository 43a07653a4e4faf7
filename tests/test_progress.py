"""What long commands show on stderr while they work."""

from __future__ import annotations

import io
from concurrent.futures import Future

import pytest
from rich.console import Console
from weft.host import bench, progress


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def shown(request, monkeypatch):
    """What stderr is, and the text on it."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=request.param, width=80, color_system=None)
    monkeypatch.setattr(progress, "_err", console)
    return request.param, text


def test_a_status_is_a_line_or_a_spinner(shown):
    terminal, text = shown
    with progress.status("building", False):
        pass
    assert "building …" in text.getvalue()
    assert (text.getvalue() == "building …\n") != terminal


def test_cycles_are_shown_while_a_run_goes_on(shown, monkeypatch):
    """On a terminal only: elsewhere one line says what runs."""
    terminal, text = shown
    monkeypatch.setattr(bench, "_POLL", 0.01)
    future: Future = Future()

    class Device:
        asked = 0

        @property
        def cycle(self) -> int:
            self.asked += 1
            if self.asked == 3:
                future.set_result(None)
            return 1_234_567

    bench._follow("running", future, Device(), False)  # pyright: ignore[reportArgumentType]
    assert ("running: 1,234,567 cycles" in text.getvalue()) == terminal
    assert (text.getvalue() == "running …\n") != terminal


def test_a_bar_counts(shown):
    terminal, text = shown
    with progress.Bar("running", 3, False) as step:
        step(2)
    assert "running" in text.getvalue()
    assert "2/3" in text.getvalue()
    if not terminal:
        assert "\x1b" not in text.getvalue()


def test_nothing_is_shown_where_it_must_be_quiet(shown):
    _, text = shown
    with progress.status("a", True), progress.Count("b", "c", True) as show:
        show(1)
    with progress.Bar("d", 3, True) as step:
        step(1)
    assert text.getvalue() == ""
