"""What a sweep shows: a live table on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from ldarts_book.grid import view
from ldarts_book.grid.grid import read_grid
from tiny import GRID


def small_grid(folder):
    path = folder / "grid.yaml"
    path.write_text(GRID)
    return read_grid(path)


def test_the_live_table_shows_counts_epochs_and_the_time_left(tmp_path, monkeypatch):
    jobs = small_grid(tmp_path).jobs()
    console = Console(force_terminal=True, width=100, record=True)
    tally, live = view.Tally(jobs, 2), view.LiveView(console)
    assert tally.seconds_left is None
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    first, second = jobs[0], next(job for job in jobs if job.method == "lambda")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"epochs": 50}')
    (folder / "history.csv").write_text("epoch\n0\n1\n")
    live.begin(tally)
    tally.started(first)
    now[0] = 100.0
    tally.ended(first, "finished")
    tally.started(second)
    live.show(tally, {second: folder})
    live.ended(tally, second, "failed", "no memory")
    live.close()
    assert tally.seconds_left == pytest.approx(3 * 100 / 2)
    text = console.export_text()
    for expected in ("small", "epoch 2 of 50", "1 of 4, about 2 min left", "no memory"):
        assert expected in text


def test_plain_lines_say_what_ended_and_why(tmp_path, monkeypatch):
    jobs = small_grid(tmp_path).jobs()
    text = io.StringIO()
    tally, plain = view.Tally(jobs, 1), view.SweepView(Console(file=text, width=40))
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    plain.begin(tally)
    tally.started(jobs[0])
    now[0] = 4.0
    tally.ended(jobs[0], "finished")
    plain.ended(tally, jobs[0], "finished")
    tally.ended(jobs[1], "skipped")
    plain.ended(tally, jobs[1], "skipped", "it needs [a job] that failed")
    assert text.getvalue().splitlines() == [
        "4 jobs, 0 of them need nothing; 1 at a time",
        f"1/4 finished {jobs[0].directory} in 4 s, about 12 s left",
        f"2/4 skipped {jobs[1].directory}: it needs [a job] that failed, about 8 s left",
    ]


def test_a_view_fits_standard_output(capsys):
    assert type(view.view()) is view.SweepView
