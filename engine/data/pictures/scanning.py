"""Which pictures lie in a folder and all folders in it. What was found is kept on disk: reading 200,000 names again is
left out for every folder whose time of change is the same.

The kept list holds a folder's own entries alone, so a changed folder costs its own reading and no other's. No file is
asked for its size or time: on a network disk that takes longer than all the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.formats.catalog import IMAGES
from engine.data.pictures.names import Names, shown
from engine.data.reading.watch import looked_into
from engine.data.samples import BadSample, Progress
from engine.paths import cache_root

_VERSION = 1
_TELL_EVERY = 4096  # entries
# A folder that has changed so lately may change again within one tick of its clock, and would look the same.
_SETTLED_NS = 2_000_000_000
_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGES)


@dataclass(frozen=True)
class _Folder:
    """What lies in one folder, names each followed by a zero byte. `changed` is its time of change, 0 if too recent."""

    changed: int
    pictures: bytes
    count: int
    others: bytes
    folders: Sequence[bytes]
    hidden: int
    left_out: Sequence[tuple[bytes, str]]


@dataclass(frozen=True)
class Scan:
    """What was found below a folder.

    `others` are the files that are no pictures, by folder; `hidden` counts names that begin with a dot, which are
    passed over; `left_out` says what was not read and why; `folders_read` counts those not known from before.
    """

    names: Names
    others: Mapping[bytes, Sequence[bytes]]
    hidden: int
    left_out: Sequence[BadSample]
    folders_read: int

    @property
    def others_count(self) -> int:
        """How many files are no pictures."""
        return sum(map(len, self.others.values()))

    def below(self, folder: bytes) -> list[bytes]:
        """The folders directly in `folder`."""
        return [each for each in self.names.folders if each and os.path.dirname(each) == folder]


def scan(root: Path, progress: Progress) -> Scan:
    """Read all folders from `root` on that are not known from before. `progress` is told names, and may raise.

    A link is followed where it leads to a file below `root`; what leads elsewhere is left out. Raises OSError where
    `root` itself can't be read.
    """
    top = os.fsencode(os.path.abspath(root))
    kept = cache_root() / "scans" / hashlib.sha256(top).hexdigest()[:32]
    known = _load(kept, top)
    reader = _Reader(top, shown(os.fsencode(root.name or str(root))), progress)
    found: dict[bytes, _Folder] = {}
    left = [b""]
    unreadable: list[BadSample] = []
    while left:
        folder = left.pop()
        try:
            found[folder] = reader.folder(folder, known.get(folder))
        except OSError as error:
            if not folder:
                raise
            unreadable.append(BadSample(shown(folder), f"can't be read: {error.strerror or error}"))
            continue
        left.extend(os.path.join(folder, name) for name in found[folder].folders)
    if reader.folders_read or found.keys() != known.keys():
        _save(kept, top, found)
    ordered = sorted(found.items())
    left_out = [
        BadSample(shown(os.path.join(folder, name)), why) for folder, each in ordered for name, why in each.left_out
    ]
    return Scan(
        Names.of(top, [(folder, each.pictures, each.count) for folder, each in ordered]),
        {folder: each.others.split(b"\0")[:-1] for folder, each in ordered if each.others},
        sum(each.hidden for each in found.values()),
        [*unreadable, *left_out],
        reader.folders_read,
    )


class _Reader:
    """Reads folders below `root` and counts what it reads."""

    def __init__(self, root: bytes, name: str, progress: Progress) -> None:
        self._root, self._real, self._name, self._progress = root, os.path.realpath(root), name, progress
        self._entries = self._told = self.folders_read = 0

    def folder(self, relative: bytes, known: _Folder | None) -> _Folder:
        """What lies in one folder, from before where it has not changed since."""
        path = os.path.join(self._root, relative)
        changed = os.stat(path).st_mtime_ns
        looked_into(path, changed)
        if known is not None and known.changed == changed:
            self._count(known.count)
            return known
        self.folders_read += 1
        settled = changed if changed < time.time_ns() - _SETTLED_NS else 0
        pictures: list[bytes] = []
        others: list[bytes] = []
        folders: list[bytes] = []
        left_out: list[tuple[bytes, str]] = []
        hidden = 0
        with os.scandir(path) as entries:
            for entry in entries:
                self._count(1)
                name = entry.name
                if name.startswith(b"."):
                    hidden += 1
                elif entry.is_symlink():
                    why = self._refused(entry.path)
                    if why:
                        left_out.append((name, why))
                    else:
                        (pictures if _is_picture(name) else others).append(name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif _is_picture(name) and entry.is_file(follow_symlinks=False):
                    pictures.append(name)
                else:
                    others.append(name)
        return _Folder(
            settled, _joined(pictures), len(pictures), _joined(others), sorted(folders), hidden, sorted(left_out)
        )

    def _refused(self, link: bytes) -> str:
        """Why a link is not followed; empty where it is."""
        target = os.path.realpath(link)
        if os.path.commonpath((target, self._real)) != self._real:
            return "is a link that leads out of the folder"
        if os.path.isdir(target):
            return "is a link to a folder that is read where it lies"
        return "" if os.path.isfile(target) else "is a link that leads nowhere"

    def _count(self, entries: int) -> None:
        self._entries += entries
        if self._entries >= self._told:
            self._told = self._entries + _TELL_EVERY
            self._progress(f"reading the names in {self._name}", self._entries, 0)


def _is_picture(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES


def _joined(names: Collection[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in sorted(names))


# On disk: a line of JSON that says how long each folder's names are, then all names.


def _save(file: Path, root: bytes, found: Mapping[bytes, _Folder]) -> None:
    """Keep what was found. A cache that can't be written is no reason to stop."""
    head = {
        "version": _VERSION,
        "root": os.fsdecode(root),
        "folders": [
            [
                os.fsdecode(name),
                each.changed,
                len(each.pictures),
                each.count,
                len(each.others),
                [os.fsdecode(below) for below in each.folders],
                each.hidden,
                [[os.fsdecode(link), why] for link, why in each.left_out],
            ]
            for name, each in found.items()
        ],
    }
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        try:
            with open(descriptor, "wb") as aside:
                aside.write(json.dumps(head).encode() + b"\n")  # bytes that are no UTF-8 are escaped surrogates there
                for each in found.values():
                    aside.write(each.pictures)
                    aside.write(each.others)
            os.replace(name, file)
        except OSError:
            os.unlink(name)  # what is left on a full disk would be one more at every opening
            raise


def _load(file: Path, root: bytes) -> dict[bytes, _Folder]:
    """What was found before; nothing where there is none, or none that can be read."""
    try:
        line, _, names = file.read_bytes().partition(b"\n")
        head = json.loads(line)
        if head["version"] != _VERSION or head["root"] != os.fsdecode(root):
            return {}
        return dict(_folders(head["folders"], names))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _folders(rows: Sequence[Any], names: bytes) -> Iterator[tuple[bytes, _Folder]]:
    at = 0
    for name, changed, size, count, others, folders, hidden, left_out in rows:
        pictures, rest = names[at : at + size], names[at + size : at + size + others]
        at += size + others
        if len(pictures) != size or len(rest) != others or pictures.count(b"\0") != count:
            raise ValueError("it was cut short")
        below = [os.fsencode(each) for each in folders]
        links = [(os.fsencode(link), str(why)) for link, why in left_out]
        yield os.fsencode(name), _Folder(changed, pictures, count, rest, below, hidden, links)
