"""torchvision's datasets → tensors, with a download that shows its progress, can be cancelled and never hangs."""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.datasets import utils as torchvision_utils

from engine.data.samples import Loaded, Progress, Samples
from engine.data.sources import Source
from engine.errors import DataError
from engine.paths import data_root

_TIMEOUT_S = 20
# What torchvision's readers raise for a file that was cut short.
_UNREADABLE = (ValueError, AssertionError, KeyError, EOFError, pickle.UnpicklingError)
_patching = threading.Lock()


def load_vision(source: Source, progress: Progress) -> Loaded:
    """Load one of torchvision's fixed-size image datasets, downloading it when it is not there yet.

    Raises DataError when it can't be downloaded; the message names the bundled twin where there is one.
    """
    target = getattr(torchvision.datasets, source.name)
    root = data_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _reporting_downloads(progress):
            parts = {part: _open(target, root, part) for part in ("train", "test")}
    except (OSError, RuntimeError, HTTPException, *_UNREADABLE) as error:
        if not _is_network(error):
            raise DataError(
                f"data.name: {source.name}", f"can't be read: {error}", f"Remove it from {root} and try again."
            ) from error
        twin = f"Use '{source.twin}', which ships with torch-tui, or connect" if source.twin else "Connect"
        # Of torchvision's account of all mirrors the last line; of urllib's, what it says without its numbers.
        last = str(getattr(error, "reason", error)).strip().splitlines()[-1]
        reason = re.sub(r"<urlopen error (.*)>", r"\1", re.sub(r"\[Errno -?\d+\] ", "", last))
        raise DataError(
            f"data.name: {source.name}", f"can't be downloaded ({reason})", f"{twin} and try again."
        ) from error
    with contextlib.suppress(OSError):  # a folder that others share may be readable only
        source.marker.touch()
    classes = tuple(map(str, getattr(parts["train"], "classes", None) or source.classes))
    samples = {part: _samples(dataset, source.shape) for part, dataset in parts.items()}
    return Loaded(replace(source, classes=classes), samples)


def _open(target: Any, root: Path, part: str) -> Any:
    """Construct a torchvision dataset, whether it selects its part by `train=` or by `split=`."""
    by_flag = "train" in inspect.signature(target).parameters
    selection = {"train": part == "train"} if by_flag else {"split": part}
    return target(str(root), download=True, **selection)


def _samples(dataset: Any, shape: tuple[int, ...]) -> Samples:
    """All images of a dataset at once: torchvision keeps the small ones whole in `.data`."""
    images = torch.as_tensor(np.asarray(dataset.data))
    targets = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return Samples(_channels_first(images, shape), torch.as_tensor(np.asarray(targets)).long())


def _channels_first(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, C, H, W)."""
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif tuple(images.shape[1:]) != shape:
        images = images.permute(0, 3, 1, 2)
    return images.contiguous()


def _is_network(error: BaseException) -> bool:
    network = (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException)
    return isinstance(error, network) or "download" in str(error).lower()


@contextlib.contextmanager
def _reporting_downloads(progress: Progress) -> Iterator[None]:
    """torchvision fetches through one private function, with a tqdm bar and no time limit; put ours in its place."""

    def fetch(url: str, filename: str | Path, chunk_size: int = 1024 * 256) -> None:
        aside = f"{filename}.part"
        request = urllib.request.Request(url, headers={"User-Agent": torchvision_utils.USER_AGENT})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response, open(aside, "wb") as file:
                total, done = int(response.headers.get("Content-Length") or 0), 0
                while chunk := response.read(chunk_size):
                    file.write(chunk)
                    done += len(chunk)
                    progress(Path(str(filename)).name, done, total)
            os.replace(aside, filename)
        finally:
            Path(aside).unlink(missing_ok=True)

    with _patching:
        original, patience = torchvision_utils._urlretrieve, socket.getdefaulttimeout()
        torchvision_utils._urlretrieve = fetch
        socket.setdefaulttimeout(_TIMEOUT_S)  # torchvision follows redirects first, by a request without a time limit
        try:
            yield
        finally:
            torchvision_utils._urlretrieve = original
            socket.setdefaulttimeout(patience)
