"""torchvision's datasets of boxes are opened, checked and shown from files as they are shipped; boxes lie on things."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import boxed_files
import pytest
from file_server import serving
from torchvision.datasets.voc import DATASET_YEAR_DICT
from torchvision.tv_tensors._dataset_wrapper import KITTI_CATEGORIES, VOC_DETECTION_CATEGORIES

from engine.check import check
from engine.data.load import forget, load
from engine.data.preview import View, findings, preview
from engine.data.samples import Listed
from engine.data.sources import find, glimpse, row_of
from engine.errors import DataError
from engine.recipe import Data, Recipe

BUILDS = {"VOCDetection": boxed_files.voc, "Kitti": boxed_files.kitti, "WIDERFace": boxed_files.wider_face}
JPEGS, PNGS = "VOCdevkit/VOC2012/JPEGImages/2012_train", "Kitti/raw/training/image_2/00000"
BAD = {
    "VOCDetection": {
        f"{JPEGS}_3.jpg box 3": "has a box that leaves its picture of 60×40: [40.0, 8.0, 66.0, 28.0] is cut",
        f"{JPEGS}_3.jpg box 4": "has a box outside of its picture of 60×40: [70.0, 8.0, 90.0, 28.0]",
        f"{JPEGS}_3.jpg box 5": "has a box without area: [9.0, 8.0, 9.0, 28.0]",
        f"{JPEGS}_3.jpg box 6": "is a unicorn, which is none of the classes",
        f"{JPEGS}_4.jpg": "can't be opened: No such file or directory",
        f"{JPEGS}_5.jpg": "has boxes that can't be read: no element found: line 1, column 20",
    },
    "Kitti": {
        f"{PNGS}1.png box 4": "has a box without area: [9.0, 9.0, 9.0, 20.0]",
        f"{PNGS}2.png": "has boxes that can't be read: a line of them is cut short",
        f"{PNGS}3.png": "has boxes that can't be read: 000003.txt: No such file or directory",
        f"{PNGS}4.png": "is empty: the file has 0 bytes",
    },
    "WIDERFace": {
        "WIDER_train/images/0--Parade/0_a.jpg box 4": "has a box without area: [5, 5, 5, 14]",
        "WIDER_train/images/0--Parade/0_gone.jpg": "can't be opened: No such file or directory",
    },
}
# The option that keeps what is left out, and boxes by class in the training part, without it and with it.
KEPT: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {
    "VOCDetection": ("keep_difficult", {"dog": 3, "person": 3, "cat": 1}, {"dog": 4, "person": 3, "cat": 1}),
    "Kitti": ("keep_dont_care", {"Car": 7, "Person_sitting": 7}, {"Car": 7, "Person_sitting": 7, "DontCare": 1}),
    "WIDERFace": ("keep_invalid", {"face": 2}, {"face": 3}),
}


def recipe(name: str, split: dict[str, float] | None = None, **options: Any) -> Recipe:
    data = {"name": name, "options": options, "split": split or {"train": 1, "val": 0, "test": 0}}
    return Recipe.from_values({"task": "detection", "data": data, "model": {"layers": [{"name": "Flatten"}]}})


@pytest.mark.parametrize("name", BUILDS)
def test_boxes_lie_on_their_things_and_what_is_wrong_is_listed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    forget()
    BUILDS[name](tmp_path)
    look = preview(recipe(name, size=[80, 120]))  # twice as large
    view, (option, counts, more) = look.view, KEPT[name]
    assert view is not None
    assert {bad.place: bad.what for bad in view.bad} == BAD[name]
    assert {kind: count for kind, count in look.counts.items() if count} == counts
    first = view.page("train", [0])[0]
    assert [box.label for box in first.boxes][:2] == (list(counts)[:2] if len(counts) > 1 else ["face"] * 2)
    box, picture = first.boxes[0], first.picture
    assert picture is not None
    assert (box.left, box.top, box.right, box.bottom) == tuple(2 * each for each in boxed_files.THING)
    assert (picture[18:54, 22:58] > 200).all()
    assert (picture[:14] < 50).all()
    part = view.part("train")[0]
    assert isinstance(part, Listed)
    assert list(part.places) == sorted(part.places)
    assert view.order("train", list(look.counts).index(next(iter(counts))), odd=False)[0] == 0
    held = view.order("train", 2 if name == "VOCDetection" else 0, odd=False)  # a bird; a car; a face
    assert len(held) == {"VOCDetection": 0, "Kitti": 7, "WIDERFace": 1}[name]
    (found,) = findings(view, lambda *told: None).findings
    assert (found.count, found.fatal) == (len(BAD[name]), True)
    kept = preview(recipe(name, **{option: True}))
    assert {kind: count for kind, count in kept.counts.items() if count} == more
    assert look.source.about.endswith(f"left out: 1 {option.removeprefix('keep_').replace('_', ' ')}.")
    assert "left out" not in kept.source.about
    assert find(name).ready
    problems = [str(problem) for problem in check(recipe(name)).problems]
    assert problems[0].startswith("task: detection can't be trained yet")


def test_classes_are_torchvisions() -> None:
    assert list(row_of("VOCDetection", {}).classes) == VOC_DETECTION_CATEGORIES[1:]
    assert list(row_of("Kitti", {"keep_dont_care": True}).classes) == KITTI_CATEGORIES


def packed(base: Path, top: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(base, base.relative_to(top))
    return content.getvalue()


def test_the_years_are_downloads_of_their_own_and_the_test_set_of_2007_comes_to_its_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    forget()
    data, files = Data(name="VOCDetection", options={"year": "2007"}), {}
    for key, parts in (("2007", ("train", "val")), ("2007-test", ("test",))):
        boxed_files.voc(tmp_path / key, "2007", parts)
        files[f"{key}.tar"] = packed(tmp_path / key / "VOCdevkit", tmp_path / key)
    with serving(files) as server:
        for name, content in files.items():
            known = DATASET_YEAR_DICT[name.removesuffix(".tar")]
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            changed = {**known, "url": f"{server.url}{name}", "filename": name, "md5": digest}
            monkeypatch.setitem(DATASET_YEAR_DICT, name.removesuffix(".tar"), changed)
        assert load(data, "detection").source.sizes == {"train": 3, "val": 2, "test": 2}
        assert server.asked == ["GET 2007.tar", "GET 2007-test.tar"]
        asked_for = glimpse("VOCDetection", {"year": "2007"})
        assert asked_for is not None
        assert (asked_for.ready, set(asked_for.sizes)) == (True, {"train", "val", "test"})
        assert not find("VOCDetection").ready, "2012 is another download"
        monkeypatch.setitem(DATASET_YEAR_DICT, "2012", {**DATASET_YEAR_DICT["2012"], "url": f"{server.url}gone.tar"})
        with pytest.raises(DataError, match=r"VOCDetection: can't be downloaded \(Not Found\)\. Connect and try again"):
            load(Data(name="VOCDetection"), "detection")


def test_a_dataset_of_which_nothing_can_be_read_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    forget()
    for file in boxed_files.voc(tmp_path).glob("JPEGImages/*val*"):
        file.unlink()
    with pytest.raises(DataError, match=r"none of 2 pictures can be read, the first of them: .*No such file"):
        View(recipe("VOCDetection"))
