"""torchvision's downloads and archives, done by ours: proved, resumed, told of, cancelled, and never half unpacked."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from torchvision.datasets import utils

from engine.data.fetching.archives import extract
from engine.data.fetching.downloads import fetch
from engine.data.samples import Progress

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_CHUNK = 1 << 20
_patching = threading.Lock()


@contextmanager
def fetching(progress: Progress) -> Iterator[None]:
    """While it lasts torchvision fetches and unpacks through us, in one thread at a time.

    torchvision has no place to put another way of fetching: its functions are replaced in every module that has them.
    """
    ours = _Ours(progress)
    replaced = {
        utils.download_url: ours.download_url,
        utils.download_file_from_google_drive: ours.download_from_drive,
        utils._decompress: ours.decompress,
    }
    with _patching:
        before: list[tuple[Any, str, Any]] = []
        extractors = dict(utils._ARCHIVE_EXTRACTORS)
        try:
            for module in [module for name, module in sys.modules.items() if name.startswith("torchvision.datasets")]:
                for name, value in list(vars(module).items()):
                    if callable(value) and getattr(value, "__module__", "") == utils.__name__ and value in replaced:
                        before.append((module, name, value))
                        setattr(module, name, replaced[value])
            utils._ARCHIVE_EXTRACTORS.update({".tar": ours.extract, ".zip": ours.extract})
            yield
        finally:
            utils._ARCHIVE_EXTRACTORS.update(extractors)
            for module, name, value in before:
                setattr(module, name, value)


class _Ours:
    """Takes what torchvision's functions of these names take."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def download_url(
        self,
        url: str,
        root: str | Path,
        filename: str | None = None,
        md5: str | None = None,
        max_redirect_hops: int = 3,
    ) -> None:
        path = Path(root).expanduser() / (filename or os.path.basename(url))
        self._fetch(url, path, md5)

    def download_from_drive(
        self, file_id: str, root: str | Path, filename: str | None = None, md5: str | None = None
    ) -> None:
        """Without gdown, which prints: a hash says whether it was the file, or a page that asks for something."""
        path = Path(root).expanduser() / (filename or file_id)
        self._fetch(f"{DRIVE}{file_id}", path, md5)

    def _fetch(self, url: str, path: Path, md5: str | None) -> None:
        try:
            fetch(url, path, self._progress, md5=md5 or "", agent=utils.USER_AGENT)
        except (ConnectionError, TimeoutError) as error:  # then torchvision tries the next mirror, if there is one
            raise URLError(error) from error

    def extract(self, path: str | Path, folder: str | Path, compression: str | None) -> None:
        extract(Path(path), Path(folder), self._progress)

    def decompress(self, path: str | Path, to: str | Path | None = None, remove_finished: bool = False) -> Path:
        """All of the file, or none: many of torchvision's classes ask only whether it is there."""
        suffix, archive, compression = utils._detect_file_type(path)
        whole = Path(to) if to is not None else Path(str(path).removesuffix(suffix) + (archive or ""))
        aside = whole.with_name(f"{whole.name}.part")
        with utils._COMPRESSED_FILE_OPENERS[compression](path, "rb") as source, aside.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
        os.replace(aside, whole)
        if remove_finished:
            Path(path).unlink()
        return whole
