"""Tables of one's own are learned from, and what is measured of them is measured on the training rows alone."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv as arrow_csv
from pyarrow import parquet
from small_runs import train

from engine.check import check
from engine.data.choosing.splits import split
from engine.data.formats.table import open_table
from engine.data.opened import opened
from engine.data.prepare import describe
from engine.data.samples import Loaded, Measured, Samples
from engine.errors import DataError, RecipeError
from engine.export.python import python_file
from engine.recipe import Recipe

HIDDEN: list[dict[str, Any]] = [
    {"name": "Linear", "out_features": 32},
    {"name": "ReLU"},
    {"name": "Linear", "out_features": "classes"},
]
EMBEDDED = [{"name": "ColumnEmbedding"}, *HIDDEN]


def fruit(folder: Path, rows: int = 500) -> Path:
    """A table whose label depends on two categories together; weight and noise say nothing. A weight is missing."""
    draw = random.Random(0)
    lines = ["number,colour,form,weight,unit,label"]
    for number in range(rows):
        colour, form = draw.choice(("red", "green", "blue", "grey")), draw.choice("abc")
        weight = "" if number % 9 == 0 else f"{draw.gauss(100, 20):.2f}"
        label = "sweet" if (colour in ("red", "grey")) != (form == "a") else "sour"
        lines.append(f"{number},{colour},{form},{weight},kg,{label}")
    file = folder / "fruit.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def recipe(path: Path, layers: list[dict[str, Any]], task: str = "classification", **options: Any) -> Recipe:
    values: dict[str, Any] = {
        "title": "table",
        "task": task,
        "data": {"path": str(path), "options": options, "transforms": [{"name": "Standardize"}], "batch_size": 50},
        "model": {"layers": layers},
        "optimizer": {"name": "AdamW", "lr": 0.02},
        "training": {"epochs": 12, "device": "cpu", "threads": 1},
    }
    if task == "regression":
        values["loss"] = {"name": "MSELoss"}
    return Recipe.from_values(values)


def read(path: Path, task: Any = "classification", **options: Any) -> Loaded:
    return open_table(path, task, lambda what, done, total: None, **options)


def encoded(loaded: Loaded, train_rows: list[int]) -> tuple[tuple[str, ...], Samples]:
    """The names of the inputs and all samples, as measured on some rows."""
    part = next(iter(loaded.parts.values()))
    assert isinstance(part, Measured)
    encoder = part.fit(torch.tensor(train_rows))
    return encoder.describe(loaded.source).columns, encoder.encode(part)


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(("categories", "layers"), [("one-hot", HIDDEN), ("embedding", EMBEDDED)])
def test_a_table_is_learned_whose_categories_matter(
    categories: str, layers: list[dict[str, Any]], tmp_path: Path
) -> None:
    job = train(recipe(fruit(tmp_path), layers, categories=categories), tmp_path / "runs")
    assert job.history.error is None
    assert job.history.summary is not None
    assert job.history.summary.test["accuracy"] > 0.95


def test_who_ignores_the_categories_does_not_learn_it(tmp_path: Path) -> None:
    job = train(recipe(fruit(tmp_path), HIDDEN, ignore=["colour", "form"]), tmp_path / "runs")
    assert job.history.summary is not None
    assert job.history.summary.test["accuracy"] < 0.75


def test_numbers_are_predicted_from_a_parquet_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, kind = draw.normal(size=400), draw.choice(["up", "down"], 400)
    y = np.where(kind == "up", 2 * x, -x)
    columns = pa.table({"x": x, "kind": pa.array(kind).dictionary_encode(), "y": y, "z": -y})
    parquet.write_table(columns, tmp_path / "made.parquet", row_group_size=150)
    layers = [*HIDDEN[:2], {"name": "Linear", "out_features": "targets"}]
    both = recipe(tmp_path / "made.parquet", layers, "regression", target=["y", "z"])
    job = train(both.override({"training.epochs": 20}), tmp_path / "runs")
    assert job.history.error is None
    assert job.history.summary is not None
    assert job.history.summary.test["mae"] < 0.2
    assert describe(both)[0].outputs == 2


def test_test_rows_change_nothing_of_the_encoding(tmp_path: Path) -> None:
    """Neither means nor categories know of a row that is not trained on; a training row does change them."""
    rows = [f"{number / 7:.3f},{'ab'[number % 2]},{'yes' if number % 3 else 'no'}" for number in range(20)]

    def encoding(changed: int | None) -> tuple[tuple[str, ...], torch.Tensor]:
        lines = list(rows)
        lines[3] = ",a,yes"  # what stands for this number is the mean of the others
        if changed is not None:
            lines[changed] = "1000,new,yes"
        columns, samples = encoded(read(table(tmp_path, "x,kind,label\n" + "\n".join(lines))), list(range(10)))
        return columns, samples.inputs[3]

    plain, filled = encoding(None)
    assert plain == ("x", "kind=a", "kind=b")
    columns, same = encoding(15)
    assert columns == plain
    assert torch.equal(same, filled)
    columns, other = encoding(5)
    assert columns == ("x", "kind=a", "kind=b", "kind=new")
    assert other[0] > filled[0] + 90


def test_the_split_of_the_recipe_is_what_is_measured(tmp_path: Path) -> None:
    made = recipe(fruit(tmp_path), HIDDEN)
    loaded = read(fruit(tmp_path))
    _, parts = opened(made.data, made.task, [])
    samples, index = parts["train"]
    assert isinstance(samples, Samples)
    assert index is not None
    weights = loaded.parts["all"].columns["weight"]  # type: ignore[union-attr]
    mean = np.nanmean(weights[index.numpy()])
    assert samples.inputs[0, 0].item() == pytest.approx(mean)  # row 0 has none
    assert mean != pytest.approx(np.nanmean(weights))
    assert torch.equal(split(loaded, made.data, [])["train"][1], index)  # type: ignore[arg-type]


def test_an_unseen_category_has_a_code_of_its_own(tmp_path: Path) -> None:
    text = "x,kind,label\n1.5,a,no\n2,b,yes\n3,c,no\n4,,yes\n"
    columns, samples = encoded(read(table(tmp_path, text), categorical=("kind",)), [0, 1])
    assert columns == ("x", "kind=a", "kind=b")
    assert samples.inputs[:, 1:].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    _, samples = encoded(read(table(tmp_path, text), categorical=("kind",), categories="embedding"), [0, 1])
    assert samples.inputs[:, 1].tolist() == [1, 2, 0, 0]


def test_a_missing_category_is_one_where_it_was_trained_on(tmp_path: Path) -> None:
    text = "x,kind,label\n1.5,a,no\n2,,yes\n3,a,no\n4,NA,yes\n"
    columns, samples = encoded(read(table(tmp_path, text)), [0, 1, 2])
    assert columns == ("x", "kind=a", "kind=missing")
    assert samples.inputs[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    columns, samples = encoded(read(table(tmp_path, text), missing="most frequent"), [0, 1, 2])
    assert columns == ("x", "kind=a")
    assert samples.inputs[:, 1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("missing", "value"), [("mean", 4.0), ("median", 2.0), ("zero", 0.0), ("most frequent", 1.0)])
def test_missing_numbers_are_filled_as_the_recipe_says(missing: Any, value: float, tmp_path: Path) -> None:
    text = "x,z,label\n1,5.5,no\n1,6.5,yes\n3,7.5,no\n11,8.5,yes\n,1.5,no\n"
    columns, samples = encoded(read(table(tmp_path, text), missing=missing, indicators=True), [0, 1, 2, 3, 4])
    assert columns == ("x", "z", "x=missing")
    assert samples.inputs[4].tolist() == [value, 1.5, 1.0]
    assert samples.inputs[0].tolist() == [1.0, 5.5, 0.0]


def test_rows_with_missing_cells_are_dropped_or_refused(tmp_path: Path) -> None:
    file = table(tmp_path, "x,kind,label\n1,a,no\n,b,yes\n3,,no\n11,d,yes\n2,a,no\n")
    loaded = read(file, missing="drop")
    assert loaded.source.sizes == {"all": 3}
    assert "2 rows with missing cells are left out" in loaded.source.about
    assert list(loaded.parts["all"].places) == ["line 2", "line 5", "line 6"]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="column 'x': 1 cells are missing, the first in line 3"):
        read(file, missing="stop")


def test_rare_categories_share_the_code_of_unknown_ones(tmp_path: Path) -> None:
    lines = [f"{number}.5,{kind},{'no' if number % 2 else 'yes'}" for number, kind in enumerate("aaabbcd")]
    loaded = read(table(tmp_path, "x,kind,label\n" + "\n".join(lines)), most_categories=2)
    columns, samples = encoded(loaded, list(range(7)))
    assert columns == ("x", "kind=a", "kind=b")
    assert samples.inputs[:, 1:].sum().item() == 5


def test_more_columns_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = read(fruit(tmp_path))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500 * 8 * 4 - 1))
    with pytest.raises(DataError, match=r"8 columns take 0\.0 GB.*Set categories = .embedding."):
        encoded(loaded, list(range(100)))
    assert encoded(read(fruit(tmp_path), categories="embedding"), list(range(100)))[1].inputs.shape == (500, 3)


def test_samples_keep_what_they_were(tmp_path: Path) -> None:
    file = fruit(tmp_path)
    _, samples = encoded(read(file), list(range(100)))
    number = samples.chosen(torch.tensor([2]))
    raw = number.raw[0]
    assert isinstance(raw, dict)
    assert ",".join(raw.values()) == file.read_text().splitlines()[3]
    assert list(number.places) == ["line 4"]
    assert number.columns["number"].tolist() == [2.0]
    assert number.columns["colour"].tolist() == [raw["colour"]]
    assert set(samples.columns) == {"number", "colour", "form", "weight", "unit", "label"}


def test_a_folder_has_parts_that_are_encoded_alike(tmp_path: Path) -> None:
    table(tmp_path, "x,kind,label\n1,a,no\n2,b,yes\n,a,no\n", "train.csv")
    table(tmp_path, "label,kind,x\nyes,new,4\nno,b,\n", "test.csv")
    loaded = read(tmp_path)
    assert loaded.source.sizes == {"test": 2, "train": 3}
    main, test = loaded.parts["train"], loaded.parts["test"]
    assert isinstance(main, Measured)
    samples = main.fit(torch.arange(3)).encode(test)
    assert samples.inputs.tolist() == [[4, 0, 0], [1.5, 0, 1]]
    assert samples.targets.tolist() == [1, 0]
    assert samples.places[1] == "test.csv line 3"


def test_a_test_file_without_targets_is_left_out_and_one_without_an_input_refused(tmp_path: Path) -> None:
    table(tmp_path, "x,z,label\n1,4.5,no\n2,6.5,yes\n", "train.csv")
    table(tmp_path, "x,z\n1,2.5\n", "test.csv")
    loaded = read(tmp_path)
    assert set(loaded.parts) == {"train"}
    assert "the test part does not say 'label' and is left out" in loaded.source.about
    table(tmp_path, "x,label\n1,no\n", "test.csv")
    with pytest.raises(DataError, match="the test part has no column 'z'"):
        read(tmp_path)
    (tmp_path / "train.csv").rename(tmp_path / "first.csv")
    with pytest.raises(DataError, match="Call them train, val and test"):
        read(tmp_path)


def test_csv_and_parquet_of_the_same_table_are_the_same(tmp_path: Path) -> None:
    file = fruit(tmp_path)
    parquet.write_table(arrow_csv.read_csv(file), tmp_path / "fruit.parquet")
    ours, theirs = (encoded(read(each), list(range(300))) for each in (file, tmp_path / "fruit.parquet"))
    assert ours[0] == theirs[0]
    assert torch.allclose(ours[1].inputs, theirs[1].inputs)
    assert torch.equal(ours[1].targets, theirs[1].targets)


def test_codes_are_not_taken_for_numbers(tmp_path: Path) -> None:
    """By no layer, by no augmentation, and Standardize leaves them alone."""
    file = fruit(tmp_path)
    bare = check(recipe(file, HIDDEN, categories="embedding"))
    assert "Linear would take codes of categories for numbers" in str(bare.problems[0])
    assert bare.fixes[0].title == "add a ColumnEmbedding above"
    around = [{"name": "Residual", "layers": EMBEDDED[:2]}, HIDDEN[2]]
    assert "Residual would take codes" in str(check(recipe(file, around, categories="embedding")).problems[0])
    noisy = recipe(file, EMBEDDED, categories="embedding").override({"data.augment": [{"name": "GaussianNoise"}]})
    assert "would change codes of categories" in str(check(noisy).problems[0])
    for fine in (EMBEDDED, [{"name": "Flatten"}, *EMBEDDED]):
        checked = check(recipe(file, fine, categories="embedding"))
        assert checked.problems == ()
        assert checked.source is not None
        assert checked.source.cardinalities == (5, 4)
    useless = check(recipe(file, EMBEDDED))
    assert "none reach it" in str(useless.problems[0])
    assert useless.fixes[0].title == "remove ColumnEmbedding"


def test_an_exported_file_does_not_pretend_to_read_the_table(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.path: .*data\.python"):
        python_file(recipe(fruit(tmp_path), HIDDEN), "fruit")


def test_a_model_of_ones_own_is_told_how_many_codes_there_are(tmp_path: Path) -> None:
    code = """
from torch import nn
from engine.models.columns import ColumnEmbedding

def make(cardinalities, classes):
    return nn.Sequential(ColumnEmbedding(cardinalities, 3), nn.Linear(1 + 3 * len(cardinalities), classes))
"""
    (tmp_path / "mine.py").write_text(code)
    model = {"model.layers": [], "model.python": f"{tmp_path / 'mine.py'}:make"}
    checked = check(recipe(fruit(tmp_path), HIDDEN, categories="embedding").override(model))
    assert checked.problems == ()
    assert checked.parameters == 3 * (5 + 4) + 2 * 7 + 2
