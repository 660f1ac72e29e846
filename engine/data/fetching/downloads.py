"""Files from the network: fetched once, whole and proved, resumed where they broke off, by one process at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, TYPE_CHECKING

from engine.data.fetching.telling import Fetched

if TYPE_CHECKING:
    from engine.data.samples import Progress  # which loads torch: not needed to fetch a file

TIMEOUT_S = 20.0
_CHUNK = 1 << 18
_LEFT_FREE = 64 << 20  # bytes of the disk that a download leaves to everybody else
_LOOKS_AGAIN_S = 0.2


class WrongContent(ConnectionError):  # noqa: N818 - what came, not what we did
    """What a server gave is not what its hash says. It was removed."""


class NoRoom(OSError):  # noqa: N818 - like a full disk
    """The disk has no room for it. Nothing was written."""


def fetch(url: str, path: Path, progress: Progress, *, md5: str = "", sha256: str = "", agent: str = "") -> None:
    """Have what lies at `url` at `path`, unless it is there and proved: all of it, or nothing.

    `md5` and `sha256` are hexadecimal, of the latter the first digits do; where it isn't given, it is written beside
    the file as `NAME.sha256`. What came of a file that broke off lies at `NAME.part`; it is resumed if a hash can prove
    the whole. Another process that fetches the same file is waited for. `progress` is told bytes and may raise to
    cancel.

    Raises OSError (NoRoom, WrongContent, URLError among them) and HTTPException.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _part(path, lambda: progress(path.name, 0, 0)) as file:
        part = Path(file.name)
        if path.exists() and proved(path, md5, sha256):
            part.unlink()
            return
        began_at = part.stat().st_size if md5 or sha256 else 0
        _download(url, file, began_at, progress, agent)
        if began_at and not proved(part, md5, sha256):  # the file may have changed since its first part came
            _download(url, file, 0, progress, agent)
        if not proved(part, md5, sha256):
            part.unlink()
            raise WrongContent(f"{url} does not give what its hash says")
        if not sha256:
            found = _digest(part, "sha256")
            path.with_name(f"{path.name}.sha256").write_text(f"{found}  {path.name}\n", encoding="utf-8")
        os.replace(part, path)


def proved(path: Path, md5: str = "", sha256: str = "") -> bool:
    """Whether a file is what its hashes say; without any it is."""
    return (not md5 or _digest(path, "md5") == md5) and (not sha256 or _digest(path, "sha256").startswith(sha256))


@contextmanager
def alone(lock: Path, wait: Callable[[], object]) -> Iterator[None]:
    """Be the only process here that holds `lock`, a file that stays. `wait` is called until then; it may raise."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        _lock(file, wait)
        yield


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()


@contextmanager
def _part(path: Path, wait: Callable[[], object]) -> Iterator[IO[bytes]]:
    """What came so far of `path`, opened to go on and held alone. Nothing is left of it where nothing came."""
    part = path.with_name(f"{path.name}.part")
    while True:
        with part.open("ab") as file:
            _lock(file, wait)
            # Whoever held it before may be done, and has renamed it.
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                continue
            try:
                yield file
            finally:
                with suppress(OSError):  # a full disk has said so already
                    file.flush()
                    if not part.stat().st_size:
                        part.unlink()
            return


def _lock(file: IO[bytes], wait: Callable[[], object]) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            wait()
            time.sleep(_LOOKS_AGAIN_S)


def _download(url: str, file: IO[bytes], done: int, progress: Progress, agent: str) -> None:
    """Write what lies at `url` from the byte `done` on, or from the start where the server knows no ranges."""
    headers = {"Range": f"bytes={done}-"} if done else {}
    request = urllib.request.Request(url, headers={**headers, **({"User-Agent": agent} if agent else {})})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # asked for what lies after the end: it is all there
            raise
        return
    with response:
        if response.status != 206:
            done = 0
        file.truncate(done)
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        part = Path(file.name)
        free = shutil.disk_usage(part.parent).free
        if total - done > free - _LEFT_FREE:
            raise NoRoom(f"it needs {(total - done) / 1e9:,.1f} GB, and {part.parent} has {free / 1e9:,.1f} GB free")
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            progress(part.name.removesuffix(".part"), Fetched(done), total)
        file.flush()
    if done < total:
        raise ConnectionError(f"it ends after {done:,} of {total:,} bytes")
