"""How the samples of a dataset that is not held will be read, judged before the training as it will judge."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
from torch import Tensor

from engine.data.preview.holding import Holding
from engine.data.preview.view import View, read
from engine.data.samples import BadSample, Listed
from engine.data.serving.fetching import cores
from engine.data.serving.loading import chosen, measured_reading, ways


def reading(view: View, holding: Holding) -> Sequence[str]:
    """What `data.num_workers`, prefetch and pinned memory would be, each with its reason; empty of what is held.

    A few samples are read for it, plainly: nothing draws from the random numbers of a training that may be running. A
    person's own code may, and is left to the training.
    """
    if holding.held:
        return ()
    part, index = view.part("train")
    data, count = view.recipe.data, len(index)
    free, cuda = psutil.virtual_memory().available, holding.device == "cuda"
    batch = data.batch_size * holding.nbytes // max(1, sum(view.sizes.values()))
    if data.num_workers != "auto":
        return ways(data.num_workers, f"{data.num_workers}, as the recipe says", batch, free=free, cuda=cuda).told
    if not isinstance(part, Listed):
        return ("data.num_workers: measured when the training begins",)

    def pair(position: int) -> Sequence[Tensor] | None:
        found = read(part, int(index[position]))
        return () if isinstance(found, BadSample) else found

    measured = measured_reading(pair, count)
    if measured is None:
        return ways(0, "none, as the first samples can't be read", 0, free=free, cuda=cuda).told
    reads = (count + view.sizes.get("val", 0)) * view.recipe.training.epochs
    return chosen(*measured, data.batch_size, reads, cores=cores(), free=free, cuda=cuda).told
