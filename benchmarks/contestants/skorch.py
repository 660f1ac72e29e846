"""skorch as its MNIST notebook has it: arrays into `fit`, and the dataset where samples are drawn; without its log.

https://github.com/skorch-dev/skorch/blob/master/notebooks/MNIST.ipynb
"""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from benchmarks.contestants.race import Race, Stopwatch


class Timer(Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_batch_end(self, net: Any, **given: Any) -> None:
        self.watch.step()


race = Race.entered()
watch = Stopwatch(race)
model = race.work.make()
if race.work.augment:
    inputs: Any = race.dataset()
    targets = None
else:
    inputs, targets = (part.numpy() for part in race.tensors())
net = NeuralNetClassifier(
    model,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.9,
    lr=0.01,
    batch_size=race.work.batch,
    max_epochs=race.epochs,
    iterator_train__sampler=race.sampler(inputs),
    iterator_train__num_workers=race.workers,
    train_split=None,
    verbose=0,
    callbacks=[("timer", Timer(watch))],
    callbacks__print_log=None,
)
net.fit(inputs, targets)
race.finish(watch.samples_per_second, model, "skorch")
