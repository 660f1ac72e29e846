"""`torch-tui data` says what data is; `check` finds what is wrong with it before a training does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_format import made_format, pictures, recipe_of
from said import Run


@pytest.fixture(autouse=True)
def _made() -> Iterator[None]:
    with made_format():
        yield


def recipe_file(folder: Path, kind: str = "pictures", **more: object) -> Path:
    file = folder / "mine.toml"
    file.write_text(recipe_of(pictures(folder / "p"), kind, **more).to_toml(), encoding="utf-8")
    return file


def test_a_dataset_is_told_with_ten_samples(run: Run) -> None:
    told = run("data", "breast_cancer")
    assert told.status == 0
    for text in (
        "train 455 · val 57 · test 57",
        "2: malignant, benign",
        "all 569 read, nothing is wrong",
        "mean radius",
    ):
        assert text in told.out
    assert sum(line.startswith("#") for line in told.out.splitlines()) == 10
    (values,) = run("data", "breast_cancer", "--json").objects
    assert values["sizes"] == {"train": 455, "val": 57, "test": 57}
    assert len(values["samples"]) == 10


def test_bad_samples_are_named_with_their_files_and_end_with_2_unless_they_are_skipped(
    tmp_path: Path, run: Run
) -> None:
    file = recipe_file(tmp_path, on_bad_sample="stop")
    (tmp_path / "p" / "red-0000.png").write_bytes(b"")
    told = run("data", str(file))
    assert told.status == 2
    assert "torn.png: is cut off" in told.err
    assert "red-0000.png: is no picture" in told.err
    skipping = run("data", str(file), "--set", "data.on_bad_sample=skip")
    assert skipping.status == 0
    assert "red-0000.png: is no picture" in skipping.out


def test_what_is_nowhere_is_said_with_what_was_meant(run: Run) -> None:
    told = run("data", "mnist5")
    assert told.status == 2
    assert "Did you mean 'mnist5k'?" in told.err
    left_out = run("data", "Kinetics")
    assert left_out.status == 2
    assert "error: Kinetics: is left out: it is video" in left_out.err
    assert "is not here: 170 MB to download. Fetch it" in run("data", "CIFAR10").err
    assert "hf:a/b: is not here. Fetch it" in run("data", "hf:a/b").err, "how much it is nobody knows"
    assert "there is no task 'classify'" in run("data", "mnist5k", "--task", "classify").err


def test_check_finds_bad_data_before_it_takes_a_step(tmp_path: Path, run: Run) -> None:
    file = recipe_file(tmp_path, on_bad_sample="stop")
    (tmp_path / "p" / "blue-0001.png").write_bytes(b"")
    told = run("check", str(file))
    assert told.status == 2
    for each in ("torn.png: is cut off", "blue-0001.png: is no picture"):
        assert told.err.count(each) == 1, "found as the data was opened or as it was read: named once"
    assert "two steps" not in told.out
    (values,) = run("check", str(file), "--json").objects
    assert [each["count"] for each in values["examined"]["findings"]] == [2]
    assert [each["where"] for each in values["problems"]] == ["data"]
    assert values["tried"] is None


def test_check_names_a_step_that_does_not_fit_beside_bad_samples(tmp_path: Path, run: Run) -> None:
    mixed = [{"name": "MixUp"}, {"name": "RandomHorizontalFlip"}]
    (values,) = run("check", str(recipe_file(tmp_path, on_bad_sample="stop", augment=mixed)), "--json").objects
    assert {each["where"] for each in values["problems"]} == {"data", "data.augment.1"}


def test_check_of_sound_data_says_so_and_takes_its_steps(run: Run) -> None:
    told = run("check", "line-fit")
    assert told.status == 0
    assert "all 1,000 read, nothing is wrong with them" in told.out
    assert "two steps" in told.out


def test_what_a_function_of_ones_own_makes_is_told(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "mine.py"
    code = "class Squares:\n    __len__ = lambda self: 50\n    __getitem__ = lambda self, i: ([i], i**2)\n"
    file.write_text(code, encoding="utf-8")
    assert "train 40 · val 5 · test 5" in run("data", str(file)).out
    file.write_text(f"{code}def made():\n    return Squares()\n", encoding="utf-8")
    assert f"Name one, as in {file.name}:Squares" in run("data", str(file)).err
    told = run("data", f"{file}:made")
    assert (told.status, "regression" in told.out) == (0, True)
    assert "no task" not in run("data", f"{file}:made", "--task", "classification").err
