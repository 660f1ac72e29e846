"""What of a state can't be kept, and why a disk did not take it: errors of three libraries, translated once."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.errors import DiskFull, TrainingError, with_article, words

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TORCH_FULL = ("unexpected pos", "file write failed", "iostream error")  # the last when it closes the file
_ERROR_NUMBER = re.compile(r"(?:os error |code: )(\d+)")  # safetensors puts Rust's words for an OSError into its own


class Unkeepable(TrainingError):  # noqa: N818 - what it is, not an Error of ours
    """Weights or state hold something that no checkpoint can; trying again does not help."""


def check_weights(file: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise Unkeepable for the first tensor that safetensors does not take."""
    for name, tensor in tensors.items():
        try:
            safetensors.torch.save({name: tensor})
        except Exception as error:
            kind = f"{tensor.dtype}".removeprefix("torch.")
            what = f"weight '{name}' of {file} can't be kept: {kind}, {tensor.layout}: {words(error)}"
            raise Unkeepable("checkpoint", what, "Keep it as an ordinary tensor.") from error


def check_state(state: Any) -> None:
    """Raise Unkeepable for the first part of `state` that torch.load(weights_only=True) would not take back."""
    if _comes_back(state):
        return
    path, value = _culprit("state", state)
    what = f"{path} can't be kept: it holds {with_article(type(value).__name__)}; the checkpoint was not kept"
    remedy = "Only numbers, text, tensors and plain containers of them can be; see get_extra_state of your modules."
    raise Unkeepable("checkpoint", what, remedy)


def disk_error(folder: Path, error: Exception) -> TrainingError:
    """What an error while writing below `folder` means to a person."""
    if disk_trouble(error) in _FULL:
        return DiskFull(str(folder), "the disk is full: no checkpoint was written", "Free some space, then resume.")
    return TrainingError(str(folder), f"a checkpoint can't be written: {words(error)}", "Mend the folder, then resume.")


def disk_trouble(error: Exception) -> int | None:
    """The error number if it was the disk, None if it was what should be written."""
    for cause in _chain(error):
        if isinstance(cause, OSError):
            return cause.errno
    text = words(error)
    if found := _ERROR_NUMBER.search(text):
        return int(found[1])
    return errno.ENOSPC if any(part in text for part in _TORCH_FULL) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from: torch's own complaint about its file hides the OSError before it."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _culprit(path: str, value: Any) -> tuple[str, Any]:
    """The innermost part of `value` that does not come back, and the way to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not _comes_back(item):
                return _culprit(f"{path}[{key!r}]", item)
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if not _comes_back(item):
                return _culprit(f"{path}[{index}]", item)
    return path, value


def _comes_back(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # pickling runs a person's own methods, which may raise anything
        return False
    return True
