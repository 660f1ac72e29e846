"""Each of torchvision's datasets is read from files as it ships them, every picture with its own target."""

from __future__ import annotations

import importlib.util
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import train
from vision_files import BUILDS, grey

from engine.data.load import load
from engine.data.samples import IGNORED, BadSample, Listed, Loaded, Samples
from engine.data.sources import described, find
from engine.data.vision.table import ROWS
from engine.errors import DataError
from engine.recipe import Data, Recipe

OPTIONS: dict[str, dict[str, Any]] = {"DTD": {"partition": 3}, "EMNIST": {"split": "letters"}}
CLASSIFIED = [name for name in BUILDS if next(row for row in ROWS if row.name == name).task == "classification"]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a dataset by name and read it; its files lie in `tmp_path`."""
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))

    def read(name: str, **options: Any) -> Loaded:
        row = next(row for row in ROWS if row.name == name)
        if row.needs and importlib.util.find_spec(row.needs) is None:
            pytest.skip(f"{row.needs} is not installed")
        if not any(tmp_path.iterdir()):
            BUILDS[name](tmp_path, monkeypatch)
        data = Data(name=name, options={**OPTIONS.get(name, {}), **options})
        return load(data, row.task)

    return read


def seen(part: Any) -> list[int]:
    """The middle pixel of each picture."""
    pictures = (part.inputs[at] if isinstance(part, Samples) else part[at][0] for at in range(len(part)))
    return [int(picture[0, picture.shape[1] // 2, picture.shape[2] // 2]) for picture in pictures]


def near(found: list[int], wanted: list[int]) -> bool:
    """JPEG changes a grey by a little."""
    return len(found) == len(wanted) and all(abs(a - b) <= 2 for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", [name for name in CLASSIFIED if name != "SEMEION"])
def test_every_picture_comes_with_its_own_class(name: str, made: Any) -> None:
    loaded = made(name)
    source = described(Data(name=name, options=OPTIONS.get(name, {})))
    assert set(loaded.parts) == set(source.sizes)
    assert (loaded.source.shape, loaded.source.outputs) == (source.shape, source.outputs)
    for part in loaded.parts.values():
        targets = part.targets.tolist()
        assert len(set(targets)) > 1
        if name == "Imagenette":
            targets = [target % 9 for target in targets]
        assert near(seen(part), [grey(target) for target in targets])
        picture = part.inputs[0] if isinstance(part, Samples) else part[0][0]
        assert (tuple(picture.shape), picture.dtype) == (source.shape, torch.uint8)
        if isinstance(part, Listed) and name != "PCAM":
            assert list(part.places) == sorted(part.places)
            assert len(set(part.places)) == len(part)
    assert find(name).ready


def test_semeion_is_read(made: Any) -> None:
    part = made("SEMEION").parts["all"]
    assert part.targets.tolist() == list(range(10))
    assert [int((picture == 255).sum()) for picture in part.inputs] == [20 * number for number in range(10)]


def test_names_of_classes_are_the_datasets_own_where_they_are_as_many(made: Any) -> None:
    loaded = made("Imagenette")
    assert loaded.source.classes[:2] == ("tench, Tinca tinca", "English springer, English springer spaniel")


@pytest.mark.parametrize(
    ("size", "fit", "shape"), [(16, "crop", (3, 16, 16)), (16, "stretch", (3, 16, 16)), ([8, 20], "pad", (3, 8, 20))]
)
def test_pictures_of_many_sizes_are_brought_to_one(made: Any, size: Any, fit: str, shape: tuple[int, ...]) -> None:
    part = made("Food101", size=size, fit=fit).parts["train"]
    assert {tuple(part[at][0].shape) for at in range(len(part))} == {shape}
    corner = [int(part[at][0][0, 0, 0]) for at in range(len(part))]
    assert near(corner, [0] * 24) == (fit == "pad"), "what a picture does not reach is black"


def test_colours_can_be_left_out(made: Any) -> None:
    part = made("Food101", size=16, channels="grey").parts["test"]
    assert tuple(part[0][0].shape) == (1, 16, 16)
    assert near(seen(part), [grey(target) for target in part.targets.tolist()])


@pytest.mark.parametrize("name", ["VOCSegmentation", "SBDataset", "Cityscapes"])
def test_a_mask_has_the_class_of_each_pixel_and_a_mark_where_there_is_none(name: str, made: Any) -> None:
    for part in made(name, size=[12, 20], fit="stretch").parts.values():
        for at in range(len(part)):
            picture, mask = part[at]
            assert (tuple(picture.shape), tuple(mask.shape)) == ((3, 12, 20), (12, 20))
            assert mask.dtype == torch.int64
            assert near([grey(int(mask[6, 10]))], [int(picture[0, 6, 10])])
            assert (int(mask[0, 0]) == IGNORED) == (name != "SBDataset")
        assert part.targets.shape == (0,)


@pytest.mark.parametrize(("kind", "wanted"), [("category", [0, 2, 1]), ("binary-category", [0, 0, 1])])
def test_pets_are_of_a_breed_or_of_a_kind(kind: str, wanted: list[int], made: Any) -> None:
    part = made("OxfordIIITPet", target_types=kind).parts["train"]
    assert part.targets.tolist() == wanted  # in the order of their names: Abyssinian, Bengal, american_bulldog
    assert near(seen(part), [grey(number) for number in (0, 2, 1)])


def test_an_attribute_of_faces_is_the_class(made: Any) -> None:
    assert made("CelebA").parts["train"].targets.tolist() == [0, 1]
    assert made("CelebA", attribute="Bald").parts["train"].targets.tolist() == [0, 0]


def test_classes_have_the_same_numbers_however_the_disk_lists_them(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import omniglot

    listed = omniglot.list_dir
    monkeypatch.setattr(omniglot, "list_dir", lambda *arguments, **named: listed(*arguments, **named)[::-1])
    part = made("Omniglot").parts["all"]
    assert part.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert near(seen(part), [grey(target) for target in part.targets.tolist()])


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are(made: Any, tmp_path: Path) -> None:
    made("Food101")
    (tmp_path / "food-101/images/sushi/train1.jpg").write_bytes(b"no picture")
    part = made("Food101", size=16).parts["train"]
    bad = list(part.places).index("food-101/images/sushi/train1.jpg")
    with pytest.raises(BadSample, match=r"^food-101/images/sushi/train1\.jpg: can't be read: cannot identify"):
        part[bad]
    assert int(part[bad - 1][1]) == int(part.targets[bad - 1])


@pytest.mark.parametrize("name", ["Food101", "StanfordCars", "SBDataset", "PCAM"])
def test_a_worker_gets_it_pickled_and_reads_the_same(name: str, made: Any) -> None:
    part = made(name, size=16).parts["train"]
    again = pickle.loads(pickle.dumps(part))
    assert all(torch.equal(mine, its) for at in range(len(part)) for mine, its in zip(part[at], again[at], strict=True))
    assert part.sample_bytes >= 3 * 16 * 16


@pytest.mark.parametrize("name", ["LFWPeople", "StanfordCars", "FER2013", "ImageNet", "Cityscapes"])
def test_what_torchvision_cannot_fetch_is_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load(Data(name=name), "classification")
    said = str(caught.value)
    assert said.startswith(f"data.name: {name}: is not in {tmp_path}")
    assert "torchvision can't fetch it" in said
    assert said.endswith(" there.")
    assert not find(name).ready


def test_a_package_that_a_dataset_needs_is_named(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.vision.reading.importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"is read by h5py, which is not installed\. pip install h5py"):
        load(Data(name="PCAM"), "classification")


def test_archives_that_a_person_put_there_are_unpacked_by_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    BUILDS["Cityscapes"](tmp_path / "data", monkeypatch)
    folder = tmp_path / "data/Cityscapes"
    for archive, name in (("leftImg8bit_trainvaltest", "leftImg8bit"), ("gtFine_trainvaltest", "gtFine")):
        with zipfile.ZipFile(folder / f"{archive}.zip", "w") as packed:
            for file in (folder / name).rglob("*.png"):
                packed.write(file, str(file.relative_to(folder)))
                file.unlink()
            packed.writestr(f"{name}/../../../evil.txt", "evil")
        (folder / name).rename(folder / f"old-{name}")
    part = load(Data(name="Cityscapes", options={"size": 16}), "segmentation").parts["train"]  # type: ignore[arg-type]
    assert len(part) == 2
    assert not list(tmp_path.rglob("evil.txt"))


def dishes() -> Recipe:
    """Dishes of three kinds, eight pixels wide: 18 to train on, six to choose by, and 24 to test on."""
    values = {
        "title": "dishes",
        "data": {
            "name": "Food101",
            "options": {"size": 8, "fit": "stretch", "channels": "grey"},
            "transforms": [{"name": "Normalize", "mean": [0.18], "std": [0.08]}],
            "batch_size": 6,
            "split": {"train": 0.75, "val": 0.25, "test": 0.0},
        },
        "model": {"layers": [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]},
        "optimizer": {"name": "Adam", "lr": 0.05},
        "training": {"epochs": 20, "device": "cpu"},
    }
    return Recipe.from_values(values)


@pytest.mark.parametrize("mixed_up", [False, True])
def test_a_recipe_learns_from_them_what_the_test_set_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path, mixed_up: bool
) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    BUILDS["Food101"](tmp_path / "data", monkeypatch)
    if mixed_up:
        file = tmp_path / "data/food-101/meta/test.json"
        names = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(dict(zip(names, list(names.values())[1:] + list(names.values())[:1], strict=True))))
    job = train(dishes(), root)
    assert job.history.error is None
    accuracy = job.history.series["test/accuracy"].last
    assert accuracy is not None
    assert accuracy < 0.4 if mixed_up else accuracy > 0.9
