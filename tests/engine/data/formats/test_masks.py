"""Pictures with masks: paired by name, resized together, augmented together, and learned from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import train

from engine.check import check, fit_to_data
from engine.data.formats.catalog import format_entry, guess
from engine.data.formats.masks import open_masks
from engine.data.pictures.decoding import turned
from engine.data.prepare import prepare
from engine.data.preview import View, fitting
from engine.data.samples import IGNORED, BadSample, Listed, Loaded
from engine.errors import RecipeError, StudioError
from engine.export.python import python_file
from engine.recipe import Recipe


def draw(file: Path, array: Any, mode: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8))
    (image if mode is None else image.convert(mode)).save(file)


def pair(folder: Path, name: str, mask: Any, picture: Any = None) -> None:
    draw(folder / f"images/{name}.png", np.zeros(np.shape(mask)[:2]) if picture is None else picture)
    draw(folder / f"masks/{name}.png", mask)


def read(folder: Path, **options: Any) -> Loaded:
    return open_masks(folder, "segmentation", lambda what, done, total: None, **options)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(StudioError) as caught:
        read(folder, **options)
    return str(caught.value)


def masks(loaded: Loaded, part: str = "all") -> list[list[list[int]]]:
    found = loaded.parts[part]
    assert isinstance(found, Listed)
    return [found[number][1].tolist() for number in range(len(found))]


def bad(loaded: Loaded) -> dict[str, str]:
    return {each.place: each.what for each in loaded.bad}


def test_masks_are_paired_by_name_and_those_without_partner_are_named(tmp_path: Path) -> None:
    pair(tmp_path, "a", [[0, 1], [2, 1]])
    pair(tmp_path, "sub/a", [[2, 2], [2, 2]])
    draw(tmp_path / "images/b.jpg", np.zeros((2, 2)))
    draw(tmp_path / "masks/b_mask.png", [[1, 1], [0, 0]])
    draw(tmp_path / "images/alone.png", np.zeros((2, 2)))
    draw(tmp_path / "masks/other.png", np.zeros((2, 2)))
    loaded = read(tmp_path)
    assert masks(loaded) == [[[0, 1], [2, 1]], [[1, 1], [0, 0]], [[2, 2], [2, 2]]]
    assert (loaded.source.task, loaded.source.outputs, loaded.source.classes) == ("segmentation", 3, ("0", "1", "2"))
    assert bad(loaded) == {
        "images/alone.png": "has no mask in masks",
        "masks/other.png": "is the mask of no picture in images",
    }
    assert guess(tmp_path) == "masks"
    samples = loaded.parts["all"]
    assert isinstance(samples, Listed)
    assert (pickle.loads(pickle.dumps(samples))[0][1] == samples[0][1]).all()
    assert samples.sample_bytes == 4 * 9


@pytest.mark.parametrize("layout", ["{part}/{kind}", "{kind}/{part}"])
def test_parts_are_found_in_both_layouts(tmp_path: Path, layout: str) -> None:
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            draw(tmp_path / layout.format(part=part, kind=kind) / "1.png", [[0, 1], [0, 1]])
    loaded = read(tmp_path)
    assert loaded.source.sizes == {"train": 1, "val": 1}
    assert guess(tmp_path) == "masks"


def test_values_become_classes_as_they_are_meant(tmp_path: Path) -> None:
    pair(tmp_path / "binary", "1", [[0, 255], [255, 0]])
    assert masks(read(tmp_path / "binary")) == [[[0, 1], [1, 0]]]
    pair(tmp_path / "voc", "1", [[0, 2], [255, 1]])
    assert masks(read(tmp_path / "voc")) == [[[0, 2], [IGNORED, 1]]]
    pair(tmp_path / "ade", "1", [[0, 2], [1, 3]])
    loaded = read(tmp_path / "ade", ignore=0, classes=("wall", "sky", "tree"))
    assert masks(loaded) == [[[IGNORED, 1], [0, 2]]]
    assert loaded.source.classes == ("wall", "sky", "tree")
    assert "have the value 3, and 3 classes go to 2" in refusal(tmp_path / "ade", classes=3)
    assert read(tmp_path / "ade", classes=9).source.outputs == 9


def test_colours_become_classes_by_a_palette(tmp_path: Path) -> None:
    colours = np.array([[[0, 0, 0], [128, 0, 0]], [[0, 128, 0], [0, 0, 0]]])
    pair(tmp_path, "1", colours)
    assert "options.palette" in refusal(tmp_path)
    assert masks(read(tmp_path, palette=((0, 0, 0), (0, 128, 0), (128, 0, 0)))) == [[[0, 2], [1, 0]]]
    samples = read(tmp_path, palette=((0, 0, 0), (0, 128, 0))).parts["all"]
    with pytest.raises(BadSample, match=r"masks/1\.png: .*colour \[128, 0, 0\], which is not in"):
        samples[0]  # type: ignore[index]
    indexed = Image.new("P", (2, 2))
    indexed.putpalette([9, 9, 9, 0, 0, 250, 250, 0, 0])
    indexed.putdata([0, 1, 2, 1])
    indexed.save(tmp_path / "masks/1.png")
    assert masks(read(tmp_path)) == [[[0, 1], [2, 1]]]


def test_a_mask_that_tells_no_classes_is_named(tmp_path: Path) -> None:
    for number in range(80):
        pair(tmp_path, f"{number:02}", [[0, 1], [1, 0]])
    draw(tmp_path / "masks/01.png", [[0, 7], [1, 0]])  # not among those that are looked at when the folder is opened
    draw(tmp_path / "masks/03.png", [[0, 1]] * 8)
    samples = read(tmp_path, classes=2).parts["all"]
    with pytest.raises(BadSample, match=r"masks/01\.png: has pixels of value 7, which is no class: there are 2"):
        samples[1]  # type: ignore[index]
    with pytest.raises(BadSample, match=r"masks/03\.png: is a mask of 2×8 for a picture of 2×2"):
        samples[3]  # type: ignore[index]
    draw(tmp_path / "jpeg/images/1.png", np.zeros((8, 8)))
    draw(tmp_path / "jpeg/masks/1.jpg", np.eye(8) * 255)
    assert "JPEG" in refusal(tmp_path / "jpeg")
    pair(tmp_path / "one", "1", [[0, 0], [0, 0]])
    assert "show one class" in refusal(tmp_path / "one")
    assert "no folders images and masks" in refusal(tmp_path / "masks")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [5, 16, (12, 7), 40])
def test_a_mask_stays_on_its_picture_at_every_size(tmp_path: Path, fit: str, size: int | tuple[int, int]) -> None:
    mask = np.zeros((24, 31), np.uint8)
    mask[4:15, 9:22] = 1
    draw(tmp_path / "images/1.png", mask * 255)
    draw(tmp_path / "masks/1.png", mask)
    samples = read(tmp_path, size=size, fit=fit).parts["all"]
    picture, classes = samples[0]  # type: ignore[index]
    assert classes.shape == picture.shape[1:]
    known = classes != IGNORED
    assert bool(known.all()) == (fit != "pad" or size == (24, 31))
    light = picture[0][known] > 127
    edge = (picture[0][known] > 100) & (picture[0][known] < 155)
    assert (light == classes[known].bool())[~edge].all()
    assert 0 < int((classes == 1).sum()) < classes.numel()
    assert not picture[0][~known].any()


def agree(folder: Path, **options: Any) -> bool:
    """Whether the only mask lies on what is light in its picture."""
    picture, classes = read(folder, size=(24, 31), **options).parts["all"][0]  # type: ignore[index]
    return bool(((picture[0] > 127) == (classes == 1)).all())


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_is_turned_as_its_photograph_is(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((24, 31), np.uint8)
    upright[2:9, 5:22] = 1
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {6: 8, 8: 6}.get(orientation, orientation)  # what undoes a turn
    lying = np.asarray(turned(Image.fromarray(upright), back))
    for kind in ("seen", "stored", "its own"):
        draw(tmp_path / kind / "masks/1.png", upright if kind == "seen" else lying)
        (tmp_path / kind / "images").mkdir()
        Image.fromarray(lying * 255).save(tmp_path / kind / "images/1.png", exif=exif)
    Image.fromarray(lying).save(tmp_path / "its own/masks/1.png", exif=exif)
    assert agree(tmp_path / "seen")
    assert agree(tmp_path / "its own")
    assert agree(tmp_path / "stored", as_stored=True)
    sizes_tell = orientation >= 5
    assert agree(tmp_path / "stored") == sizes_tell, "upside down, only the recipe can tell"
    assert agree(tmp_path / "seen", as_stored=True) == sizes_tell


def scenes(folder: Path, count: int, *, size: int = 16) -> None:
    """Light squares and dark discs on a noisy ground, which are classes 1 and 2."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        for kind in (1, 2):
            row, column = generator.integers(3, size - 3, 2)
            across = (
                np.maximum(abs(rows - row), abs(columns - column))
                if kind == 1
                else np.hypot(rows - row, columns - column)
            )
            mask[across <= 3] = kind
        picture = np.array([120, 230, 20])[mask] + generator.integers(-20, 20, mask.shape)
        mask[0] = 255
        pair(folder, f"{number:03}", mask, picture.clip(0, 255))


