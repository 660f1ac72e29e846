"""Where samples live and how they come: as tensors on the device if they fit, else through a DataLoader."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch
from torch import Tensor

from engine.data.choosing.mixture import Piece, gathered, joined
from engine.data.choosing.splits import labels
from engine.data.samples import Listed, Progress, Samples
from engine.data.serving.batches import Batches, Finish, TensorBatches
from engine.data.serving.fetching import Skipped, read_all
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.loading import Loading, choose_loading
from engine.data.serving.order import Balanced, Drawing, Mixture, mixed_samples
from engine.data.serving.workers import patience
from engine.recipe import Recipe

_WORTH_S = 5.0
"""Seconds that reading a part to evaluate may take before processes are started for it too."""


class Server:
    """Serves the parts of a recipe's data on `device`, the training samples first.

    `values` are the numbers of one sample as the model takes it. What is worth knowing goes into `notes`; of `skipped`
    None says that a sample which can't be read ends the run.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, values: int, name: str,
        progress: Progress, notes: list[str], skipped: Skipped | None,
    ) -> None:  # fmt: skip
        self._recipe, self._data, self._device, self._values = recipe, recipe.data, device, values
        self._name, self._progress, self._notes, self._skipped = name, progress, notes, skipped
        number = self._data.num_workers
        self._loading = None if number == "auto" else Loading(number)
        self._asked = number not in ("auto", 0)  # who asks for processes gets them
        self._patience = patience(self._data.worker_timeout)

    def training(self, pieces: Sequence[Piece], finish: Finish, classes: int) -> Batches:
        """Batches of all pieces, drawn anew each epoch."""
        drop, seed, size = self._data.drop_last, self._recipe.training.seed, self._data.batch_size
        drawing = self._drawing(pieces, classes)
        whole = joined(pieces)
        held = self._held(pieces, whole.index)
        if held is not None:
            samples, good, index = held
            return TensorBatches(
                samples, finish, size, seed=seed, drop_last=drop, ahead=self._fits_finished(len(samples)), index=index,
                drawing=drawing, good=good,
            )  # fmt: skip
        if self._data.in_memory and all(_can_be_held(piece) for piece in pieces) and not self._asked:
            self._notes.append("The data takes more than a quarter of the free memory: it goes through a DataLoader.")
        if self._loading is None:
            epochs = self._recipe.training.epochs
            self._loading = choose_loading(whole.part, whole.index, size, epochs, self._device)
            self._notes.append(self._loading.why)
        return self._loader(whole, finish, size, self._loading, seed=seed, drop=drop, drawing=drawing)

    def evaluation(self, piece: Piece, finish: Finish) -> Batches:
        """Batches of a part as it stands."""
        # Who accumulates has memory for a micro-batch, and evaluation must fit there too.
        size = max(1, self._data.batch_size // self._recipe.training.accumulate)
        held = self._held([piece], piece.index)
        if held is not None:
            samples, good, index = held
            ahead = self._fits_finished(len(samples))
            return TensorBatches(samples, finish, size, ahead=ahead, index=index, good=good)
        chosen = self._loading if self._data.num_workers == "auto" else None
        if chosen is None or chosen.seconds * len(piece) < _WORTH_S:
            chosen = Loading(0)
        return self._loader(piece, finish, size, chosen)

    def _drawing(self, pieces: Sequence[Piece], classes: int) -> Drawing | None:
        """How training samples are drawn; None for each once an epoch."""
        sizes, weights = [len(piece) for piece in pieces], [piece.weight for piece in pieces]
        if self._data.sampler == "balanced":
            stop = self._skipped is None
            known = torch.cat([labels(piece.part, piece.index, stop=stop) for piece in pieces])
            each = torch.tensor(weights, dtype=torch.float64).repeat_interleave(torch.tensor(sizes))
            return Balanced(known, classes, mixed_samples(sizes, weights), each)
        return Mixture(sizes, weights) if len(pieces) > 1 else None

    def _held(
        self, pieces: Sequence[Piece], index: Tensor | None
    ) -> tuple[Samples, Tensor | None, Tensor | None] | None:
        """The samples on the device, which of them are good (None: all), and their numbers; None if they don't fit."""
        if not self._data.in_memory or self._asked or not all(_can_be_held(piece) for piece in pieces):
            return None
        size = sum(_bytes(piece) for piece in pieces)
        reads = any(not isinstance(piece.part, Samples) for piece in pieces)
        if not _fits(size, self._device) or (reads and not _fits(size, torch.device("cpu"))):
            return None
        taken, good = [], []
        for piece in pieces:
            samples, readable = self._taken(piece)
            taken.append(samples)
            good.append(readable)
        whole = gathered(taken)
        moved = Samples(whole.inputs.to(self._device), whole.targets.to(self._device))
        return moved, torch.cat(good) if reads else None, index

    def _taken(self, piece: Piece) -> tuple[Samples, Tensor]:
        """A piece's samples in host memory, and which of them are good."""
        part, index = piece.part, piece.index
        if isinstance(part, Samples):
            chosen = part if index is None else Samples(part.inputs[index], part.targets[index])
            return chosen, torch.ones(len(chosen), dtype=torch.bool)
        assert isinstance(part, Listed)
        numbers = torch.arange(len(part)) if index is None else index
        return read_all(part, numbers, self._name, self._progress, self._skipped)

    def _fits_finished(self, samples: int) -> bool:
        """Whether all samples as the model takes them fit on the device."""
        return _fits(samples * self._values * 4, self._device)

    def _loader(
        self, piece: Piece, finish: Finish, size: int, loading: Loading, *,
        seed: int | None = None, drop: bool = False, drawing: Drawing | None = None,
    ) -> LoaderBatches:  # fmt: skip
        return LoaderBatches(
            piece.part, piece.index, finish, size, self._device, workers=loading.workers, seed=seed, drop_last=drop,
            patience_s=self._patience, drawing=drawing, skipped=self._skipped, prefetch=loading.prefetch,
        )  # fmt: skip


def _can_be_held(piece: Piece) -> bool:
    return isinstance(piece.part, (Samples, Listed)) and len(piece) > 0


def _bytes(piece: Piece) -> int:
    part = piece.part
    return (
        part.nbytes if isinstance(part, Samples) else len(piece) * part.sample_bytes if isinstance(part, Listed) else 0
    )


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes are less than a quarter of the device's free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return size < free / 4
