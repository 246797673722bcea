"""What a terminal gets: it folds at any width from 60 columns, and colour is never alone."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from appliance.cli.curve import BLOCKS, PLAIN, curve_lines
from appliance.cli.live import ROWS, Screen
from appliance.cli.terminal import console, show_facts, show_table


@pytest.fixture(autouse=True)
def a_terminal_that_can_move_its_cursor(monkeypatch):
    """Whatever the tests themselves run in: `TERM=dumb` draws nothing twice."""
    monkeypatch.setenv("TERM", "xterm-256color")


def terminal(columns=60, **options):
    return Console(
        file=io.StringIO(),
        width=columns,
        height=40,
        force_terminal=True,
        color_system="standard",
        **{"markup": False, "emoji": False, "highlight": False, "legacy_windows": False, **options},
    )


def written(on):
    return on.file.getvalue()


def event(step, kind="progress", **figures):
    return {"seq": step, "kind": kind, "step": step, "steps": 100, "elapsed_s": float(step), **figures}


def test_facts_fold_in_their_own_column():
    on = terminal(no_color=True)
    show_facts(on, [("vault", "sealed"), ("left", "word " * 30)], {})
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in written(on).splitlines()]
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) == 4
    assert all(line.startswith("       word") for line in lines[2:])


def test_colour_is_written_where_it_is_wanted_and_nowhere_with_no_color():
    for options, coloured in (({}, True), ({"no_color": True}, False)):
        on = terminal(**options)
        show_facts(on, [("host", "NOT isolated")], {"host": "red"})
        assert ("\x1b[31m" in written(on)) == coloured
        assert "NOT isolated" in written(on)


def test_text_is_text_whatever_it_holds():
    on = terminal(no_color=True)
    show_facts(on, [("name", "[red]x[/red] :smile: [link=http://a]b[/link]")], {})
    assert "[red]x[/red] :smile: [link=http://a]b[/link]" in written(on)


def test_a_table_that_does_not_fit_becomes_facts():
    narrow, wide = terminal(no_color=True), terminal(200, no_color=True)
    headings, lines = ("JOB", "REASON"), [("train-1", "x" * 70), ("train-2", "y")]
    show_table(wide, headings, lines)
    assert written(wide).splitlines()[1].startswith("train-1  xxx")
    show_table(narrow, headings, lines)
    assert "job" in written(narrow)
    assert "train-2" in written(narrow)
    assert "JOB" not in written(narrow)


def test_a_terminal_narrower_than_60_columns_counts_as_60(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert console().width == 60
    monkeypatch.setenv("COLUMNS", "90")
    assert console().width == 90


def test_a_curve_falls_from_left_to_right():
    lines = curve_lines([(step, 10.0 - step) for step in range(10)], 30, 3)
    assert len(lines) == 3
    assert lines[0].startswith("  10.000 █")
    assert lines[-1].startswith("   1.000 █")
    assert lines[0].rstrip()[-1] != "▁"
    assert lines[-1][-1] == "▁"
    assert curve_lines([(0, 1.0)], 30, 3) == []
    assert curve_lines([(0, 1.0), (1, 1.0)], 30, 1, PLAIN) == [f"{'1.000':>8} {'#' * 21}"]


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), min_size=2, max_size=50),
    st.integers(12, 200),
    st.integers(1, 20),
)
def test_a_curve_has_the_size_it_was_asked_for(points, columns, rows):
    lines = curve_lines(sorted(points), columns, rows)
    assert [len(line[9:]) for line in lines] == [columns - 9] * rows
    assert set("".join(line[9:] for line in lines)) <= set(BLOCKS)


@pytest.mark.parametrize("columns", [60, 120])
def test_a_job_is_drawn_with_bar_curve_figures_and_milestones(columns):
    on = terminal(columns, no_color=True)
    shown = Screen("train-1\x1b[2J", on, lambda: "31.0 %")
    shown.show(event(0, "started"))
    shown.show(event(0, "granted", object="ab" * 32, reason="corpus \x1b[2Jtext"))
    for step in range(1, 60):
        shown.show(event(step, loss=5.0 - step / 20, tokens_per_s=4000.0))
    shown.show(event(60, "evaluated", bits_per_byte=2.5))
    picture = written(on).split("\x1b[2K")[-1] + written(on)[-2000:]
    for told in (
        "train-1\\x1b[2J",
        "step 60 of 100",
        "60 %",
        "2.500 bits/byte",
        "best 2.500",
        "of peak 31.0 %",
    ):
        assert told in picture
    assert "left 40s" in picture
    assert "4,000" in picture
    assert "granted  corpus \\x1b[2Jtext" in picture
    assert written(on).count("█") > ROWS
    shown.show(event(100, "done", object="cd" * 32))
    assert "done" in written(on)[-1500:]
    shown.leave()


def test_a_share_that_is_kept_back_is_left_out():
    on = terminal(no_color=True)
    shown = Screen("train-1", on, lambda: "")
    shown.show(event(0, "started"))
    shown.show(event(5, loss=2.0))
    assert "of peak" not in written(on)
    shown.leave()
