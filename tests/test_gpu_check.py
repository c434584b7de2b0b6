"""The script of a first visit to a GPU, without one."""

import csv
import importlib.util

import pytest
import torch


@pytest.fixture
def script(repository, monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_check", repository / "scripts" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_without_a_gpu_each_part_says_so(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main(["--out", str(tmp_path / "new" / "rows.csv")]) == 0
    rows = read(tmp_path / "new" / "rows.csv")
    assert [int(row["part"]) for row in rows] == list(range(1, 9))
    assert {row["found"] for row in rows} == {"no CUDA device"} and tuple(rows[0]) == script.COLUMNS
    assert "0 of 8 not as expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "limit", "last"),
    [
        ("print('[\"a\", 1, true]'); print('noise')", 60, None),
        ("print('[\"a\", 1, true]', flush=True); raise ValueError('why')", 60, "ended by 1: ValueError: why"),
        ("print('[\"a\", 1, true]', flush=True); import time; time.sleep(60)", 2, "ended by more than 2 s: "),
    ],
)
def test_a_part_that_fails_or_takes_too_long_keeps_its_rows_and_says_why(
    script, monkeypatch, tmp_path, code, limit, last
):
    (tmp_path / "part.py").write_text(code)
    monkeypatch.setattr(script, "__file__", str(tmp_path / "part.py"))
    first, *others = script.in_time(1, "cpu", limit)
    assert first == ("a", 1, True)
    assert [f"{what}: {found}" for what, found, good in others if good is False] == ([last] if last else [])


@pytest.mark.slow
def test_parts_run_in_a_small_form(script, tmp_path, capsys):
    """Those that are more than commands and runs, which have tests of their own."""
    small = ["--device", "cpu", "--out", str(tmp_path / "rows.csv"), "--parts", "3", "5", "7"]
    assert script.main(small) == 0, capsys.readouterr().out
    rows = read(tmp_path / "rows.csv")
    assert {int(row["part"]) for row in rows} == {3, 5, 7} and not any(
        row["as expected"] == "NO" for row in rows
    )
