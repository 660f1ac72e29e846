"""A loop made for these very works: the data are one tensor, normalised ahead, and the loss is never read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contestants.race import Race, Stopwatch


def augmented(batch: Tensor) -> Tensor:
    """A crop of its own for each sample out of a frame of four pixels, and a flip of half of them."""
    count, _, height, width = batch.shape
    rows = torch.randint(9, (count, 1), device=batch.device) + torch.arange(height - 8, device=batch.device)
    columns = torch.randint(9, (count, 1), device=batch.device) + torch.arange(width - 8, device=batch.device)
    flipped = torch.rand(count, 1, device=batch.device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count, device=batch.device)[:, None, None]
    return batch[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


race = Race.entered()
watch = Stopwatch(race)
inputs, targets = (part.to(race.device) for part in race.tensors(padding=4 if race.work.augment else 0))
layout = torch.channels_last if race.channels_last else torch.contiguous_format
model = race.work.make().to(race.device, memory_format=layout).train()
optimizer = race.work.optimizer(model, fused=True if race.device == "cuda" else None)
for _ in range(race.epochs):
    order = torch.randperm(len(inputs), device=race.device)
    for step in range(race.steps):
        index = order[step * race.work.batch : (step + 1) * race.work.batch]
        batch = inputs[index]
        if race.work.augment:
            batch = augmented(batch)
        with race.autocast():
            loss = F.cross_entropy(model(batch.to(memory_format=layout)), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        watch.step()
race.finish(watch.samples_per_second, model)
