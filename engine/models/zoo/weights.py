"""Pretrained weights as a file: where torch.hub keeps it, downloaded once, with progress, and proved by its hash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch

from engine.data.fetching import downloads
from engine.data.fetching.downloads import NoRoom, WrongContent, proved
from engine.data.samples import Progress
from engine.errors import ModelError
from engine.models.zoo.catalogue import ZooModel, ZooWeights

_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # torch.hub's convention: the first digits of the file's SHA-256


def path_of(weights: ZooWeights) -> Path:
    """Where torch.hub looks for the file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def fetch(model: ZooModel, weights: ZooWeights, progress: Progress) -> Path:
    """The weights' file, downloaded if it is not there. `progress` may raise to cancel; what came so far is kept.

    Raises ModelError when it can't be had, with what to do instead, and for a file that is not what its name says.
    """
    path, where = path_of(weights), f"model.weights: {model.name} {weights.name}"
    found = _HASH.search(path.name)
    digits = found[1] if found else ""
    if not path.exists():
        with _said_in_words(where, path, weights.url):
            downloads.fetch(weights.url, path, progress, sha256=digits)
    elif not proved(path, sha256=digits):
        raise ModelError(where, f"{path} is damaged or another file", "Remove it, and it is downloaded again.")
    return path


@contextmanager
def _said_in_words(where: str, path: Path, url: str) -> Iterator[None]:
    try:
        yield
    except WrongContent as error:
        raise ModelError(where, f"{url} does not give what its name says", "Try again later.") from error
    except NoRoom as error:
        raise ModelError(where, str(error), 'Make room, or train from scratch with weights = "".') from error
    except (OSError, HTTPException) as error:  # a URLError is an OSError, too
        if isinstance(error, OSError) and error.filename is not None:
            raise ModelError(
                where, f"{error.filename} can't be written: {error.strerror}", "Mend the folder."
            ) from error
        reason = re.sub(r"<urlopen error (.*)>|\[Errno -?\d+\] ", r"\1", str(getattr(error, "reason", error)))
        choices = f'Connect and try again, train from scratch with weights = "", or put {url} at {path}.'
        raise ModelError(where, f"can't be downloaded ({reason})", choices) from error
