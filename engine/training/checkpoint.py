"""Checkpoints: directories that are either whole and proven by a hash, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import RunError, TrainingError

_FORMAT = 1
_NAME = re.compile(r"epoch-\d+-step-\d+")
_KEEP_LAST = 2


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk. `score` is the validation value it was ranked by, greater is better; None if unranked."""

    path: Path
    epoch: int
    step: int
    score: float | None

    @property
    def name(self) -> str:
        return self.path.name


class Checkpoints:
    """The `checkpoints/` of a run: written aside, fsynced, renamed; the last two and the best are kept.

    Weights are safetensors; the rest of the state is a `torch.save` of plain containers and tensors that
    `torch.load(weights_only=True)` takes. A manifest holds the sha256 of both.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        epoch: int,
        step: int,
        model: nn.Module,
        state: Mapping[str, Any],
        score: float | None,
        *,
        replace: bool = False,
    ) -> Checkpoint:
        """Write the checkpoint of this position; a whole one that is there already stays, unless it is to `replace`.

        Raises TrainingError when the disk is full or can't be written.
        """
        final = self.folder / f"epoch-{epoch:05d}-step-{step:09d}"
        if replace and score is None:
            score = next((there.score for there in self.all() if there.path == final), None)
        saved = Checkpoint(final, epoch, step, score)
        if not replace and _is_whole(final):
            return saved
        # Before anything that means trouble with the disk: reading the weights fails for reasons of its own.
        tensors = {
            # Compiled modules prefix every name; the weights are the same with or without compiling.
            key.removeprefix("_orig_mod."): value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in model.state_dict().items()
            if isinstance(value, Tensor)
        }
        aside = self.folder / f".writing-{os.getpid()}"
        try:
            self.folder.mkdir(exist_ok=True)  # without parents: a run that was removed must not come back as a ruin
            for left in self.folder.glob(".writing-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            aside.mkdir()
            save_file(tensors, aside / "model.safetensors")
            torch.save(dict(state), aside / "state.pt")
            files = {name: {"sha256": _sha256(aside / name)} for name in ("model.safetensors", "state.pt")}
            manifest = {"format": _FORMAT, "epoch": epoch, "step": step, "score": score, "files": files}
            (aside / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            for name in (*files, "manifest.json"):
                _sync(aside / name)
            _sync(aside)
            shutil.rmtree(final, ignore_errors=True)  # damaged, or to be replaced
            aside.rename(final)
            _sync(self.folder)
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise _disk_error(self.folder, error) from error
        self._prune(saved)
        return saved

    def all(self) -> list[Checkpoint]:
        """The checkpoints whose manifest can be read, oldest first. Files are proven only when one is loaded."""
        return sorted(self._found(), key=lambda checkpoint: (checkpoint.epoch, checkpoint.step))

    def best(self) -> Checkpoint | None:
        """The checkpoint with the greatest score, the first of several alike."""
        ranked = [checkpoint for checkpoint in self.all() if checkpoint.score is not None]
        return max(ranked, key=lambda checkpoint: checkpoint.score or 0.0, default=None)

    def load_newest(self, say: Callable[[str], None]) -> tuple[Checkpoint, dict[str, Tensor], dict[str, Any]]:
        """The newest checkpoint that is whole; `say` is told of each that is not. Raises RunError if there is none."""
        for checkpoint in reversed(self.all()):
            try:
                return checkpoint, *load(checkpoint)
            except RunError as error:
                say(f"{error} The one before is used.")
        raise RunError(str(self.folder), "has no checkpoint that can be read", "Train the recipe anew.")

    def _found(self) -> Iterator[Checkpoint]:
        try:
            folders = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return
        for path in folders:
            try:
                manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
                score = manifest["score"]
                yield Checkpoint(
                    path, int(manifest["epoch"]), int(manifest["step"]), None if score is None else float(score)
                )
            except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue

    def _prune(self, saved: Checkpoint) -> None:
        kept = {checkpoint.path for checkpoint in self.all()[-_KEEP_LAST:]} | {saved.path}
        best = self.best()
        for checkpoint in self.all():
            if checkpoint.path not in kept and checkpoint != best:
                # Renamed first: a process killed in the middle must not leave half a checkpoint under its name.
                aside = self.folder / f".writing-old-{checkpoint.name}"
                with contextlib.suppress(OSError):
                    checkpoint.path.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)


def load(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, state) of a checkpoint, after its hashes have been proven. Raises RunError."""
    path = checkpoint.path
    try:
        _prove(path)
        return load_file(path / "model.safetensors"), torch.load(
            path / "state.pt", map_location="cpu", weights_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(str(path), f"can't be read: {error}") from error
    except (pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise RunError(str(path), "holds something else than weights and plain state, and is not loaded") from error


def _prove(path: Path) -> None:
    """Raise RunError for another format or a file that does not match its hash, other errors for what is missing."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] != _FORMAT:
        raise RunError(str(path), f"has format {manifest['format']}", "Use a newer torch-tui.")
    for name in ("model.safetensors", "state.pt"):
        if _sha256(path / name) != manifest["files"][name]["sha256"]:
            raise RunError(str(path), f"{name} does not match its hash")


def _is_whole(path: Path) -> bool:
    try:
        _prove(path)
    except (RunError, OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_error(folder: Path, error: Exception) -> TrainingError:
    """torch reports a full disk as a RuntimeError about a file position, safetensors as text with an os error."""
    text = str(error)
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "unexpected pos" in text
    if full:
        return TrainingError(
            str(folder), "the disk is full: no checkpoint was written", "Free some space, then resume."
        )
    return TrainingError(str(folder), f"a checkpoint can't be written: {text}", "Mend the folder, then resume.")
