"""Pictures with a mask each, in folders `images` and `masks`: for every pixel the class that it shows.

The pixels of a mask are its classes' numbers, or colours of a palette that the recipe gives.
"""

# N samples · C channels · H height · W width · K classes

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.decoding import Channels, Fit, Frame, decoded
from engine.data.pictures.framing import MAX_PIXELS, frame_of
from engine.data.pictures.marks import Colours, Marks, found_in, marked
from engine.data.pictures.names import Names, part_called, shown
from engine.data.pictures.scanning import Scan, scan
from engine.data.samples import BadSample, Columns, Loaded, Progress
from engine.data.sources import Source
from engine.errors import DataError
from engine.recipe import TaskName

_SUFFIX = b"_mask"  # of a mask's name, where it has one


class Masked:
    """Pictures and masks that are decoded when they are asked for; `[i]` gives bytes (C, H, W) and classes (H, W).

    A pixel of no class is IGNORED, as is what a padded picture was padded by.
    """

    def __init__(self, names: Names, masks: Names, frame: Frame, marks: Marks) -> None:
        self.places, self.partners = names, masks
        self.targets = torch.empty(0, dtype=torch.long)
        self.columns: Columns = {}
        self._frame, self._marks = frame, marks

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = decoded(self.places.path(index), self.places[index], self._frame)
        mask = marked(self.partners.path(index), self.partners[index], self._frame, self._marks, picture)
        return torch.from_numpy(picture.pixels), torch.from_numpy(mask)

    @property
    def sample_bytes(self) -> int:
        return (self._frame.channels + 8) * self._frame.height * self._frame.width


def open_masks(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    size: int | tuple[int, int] = 0,
    fit: Fit = "crop",
    channels: Channels = "auto",
    classes: int | tuple[str, ...] = 0,
    ignore: int = -1,
    palette: Colours = (),
    as_stored: bool = False,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
) -> Loaded:
    """Pictures in a folder `images`, masks with the same names in a folder `masks` beside it.

    Args:
        size: the side of a picture in pixels, or [height, width]; 0 is their own where all are alike and no larger than
            1024, else 224.
        fit: how pictures and masks are brought to that size: crop (the shorter side is made to fit, and the middle
            taken), pad (the longer side is made to fit, the rest counts nowhere), stretch.
        channels: grey, rgb, or auto: grey where none of those looked at has colours.
        classes: how many there are, or their names; 0 finds it out from some of the masks.
        ignore: the value in a mask of pixels that count nowhere; -1 is 255, unless that is a class.
        palette: the colours of the classes as [red, green, blue] each, for masks in colours.
        as_stored: masks of photographs that EXIF turns were drawn on the pixels as they lie in the file; else on the
            upright picture, as most tools show it. Where only one of both has the mask's size, that is taken.
        max_pixels: a picture of more pixels is bad; its size is read before it is decoded.
        verify: look at the header of every picture when the folder is first opened, to list bad ones before training.

    Raises:
        DataError, RecipeError: there is nothing to learn from in the folder, or an option makes no sense.
    """
    where = f"data.path: {path}"
    if not path.is_dir():
        raise DataError(where, "is no folder", "Name the folder that has images and masks in it.")
    found = scan(path, progress)
    bad = list(found.left_out)
    pairs = {part: _pairs(found, *folders, bad) for part, folders in _parts(found, where).items()}
    pairs = {part: both for part, both in pairs.items() if len(both[0])}
    if "all" not in pairs and "train" not in pairs:
        first = f", the first: {bad[0]}" if bad else ""
        raise DataError(where, f"no picture in images has a mask of its name in masks{first}", "Name them alike.")
    frame, unreadable = frame_of(
        [images for images, _ in pairs.values()],
        size=size,
        fit=fit,
        channels=channels,
        max_pixels=max_pixels,
        verify=verify,
        progress=progress,
        where=where,
    )
    bad.extend(error for each in unreadable for error in each.values())
    kept: dict[str, tuple[Names, Names]] = {}
    for (part, (images, masks)), broken in zip(pairs.items(), unreadable, strict=True):
        whole = np.setdiff1d(np.arange(len(images)), list(broken))
        if len(whole):
            kept[part] = images.take(whole), masks.take(whole)
    learned = kept.get("train", kept.get("all", (None, None)))[1]
    if learned is None:
        raise DataError(where, "no picture that is trained on can be read", "Look at the files.")
    marks, named = found_in(learned, classes, ignore, palette, max_pixels, progress, where, as_stored=as_stored)
    parts = {part: Masked(images, masks, frame, marks) for part, (images, masks) in kept.items()}
    source = Source(
        name=path.resolve().name,
        about=f"{sum(map(len, parts.values())):,} pictures with masks in {path}",
        task="segmentation",
        shape=(frame.channels, frame.height, frame.width),
        outputs=marks.classes,
        sizes={name: len(part) for name, part in parts.items()},
        origin="yours",
        classes=named,
        path=str(path),
    )
    return Loaded(source, parts, bad)


