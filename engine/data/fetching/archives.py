"""Archives: opened as the folder in them, which holds nothing that lies, links or grows out of it.

Nothing is trusted: names may climb out of the folder, sizes may lie, a few kilobytes may hold a full disk. What can't
be taken is left out and listed; an archive that is broken, encrypted or grows beyond all measure is refused as a whole.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engine.data.fetching.downloads import alone
from engine.data.fetching.telling import Bytes
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, first_line
from engine.paths import archives_root

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tbz2")
_CHUNK = 1 << 20
_GROWS = 200  # times its size, which no photos, sounds or tables do
_SMALL = 1 << 28  # bytes that may come of the smallest archive
_ENTRIES = 5_000_000
_LEFT_OUT = 10_000  # entries: where more can't be taken, nobody packed files for us
_TOLD_EVERY = 1024  # entries
_LEFT_FREE = 1 << 28
_YOURSELF = "If you trust it, unpack it yourself, and give the folder."
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, IndexError)
_NOBODYS = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class _Entry:
    """What an archive holds under a name. `link` is where it links to, `unfit` why it can't be taken."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    folder: bool = False
    link: str = ""
    unfit: str = ""


def is_archive(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def opened(path: Path, progress: Progress) -> tuple[Path, list[BadSample]]:
    """The folder (or single file) in an archive, taken out once into the cache, and what was left out of it.

    `progress` is told bytes and may raise to cancel. Raises DataError, OSError.
    """
    about = path.stat()
    known = f"{os.path.abspath(path)}\0{about.st_size}\0{about.st_mtime_ns}"
    key = hashlib.sha256(known.encode(errors="surrogateescape")).hexdigest()
    folder = archives_root() / f"{path.name.partition('.')[0][:40]}-{key[:16]}"
    listed = folder.with_name(f"{folder.name}.json")  # written last: it says that all is there
    with alone(folder.with_name(f"{folder.name}.lock"), lambda: progress(path.name, 0, 0)):
        if not (listed.exists() and folder.is_dir()):
            shutil.rmtree(folder, ignore_errors=True)
            left_out = extract(path, folder, progress)
            listed.write_text(json.dumps([(bad.place, bad.what) for bad in left_out]), encoding="utf-8")
        bad = [BadSample(*each) for each in json.loads(listed.read_text(encoding="utf-8"))]
    inside = list(folder.iterdir())
    if not inside:
        raise DataError(str(path), "holds no files", "Pack it anew.")
    return (inside[0] if len(inside) == 1 else folder), bad


def names(path: Path, limit: int) -> list[str]:
    """Some files in an archive, without unpacking it; none of one that is damaged. Raises OSError."""
    try:
        with _entries(path) as (entries, _):
            return [entry.name for entry in islice(entries, limit) if not entry.folder]
    except (*_DAMAGED, NotImplementedError, DataError):  # who opens it says what is wrong
        return []


def extract(path: Path, folder: Path, progress: Progress) -> list[BadSample]:
    """Take an archive's files out into `folder`, which has either none or all of them; what was left out.

    What lies in the folder already stays, unless it has the name of a file of the archive. Raises DataError, OSError.
    """
    # On the same disk; archives of one name may be unpacked at the same time, each into a folder of its own.
    aside = folder / f".{path.name}.unpacking" if folder.is_dir() else folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with _entries(path) as (entries, total):
            taking = _Taking(path, aside, progress, total)
            for entry in entries:
                taking.take(entry)
            taking.link()
        _move(aside, folder)
    except _DAMAGED as error:
        raise _refusal(path, f"is cut short or damaged: {first_line(error)}", "Fetch or pack it anew.") from error
    except NotImplementedError as error:
        raise _refusal(path, f"can't be unpacked: {first_line(error)}", "Pack it as .zip or .tar.gz.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return taking.left_out


@dataclass
class _Taking:
    """Writes entries below `folder`, counting what they grow to."""

    path: Path
    folder: Path
    progress: Progress
    total: int
    left_out: list[BadSample] = field(default_factory=list)
    _links: list[tuple[str, _Entry]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _written: int = 0
    _looked_at: int = 0

    def __post_init__(self) -> None:
        packed = self.path.stat().st_size
        self._most = max(_SMALL, packed * _GROWS)
        self._room = shutil.disk_usage(self.folder).free - _LEFT_FREE

    def take(self, entry: _Entry) -> None:
        self._looked_at += 1  # a few kilobytes may hold a million entries of one name
        if self._looked_at > _ENTRIES:
            raise _refusal(self.path, f"holds more than {_ENTRIES:,} entries", _YOURSELF)
        if self._looked_at % _TOLD_EVERY == 0:
            self.progress(f"unpacking {self.path.name}", Bytes(self._written), self.total)
        name = _inside(entry.name)
        if name is None:
            self._leave_out(entry, "lies outside the archive's folder")
        elif entry.unfit:
            self._leave_out(entry, entry.unfit)
        elif entry.folder or not name or not _NOBODYS.isdisjoint(PurePosixPath(name).parts):
            return  # folders are made for the files in them
        elif name in self._seen:
            self._leave_out(entry, "is there twice: the first is taken")
        else:
            self._seen.add(name)
            if entry.link:
                self._links.append((name, entry))
            else:
                self._write(name, entry)

    def link(self) -> None:
        """Links to files of the archive become these files; others are left out."""
        for name, entry in self._links:
            target = _inside(entry.link)
            if target is None:
                self._leave_out(entry, "is a link out of the archive's folder")
            elif not (self.folder / target).is_file() or target not in self._seen:
                self._leave_out(entry, "is a link to no file of the archive")
            else:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(self.folder / target, self.folder / name)

    def _write(self, name: str, entry: _Entry) -> None:
        self._check(self._written + entry.size)
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            target = place.open("xb")
        except OSError as error:  # too long a name, a file where a folder should be
            if error.errno in _NO_FAULT_OF_A_NAME:
                raise
            self._leave_out(entry, f"can't be written: {error.strerror}")
            return
        with target, entry.open() as source:
            while chunk := source.read(_CHUNK):
                self._written += len(chunk)
                self._check(self._written)
                target.write(chunk)
        self.progress(f"unpacking {self.path.name}", Bytes(self._written), self.total)

    def _check(self, size: int) -> None:
        if size > self._most:
            what = f"would grow from {_gb(self.path.stat().st_size)} to {_gb(size)} or more"
            raise _refusal(self.path, what, _YOURSELF)
        if size > self._room:
            what = (
                f"needs {_gb(size)} or more unpacked, and {self.folder.parent} has {_gb(max(0, self._room))} to spare"
            )
            raise _refusal(self.path, what, "Make room, or set TORCH_TUI_DATA to a larger disk.")

    def _leave_out(self, entry: _Entry, what: str) -> None:
        if len(self.left_out) == _LEFT_OUT:
            what = f"holds more than {_LEFT_OUT:,} entries that can't be taken, such as {self.left_out[0]}"
            raise _refusal(self.path, what, _YOURSELF)
        self.left_out.append(BadSample(f"{self.path.name}: {entry.name}", what))


_NO_FAULT_OF_A_NAME = {28, 30, 13}  # a full disk, one that is read only, no permission


def _refusal(path: Path, what: str, remedy: str) -> DataError:
    return DataError(str(path), what, remedy)


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.2g} MB"


def _inside(name: str) -> str | None:
    """A name as a path below the folder, `` for the folder itself; None where it leads elsewhere."""
    if "\0" in name or name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return None
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _move(source: Path, target: Path) -> None:
    """Put all in `source` into `target`: whole folders where they are new there."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            os.replace(entry, place)


@contextmanager
def _entries(path: Path) -> Iterator[tuple[Iterator[_Entry], int]]:
    """What an archive holds, and the bytes that it says they are, or 0."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            if any(info.flag_bits & 1 for info in packed.infolist()):
                raise _refusal(path, "is encrypted", "Unpack it with its password, and give the folder.")
            yield _zipped(packed), sum(info.file_size for info in packed.infolist())
    else:
        with tarfile.open(path) as tar:
            yield _taped(tar), 0


def _zipped(packed: zipfile.ZipFile) -> Iterator[_Entry]:
    infos = packed.infolist()
    # Some programs for Windows write its separator, against the format's rule.
    windows = not any("/" in info.filename for info in infos)
    for info in infos:
        name = _unzipped_name(info)
        mode = info.external_attr >> 16
        link = unfit = ""
        if stat.S_ISLNK(mode):
            link = _beside(name, packed.read(info)[:4096].decode("utf-8", "replace")) if info.file_size < 4096 else "/"
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            unfit = "is a device, not a file"
        yield _Entry(
            name.replace("\\", "/") if windows else name,
            info.file_size,
            partial(packed.open, info),
            info.is_dir(),
            link,
            unfit,
        )


def _unzipped_name(info: zipfile.ZipInfo) -> str:
    """Names without the flag for UTF-8 are taken for a code page of 1981, which hardly anyone has meant since."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _taped(tar: tarfile.TarFile) -> Iterator[_Entry]:
    for member in tar:
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        name = _written_name(member.name)
        link = unfit = ""
        if member.issym():
            link = _beside(name, _written_name(member.linkname))
        elif member.islnk():
            link = _written_name(member.linkname)
        elif not (member.isreg() or member.isdir()):
            unfit = "is a device, not a file"
        elif why := _filtered(member):
            unfit = why
        yield _Entry(name, member.size, partial(_content, tar, member), member.isdir(), link, unfit)
    # tarfile ends without a word where an archive is cut between two files.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0") or tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")


def _filtered(member: tarfile.TarInfo) -> str:
    """What tarfile's own filter for data says against a file or folder."""
    check: Any = getattr(tarfile, "data_filter", None)  # since 3.11.4
    try:
        if check is not None:
            check(member, "/nowhere")
    except tarfile.TarError as error:
        return first_line(error)
    return ""


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None
    return content


def _written_name(name: str) -> str:
    """A name that is no UTF-8 is read as the most common encoding of old."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name


def _beside(name: str, target: str) -> str:
    """Where a link of this name leads."""
    return target if target.startswith("/") else str(PurePosixPath(name).parent / target)
