"""A run keeps its split: resumed or branched it has the same one, and says so when that can't be."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import digits, finish, resume, stop_at, train

from engine.data.choosing.kept_split import KeptSplit
from engine.data.choosing.splits import Drawn
from engine.data.load import load
from engine.data.samples import Loaded, Samples
from engine.data.sources import Source
from engine.errors import DataError, RunError
from engine.job import Job
from engine.recipe import Data, TaskName

SOURCE = Source("things", "Things.", "classification", (1,), 3, {"all": 30}, "yours", ("a", "b", "c"))


def loaded(count: int = 30, *, first: int = 0, moved: bool = False, source: Source = SOURCE) -> Loaded:
    targets = torch.arange(count) % 3
    targets[0] = first
    places = [f"{'b' if moved and number == 4 else 'a'}/{number}.png" for number in range(count)]
    return Loaded(source, {"all": Samples(torch.zeros(count, 1), targets, places)})


def data(**more: Any) -> Data:
    return Data.model_validate({"path": "things", **more})


def drawn(path: Path, things: Loaded, recipe: Data, notes: list[str] | None = None) -> Drawn:
    return KeptSplit(path).drawn(things, recipe, [] if notes is None else notes)


def numbers(parts: Drawn) -> dict[str, list[int]]:
    return {name: [] if index is None else index.tolist() for name, (_, index) in parts.items()}


def test_the_split_that_was_kept_is_taken_and_not_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    first = numbers(drawn(path, loaded(), data()))
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    assert kept["train"].tolist() == first["train"]
    np.savez(path, **{**kept, "train": kept["train"][::-1]})
    assert numbers(drawn(path, loaded(), data()))["train"] == first["train"][::-1]


@pytest.mark.parametrize(
    ("things", "what"),
    [
        (loaded(29), "has 29 samples now, and had 30 when this run was split"),
        (loaded(first=1), "has other files or targets now than when this run was split"),
        (loaded(moved=True), "has other files or targets now than when this run was split"),
    ],
)
def test_data_that_has_changed_is_told_and_not_split_anew(tmp_path: Path, things: Loaded, what: str) -> None:
    path = tmp_path / "split.npz"
    drawn(path, loaded(), data())
    with pytest.raises(DataError) as caught:
        drawn(path, things, data())
    assert str(caught.value) == f"data: things: {what}. Bring the old ones back, or begin a new run."
    drawn(path, loaded(), data())


@pytest.mark.parametrize(
    "changes", [{"split": {"seed": 1}}, {"subset": 0.5}, {"split": {"how": "stratified"}}, {"split": {"folds": 3}}]
)
def test_other_settings_draw_anew_and_say_so(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, notes = tmp_path / "split.npz", list[str]()
    before = numbers(drawn(path, loaded(), data()))
    after = numbers(drawn(path, loaded(), data(**changes), notes))
    assert after != before
    assert "data.split or data.subset is not what it was: the split is drawn anew" in notes
    assert numbers(drawn(path, loaded(), data(**changes))) == after


def test_a_folder_that_was_moved_is_the_same_data_and_another_one_is_not(tmp_path: Path) -> None:
    path, notes = tmp_path / "split.npz", list[str]()
    before = numbers(drawn(path, loaded(), data()))
    assert numbers(drawn(path, loaded(), data(path="elsewhere/things"), notes)) == before
    assert notes == []
    drawn(path, loaded(31), data(path="others"), notes)
    assert notes == ["the dataset is not what it was: the split is drawn anew"]


def test_files_that_were_written_since_are_told_of(tmp_path: Path) -> None:
    mask = np.eye(8, dtype=np.uint8)
    for number in range(10):
        for kind in ("images", "masks"):
            (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "photos" / kind / f"{number}.png")
    (tmp_path / "t.csv").write_text("a,b,target\n" + "1.5,2,x\n2.5,3,y\n" * 9)
    before = time.time() - 100
    kinds: tuple[tuple[TaskName, Path], ...] = (
        ("segmentation", tmp_path / "photos"),
        ("classification", tmp_path / "t.csv"),
    )
    for kind, path in kinds:
        recipe = Data.model_validate({"path": str(path)})
        kept, notes = tmp_path / f"{kind}.npz", list[str]()
        for file in (path, *path.rglob("*")):
            os.utime(file, (before, before))
        drawn(kept, load(recipe, kind), recipe, notes)
        drawn(kept, load(recipe, kind), recipe, notes)
        assert notes == []
        file = path / "masks/3.png" if path.is_dir() else path
        os.utime(file, (before + 200, before + 200))
        drawn(kept, load(recipe, kind), recipe, notes)
        where = "masks/3.png" if path.is_dir() else str(path)
        said = f"1 file was written since this run was split: {where}. It goes on with what is there now"
        assert notes == [f"{path.name}: {said}"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    drawn(path, loaded(), data())
    whole, parts = path.read_bytes(), numbers(drawn(path, loaded(), data()))
    harmless, said = 0, set[str]()
    for place in [*range(0, len(whole), 7), None]:
        path.write_bytes(whole[:100] if place is None else whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            assert numbers(drawn(path, loaded(), data())) == parts
            harmless += 1
        except RunError as error:
            said.add(str(error))
    assert len(said) == 1
    assert said.pop().endswith("can't be read. Bring it back, or begin a new run.")
    assert harmless < len(whole) // 7


def test_a_run_writes_its_split_and_a_resumed_one_keeps_to_it(tmp_path: Path) -> None:
    cut = train(digits(), tmp_path, stop_at(5))
    path = cut.directory.split_file
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    assert [len(kept[name]) for name in ("train", "val", "test")] == [500, 150, 150]
    before = path.read_bytes()
    assert resume(cut.directory).history.error is None
    assert path.read_bytes() == before
    # The twin: of a file that says that the data was another one.
    again = train(digits(), tmp_path, stop_at(5))
    with np.load(again.directory.split_file) as archive:
        about = str(archive["about"]).replace('"5000 ', '"4999 ')
    np.savez(again.directory.split_file, **{**kept, "about": np.array(about)})
    error = resume(again.directory).history.error
    assert "mnist5k: has 5000 samples now, and had 4999 when this run was split" in str(error)


def test_the_same_validation_samples_are_known_again_wherever_their_folder_lies_and_others_are_not(
    tmp_path: Path,
) -> None:
    def hashed(path: str = "here/things", things: Loaded | None = None, at_most: int = 100, **more: Any) -> str:
        drawn(tmp_path / "split.npz", things or loaded(), data(path=path, **more))
        count, digest = KeptSplit(tmp_path / "split.npz").validated(at_most)
        (tmp_path / "split.npz").unlink()
        assert count == min(3, at_most)
        return digest

    first = hashed()
    assert first == hashed() == hashed("there/things") == hashed(options={"size": 32})
    others = [
        hashed("here/others"),
        hashed(split={"seed": 1}),
        hashed(things=loaded(moved=True)),
        hashed(things=loaded(first=2)),
        hashed(at_most=2),
    ]
    assert first not in others
    assert len(set(others)) == len(others)


def test_a_branch_takes_the_split_along(tmp_path: Path) -> None:
    cut = train(digits(), tmp_path, stop_at(5))
    recipe = digits({"optimizer.lr": 0.01})
    job = Job.branched(cut.directory, "last", recipe, tmp_path, "branch")
    assert job.directory.split_file.read_bytes() == cut.directory.split_file.read_bytes()
    job.start()
    assert finish(job).history.error is None
