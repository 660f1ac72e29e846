"""The formats of a person's own files that a recipe can name, and which of them a file or folder is in.

A format is a function `open_…(path, task, progress, *, options…) -> Loaded`: the options stand in its signature, what
they mean in its docstring, so that forms, checks and documentation are made of it.
"""

from __future__ import annotations

import heapq
import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from engine.catalog import Entry
from engine.data.fetching.archives import is_archive, names
from engine.errors import DataError, RecipeError, nearest

_WHERE = {
    "images": "engine.data.formats.images",
    "masks": "engine.data.formats.masks",
    "coco": "engine.data.formats.coco",
    "table": "engine.data.formats.table",
    "arrays": "engine.data.formats.arrays",
    "text": "engine.data.formats.text",
    "audio": "engine.data.formats.audio",
    "huggingface": "engine.data.formats.huggingface",
}
_GIVEN = frozenset({"path", "task", "progress"})
_SUFFIXES = {
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "table",
    ".npy": "arrays",
    ".npz": "arrays",
    ".txt": "text",
    ".jsonl": "text",
    ".json": "coco",
    ".wav": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".mp3": "audio",
}
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_ANNOTATIONS = re.compile(
    r"^instances|annotations|coco", re.IGNORECASE
)  # of COCO itself, and of what exports its format
TEXT_NAMES = ("text", "sentence", "review", "content", "message", "comment", "tweet", "title", "document")
"""What the column of a table is called that holds texts."""
_FEW = 3  # columns of a table that is no more than texts with their labels
_LOOKED_AT = 200  # names in a folder, on the way down


def formats() -> Mapping[str, Entry]:
    """Every format by name, with its options as a catalog entry has its parameters."""
    return {name: format_entry(name) for name in _WHERE}


@cache
def format_entry(name: str) -> Entry:
    """One format, whose module is imported for it and no other."""
    target: Callable[..., Any] = getattr(importlib.import_module(_WHERE[name]), f"open_{name}")
    return Entry(name, "own", target, "format", _GIVEN)


def find_format(name: str, path: Path, where: str = "data") -> Entry:
    """The format called `name`; for "auto" the one that the files look like. Raises RecipeError, DataError."""
    if name == "auto":
        name = guess(path, where)
    if name not in _WHERE:
        remedy = nearest(name, _WHERE) or f"There are {', '.join(_WHERE)}."
        raise RecipeError(f"{where}.format", f"there is no format '{name}'", remedy)
    return format_entry(name)


def guess(path: Path, where: str = "data") -> str:
    """Which format a file or folder is in, by its names alone. Raises DataError when they do not tell."""
    if is_archive(path):
        return _of_archive(path, where)
    if path.is_file():
        if path.suffix.lower() in _SUFFIXES:
            kind = _SUFFIXES[path.suffix.lower()]
            return "text" if kind == "table" and _has_texts(path) else kind
        known = ", ".join(_WHERE)
        raise DataError(f"{where}.path: {path}", "is in no format that its name tells", f"Set format: {known}.")
    if not path.exists():
        raise DataError(f"{where}.path: {path}", "does not exist", "Check the path.")
    if not path.is_dir():
        raise DataError(f"{where}.path: {path}", "is neither a file nor a folder", "Check the path.")
    inside = {entry.name.lower() for entry in path.iterdir()}
    if not inside:
        raise DataError(f"{where}.path: {path}", "is an empty folder", "Put the files into it, or check the path.")
    if inside & {"dataset_dict.json", "state.json"} and (
        inside & {"dataset_info.json"} or "dataset_dict.json" in inside
    ):
        return "huggingface"
    for folder in (path, path / "train"):
        if folder.is_dir() and {"images", "masks"} <= {entry.name.lower() for entry in folder.iterdir()}:
            return "masks"
    if kind := _most_common(_files(path, _LOOKED_AT)):
        return kind
    raise DataError(
        f"{where}.path: {path}", "has no files of a format that is known", f"Set format: {', '.join(_WHERE)}."
    )


def _has_texts(path: Path) -> bool:
    """Whether a table's first line names a column of texts, and few others."""
    if path.suffix.lower() == ".parquet":
        return False
    with path.open("rb") as file:
        line = file.readline(10_000).decode("utf-8-sig", errors="replace")
    columns = [cell.strip(' "\r\n').lower() for cell in re.split(r"[,;\t|]", line)]
    return len(columns) <= _FEW and any(name in columns for name in TEXT_NAMES)


def _of_archive(path: Path, where: str) -> str:
    """The same of what an archive holds."""
    files = [PurePosixPath(name) for name in names(path, _LOOKED_AT) if not name.startswith("__MACOSX")]
    if {"images", "masks"} <= {part.lower() for file in files for part in file.parts[:-1]}:
        return "masks"
    if kind := _most_common(files):
        return kind
    remedy = f"Unpack it, or set format: {', '.join(_WHERE)}."
    raise DataError(f"{where}.path: {path}", "seems to hold no files of a format that is known", remedy)


def _most_common(files: Sequence[PurePath]) -> str:
    """The format of most files; boxes beside pictures are what the pictures are there for."""
    kinds = Counter("images" if _suffix(file) in IMAGES else _SUFFIXES.get(_suffix(file), "") for file in files)
    kinds.pop("", None)
    if "images" in kinds and any(_suffix(file) == ".json" and _ANNOTATIONS.search(file.name) for file in files):
        return "coco"
    return kinds.most_common(1)[0][0] if kinds else ""


def _suffix(file: PurePath) -> str:
    return file.suffix.lower()


def _files(folder: Path, limit: int) -> list[Path]:
    """Some files in a folder and the folders in it, breadth first."""
    found: list[Path] = []
    level = [folder]
    while level and len(found) < limit:
        below: list[Path] = []
        for each in level[:20]:
            # Of a hundred thousand files no more are put in order than are asked for.
            for name in heapq.nsmallest(limit, os.listdir(each)):
                entry = each / name
                (below if entry.is_dir() else found).append(entry)
        level = below
    return [file for file in found if not file.name.startswith(".")]
