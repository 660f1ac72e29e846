"""Rows of a table come back as they were written, and what is torn is told."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.reading.records import read_records

cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
rows = st.lists(st.tuples(cells, cells), min_size=1, max_size=6)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_a_table_comes_back_as_python_wrote_it(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([("one", "two"), *rows])
        records = read_records(path, "x.csv", "utf-8")
    assert list(zip(records.columns["one"], records.columns["two"], strict=True)) == rows
    assert list(records.places) == [f"x.csv row {number}" for number in range(2, len(rows) + 2)]
    assert not records.bad


@given(rows)
@settings(max_examples=60, deadline=None)
def test_lines_of_json_come_back_as_python_wrote_them(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jsonl")
        lines = [json.dumps({"one": one, "two": two}, ensure_ascii=len(one) % 2 == 0) for one, two in rows]
        path.write_bytes("\n".join(lines).encode())
        records = read_records(path, "x.jsonl", "utf-8")
    assert list(zip(records.columns["one"], records.columns["two"], strict=True)) == rows


def test_a_quote_that_is_not_closed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('text,label\nfine,x\n"never closed,y\nthen,x\n')
    records = read_records(path, "x.csv", "utf-8")
    assert records.columns["text"] == ["fine"]
    said = "x.csv row 3: has 1 cells, 2 were expected; it goes on for 1 more lines: is a quote not closed?"
    assert [str(bad) for bad in records.bad] == [said]


def test_quotes_of_a_tsv_are_text_and_old_line_ends_are_known(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('text\tlabel\n"quoted" start\tx\nsay "hi\ty\n')
    assert read_records(tmp_path / "x.tsv", "x", "utf-8").columns["text"] == ['"quoted" start', 'say "hi']
    (tmp_path / "x.csv").write_bytes(b"text,label\rfine,x\rok,y\r")
    assert read_records(tmp_path / "x.csv", "x", "utf-8").columns["label"] == ["x", "y"]


def test_the_delimiter_is_the_one_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text;label\nhello, there, you;a\n")
    assert read_records(tmp_path / "x.csv", "x", "utf-8").columns["text"] == ["hello, there, you"]
    (tmp_path / "x.csv").write_text("text,label\nhello; there; you,a\n")
    assert read_records(tmp_path / "x.csv", "x", "utf-8").columns["text"] == ["hello; there; you"]