CONVOLUTIONS = (
    {"name": "Conv2d", "out_channels": 8, "kernel_size": 3, "padding": 1},
    {"name": "ReLU"},
    {"name": "Conv2d", "out_channels": "classes", "kernel_size": 1},
)


def recipe(folder: Path, *, layers: Any = CONVOLUTIONS, epochs: int = 12, **data: Any) -> Recipe:
    return Recipe.from_values(
        {
            "task": "segmentation",
            "data": {"path": str(folder), "batch_size": 8, **data},
            "model": {"layers": list(layers)},
            "optimizer": {"name": "Adam", "lr": 0.1},
            "training": {"epochs": epochs, "device": "cpu"},
        }
    )


def test_a_made_segmentation_is_learned_with_flips_and_micro_batches(tmp_path: Path, root: Path) -> None:
    scenes(tmp_path / "scenes", 48)
    flips = [{"name": "RandomHorizontalFlip"}, {"name": "RandomCrop", "size": 16, "padding": 2}]
    learned = recipe(tmp_path / "scenes", augment=flips).override({"training.accumulate": 2})
    assert not check(learned).problems
    summary = train(learned, root).history.summary
    assert summary is not None
    assert summary.metric == "mean_iou"
    assert summary.test["mean_iou"] > 0.9
    assert summary.test["pixel_accuracy"] > 0.95
    # Masks of other pictures can't be learned: what was learned above is where things are.
    files = sorted((tmp_path / "scenes/masks").iterdir())
    for file, content in zip(files, [file.read_bytes() for file in (*files[1:], files[0])], strict=True):
        file.write_bytes(content)
    (tmp_path / "scenes/new").mkdir()  # so that the folder looks changed
    summary = train(learned, root).history.summary
    assert summary is not None
    assert summary.test["mean_iou"] < 0.5


