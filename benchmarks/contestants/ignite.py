"""Ignite as its quickstart has it: a supervised trainer over torch's DataLoader, without logs.

https://docs.pytorch.org/ignite/quickstart.html
"""

from __future__ import annotations

from ignite.engine import Events, create_supervised_trainer
from torch import nn

from benchmarks.contestants.race import Race, Stopwatch

race = Race.entered()
watch = Stopwatch(race)
model = race.work.make()
trainer = create_supervised_trainer(model, race.work.optimizer(model), nn.CrossEntropyLoss())
trainer.add_event_handler(Events.ITERATION_COMPLETED, watch.step)
trainer.run(race.batches(), max_epochs=race.epochs)
race.finish(watch.samples_per_second, model, "pytorch-ignite")
