"""What the data pane shows of a dataset: sizes, classes, ranges, lengths, memory, what is wrong, and a few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.data.preview.drawn import Sample, class_name
from engine.data.preview.holding import Holding, holding
from engine.data.preview.reading import reading
from engine.data.preview.view import View
from engine.data.samples import Progress, Samples
from engine.data.sources import Source
from engine.recipe import Recipe

_EACH = 10  # samples shown
_RANGED = 2000  # samples whose least and greatest number are looked for


@dataclass(frozen=True)
class Preview:
    """`counts` has training samples by class, counted over `counted` of them; with boxes, the boxes by class.

    `least` and `greatest` are of the first samples' numbers. `lengths[n]` counts the training samples of n tokens.
    `reading` says how what is not held will be read, and why. `bad` says of each sample that was left out where it lies
    and why. `view` shows all the others.
    """

    source: Source
    sizes: Mapping[str, int]
    samples: Sequence[Sample]
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0
    least: float = 0.0
    greatest: float = 0.0
    dtype: str = ""
    nbytes: int = 0
    holding: Holding | None = None
    reading: Sequence[str] = ()
    lengths: Sequence[int] = ()
    bad: Sequence[str] = ()
    view: View | None = None


def preview(recipe: Recipe, progress: Progress = lambda what, done, total: None) -> Preview:
    """Load the recipe's data (downloading it if it must) and take a look. Raises RecipeError or DataError."""
    view = View(recipe, progress)
    source = view.source
    labels = view.labels("train", progress)
    counts = {class_name(number, source): count for number, count in enumerate(view.counts("train", progress))}
    size = view.sizes["train"]
    chosen = range(min(_EACH, size)) if labels is None else _one_of_each(labels, source.outputs)
    part, index = view.part("train")
    ranged = range(min(_RANGED, size)) if isinstance(part, Samples) else chosen
    samples = view.page("train", list(chosen))
    inputs, _ = view.inputs("train", list(ranged))
    held = holding(recipe, source, view.opened, view.sizes)
    return Preview(
        source=source,
        sizes=view.sizes,
        samples=samples,
        counts=counts,
        counted=size if labels is None else len(labels),
        least=float(inputs.min()) if inputs.numel() else 0.0,
        greatest=float(inputs.max()) if inputs.numel() else 0.0,
        dtype=str(inputs.dtype).removeprefix("torch.") if inputs.numel() else "",
        nbytes=part.nbytes if isinstance(part, Samples) else 0,
        holding=held,
        reading=reading(view, held),
        lengths=_lengths(part.inputs[index]) if isinstance(part, Samples) and source.vocabulary else (),
        bad=[str(bad) for bad in view.bad],
        view=view,
    )


def _one_of_each(labels: Tensor, classes: int) -> list[int]:
    """The first position of each class, then more from the start, at most ten."""
    first = {int(label): position for position, label in reversed(list(enumerate(labels[:1000].tolist())))}
    chosen = [first[label] for label in sorted(first)][:_EACH]
    rest = (position for position in range(len(labels)) if position not in chosen)
    while len(chosen) < min(_EACH, len(labels)) and classes < _EACH:
        chosen.append(next(rest))
    return chosen


def _lengths(tokens: Tensor) -> list[int]:
    """How many samples there are of each number of tokens; 0 is padding."""
    if tokens.ndim != 2:
        return []
    counts: list[int] = torch.bincount((tokens != 0).sum(1)).tolist()
    return counts