@pytest.mark.parametrize(
    "augment",
    [
        [{"name": "RandomHorizontalFlip"}, {"name": "RandomVerticalFlip"}],
        [{"name": "RandomVerticalFlip"}, {"name": "RandomCrop", "size": 16, "padding": 5}],
        [{"name": "RandomCrop", "size": 16, "padding": 4, "padding_mode": "reflect"}, {"name": "ColorJitter"}],
        [{"name": "GaussianNoise", "sigma": 0.001}, {"name": "RandomCrop", "size": 16, "padding": 3, "fill": 0.9}],
    ],
)
def test_a_mask_moves_as_its_picture_does(tmp_path: Path, augment: Any) -> None:
    scenes(tmp_path, 12)
    ready = prepare(recipe(tmp_path, augment=augment), torch.device("cpu"), lambda what, done, total: None)
    moved = 0
    for epoch in range(2):
        for batch in ready.train.epoch(epoch):
            for picture, mask in zip(batch.inputs, batch.targets, strict=True):
                for kind, least, most in ((0, 90, 150), (1, 200, 256), (2, -1, 50)):
                    inside = picture[0][mask == kind] * 255
                    assert ((inside >= least) & (inside <= most)).all()
                moved += int((mask[0] != IGNORED).any())  # the first row of a mask that was not moved is ignored
    assert moved
    ready.close()


@pytest.mark.parametrize(
    ("key", "name", "options"),
    [
        ("augment", "RandomRotation", {"degrees": 10}),
        ("augment", "RandomResizedCrop", {"size": 16}),
        ("augment", "RandAugment", {}),
        ("transforms", "Resize", {"size": [16, 16]}),
    ],
)
def test_what_would_move_a_picture_from_under_its_mask_is_refused(
    tmp_path: Path, key: str, name: str, options: dict[str, Any]
) -> None:
    scenes(tmp_path, 5)
    (problem,) = check(recipe(tmp_path, **{key: [{"name": name, **options}]})).problems
    assert problem.where == f"data.{key}.0"
    assert f"{name} " in problem.what
    assert "mask" in problem.what


@pytest.mark.parametrize(
    "layers",
    [
        [{"name": "Conv2d", "out_channels": 8, "kernel_size": 3, "stride": 2}],
        [{"name": "Conv2d", "out_channels": 8, "kernel_size": 3, "padding": 1}, {"name": "ReLU"}],
        [{"name": "Conv2d", "out_channels": "classes", "kernel_size": 3}],
    ],
)
def test_a_model_that_gives_other_than_scores_of_pixels_is_mended(tmp_path: Path, layers: list[dict[str, Any]]) -> None:
    scenes(tmp_path, 5)
    wrong = recipe(tmp_path, layers=layers)
    found = check(wrong)
    assert "its masks are 3×16×16" in str(found.problems[0])
    for fix in found.fixes:
        assert not check(
            wrong.model_copy(update={"model": wrong.model.model_copy(update={"layers": fix.layers})})
        ).problems
    assert found.fixes
    assert fit_to_data(wrong).layers == found.fixes[0].layers


