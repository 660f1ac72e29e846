"""A folder of pictures becomes samples with the right labels, however it is laid out, and all that is wrong is told."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import train

from engine.check import check
from engine.data.formats.images import open_images
from engine.data.formats.opening import forget
from engine.data.opened import opened
from engine.data.samples import BadSample, Listed, Loaded
from engine.errors import DataError, RecipeError, StudioError
from engine.recipe import Data, Recipe, TaskName


def draw(file: Path, value: int | Sequence[int] = 0, size: tuple[int, int] = (6, 6)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = size if isinstance(value, int) else (*size, 3)
    Image.fromarray(np.full(shape, value, np.uint8)).save(file)


def read(folder: Path, task: TaskName = "classification", **options: Any) -> Loaded:
    return open_images(folder, task, lambda what, done, total: None, **options)


def refusal(folder: Path, task: TaskName = "classification", **options: Any) -> str:
    with pytest.raises(StudioError) as caught:
        read(folder, task, **options)
    return str(caught.value)


def listed(loaded: Loaded, part: str = "all") -> Listed:
    found = loaded.parts[part]
    assert isinstance(found, Listed)
    return found


def labels(loaded: Loaded, part: str = "all") -> dict[str, str]:
    found = listed(loaded, part)
    return {
        place: loaded.source.classes[int(target)] for place, target in zip(found.places, found.targets, strict=True)
    }


def bad(loaded: Loaded) -> dict[str, str]:
    return {each.place: each.what for each in loaded.bad}


def cats_and_dogs(folder: Path, each: int = 3) -> Path:
    for number in range(each):
        draw(folder / f"cat/{number}.png", 10 + number % 50)
        draw(folder / f"dog/{number}.png", 200 + number % 50)
    return folder


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    draw(tmp_path / "cat/kittens/tiny/9.png", 90)
    loaded = read(tmp_path)
    source = loaded.source
    assert (source.task, source.classes, source.outputs, source.sizes) == (
        "classification", ("cat", "dog"), 2, {"all": 7},
    )  # fmt: skip
    assert labels(loaded)["cat/kittens/tiny/9.png"] == "cat"
    assert labels(loaded)["dog/0.png"] == "dog"
    samples = listed(loaded)
    for number, place in enumerate(samples.places):
        picture, target = samples[number]
        assert (picture.shape, picture.dtype) == ((1, 6, 6), torch.uint8)
        assert int(target) == (int(picture[0, 0, 0]) >= 200) == place.startswith("dog")
    assert samples.columns["folder"].tolist().count("cat/kittens/tiny") == 1


def test_folders_of_parts_are_parts(tmp_path: Path) -> None:
    for part in ("train", "Valid", "test"):
        cats_and_dogs(tmp_path / part, 2)
    draw(tmp_path / "extra/1.png")
    draw(tmp_path / "test/loose.png")
    loaded = read(tmp_path)
    assert loaded.source.sizes == {"train": 4, "val": 4, "test": 4}
    assert loaded.source.classes == ("cat", "dog")
    assert set(labels(loaded, "val")) == {f"Valid/{kind}/{number}.png" for kind in ("cat", "dog") for number in (0, 1)}
    assert "no part" in bad(loaded)["extra"]
    assert "test/loose.png" in bad(loaded)["test"]
    draw(tmp_path / "test/emu/1.png")
    assert "test/emu: is a class that train does not have" in refusal(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for kind in ("bus", "train"):
        draw(tmp_path / kind / "1.png")
    assert read(tmp_path).source.classes == ("bus", "train")


@pytest.mark.parametrize("where", ["in/labels.csv", "in.csv", "labels.csv"])
def test_a_table_says_what_a_flat_folder_shows(tmp_path: Path, where: str) -> None:
    for number in range(4):
        draw(tmp_path / f"in/{number}.png", number)
    rows = ["who;id;label", "ann;0;cat", "bob;1.png;dog", "ann;3;cat", "ann;2;emu"]
    (tmp_path / where).write_text("\n".join(rows), encoding="utf-8-sig")
    loaded = read(tmp_path / "in")
    assert labels(loaded) == {"0.png": "cat", "1.png": "dog", "3.png": "cat", "2.png": "emu"}
    assert listed(loaded).columns["who"].tolist() == ["ann", "bob", "ann", "ann"]
    assert int(listed(loaded)[2][0][0, 0, 0]) == 3


def test_a_table_gives_numbers_to_predict(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"sub/{number}.png", number)
    (tmp_path / "t.csv").write_text("file,x,z\nsub/0.png,1.5,2\n1.png,3,nan\n2,-1,7\n", encoding="utf-8")
    loaded = read(tmp_path, "regression", label_column=("x", "z"))
    assert listed(loaded).targets.tolist() == [[1.5, 2.0], [-1.0, 7.0]]
    assert (loaded.source.outputs, loaded.source.task) == (2, "regression")
    assert bad(loaded)["t.csv line 3"] == "nan is no number to learn"
    assert "several columns: file, x, z" in refusal(tmp_path, "regression")
    assert "Did you mean 'x'" in refusal(tmp_path, "regression", label_column="X")


def test_everything_wrong_with_a_table_is_told(tmp_path: Path) -> None:
    for number in range(4):
        draw(tmp_path / f"in/{number}.png", number)
    rows = ["file,label", "0.png,a", "1.png,b", "gone.png,a", "0.png,b", "2.png", "3.png,", "../out.png,a"]
    (tmp_path / "in/labels.csv").write_text("\n".join(rows), encoding="utf-8")
    draw(tmp_path / "out.png")
    loaded = read(tmp_path / "in")
    assert labels(loaded) == {"0.png": "a", "1.png": "b"}
    assert bad(loaded) == {
        "labels.csv line 4": "names 'gone.png', which is no picture in the folder",
        "labels.csv line 5": "names '0.png' again, as line 2 does",
        "labels.csv line 6": "has 1 cells, 2 were expected",
        "labels.csv line 7": "has no label",
        "labels.csv line 8": "names '../out.png', which is no picture in the folder",
        "2.png": "has no line in labels.csv",
    }
    (tmp_path / "in/labels.csv").write_bytes(b"file,label\n0.png,caf\xe9\n1.png,th\xe9\n")
    assert 'labels.csv line 2: is not in utf-8 (byte 0xe9). Set encoding = "cp1252"' in refusal(tmp_path / "in")
    assert read(tmp_path / "in", encoding="cp1252").source.classes == ("café", "thé")


def test_their_own_size_is_kept_where_all_are_alike_and_no_larger_than_a_screen(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    assert read(tmp_path).source.shape == (1, 6, 6)
    assert read(tmp_path, size=(4, 9), channels="rgb").source.shape == (3, 4, 9)
    draw(tmp_path / "dog/9.png", (1, 2, 3), (5, 9))
    assert read(tmp_path).source.shape == (3, 224, 224)
    assert read(tmp_path, size=8, channels="grey").source.shape == (1, 8, 8)
    large = tmp_path / "large"
    for kind in "ab":
        draw(large / kind / "1.png", 0, (2000, 2))
    assert read(large).source.shape == (1, 224, 224)


def test_what_can_not_be_learned_from_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "has no picture" in refusal(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert "has no picture; passed over: 1 files that are no pictures" in refusal(tmp_path)
    draw(tmp_path / "cat/1.png")
    assert "one folder of pictures, 'cat'" in refusal(tmp_path)
    draw(tmp_path / "flat/1.png")
    assert "Make a folder for each class, or a labels.csv" in refusal(tmp_path / "flat")
    assert "is no folder" in refusal(tmp_path / "cat/1.png")
    assert "there is no mine.csv" in refusal(tmp_path, labels="mine.csv")
    with pytest.raises(RecipeError, match=r"options\.size: -1 is no side"):
        read(tmp_path, size=-1)


def test_empty_classes_are_told_and_a_class_with_one_picture_stays(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    draw(tmp_path / "emu/only.png")
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox/readme.txt").touch()
    (tmp_path / "cat/.DS_Store").touch()
    loaded = read(tmp_path)
    assert loaded.source.classes == ("cat", "dog", "emu")
    assert bad(loaded) == {"fox": "is a folder without a picture: it is no class"}
    assert loaded.source.about.endswith("passed over: 1 files that are no pictures, 1 files hidden")


def test_a_link_out_of_the_folder_is_no_sample_and_is_listed(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path / "in")
    draw(tmp_path / "secret.png", 255)
    (tmp_path / "in/cat/link.png").symlink_to(tmp_path / "secret.png")
    loaded = read(tmp_path / "in")
    assert bad(loaded) == {"cat/link.png": "is a link that leads out of the folder"}
    assert loaded.source.sizes == {"all": 6}


def test_bad_pictures_are_listed_where_they_were_looked_at_and_raise_where_not(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path, 100)
    (tmp_path / "cat/0.png").write_bytes(b"")  # the first is always looked at
    (tmp_path / "cat/1.png").write_bytes(b"nonsense")
    loaded = read(tmp_path)
    assert bad(loaded) == {"cat/0.png": "is empty: the file has 0 bytes"}
    samples = listed(loaded)
    assert (len(samples), len(samples.targets), "cat/0.png" in samples.places) == (199, 199, False)
    with pytest.raises(BadSample, match=r"^cat/1\.png: is no picture"):
        samples[list(samples.places).index("cat/1.png")]
    verified = read(tmp_path, verify=True)
    assert set(bad(verified)) == {"cat/0.png", "cat/1.png"}
    assert verified.source.sizes == {"all": 198}


def test_nothing_readable_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    for kind in "ab":
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.png").write_bytes(b"")
    assert "none of 2 pictures can be read, the first of them: a/1.png: is empty" in refusal(tmp_path)


def test_pictures_go_to_workers_without_what_only_splits_need(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path, 20)
    for number in range(20):
        draw(tmp_path / f"cat/much/deeper/{number}.png", 5)
    samples = listed(read(tmp_path))
    twin = pickle.loads(pickle.dumps(samples))
    assert (twin[30][0] == samples[30][0]).all()
    assert (samples.columns.keys(), twin.columns) == ({"folder"}, {})
    assert samples.sample_bytes == 6 * 6 + 8


def test_names_that_are_no_utf8_are_classes_and_samples(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    draw(tmp_path / "x.png", 77)
    os.rename(tmp_path / "x.png", os.path.join(os.fsencode(tmp_path), b"caf\xe9", b"\xff.png"))
    loaded = read(tmp_path)
    assert loaded.source.classes == (r"caf\xe9", "cat", "dog")
    assert int(listed(loaded)[0][0][0, 0, 0]) == 77


def recipe(folder: Path, **data: Any) -> Recipe:
    return Recipe.from_values(
        {
            "data": {"path": str(folder), "batch_size": 8, **data},
            "model": {"layers": [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]},
            "optimizer": {"name": "Adam", "lr": 0.01},
            "training": {"epochs": 8, "device": "cpu"},
        }
    )


def scored(recipe: Recipe, root: Path) -> float:
    """Accuracy on the test part of a run."""
    summary = train(recipe, root).history.summary
    assert summary is not None
    return summary.test["accuracy"]


def test_a_recipe_with_a_path_learns_what_its_folders_say(tmp_path: Path, root: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(120):
        tall = number % 2
        picture = generator.integers(0, 60, (10, 10)).astype(np.uint8)
        at = int(generator.integers(0, 4))
        picture[(slice(1, 9), at) if tall else (at, slice(1, 9))] = 250
        file = tmp_path / "bars" / ("tall" if tall else "wide") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    assert not check(recipe(tmp_path / "bars")).problems
    assert scored(recipe(tmp_path / "bars"), root) > 0.9
    # Labels that say nothing can't be learned: the accuracy above comes from the pictures.
    for number, file in enumerate(sorted((tmp_path / "bars").rglob("*.png"), key=lambda file: int(file.stem))):
        file.rename(tmp_path / "bars" / ("tall" if number // 2 % 2 else "wide") / file.name)
    forget()
    assert scored(recipe(tmp_path / "bars"), root) < 0.8


def test_a_recipe_for_another_task_is_told_which_these_are_for(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path)
    with pytest.raises(DataError, match="nothing says what they show"):
        opened(Data(path=str(tmp_path)), "regression", [])
