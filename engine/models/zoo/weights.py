"""Pretrained weights as a file: where torch.hub keeps it, downloaded once, with progress, and proved by its hash."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlparse

import torch

from engine.data.samples import Progress
from engine.errors import ModelError
from engine.models.zoo.catalogue import ZooModel, ZooWeights

_TIMEOUT_S = 20
_CHUNK = 1 << 18
_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # torch.hub's convention: the first digits of the file's SHA-256


def path_of(weights: ZooWeights) -> Path:
    """Where torch.hub looks for the file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def fetch(model: ZooModel, weights: ZooWeights, progress: Progress) -> Path:
    """The weights' file, downloaded if it is not there. `progress` may raise to cancel; what came so far is kept.

    Raises ModelError when it can't be had, with what to do instead, and for a file that is not what its name says.
    """
    path, where = path_of(weights), f"model.weights: {model.name} {weights.name}"
    if not path.exists():
        with _said_in_words(where, path, weights.url):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            _download(weights.url, part, progress)
            if not _is_what_it_says(part, path.name):
                part.unlink()
                raise ModelError(where, f"{weights.url} does not give what its name says", "Try again later.")
            os.replace(part, path)
    elif not _is_what_it_says(path, path.name):
        raise ModelError(where, f"{path} is damaged or another file", "Remove it, and it is downloaded again.")
    return path


def _download(url: str, part: Path, progress: Progress) -> None:
    """Fetch `url` into `part`, going on where an earlier try ended."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # asked for what lies after the end: it is all there
            raise
        return
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        done = file.tell()
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            progress(part.name.removesuffix(".part"), done, total)
    if done < total:
        raise ConnectionError(f"it ends after {done:,} of {total:,} bytes")


@contextmanager
def _said_in_words(where: str, path: Path, url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:  # a URLError is an OSError, too
        if isinstance(error, OSError) and error.filename is not None:
            raise ModelError(
                where, f"{error.filename} can't be written: {error.strerror}", "Mend the folder."
            ) from error
        reason = re.sub(r"<urlopen error (.*)>|\[Errno -?\d+\] ", r"\1", str(getattr(error, "reason", error)))
        choices = f'Connect and try again, train from scratch with weights = "", or put {url} at {path}.'
        raise ModelError(where, f"can't be downloaded ({reason})", choices) from error


def _is_what_it_says(path: Path, name: str) -> bool:
    """Whether the file's SHA-256 begins with the digits in its name; a name without any says nothing."""
    digits = _HASH.search(name)
    if digits is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digits[1])
