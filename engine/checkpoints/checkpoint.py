"""Checkpoints: directories that are either whole and proven by a hash, or not there at all."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.checkpoints import manifest as manifests
from engine.checkpoints.keepable import check_state, check_weights, disk_error, disk_trouble
from engine.checkpoints.manifest import AVERAGE, STATE, WEIGHTS, Manifest, folder_name, rank, ranked
from engine.checkpoints.snapshot import Snapshot
from engine.errors import RunError, nearest, with_article, words
from engine.paths import to_disk

_NAME = re.compile(r"epoch-([0-9]{5,16})-step-([0-9]{9,16})")
_ASIDE = ".writing-"
"""What begins so is of a write or a removal that has not ended; one that never will is swept away by the next."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk. `score` is the validation value it was ranked by, greater is better; None if unranked.

    `loss` was measured with it.
    """

    path: Path
    epoch: int
    step: int
    score: float | None
    loss: float | None = None

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds: weights by name, the training's state and, where one was kept, the weights' average."""

    weights: dict[str, Tensor]
    state: dict[str, Any]
    average: dict[str, Tensor] | None


class Checkpoints:
    """The `checkpoints/` of a run: written aside, fsynced, renamed; the last `keep_last` and the best are kept.

    Weights are safetensors; the rest of the state is a `torch.save` of plain containers and tensors that
    `torch.load(weights_only=True)` takes. A manifest holds the sha256 of each file and its own.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        assert keep_last >= 1, "the newest checkpoint is always kept"
        self.folder = folder
        self._keep_last = keep_last

    def write(
        self,
        snapshot: Snapshot,
        epoch: int,
        step: int,
        score: float | None = None,
        *,
        loss: float | None = None,
        replace: bool = False,
        prove: bool = False,
        ready: Callable[[], None] | None = None,
    ) -> Checkpoint:
        """Write `snapshot`; a whole one of this position stays, unless it is to `replace` or gets its first score now.

        A replaced one leaves its score unless there is a new one; a score that can't rank (NaN) is none. With `prove`
        the state is read back before it counts. `ready` is called before the checkpoint appears under its name.
        Raises DiskFull, Unkeepable for weights or state that can't be loaded again, or TrainingError.
        """
        assert "model" in snapshot.files, "a checkpoint has weights"
        final = self.folder / folder_name(epoch, step)
        there = next((checkpoint for checkpoint in self.all() if checkpoint.path == final), None)
        score, loss = ranked(score, loss)
        if there and not replace and (score is None or there.score is not None) and _is_whole(final):
            return there
        if there and score is None:
            score, loss = there.score, there.loss
        aside = self.folder / f"{_ASIDE}{os.getpid()}"
        try:
            self._make(aside)
            manifest = Manifest(epoch, step, score, _write_files(aside, snapshot, prove), loss)
            (aside / manifests.NAME).write_text(manifest.text(), encoding="utf-8")
            for name in (*manifest.hashes, manifests.NAME, "."):
                to_disk(aside / name)
            if ready:
                ready()
            self._reveal(aside, final)
        except BaseException as error:
            _remove(aside)
            if isinstance(error, (OSError, RuntimeError, safetensors.SafetensorError)):
                raise disk_error(self.folder, error) from error
            raise
        saved = Checkpoint(final, epoch, step, score, loss)
        self._prune(saved)
        return saved

    def all(self) -> list[Checkpoint]:
        """The checkpoints whose manifest can be read, oldest first. Files are proven only when one is loaded."""
        found = []
        for path in self._folders():
            with contextlib.suppress(RunError):
                found.append(_listed(path))
        return found

    def any(self) -> bool:
        """Whether there is anything that has a checkpoint's name, damaged or not."""
        return bool(self._folders())

    def best(self) -> Checkpoint | None:
        """The checkpoint with the greatest score; of several alike the one with the lowest loss, else the first."""
        found = [(place, each) for each in self.all() if (place := rank(each.score, each.loss)) is not None]
        return max(found, key=lambda pair: pair[0], default=(None, None))[1]

    def find(self, name: str) -> Checkpoint:
        """The checkpoint of this name or of a beginning that only one has; `best`, `last`. Raises RunError."""
        known = self.all()
        if not known:
            raise RunError(str(self.folder), "has no checkpoint that can be read")
        if name == "last":
            return known[-1]
        best = self.best()
        if name == "best" and best:
            return best
        exact = [checkpoint for checkpoint in known if checkpoint.name == name]
        fitting = exact or [checkpoint for checkpoint in known if name and checkpoint.name.startswith(name)]
        if len(fitting) == 1:
            return fitting[0]
        names = [checkpoint.name for checkpoint in known]
        if fitting:
            what = f"'{name}' begins the names of {len(fitting)} checkpoints"
            raise RunError(str(self.folder), what, "Try one of: " + ", ".join(found.name for found in fitting) + ".")
        remedy = nearest(name, [*names, "last", *(["best"] if best else [])])
        raise RunError(str(self.folder), f"has no checkpoint '{name}'", remedy or f"There are: {', '.join(names)}.")

    def load(self, checkpoint: Checkpoint) -> Loaded:
        """What one of them holds; see `load`. Raises RunError."""
        return load(checkpoint)

    def load_newest(self, say: Callable[[str], None]) -> tuple[Checkpoint, Loaded]:
        """The newest checkpoint that is whole; `say` is told of each that is not. Raises RunError if there is none."""
        for path in reversed(self._folders()):
            try:
                checkpoint = _listed(path)
                return checkpoint, load(checkpoint)
            except RunError as error:
                say(f"{error} The one before is used.")
        raise RunError(str(self.folder), "has no checkpoint that can be read", "Train the recipe anew.")

    def _folders(self) -> list[Path]:
        """Everything that has a checkpoint's name, oldest first."""
        try:
            names = [(match, path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        except OSError:
            return []
        return [path for _, path in sorted(names, key=lambda pair: (int(pair[0][1]), int(pair[0][2])))]

    def _make(self, aside: Path) -> None:
        """An empty directory to write into, in a folder without the remains of a process that was killed."""
        if not self.folder.exists():
            self.folder.mkdir()  # without parents: a run that was removed must not come back as a ruin
            to_disk(self.folder.parent)
        for left in self.folder.glob(f"{_ASIDE}*"):
            _remove(left)
        aside.mkdir()

    def _reveal(self, aside: Path, final: Path) -> None:
        """Give what is whole its name, in place of what has it now."""
        old = self.folder / f"{_ASIDE}old-{final.name}"
        if os.path.lexists(final):  # damaged, or to be replaced
            final.rename(old)
        try:
            aside.rename(final)
        except OSError:
            if os.path.lexists(old):
                old.rename(final)
            raise
        to_disk(self.folder)
        _remove(old)

    def _prune(self, saved: Checkpoint) -> None:
        known = self.all()
        kept = {checkpoint.path for checkpoint in known[-self._keep_last :]} | {saved.path}
        best = self.best()
        for checkpoint in known:
            if checkpoint.path not in kept and checkpoint != best:
                # Renamed first: a process killed in the middle must not leave half a checkpoint under its name.
                aside = self.folder / f"{_ASIDE}old-{checkpoint.name}"
                with contextlib.suppress(OSError):
                    checkpoint.path.rename(aside)
                _remove(aside)


def load(checkpoint: Checkpoint) -> Loaded:
    """What a checkpoint holds, after its hashes have been proven. Raises RunError, whatever the files are."""
    path = checkpoint.path
    found: dict[str, Any] = {}
    try:
        for name, content in manifests.contents(path):
            if name == STATE:
                found[name] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            else:
                found[name] = dict(sorted(safetensors.torch.load(content).items()))  # its order is by chance
    except RunError:
        raise
    except (pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise RunError(str(path), "holds something else than weights and plain state, and is not loaded") from error
    except Exception as error:  # a file with a fitting hash may still be made so that torch raises anything
        raise RunError(str(path), f"can't be read: {words(error)}") from error
    if not isinstance(found[STATE], dict):
        raise RunError(
            str(path), f"{STATE} holds {with_article(type(found[STATE]).__name__)} in place of a training's state"
        )
    return Loaded(found[WEIGHTS], found[STATE], found.get(AVERAGE))


def _listed(path: Path) -> Checkpoint:
    found = manifests.read(path)
    return Checkpoint(path, found.epoch, found.step, found.score, found.loss)


def _is_whole(path: Path) -> bool:
    try:
        manifests.prove(path)
    except RunError:
        return False
    return True


def _write_files(aside: Path, snapshot: Snapshot, prove: bool) -> dict[str, str]:
    """Write weights and state into `aside`; file name → hash."""
    written = {}
    for file, tensors in snapshot.files.items():
        name = {"model": WEIGHTS, "average": AVERAGE}[file]
        _write_weights(aside / name, tensors)
        written[name] = manifests.sha256(aside / name)
    _write_state(aside / STATE, snapshot.state, prove)
    return {**written, STATE: manifests.sha256(aside / STATE)}


def _write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except Exception as error:
        if disk_trouble(error) is None:
            check_weights(path.name, tensors)
        raise


def _write_state(path: Path, state: Mapping[str, Any], prove: bool) -> None:
    try:
        torch.save(dict(state), path)
        if prove:
            torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickling runs a person's own methods, which may raise anything
        if disk_trouble(error) is None:
            check_state(dict(state))
        raise


def _remove(path: Path) -> None:
    """Take away a directory, or what lies in its place, as far as it goes."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
