"""CSV files are read as they were written, and what is wrong with one is named with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.formats.tabular.cells import Cells
from engine.data.formats.tabular.delimited import Dialect, read_delimited
from engine.errors import DataError, RecipeError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


def read(folder: Path, data: bytes, name: str = "table.csv", **how: object) -> Cells:
    file = folder / name
    file.write_bytes(data)
    dialect = Dialect(**how)  # type: ignore[arg-type]
    dialect.check()
    return read_delimited(file, dialect, "line", lambda what, done, total: None)


def cells(read: Cells) -> list[list[str]]:
    return [list(row.values()) for row in read.table.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT).filter(any), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_is_read_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], delimiter: str, end: str
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end)
    lines = []
    for row in [("a", "b", "c"), *rows]:
        lines.append(written.getvalue().count("\n") + 1)
        writer.writerow(row)
    read_back = read(tmp_path_factory.mktemp("csv"), written.getvalue().encode(), delimiter=delimiter)
    assert cells(read_back) == [list(row) for row in rows]
    assert read_back.numbers.tolist() == lines[1:]
    assert not read_back.bad


def test_ragged_rows_are_left_out_and_named(tmp_path: Path) -> None:
    data = b'a,b,c\n1,2,3\n\n"x\ny",5,6\n7,8\n9,10,11\n1,2,3,4\n1,2,"q""z"\n'
    found = read(tmp_path, data)
    assert cells(found) == [["1", "2", "3"], ["x\ny", "5", "6"], ["9", "10", "11"], ["1", "2", 'q"z']]
    assert found.numbers.tolist() == [2, 4, 7, 9]
    said = ["line 6: has 2 cells, 3 were expected", "line 8: has 4 cells, 3 were expected"]
    assert [str(each) for each in found.bad] == said


def test_ragged_rows_are_named_far_into_a_large_file(tmp_path: Path) -> None:
    """Beyond the blocks in which it is read."""
    rows = ["a,b", *["12345678901234567890,1234567890"] * 400_000]
    rows[350_000] = "1,2,3"
    found = read(tmp_path, "\n".join(rows).encode())
    assert [each.place for each in found.bad] == ["line 350001"]
    assert (len(found), found.numbers[-1]) == (399_999, 400_001)


def test_a_quote_that_is_never_closed_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, b'a,b,c\n1,2,3\n4,"5,6\n7,8,9\n')
    assert "line 3: has 2 cells, 3 were expected" in str(found.bad[0])
    assert "is a quote not closed?" in str(found.bad[0])


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"a;b\n1,5;2,5\n", ["a", "b"]),
        (b"a\tb\n1,5\t2;5\n", ["a", "b"]),
        (b"a|b|c\n1,2|2|3\n", ["a", "b", "c"]),
        (b'a,b\n"1;2;3",4\n', ["a", "b"]),
        (b"\xef\xbb\xbfa,b\n1,2\n", ["a", "b"]),
        (b"\n\n a ,b\n1,2\n", ["a", "b"]),
        (b",b\n1,2\n", ["column 1", "b"]),
    ],
)
def test_delimiter_and_header_are_found(data: bytes, header: list[str], tmp_path: Path) -> None:
    found = read(tmp_path, data)
    assert found.table.column_names == header
    assert len(found) == 1


def test_a_tsv_is_read_by_its_name_and_a_table_without_header_by_its_option(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\tb,c,d\n1\t2,3,4\n", "table.tsv").table.column_names == ["a", "b,c,d"]
    found = read(tmp_path, b"1,2\n3\n4,5\n", header=False)
    assert found.table.column_names == ["column 1", "column 2"]
    assert found.numbers.tolist() == [1, 3]
    assert found.bad[0].place == "line 2"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le"])
def test_a_wrong_encoding_is_named_with_its_place_and_the_right_one(encoding: str, tmp_path: Path) -> None:
    text = "name,b\nx,1\nfür,2\n"
    with pytest.raises(DataError) as caught:
        read(tmp_path, text.encode(encoding))
    assert f'Set encoding = "{encoding}"' in str(caught.value)
    if encoding == "cp1252":
        assert "line 3: is not in utf-8 (byte 0xfc)" in str(caught.value)
    assert cells(read(tmp_path, text.encode(encoding), encoding=encoding)) == [["x", "1"], ["für", "2"]]


def test_a_wrong_byte_is_found_far_into_a_file_and_latin_1_where_nothing_else_fits(tmp_path: Path) -> None:
    data = b"a,b\n" + b"123456,1234567\n" * 700_000 + b"\x81\xfc,1\n"
    with pytest.raises(DataError, match=r"line 700002: is not in utf-8 \(byte 0x81\)\. Set .* = .latin-1"):
        read(tmp_path, data)
    with pytest.raises(DataError, match='Set encoding = "utf-8"'):
        read(tmp_path, "a,b\nü,1\n".encode(), encoding="ascii")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "nothing but empty lines"),
        (b"a,b\n", "has a header and no rows"),
        (b"a,b", "has a header and no rows"),
        (b"a,b\n1,2,3\n4,5,6\n", "of 2 rows none is whole; line 2: has 3 cells, 2 were expected"),
        (b"a,b\n,\n\n", "all rows are empty"),
        (b"a,b,a\n1,2,3\n", "'a' is the name of columns 1 and 3"),
        (b"5.1,3.5\n4.9,3.0\n", "looks like data, not like names of columns. Set header = false"),
        (b"PK\x03\x04\0\0\0\0", "has zero bytes"),
    ],
)
def test_what_is_no_table_is_said(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table.csv") as caught:
        read(tmp_path, data)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [({"encoding": "utf-81"}, "Did you mean 'utf-8'"), ({"delimiter": "--"}, "more than one ASCII character")],
)
def test_a_dialect_that_can_not_be_is_refused(how: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        read(tmp_path, b"a,b\n1,2\n", **how)


def test_reading_tells_how_far_it_is_and_can_be_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(b"a,b\n" + b"123456,1234567\n" * 1_200_000)
    told: list[tuple[str, int, int]] = []
    read_delimited(file, Dialect(), "line", lambda *each: told.append(each))
    assert len(told) > 1
    assert told[-1] == ("reading table.csv", file.stat().st_size, file.stat().st_size)
    assert told[0][1] < told[-1][1]

    def cancel(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_delimited(file, Dialect(), "line", cancel)
