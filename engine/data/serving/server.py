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
from engine.data.serving.fetching import Classes, Skipped, read_all
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.loading import choose_loading, ways
from engine.data.serving.order import Balanced, Drawing, Mixture, mixed_samples
from engine.data.serving.readers import Readers
from engine.data.serving.workers import patience
from engine.recipe import Recipe


class Server:
    """Serves the parts of a recipe's data on `device`, the training samples first.

    `values` are the numbers of one sample as the model takes it, `outputs` those that it gives. What is worth knowing
    goes into `notes`; of `skipped` None says that a sample which can't be read ends the run.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, values: int, outputs: int, name: str,
        progress: Progress, notes: list[str], skipped: Skipped | None,
    ) -> None:  # fmt: skip
        self._recipe, self._data, self._device, self._values = recipe, recipe.data, device, values
        self._name, self._progress, self._notes, self._skipped = name, progress, notes, skipped
        of_classes = recipe.task == "classification"
        self._classes = Classes(outputs, recipe.loss.parameters.get("ignore_index")) if of_classes else None
        self._outputs = outputs
        number = self._data.num_workers
        self._readers: Readers | None = None
        self._asked = number not in ("auto", 0)  # who asks for processes gets them
        self._number = number
        self._patience = patience(self._data.worker_timeout)

    def training(self, pieces: Sequence[Piece], finish: Finish, beside: int = 0) -> Batches:
        """Batches of all pieces, drawn anew each epoch; each epoch also reads `beside` samples that are held out."""
        drop, seed, size = self._data.drop_last, self._recipe.training.seed, self._data.batch_size
        drawing = self._drawing(pieces)
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
        reads = (drawing.samples if drawing else len(whole)) + beside
        readers = self._read_by(whole, reads * self._recipe.training.epochs)
        return self._loader(whole, finish, size, readers, seed=seed, drop=drop, drawing=drawing)

    def evaluation(self, piece: Piece, finish: Finish) -> Batches:
        """Batches of a part as it stands."""
        # Who accumulates has memory for a micro-batch, and evaluation must fit there too.
        size = max(1, self._data.batch_size // self._recipe.training.accumulate)
        held = self._held([piece], piece.index)
        if held is not None:
            samples, good, index = held
            ahead = self._fits_finished(len(samples))
            return TensorBatches(samples, finish, size, ahead=ahead, index=index, good=good)
        readers = self._read_by(piece, len(piece) * self._recipe.training.epochs)
        return self._loader(piece, finish, size, readers)

    def _read_by(self, piece: Piece, reads: int) -> Readers:
        """Who reads all parts: chosen by the first that is not held, of which a run reads so many samples."""
        if self._readers is None:
            size, free, cuda = self._data.batch_size, psutil.virtual_memory().available, self._device.type == "cuda"
            if self._number == "auto":
                loading = choose_loading(piece.part, piece.index, size, reads, self._device)
            else:
                why = f"{self._number}, as the recipe says" if self._number else ""
                loading = ways(self._number, why, self._sample_bytes(piece) * size, free=free, cuda=cuda)
            self._notes += loading.told
            self._readers = Readers(loading, self._patience)
        return self._readers

    def _sample_bytes(self, piece: Piece) -> int:
        part = piece.part  # of which the piece may be a few samples
        if isinstance(part, Samples):
            return part.nbytes // max(1, len(part))
        return part.sample_bytes if isinstance(part, Listed) else self._values * 4

    def _drawing(self, pieces: Sequence[Piece]) -> Drawing | None:
        """How training samples are drawn; None for each once an epoch."""
        sizes, weights = [len(piece) for piece in pieces], [piece.weight for piece in pieces]
        if self._data.sampler == "balanced":
            stop = self._skipped is None
            known = torch.cat([labels(piece.part, piece.index, stop=stop) for piece in pieces])
            each = torch.tensor(weights, dtype=torch.float64).repeat_interleave(torch.tensor(sizes))
            return Balanced(known, self._outputs, mixed_samples(sizes, weights), each)
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
        return read_all(part, numbers, self._name, self._progress, self._skipped, self._classes)

    def _fits_finished(self, samples: int) -> bool:
        """Whether all samples as the model takes them fit on the device."""
        return _fits(samples * self._values * 4, self._device)

    def _loader(
        self, piece: Piece, finish: Finish, size: int, readers: Readers, *,
        seed: int | None = None, drop: bool = False, drawing: Drawing | None = None,
    ) -> LoaderBatches:  # fmt: skip
        return LoaderBatches(
            piece.part, piece.index, finish, size, self._device, readers=readers, seed=seed, drop_last=drop,
            drawing=drawing, skipped=self._skipped, classes=self._classes,
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
