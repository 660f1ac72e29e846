"""A loop made for these very works: the data are one tensor, normalised ahead, and the loss is never read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contestants.race import Race, Stopwatch


def augmented(batch: Tensor) -> Tensor:
    """A crop of its own for each sample out of a frame of four pixels, and a flip of half of them."""
    count, _, height, width = batch.shape
    rows = torch.randint(9, (count, 1)) + torch.arange(height - 8)
    columns = torch.randint(9, (count, 1)) + torch.arange(width - 8)
    flipped = torch.rand(count, 1) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    return batch[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


race = Race.entered()
watch = Stopwatch(race)
inputs, targets = race.tensors(padding=4 if race.work.augment else 0)
model = race.work.make().train()
optimizer = race.work.optimizer(model)
for _ in range(race.epochs):
    order = torch.randperm(len(inputs))
    for step in range(race.steps):
        index = order[step * race.work.batch : (step + 1) * race.work.batch]
        batch = inputs[index]
        if race.work.augment:
            batch = augmented(batch)
        loss = F.cross_entropy(model(batch), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        watch.step()
race.finish(watch.samples_per_second, model)
