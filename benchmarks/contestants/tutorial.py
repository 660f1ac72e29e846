"""The loop of PyTorch's own tutorials: a dataset that transforms each sample, a DataLoader, `loss.item()` each step."""

from __future__ import annotations

import torch

from benchmarks.contestants.race import Race, Stopwatch

race = Race.entered()
watch = Stopwatch(race)
batches = race.batches()
model = race.work.make().to(race.device)
optimizer, criterion = race.work.optimizer(model), torch.nn.CrossEntropyLoss()
running = 0.0
for _ in range(race.epochs):
    for inputs, targets in batches:
        inputs, targets = inputs.to(race.device), targets.to(race.device)
        optimizer.zero_grad()
        with race.autocast():
            loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        running += loss.item()
        watch.step()
race.finish(watch.samples_per_second, model)