_Folders = tuple[bytes, bytes]
"""Of the pictures, of the masks."""


def _parts(found: Scan, where: str) -> dict[str, _Folders]:
    """Where each part lies: `images` and `masks`, with train and val in them or in train and val. Raises DataError."""
    pair = _two(found, b"")
    if pair is None:
        inside = {part: _two(found, top) for top in found.below(b"") if (part := part_called(top))}
        given = {part: each for part, each in inside.items() if each is not None}
    else:
        masks = {os.path.basename(folder): folder for folder in found.below(pair[1])}
        names = {os.path.basename(folder): folder for folder in found.below(pair[0])}
        given = {part: (names[name], masks[name]) for name in names if name in masks and (part := part_called(name))}
        if "train" not in given:
            return {"all": pair}
    if "train" not in given:
        raise DataError(where, "has no folders images and masks", "Put pictures into one and masks into the other.")
    return {part: given[part] for part in ("train", "val", "test") if part in given}


def _two(found: Scan, base: bytes) -> _Folders | None:
    """The folders of pictures and of masks in `base`, if it has both."""
    named = {os.path.basename(folder).lower(): folder for folder in found.below(base)}
    return (named[b"images"], named[b"masks"]) if b"images" in named and b"masks" in named else None


def _pairs(found: Scan, images: bytes, masks: bytes, bad: list[BadSample]) -> tuple[Names, Names]:
    """Pictures, and for each its mask: where it lies and what it is called are the same but for the suffix."""
    pictures, marks = _stems(found.names, images, bad), _stems(found.names, masks, bad)
    for stem, number in list(marks.items()):
        if stem not in pictures and stem.endswith(_SUFFIX):
            marks.setdefault(stem.removesuffix(_SUFFIX), number)
            del marks[stem]
    alone = [(pictures[stem], f"has no mask in {shown(masks)}") for stem in pictures.keys() - marks.keys()]
    alone += [(marks[stem], f"is the mask of no picture in {shown(images)}") for stem in marks.keys() - pictures.keys()]
    bad.extend(BadSample(found.names[number], what) for number, what in sorted(alone))
    both = sorted(pictures.keys() & marks.keys())
    chosen = (np.array([where[stem] for stem in both], dtype=np.int64) for where in (pictures, marks))
    first, second = (found.names.take(numbers) for numbers in chosen)
    return first, second


def _stems(names: Names, folder: bytes, bad: list[BadSample]) -> dict[bytes, int]:
    """Each file in `folder`, or in folders in it, by where it lies there, without its suffix."""
    inside = np.array([each == folder or each.startswith(folder + b"/") for each in names.folders], dtype=bool)
    stems: dict[bytes, int] = {}
    for number in np.flatnonzero(inside[names.folder_of]).tolist():
        stem = os.path.splitext(names.relative(number))[0][len(folder) + 1 :]
        if stem in stems:
            bad.append(BadSample(names[number], f"has the name of {names[stems[stem]]}, but for the suffix"))
        else:
            stems[stem] = number
    return stems
