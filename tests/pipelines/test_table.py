from __future__ import annotations

import csv

import pytest

from pipelines.table import Finding, Section, cell, show_rows, write_csv


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(2.0, True, True), (1.0, True, False), (1.0, False, True), (3.0, False, False)],
)
def test_a_goal_is_a_lower_or_an_upper_bound(value, at_least, met):
    assert Finding("ratio", value, 2.0, at_least).met is met


def test_a_figure_without_a_goal_is_neither_met_nor_missed():
    assert Finding("ratio", 1.0).met is None


def test_csv_has_every_key_and_leaves_what_a_row_lacks_empty(tmp_path):
    path = write_csv([{"a": 1}, {"a": 2, "b": "x,y"}], tmp_path / "new" / "t.csv")
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": ""}, {"a": "2", "b": "x,y"}]


def test_columns_are_aligned(capsys):
    show_rows([{"name": "a", "n": 1}, {"name": "longer", "n": 12345.678}])
    assert capsys.readouterr().out.splitlines() == ["name    n", "a       1", "longer  1.235e+04"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (float("nan"), "-"), (0.123456, "0.1235"), ("x", "x")]
)
def test_cells(value, text):
    assert cell(value) == text


def test_a_section_writes_its_rows_and_its_findings(tmp_path):
    section = Section("s", "title", rows=[{"a": 1}], findings=[Finding("f", 1.0, 2.0)])
    assert [path.name for path in section.write(tmp_path)] == ["s.csv", "s-findings.csv"]
    assert "NO" in (tmp_path / "s-findings.csv").read_text()
