"""COCO's JSON of pictures, boxes and categories → what of it is there and makes sense; the rest is told of."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.pictures.boxes import Table, within
from engine.data.pictures.names import shown
from engine.data.pictures.scanning import Scan, scan
from engine.data.reading import json_items
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, first_line

_FAR = 1e300


def read_json(file: Path, progress: Progress) -> Mapping[str, Any]:
    """The JSON with its three lists, in which images and annotations are as `_image` and `_annotation` have them.

    Raises DataError.
    """
    progress(f"reading {file.name}", 0, 0)
    try:
        found = json_items.loads(file.read_bytes(), {"images": _image, "annotations": _annotation})
    except (ValueError, RecursionError) as error:
        raise DataError(str(file), f"is no JSON: {first_line(error)}", "Check how it was made.") from error
    missing = [key for key in ("images", "annotations", "categories") if not _is_list(found, key)]
    if missing:
        what = f"is not of COCO's kind: it has no list of {' and '.join(missing)}"
        raise DataError(str(file), what, "Export the boxes as COCO, or name another file.")
    return found  # type: ignore[no-any-return]


def _is_list(found: Any, key: str) -> bool:
    return isinstance(found, dict) and isinstance(found.get(key), list)


def categories(file: Path, read: Mapping[str, Any]) -> dict[int, str]:
    """The name of each category by its number, which may leave gaps, in the order of the numbers. Raises DataError."""
    classes: dict[int, str] = {}
    for each in read["categories"]:
        number = each.get("id") if isinstance(each, dict) else None
        if not isinstance(number, int) or number in classes:
            raise DataError(str(file), f"has a category without a number of its own: {each}", "Give it an id.")
        classes[number] = str(each.get("name", number))
    if not classes:
        raise DataError(str(file), "has no categories", "Export it with them.")
    return dict(sorted(classes.items()))


def table(
    file: Path,
    read: Mapping[str, Any],
    classes: Mapping[Any, int],
    images: str,
    progress: Progress,
    bad: list[BadSample],
    *,
    crowds: bool,
) -> Table:
    found, at = _pictures(file, read["images"], images, progress)
    sizes: list[tuple[int, int]] = []
    chosen: list[int] = []
    row_of: dict[Any, int] = {}
    absent: set[Any] = set()
    for position, (name, number, size) in enumerate(read["images"]):
        if not isinstance(name, str) or number is None:
            bad.append(BadSample(f"{file.name} image {position}", "has no id or no file_name"))
        elif number in row_of or number in absent:
            bad.append(BadSample(f"{file.name} image {number}", "has the id of another picture"))
        elif (there := at.get(_key(name))) is None:
            absent.add(number)
            bad.append(BadSample(name, f"is no picture in {shown(found.names.root)}, but {file.name} has it"))
        else:
            row_of[number] = len(chosen)
            chosen.append(there)
            sizes.append(size)
    if not chosen:
        raise DataError(str(file), "none of its pictures is there", "Say where they are: options.images.")
    rows, boxes = array("q"), array("d")  # the picture of each box, its corners and class
    annotations = read["annotations"]
    for position, (number, image, kind, crowd, box) in enumerate(annotations):
        annotations[position] = None  # else all go in one piece, in which no other thread runs
        place = f"{file.name} annotation {position if number is None else number}"
        if image in absent:
            continue  # its picture is told of
        row = row_of.get(image)
        if row is None:
            bad.append(BadSample(place, f"is for the picture {image}, which there is not"))
            continue
        place = f"{place} ({found.names[chosen[row]]})"
        corners, why = _corners(box, sizes[row])
        if corners and kind not in classes:
            corners, why = (), f"is of the category {kind}, which there is not"
        if corners and crowd and not crowds:
            corners, why = (), "is a crowd, which is left out unless options.crowds says otherwise"
        if why:
            bad.append(BadSample(place, why))
        if corners:
            rows.append(row)
            boxes.extend((*corners, classes[kind]))
    order, ends = np.argsort(rows, kind="stable"), np.cumsum(np.bincount(rows, minlength=len(chosen)))
    kept = np.split(np.array(boxes).reshape(-1, 5)[order], ends[:-1])
    return Table(found.names.take(np.array(chosen)), np.array(sizes, dtype=np.int64), kept)


def _value(entry: Any, key: str) -> Any:
    """What an entry says under `key`; None where it says nothing that can be a number or a name."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, (int, float, str)) else None


def _image(entry: Any) -> tuple[Any, Any, tuple[int, int]]:
    """Name of the file, id, and width and height, 0 where the file does not say them."""
    width, height = _value(entry, "width"), _value(entry, "height")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return _value(entry, "file_name"), _value(entry, "id"), (width, height) if known else (0, 0)


def _annotation(entry: Any) -> tuple[Any, Any, Any, bool, Any]:
    """Id, those of image and category, whether it is a crowd, and the `bbox`, a tuple where that is a list."""
    box = entry.get("bbox") if isinstance(entry, dict) else None
    crowd = bool(_value(entry, "iscrowd"))
    number, image, kind = (_value(entry, key) for key in ("id", "image_id", "category_id"))
    return number, image, kind, crowd, tuple(box) if isinstance(box, list) else box


def _corners(box: Any, size: tuple[int, int]) -> tuple[tuple[float, ...], str]:
    """Left, top, right, bottom of a `bbox` within its picture, () if there is none; and what is wrong with it."""
    said = list(box) if isinstance(box, tuple) else box
    if not isinstance(box, tuple) or len(box) != 4 or not all(_is_number(each) for each in box):
        return (), f"has no box of four numbers: {said}"
    left, top, width, height = map(float, box)
    return within((left, top, left + width, top + height), size, said)


def _is_number(value: Any) -> bool:
    # Whole numbers of any length come out of JSON, more than a float can be.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _FAR


def _pictures(file: Path, images: Iterable[Any], given: str, progress: Progress) -> tuple[Scan, dict[bytes, int]]:
    """The folder in which most of a file's first pictures lie, and the number of each file in it. Raises DataError."""
    if given:
        folders = [file.parent / given]
    else:
        ours = [file.parent, *(file.parent.parent / each for each in (file.stem.rpartition("_")[2], "images", "."))]
        folders = [each for each in (file.parent / "images", *ours) if each.is_dir()]
    wanted = [_key(name) for name, *_ in images if isinstance(name, str)]
    looked_for = wanted[:: max(1, len(wanted) // 50)]

    def there(folder: Path) -> int:
        return sum((folder / os.fsdecode(name)).is_file() for name in looked_for)

    best = max(folders, key=there, default=file.parent)
    if not there(best):
        said = ", ".join(str(folder) for folder in folders)
        raise DataError(str(file), f"its pictures are not in {said}", "Say where they are: options.images.")
    found = scan(best, progress)
    return found, {found.names.relative(number): number for number in range(len(found.names))}


def _key(name: str) -> bytes:
    """A name in the file, relative to the folder of pictures."""
    return os.path.normpath(os.fsencode(name.replace("\\", "/")))
