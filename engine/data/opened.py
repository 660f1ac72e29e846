"""A dataset read and split, with tensors made of what is measured on its training samples first; the last is kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from engine.data import load as loading
from engine.data.choosing.kept_split import KeptSplit
from engine.data.choosing.splits import Drawn, Parts, split
from engine.data.fetching.telling import untold
from engine.data.fetching.turns import turn
from engine.data.load import load
from engine.data.samples import BadSample, Encoder, Loaded, Measured, Progress, Readable
from engine.data.serving.fetching import Skipped, refused
from engine.data.sources import HUGGING_FACE, Source
from engine.recipe import Data, TaskName


def opened(data: Data, task: TaskName, notes: list[str], progress: Progress = untold) -> tuple[Source, Parts]:
    """A dataset read and split, with tensors made of what must first be measured on the training samples.

    Raises RecipeError or DataError.
    """
    found = open_dataset(data, task, progress, None)
    notes.extend(found.notes)
    return found.source, found.parts


@dataclass(frozen=True)
class Opened:
    """A dataset as it was opened. The last is kept: a vocabulary is not measured again at every edit of the model."""

    loaded: Loaded
    how: tuple[object, ...]
    drawn: Drawn
    source: Source
    parts: Parts
    encoder: Encoder | None
    notes: Sequence[str]


_last: list[Opened] = []
_measuring = threading.Lock()


def forget() -> None:
    """Read and measure every dataset anew when it is next asked for."""
    loading.forget()
    _last.clear()


def open_dataset(data: Data, task: TaskName, progress: Progress, kept: KeptSplit | None) -> Opened:
    loaded = load(data, task, progress)
    how = data.split, data.subset, data.on_bad_sample
    keep = bool(data.path) or data.name.startswith(HUGGING_FACE)
    # A dataset of a person's own code may be read whole here: others need not wait for it.
    with turn(_measuring, loaded.source.name, progress) if keep else contextlib.nullcontext():
        last = next((each for each in tuple(_last) if keep and each.loaded is loaded), None)
        if last is not None and kept is None and last.how == how:
            return last
        notes: list[str] = []
        face_bad(loaded, data, notes)
        drawn = kept.drawn(loaded, data, notes) if kept else split(loaded, data, notes)
        if last is not None and _same(drawn, last.drawn):
            found = replace(last, how=how, notes=notes)
        else:
            found = Opened(loaded, how, drawn, *_encoded(loaded.source, drawn, progress), notes)
        if keep and kept is None:
            _last[:] = [found]
        return found


def _same(drawn: Drawn, others: Drawn) -> bool:
    """Whether both take the same samples of the same dataset."""
    return drawn.keys() == others.keys() and all(
        index is theirs if index is None or theirs is None else torch.equal(index, theirs)
        for (_, index), (_, theirs) in zip(drawn.values(), (others[name] for name in drawn), strict=True)
    )


def face_bad(loaded: Loaded, data: Data, notes: list[str]) -> None:
    """What was found to be bad while the dataset was opened: said, or, as the recipe wants it, the end."""
    if not loaded.bad:
        return
    first, count = loaded.bad[0], len(loaded.bad)
    if data.on_bad_sample == "stop":
        more = "" if count == 1 else f"; {count} samples in all are bad"
        raise refused(BadSample(first.place, first.what + more))
    noted = Skipped(notes.append)
    noted.note(loaded.bad)
    noted.close()


def _encoded(source: Source, drawn: Drawn, progress: Progress) -> tuple[Source, Parts, Encoder | None]:
    encoder = None
    train, index = drawn["train"]
    if isinstance(train, Measured):
        encoder = train.fit(torch.arange(len(train)) if index is None else index, progress)
        source = encoder.describe(source)
    made: dict[int, Readable] = {}  # parts of one dataset are encoded together
    parts: Parts = {}
    for name, (part, index) in drawn.items():
        if id(part) not in made:
            ready = encoder.encode(part, progress) if encoder and isinstance(part, Measured) else part
            made[id(part)] = cast(Readable, ready)
        parts[name] = made[id(part)], index
    return source, parts, encoder
