"""A look at a dataset before a step is run: its classes counted, a few samples of each, as NumPy arrays to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.data.prepare import opened
from engine.data.samples import MapDataset, Progress, Samples
from engine.data.serving.fetching import collate
from engine.data.sources import Source
from engine.recipe import Recipe

_EACH = 10  # samples shown
_SCANNED = 5000  # labels counted of a dataset that is not in memory


@dataclass(frozen=True)
class Sample:
    """One training sample: a picture as (height, width) or (height, width, 3) bytes, or a row of numbers; its label."""

    label: str
    picture: np.ndarray | None = None
    row: np.ndarray | None = None


@dataclass(frozen=True)
class Preview:
    """What the data pane shows. `counts` has training samples by class; `ranges` are of the first inputs' values."""

    source: Source
    sizes: Mapping[str, int]
    samples: Sequence[Sample]
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0
    least: float = 0.0
    greatest: float = 0.0
    dtype: str = ""
    nbytes: int = 0


def preview(recipe: Recipe, progress: Progress = lambda what, done, total: None) -> Preview:
    """Load the recipe's data (downloading it if it must) and take a look. Raises RecipeError or DataError."""
    source, parts = opened(recipe.data, recipe.task, [], progress)
    sizes = {name: len(part) if index is None else len(index) for name, (part, index) in parts.items()}
    part, index = parts["train"]
    order = torch.arange(len(part)) if index is None else index
    labels = _targets(part, order[:_SCANNED] if not isinstance(part, Samples) else order)
    classes = source.classes
    if source.task == "classification":
        counted = torch.bincount(labels.flatten().long(), minlength=source.outputs)
        names = classes or tuple(map(str, range(len(counted))))
        counts = dict(zip(names, counted.tolist(), strict=False))
        chosen = _one_of_each(labels, source.outputs)
    else:
        counts, chosen = {}, torch.arange(min(_EACH, len(labels)))
    inputs, targets = _take(part, order[chosen])
    return Preview(
        source=source,
        sizes=sizes,
        samples=[_sample(inputs[i], targets[i], source) for i in range(len(inputs))],
        counts=counts,
        counted=len(labels),
        least=float(inputs.min()) if inputs.numel() else 0.0,
        greatest=float(inputs.max()) if inputs.numel() else 0.0,
        dtype=str(inputs.dtype).removeprefix("torch."),
        nbytes=part.nbytes if isinstance(part, Samples) else 0,
    )


def _one_of_each(labels: Tensor, classes: int) -> Tensor:
    """The first position of each class, then more from the start, at most ten."""
    first = {int(label): position for position, label in reversed(list(enumerate(labels[:1000].tolist())))}
    chosen = [first[label] for label in sorted(first)][:_EACH]
    rest = (position for position in range(len(labels)) if position not in chosen)
    while len(chosen) < min(_EACH, len(labels)) and classes < _EACH:
        chosen.append(next(rest))
    return torch.tensor(chosen, dtype=torch.long)


def _targets(part: Samples | MapDataset, index: Tensor) -> Tensor:
    return part.targets[index] if isinstance(part, Samples) else _take(part, index)[1]


def _take(part: Samples | MapDataset, index: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(part, Samples):
        return part.inputs[index], part.targets[index]
    return collate([part[int(i)] for i in index])


def _sample(inputs: Tensor, target: Tensor, source: Source) -> Sample:
    if source.task == "classification":
        number = int(target)
        label = source.classes[number] if number < len(source.classes) else str(number)
    elif source.task == "segmentation":
        label = ""  # the mask is as large as the picture
    else:
        label = ", ".join(f"{value:.4g}" for value in target.flatten().tolist())
    if inputs.ndim == 3 and len(inputs) in (1, 3):
        return Sample(label, picture=_bytes(inputs))
    return Sample(label, row=inputs.flatten()[:64].double().numpy())


def _bytes(image: Tensor) -> np.ndarray:
    """(C, H, W) of bytes or floats → (H, W) or (H, W, 3) bytes; floats are stretched over their range."""
    if image.is_floating_point():
        spread = float(image.max() - image.min()) or 1.0
        image = (image - image.min()) / spread * 255
    array = image.permute(1, 2, 0).to(torch.uint8).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array
