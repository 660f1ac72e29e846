"""What the columns of a table are is found out, shown, and can be said otherwise; what is wrong in one is named."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from engine.data.formats.catalog import format_entry, guess
from engine.data.formats.opening import open_files
from engine.data.formats.table import open_table
from engine.data.samples import Loaded, Measured
from engine.errors import DataError, RecipeError
from engine.recipe import Data

MANY = 40


def read(path: Path, task: Any = "classification", **options: Any) -> Loaded:
    return open_table(path, task, lambda what, done, total: None, **options)


def table(folder: Path, **columns: list[Any]) -> Path:
    """A CSV of these columns."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    file = folder / "table.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def inputs(loaded: Loaded) -> list[list[float]]:
    part = loaded.parts["all"]
    assert isinstance(part, Measured)
    return part.fit(torch.arange(len(part))).encode(part).inputs.tolist()  # type: ignore[no-any-return]


def columns_of(loaded: Loaded) -> tuple[str, ...]:
    return loaded.source.columns


LABELS = ["yes", "no"] * (MANY // 2)
X = [number * 0.37 + 1 for number in range(MANY)]


def test_what_columns_are_is_told(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        PassengerId=[1000 + 3 * number for number in range(MANY)],
        row=[*range(MANY - 1), MANY + 2],  # some were taken out
        name=[f"person {number}" for number in range(MANY)],
        day=[f"2024-03-{1 + number % 28:02}" for number in range(MANY)],
        unit=["kg"] * MANY,
        nothing=["NA"] * MANY,
        x=X,
        age=[number % 9 for number in range(MANY)],
        kind=["a", "b", "c", "d"] * (MANY // 4),
        label=LABELS,
    )
    loaded = read(file)
    assert columns_of(loaded) == ("x", "age", "kind")
    for said in (
        "target 'label' (by its name)", "2 numeric (x, age)", "1 categorical (kind)", "day (dates)",
        "unit (the same in every row)", "nothing (empty)", "PassengerId (numbers the rows)", "row (numbers the rows)",
        "name (different in every row)",
    ):  # fmt: skip
        assert said in loaded.source.about
    assert loaded.source.classes == ("no", "yes")


def test_what_was_found_out_can_be_said_otherwise(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        row=list(range(MANY)),
        day=[f"1970-01-{1 + number % 28:02}" for number in range(MANY)],
        age=[number % 9 for number in range(MANY)],
        x=X,
        label=LABELS,
    )
    loaded = read(file, numeric=("row", "day"), categorical=("age",), ignore=("x",))
    assert columns_of(loaded) == ("row", "day", "age")
    assert "x (as you say)" in loaded.source.about
    assert inputs(loaded)[3][:2] == [3, 3]  # days since 1970
    assert len(inputs(loaded)[0]) == 2 + 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "lable"}, "data.options.target: there is no column 'lable'. Did you mean 'label'"),
        ({"numeric": ("z",)}, "data.options.numeric: there is no column 'z'. There are x, kind, label"),
        ({"numeric": ("x",), "ignore": ("x",)}, "data.options.ignore: 'x' is in numeric, too"),
        ({"ignore": ("label",)}, "'label' is in target, too"),
        ({"target": ("x", "label")}, "classification has one target"),
        ({"decimal": "'"}, "is no decimal mark"),
        ({"thousands": "."}, "is no mark beside the decimal"),
        ({"most_categories": 0}, "0 are too few"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = table(tmp_path, x=X, kind=["a", "b"] * (MANY // 2), label=LABELS)
    with pytest.raises(RecipeError) as caught:
        read(file, **options)
    assert said in str(caught.value)


def test_the_target_is_the_last_column_where_none_is_called_so(tmp_path: Path) -> None:
    assert "'kind' (the last column)" in read(table(tmp_path, x=X, kind=LABELS)).source.about
    assert "'Label' (by its name)" in read(table(tmp_path, Label=LABELS, x=X)).source.about
    assert "'x' (as you say)" in read(table(tmp_path, x=LABELS, y=X), target="x").source.about


def test_classes_that_are_numbers_keep_them_as_names(tmp_path: Path) -> None:
    labels = [10, 9, 2.0, "-1"] * (MANY // 4)
    loaded = read(table(tmp_path, x=X, label=labels))
    assert loaded.source.classes == ("-1", "2", "9", "10")
    assert loaded.parts["all"].targets[:4].tolist() == [3, 2, 1, 0]  # type: ignore[union-attr]


def test_named_classes_are_values_or_numbers_and_others_are_bad(tmp_path: Path) -> None:
    by_value = read(table(tmp_path, x=X, label=["b", "a", *LABELS[2:-1], "c"]), classes=("b", "a", "no", "yes"))
    assert by_value.source.classes == ("b", "a", "no", "yes")
    assert str(by_value.bad[0]) == f"line {MANY + 1}: the target 'c' is out of range: b, a, no, yes are the classes"
    by_number = read(table(tmp_path, x=X, label=[0, 1] * (MANY // 2 - 1) + [2, 7]), classes=("cat", "dog", "cow"))
    assert by_number.source.classes == ("cat", "dog", "cow")
    assert [str(each) for each in by_number.bad] == [
        f"line {MANY + 1}: the target '7' is out of range: 0 to 2 are the classes"
    ]
    assert "class 'cow' has one sample" in by_number.source.about


def test_missing_and_wrong_cells_are_bad_samples_with_their_lines(tmp_path: Path) -> None:
    x: list[Any] = list(X)
    x[4] = "abc"
    labels = [*LABELS[:7], "", *LABELS[8:]]
    loaded = read(table(tmp_path, x=x, label=labels))
    said = ["line 6: 'abc' in column 'x' is no number", "line 9: the target 'label' is empty"]
    assert [str(each) for each in loaded.bad] == said
    assert loaded.source.sizes == {"all": MANY - 2}
    assert list(loaded.parts["all"].places[4:7]) == ["line 7", "line 8", "line 10"]  # type: ignore[union-attr]


def test_a_target_that_is_no_number_is_a_bad_sample_of_a_regression(tmp_path: Path) -> None:
    y: list[Any] = list(X)
    y[1], y[2] = "none given", "NaN"
    loaded = read(table(tmp_path, x=[value % 5 for value in X], y=y), "regression")
    assert [str(each) for each in loaded.bad] == [
        "line 3: the target 'y' is no number: 'none given'",
        "line 4: the target 'y' is empty",
    ]
    assert loaded.source.outputs == 1


@pytest.mark.parametrize(
    ("cells", "options", "remedy", "value"),
    [
        (["1,5", "2,25"], {"decimal": ","}, 'Set decimal = ","', 1.5),
        (["1.234,5", "2.234,25"], {"decimal": ",", "thousands": "."}, 'Set decimal = "," and thousands = "."', 1234.5),
        (["1,234", "2,345,678.5"], {"thousands": ","}, 'Set thousands = ","', 1234.0),
    ],
)
def test_marks_in_numbers_are_named_and_can_be_told(
    cells: list[str], options: dict[str, str], remedy: str, value: float, tmp_path: Path
) -> None:
    file = table(tmp_path, x=[f'"{cell}"' for cell in cells * (MANY // 2)], z=X, label=LABELS)
    with pytest.raises(DataError) as caught:
        read(file)
    assert "column 'x': 40 numbers have" in str(caught.value)
    assert f"as '{cells[0]}' in line 2. {remedy}" in str(caught.value)
    told = {} if "decimal" not in options else {"ignore": ("z",)}
    assert inputs(read(file, **options, **told))[0][0] == value
    assert read(file, categorical=("x",)).source.columns[-1] == "x"


def test_few_of_a_columns_cells_that_are_numbers_make_it_no_numbers(tmp_path: Path) -> None:
    """The twin: nearly all are, and the others are mistakes."""
    mixed = ["1", "2", "x", "y"] * (MANY // 4)
    assert "1 categorical (kind)" in read(table(tmp_path, kind=mixed, z=X, label=LABELS)).source.about
    nearly = [*(str(number % 7) for number in range(MANY - 1)), "x"]
    loaded = read(table(tmp_path, kind=nearly, z=X, label=LABELS))
    assert "2 numeric (kind, z)" in loaded.source.about
    assert len(loaded.bad) == 1


@pytest.mark.parametrize(
    ("columns", "task", "said"),
    [
        ({"x": X, "label": ["a"] * MANY}, "classification", "all samples are of one class: 'a'"),
        ({"x": X, "label": X}, "classification", '40 different values in 40 samples: these are no classes'),
        ({"x": X, "y": LABELS}, "regression", "'yes' in line 2 is no number to predict"),
        ({"unit": ["kg"] * MANY, "label": LABELS}, "classification", "has no column to learn from ('unit' is the same"),
        ({"a;b": LABELS}, "classification", "has one column, 'a;b', and nothing to tell it by"),
        ({"x": X, "label": [""] * MANY}, "classification", "no row of all is left of 40, the first: line 2"),
    ],
)  # fmt: skip
def test_tables_that_nothing_can_be_learned_from_are_refused(
    columns: dict[str, list[Any]], task: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read(table(tmp_path, **columns), task)
    assert said in str(caught.value)


def test_a_class_with_one_sample_is_told(tmp_path: Path) -> None:
    loaded = read(table(tmp_path, x=X, label=[*LABELS[:-1], "odd"]))
    assert "class 'odd' has one sample" in loaded.source.about
    assert "has one sample" not in read(table(tmp_path, x=X, label=LABELS)).source.about


def test_parquet_columns_of_every_type_are_told_apart(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 1, 1)
    columns = pa.table(
        {
            "flag": [True, False] * (MANY // 2),
            "text": pa.array(["a", "b"] * (MANY // 2)).dictionary_encode(),
            "large": pa.array(["c", "d"] * (MANY // 2), pa.large_string()),
            "when": [day + datetime.timedelta(days=number) for number in range(MANY)],
            "list": [[1, 2]] * MANY,
            "x": pa.array([None, *X[1:]], pa.float32()),
            "price": pa.array(range(100, 100 + 2 * MANY, 2), pa.decimal128(9, 2)),
            "y": [1.0, 2.0] * (MANY // 2),
        }
    )
    parquet.write_table(columns, tmp_path / "table.parquet")
    loaded = read(tmp_path / "table.parquet")
    assert columns_of(loaded) == ("x", "price", "flag", "text", "large")
    assert "when (dates)" in loaded.source.about
    assert "list (lists in its cells)" in loaded.source.about
    assert loaded.source.classes == ("1", "2")
    assert inputs(loaded)[1][1:] == [102, 1, 0, 0, 1, 0, 1]
    assert loaded.parts["all"].places[1] == "row 2"  # type: ignore[union-attr]
    days = read(tmp_path / "table.parquet", numeric=("when",), ignore=("x", "price"))
    assert inputs(days)[1][0] - inputs(days)[0][0] == 1
    (tmp_path / "table.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"table.parquet: can't be read"):
        read(tmp_path / "table.parquet")


LOADS = """
import sys
from pathlib import Path
from engine.data.formats.catalog import format_entry

entry = format_entry("table")
print(len(entry.parameters) > 0, "pyarrow" in sys.modules)
entry.target(Path(sys.argv[1]), "classification", lambda *told: None)
print("pyarrow" in sys.modules)
"""


def test_a_form_of_the_options_loads_no_pyarrow(tmp_path: Path) -> None:
    """It takes 0.2 s; reading does load it."""
    file = table(tmp_path, x=X, label=LABELS)
    done = subprocess.run([sys.executable, "-c", LOADS, file], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]


def test_the_format_is_known_by_its_name_and_its_options_are_explained(tmp_path: Path) -> None:
    file = table(tmp_path, x=X, label=LABELS)
    assert guess(file) == "table"
    assert all(parameter.doc for parameter in format_entry("table").parameters)
    data = Data(path=str(file), options={"missing": "maen"})
    with pytest.raises(RecipeError, match=r"data.options.missing: 'maen' is not 'mean' or 'median'"):
        open_files(data, "classification", lambda what, done, total: None)
