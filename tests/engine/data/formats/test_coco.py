"""COCO's boxes lie on their pictures at every size, and every annotation that makes no sense is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.check import check
from engine.data.formats.catalog import guess
from engine.data.formats.coco import open_coco
from engine.data.opened import opened
from engine.data.pictures.boxes import Annotated
from engine.data.prepare import prepare
from engine.data.preview import View
from engine.data.samples import BadSample, Listed, Loaded
from engine.errors import RecipeError, StudioError
from engine.recipe import Recipe

CATEGORIES = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "car"}]


def draw(
    file: Path, boxes: list[list[float]], size: tuple[int, int] = (40, 30), exif: Image.Exif | None = None
) -> None:
    """Black, with the boxes filled in white."""
    array = np.zeros((size[1], size[0]), np.uint8)
    for left, top, width, height in boxes:
        array[int(top) : int(top + height), int(left) : int(left + width)] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **({} if exif is None else {"exif": exif}))


def written(file: Path, images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    found = {"images": images, "annotations": annotations, "categories": categories or CATEGORIES}
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


def image(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.png", "width": 40, "height": 30, **more}


def box(number: int, of: int, bbox: Any, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "category_id": category, "bbox": bbox, **more}


def read(path: Path, **options: Any) -> Loaded:
    return open_coco(path, "detection", lambda what, done, total: None, **options)


def samples(loaded: Loaded, part: str = "all") -> Annotated:
    found = loaded.parts[part]
    assert isinstance(found, Annotated)
    assert isinstance(found, Listed)
    return found


def one(folder: Path, bbox: list[float], **options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw(folder / "7.png", [bbox])
    return samples(read(written(folder / "boxes.json", [image(7)], [box(1, 7, bbox, 90)]), **options)).annotated(0)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [0, 20, 64, (17, 50)])
def test_a_box_stays_on_its_thing_at_every_size(tmp_path: Path, fit: str, size: int | tuple[int, int]) -> None:
    picture, boxes, labels = one(tmp_path, [8, 6, 20, 15], size=size, fit=fit)
    assert (boxes.shape, boxes.dtype, labels.tolist()) == ((1, 4), torch.float32, [1])
    left, top, right, bottom = boxes[0].tolist()
    rows, columns = (picture[0] > 127).nonzero().T
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert all(abs(float(a) - b) <= 1 for a, b in zip(found, (left, top, right, bottom), strict=True))
    assert 0 <= left < right <= picture.shape[2]
    assert 0 <= top < bottom <= picture.shape[1]


def test_a_box_that_was_cropped_away_is_left_out(tmp_path: Path) -> None:
    _, boxes, labels = one(tmp_path, [0, 0, 3, 3], size=20, fit="crop")
    assert (boxes.shape, labels.shape) == ((0, 4), (0,))
    assert len(one(tmp_path, [0, 0, 3, 3], size=20, fit="pad")[1]) == 1


def test_categories_are_counted_from_nought_whatever_their_numbers(tmp_path: Path) -> None:
    draw(tmp_path / "1.png", [])
    draw(tmp_path / "2.png", [])
    file = written(tmp_path / "x.json", [image(1), image(2)], [box(5, 2, [0, 0, 4, 4], 90), box(6, 2, [1, 1, 4, 4], 3)])
    loaded = read(file)
    assert (loaded.source.classes, loaded.source.outputs, loaded.source.task) == (("car", "zebra"), 2, "detection")
    found = samples(loaded)
    assert (found.targets.tolist(), list(found.places)) == ([0, 2], ["1.png", "2.png"])
    assert found.annotated(1)[2].tolist() == [1, 0]
    assert found.annotated(0)[1].shape == (0, 4)
    twin = pickle.loads(pickle.dumps(found))
    assert (twin.annotated(1)[1] == found.annotated(1)[1]).all()
    assert found[1][0].shape == loaded.source.shape
    assert int(found[1][1]) == 2
    assert guess(file) == "coco"
    assert guess(tmp_path) == "images", "x.json may be anything"
    file.rename(tmp_path / "instances_all.json")
    assert guess(tmp_path) == "coco"


def test_everything_wrong_with_annotations_is_told_and_the_rest_stays(tmp_path: Path) -> None:
    draw(tmp_path / "1.png", [])
    annotations = [
        box(1, 1, [1, 2, 3, 4]),
        box(2, 1, [30, 20, 20, 20]),
        box(3, 1, [50, 50, 5, 5]),
        box(4, 1, [1, 1, 0, 5]),
        box(5, 1, [1, 1, -3, 5]),
        box(6, 1, [1, 1, float("nan"), 5]),
        box(7, 1, None),
        box(8, 1, [1, 1, 5, 5], category=4),
        box(9, 77, [1, 1, 5, 5]),
        box(10, 1, [1, 1, 5, 5], iscrowd=1),
        box(11, 2, [1, 1, 5, 5]),
        box(12, 1, [35, 25, 5.6, 5]),
        "nonsense",
        {"id": [], "image_id": [], "bbox": [1, 1, 1, 1]},
        box(15, 1, [1, 1, 10**310, 5]),
    ]
    images = [image(1), image(2, file_name="gone.png"), image(1), {"id": 4}, image(5, file_name="../1.png")]
    loaded = read(written(tmp_path / "x.json", images, annotations))
    assert samples(loaded).annotated(0)[1].tolist() == [[1, 2, 4, 6], [30, 20, 40, 30], [35, 25, 40, 30]]
    told = {each.place.removeprefix("x.json "): each.what for each in loaded.bad}
    assert told == {
        "image 1": "has the id of another picture",
        "image 3": "has no id or no file_name",
        "gone.png": f"is no picture in {tmp_path}, but x.json has it",
        "../1.png": f"is no picture in {tmp_path}, but x.json has it",
        "annotation 2 (1.png)": "has a box that leaves its picture of 40×30: [30, 20, 20, 20] is cut",
        "annotation 3 (1.png)": "has a box outside of its picture of 40×30: [50, 50, 5, 5]",
        "annotation 4 (1.png)": "has a box without area: [1, 1, 0, 5]",
        "annotation 5 (1.png)": "has a box without area: [1, 1, -3, 5]",
        "annotation 6 (1.png)": "has no box of four numbers: [1, 1, nan, 5]",
        "annotation 7 (1.png)": "has no box of four numbers: None",
        "annotation 8 (1.png)": "is of the category 4, which there is not",
        "annotation 9": "is for the picture 77, which there is not",
        "annotation 10 (1.png)": "is a crowd, which is left out unless options.crowds says otherwise",
        "annotation 12": "is for the picture None, which there is not",
        "annotation 13": "is for the picture None, which there is not",
        "annotation 15 (1.png)": f"has no box of four numbers: [1, 1, {10**310}, 5]",
    }
    assert len(samples(read(tmp_path / "x.json", crowds=True)).annotated(0)[1]) == 4


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("annotations/instances_{part}2017.json", "{part}2017"),
        ("{part}/_annotations.coco.json", "{part}"),
        ("{part}.json", "images"),
    ],
)
def test_parts_and_pictures_are_found_in_the_usual_layouts(tmp_path: Path, annotations: str, pictures: str) -> None:
    for part, number in (("train", 1), ("val", 2)):
        draw(tmp_path / pictures.format(part=part) / f"{number}.png", [])
        written(tmp_path / annotations.format(part=part), [image(number)], [box(1, number, [1, 1, 2, 2])])
    assert read(tmp_path).source.sizes == {"train": 1, "val": 1}


def test_a_file_of_another_kind_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    draw(tmp_path / "1.png", [])
    for content, what in (
        ("not json", "is no JSON"),
        ("[1]", "no list of images and annotations and categories"),
        ('{"images": [], "annotations": [], "categories": {}}', "no list of categories"),
        ('{"images": [], "annotations": [], "categories": []}', "has no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 1}]}', "without a number of its own"),
        (json.dumps({"images": [image(9)], "annotations": [], "categories": CATEGORIES}), "its pictures are not in"),
    ):
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
        with pytest.raises(StudioError) as caught:
            read(tmp_path / "x.json")
        assert what in str(caught.value)
    (tmp_path / "y.json").touch()
    with pytest.raises(StudioError, match=r"which JSON file to read: x\.json, y\.json"):
        read(tmp_path)


def test_a_turned_photograph_is_seen_as_its_boxes_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "1.png", [[0, 0, 10, 5]], exif=exif)
    for width, height, shape in ((40, 30, (30, 40)), (30, 40, (40, 30))):
        file = written(tmp_path / "x.json", [image(1, width=width, height=height)], [])
        assert samples(read(file, size=shape)).annotated(0)[0].shape[1:] == shape
    found = samples(read(written(tmp_path / "x.json", [image(1, width=33)], [])))
    with pytest.raises(BadSample, match=r"1\.png: is 40×30, its boxes are for 33×30"):
        found.annotated(0)


def test_training_a_detection_is_refused_and_its_data_described(tmp_path: Path) -> None:
    one(tmp_path, [8, 6, 20, 15])
    recipe = Recipe.from_values(
        {
            "task": "detection",
            "data": {"path": str(tmp_path / "boxes.json")},
            "model": {"layers": [{"name": "Flatten"}]},
        }
    )
    found = check(recipe)
    assert [str(problem) for problem in found.problems] == [
        "task: detection can't be trained yet: its pictures and boxes can be opened and looked at. Choose another task."
    ]
    assert found.source is not None
    assert found.source.classes == ("car", "zebra")
    assert len(opened(recipe.data, "detection", [])[1]["train"][0]) == 1
    with pytest.raises(RecipeError, match="can't be trained yet"):
        prepare(recipe, torch.device("cpu"), lambda what, done, total: None)


def test_as_the_model_sees_them_pictures_still_say_how_many_objects_are_in_them(tmp_path: Path) -> None:
    for number in range(10):
        draw(tmp_path / "images" / f"{number}.png", [[2, 2, 10, 10]])
    boxes = [box(number, number, [2, 2, 10, 10], 90) for number in range(10)]
    written(tmp_path / "instances.json", [image(number) for number in range(10)], boxes)
    for augment, kept in (([], 1), ([{"name": "RandomHorizontalFlip"}], 0)):
        data = {"path": str(tmp_path), "augment": augment}
        view = View(Recipe.from_values({"task": "detection", "data": data}))
        sample = view.page("train", [0], seen=True)[0]
        assert sample.label == view.page("train", [0])[0].label == "1 object"  # not the name of class 1
        assert len(sample.boxes) == kept, "where a transform may have moved pixels, boxes would lie wrong"
