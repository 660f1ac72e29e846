"""Which samples are trained on, which are watched while training, and which are left for the end."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.data.samples import Loaded, Part, Readable
from engine.errors import DataError
from engine.recipe import Data

Drawn = dict[str, tuple[Part, Tensor | None]]
"""Each part as samples and the numbers taken of them; None: all."""
Parts = dict[str, tuple[Readable, Tensor | None]]
"""The same when all that is measured on the training samples is measured."""


def split(loaded: Loaded, data: Data, notes: list[str]) -> Drawn:
    """Each part as samples and the indices taken of them (None: all), drawn from `split.seed` alone.

    A dataset's own test set stays whole; then train and val share the rest in the recipe's proportion.
    """
    shares = data.split
    main = loaded.parts.get("all", loaded.parts.get("train"))
    if main is None:
        raise DataError(f"data: {loaded.source.name}", "has no part to train on", "Give it a 'train' part.")
    count = len(main)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(shares.seed))
    own_test = loaded.parts.get("test")
    scale = 1.0
    if own_test is not None and shares.test > 0:
        scale = 1 / (1 - shares.test) if shares.test < 1 else 1.0
        notes.append(f"{loaded.source.name} brings its own test set: split.test has no effect.")
    val = round(count * shares.val * scale)
    test = 0 if own_test is not None else min(round(count * shares.test), count - val)
    rest = count - val - test
    whole = shares.train + shares.val + shares.test > 1 - 1e-9  # then rounding must not lose a sample
    train = rest if whole else min(round(count * shares.train * scale), rest)
    found: Drawn = {
        "train": (main, order[:train]),
        "val": (main, order[train : train + val]),
        "test": (main, order[train + val : train + val + test]),
    }
    if own_test is not None:
        found["test"] = (own_test, None)
    return found
