"""COCO's JSON: pictures with boxes around the things in them. It is read whole; pictures are decoded when asked for.

Detection can't be trained yet: samples are opened, checked and looked at.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.data.pictures.annotations import categories, read_json, table
from engine.data.pictures.boxes import Annotated, Table
from engine.data.pictures.decoding import Channels, Fit
from engine.data.pictures.framing import MAX_PIXELS, frame_of
from engine.data.pictures.scanning import scan
from engine.data.samples import BadSample, Loaded, Progress
from engine.data.sources import Source
from engine.errors import DataError
from engine.recipe import TaskName

_PARTS = (("train", "train"), ("val", "val"), ("test", "test"))


def open_coco(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    images: str = "",
    size: int | tuple[int, int] = 0,
    fit: Fit = "pad",
    channels: Channels = "auto",
    crowds: bool = False,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
) -> Loaded:
    """Pictures with boxes, annotated in a JSON file of COCO's kind; or a folder with one such file for each part.

    Args:
        images: the folder of the pictures, as seen from the file's own; empty finds it.
        size: the side of a picture in pixels, or [height, width]; 0 is their own where all are alike and no larger than
            1024, else 224.
        fit: how they are brought to that size: pad (the longer side is made to fit, the rest is black), crop (the
            shorter side is made to fit, and the middle taken), stretch.
        channels: grey, rgb, or auto: grey where none of those looked at has colours.
        crowds: keep boxes around crowds of things that are not told apart.
        max_pixels: a picture of more pixels is bad; its size is read before it is decoded.
        verify: look at the header of every picture when the folder is first opened, to list bad ones before training.

    Raises:
        DataError, RecipeError: the file is not of this kind, or an option makes no sense.
    """
    where = f"data.path: {path}"
    files = {"all": path} if path.is_file() else _files(path, progress, where)
    bad: list[BadSample] = []
    read = {part: read_json(file, progress) for part, file in files.items()}
    first = next(iter(read.values()))
    classes = categories(next(iter(files.values())), first)
    numbers = {number: position for position, number in enumerate(classes)}
    tables: dict[str, Table] = {}
    for part, file in files.items():
        if {number: name for number, name in categories(file, read[part]).items() if classes.get(number) != name}:
            raise DataError(
                str(file), "has other categories than the file it is trained on", "Give both the same ones."
            )
        tables[part] = table(file, read[part], numbers, images, progress, bad, crowds=crowds)
    frame, unreadable = frame_of(
        [each.names for each in tables.values()],
        size=size,
        fit=fit,
        channels=channels,
        max_pixels=max_pixels,
        verify=verify,
        progress=progress,
        where=where,
    )
    bad.extend(error for each in unreadable for error in each.values())
    parts = {
        part: Annotated(each.without(broken), frame)
        for (part, each), broken in zip(tables.items(), unreadable, strict=True)
    }
    boxes = sum(int(part.targets.sum()) for part in parts.values())
    source = Source(
        name=path.resolve().stem,
        about=f"{sum(map(len, parts.values())):,} pictures with {boxes:,} boxes from {path}",
        task="detection",
        shape=(frame.channels, frame.height, frame.width),
        outputs=len(classes),
        sizes={name: len(part) for name, part in parts.items()},
        origin="yours",
        classes=tuple(classes.values()),
        path=str(path),
    )
    return Loaded(source, parts, bad)


def _files(folder: Path, progress: Progress, where: str) -> dict[str, Path]:
    """The JSON file of each part in a folder, by their names or those of their folders. Raises DataError."""
    found = scan(folder, progress)
    files = [
        folder / os.fsdecode(os.path.join(base, name))
        for base, names in found.others.items()
        for name in names
        if name.lower().endswith(b".json") and b"/" not in base
    ]
    boxes = [file for file in files if not file.name.startswith(("captions", "person_keypoints"))]
    if len(boxes) == 1:
        return {"all": boxes[0]}
    parts: dict[str, list[Path]] = {}
    for file in boxes:
        said = f"{file.parent.name}/{file.stem}".lower()
        for word, part in _PARTS:
            if word in said:
                parts.setdefault(part, []).append(file)
                break
    if "train" in parts and all(len(each) == 1 for each in parts.values()):
        return {part: parts[part][0] for _, part in _PARTS if part in parts}
    names = ", ".join(str(file.relative_to(folder)) for file in sorted(boxes)) or "none"
    raise DataError(where, f"does not tell which JSON file to read: {names}", "Name one file.")