def test_pictures_and_masks_may_come_from_python(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nclass Mine:\n    classes = ['sky', 'sea']\n    def __len__(self): return 10\n"
        "    def __getitem__(self, i): return torch.zeros(1, 16, 16), torch.full((16, 16), i % 2)\n",
        encoding="utf-8",
    )
    values = recipe(tmp_path).values()
    values["data"] = {"python": f"{tmp_path / 'mine.py'}:Mine", "batch_size": 4}
    found = check(Recipe.from_values(values))
    assert not found.problems
    ready = prepare(Recipe.from_values(values), torch.device("cpu"), lambda what, done, total: None)
    assert next(ready.train.epoch(0)).targets.shape == (4, 16, 16)


def test_what_a_python_file_would_not_do_is_not_exported(tmp_path: Path) -> None:
    scenes(tmp_path, 5)
    with pytest.raises(RecipeError, match="task: a segmentation can't be written"):
        python_file(recipe(tmp_path), "scenes")
    with pytest.raises(RecipeError, match=r"data\.path: the reading of files of your own"):
        python_file(recipe(tmp_path).override({"task": "classification"}), "scenes")


@pytest.mark.parametrize("name", ["images", "masks", "coco"])
def test_every_option_of_a_format_is_explained_and_typed(name: str) -> None:
    entry = format_entry(name)
    assert {"size", "fit", "channels", "max_pixels", "verify"} <= {each.name for each in entry.parameters}
    assert all("says nothing" not in each.doc and each.type_text != "a value" for each in entry.parameters)
    entry.check({"size": [32, 48], "fit": "pad"}, "data.options")
    with pytest.raises(RecipeError, match=r"data\.options\.fit: 'squeeze' is not 'crop' or 'pad'"):
        entry.check({"fit": "squeeze"}, "data.options")
    with pytest.raises(RecipeError, match="Did you mean 'channels'"):
        entry.check({"chanels": "grey"}, "data.options")


def test_a_loss_that_does_not_count_pixels_is_refused(tmp_path: Path) -> None:
    scenes(tmp_path, 5)
    for changes, what in (
        ({"loss.name": "MultiMarginLoss"}, "does not fit segmentation"),
        ({"loss.name": "BCEWithLogitsLoss"}, "does not fit segmentation"),
        ({"loss.name": "NLLLoss"}, "needs log-probabilities"),
        ({"loss.class_weights": "balanced"}, "a segmentation has pixels"),
        ({"loss.ignore_index": 0}, "would count pixels that the masks leave out"),
    ):
        problems = check(recipe(tmp_path).override(changes)).problems
        assert problems
        assert what in str(problems[0])
    ending = recipe(tmp_path, layers=(*CONVOLUTIONS, {"name": "LogSoftmax", "dim": 1}))
    assert not check(ending.override({"loss.name": "NLLLoss"})).problems


def test_what_a_training_would_refuse_for_masks_is_not_offered(tmp_path: Path) -> None:
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / folder).mkdir()
        for number in range(10):
            Image.new(mode, (8, 8), 0 if number % 2 else 1).save(tmp_path / folder / f"{number}.png")
    recipe = Recipe.from_values({"task": "segmentation", "data": {"path": str(tmp_path), "format": "masks"}})
    names = {entry.name for entry, _ in fitting(View(recipe))}
    assert {"RandomHorizontalFlip", "ColorJitter", "Normalize"} <= names
    assert {"RandomApply", "Compose"} <= names, "what they hold is asked for"
    assert not {"RandomRotation", "Resize", "CenterCrop", "MixUp", "CutMix", "Lambda"} & names


def test_a_mask_is_seen_turned_with_its_picture(tmp_path: Path) -> None:
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / folder).mkdir()
        half = np.zeros((8, 8, *([3] if mode == "RGB" else [])), np.uint8)
        half[:, :3] = 200 if mode == "RGB" else 1
        for number in range(10):
            Image.fromarray(half).save(tmp_path / folder / f"{number}.png")
    data = {"path": str(tmp_path), "augment": [{"name": "RandomHorizontalFlip", "p": 1.0}]}
    view = View(Recipe.from_values({"task": "segmentation", "data": data}))
    plain, seen = (view.page("train", [0], seen=turned)[0] for turned in (False, True))
    assert plain.mask is not None
    assert seen.mask is not None
    assert plain.mask[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert seen.mask[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
