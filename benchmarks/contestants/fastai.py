"""fastai as its "Pure PyTorch to fastai" has it: torch's DataLoader in a Learner; without its bar.

https://docs.fast.ai/examples/migrating_pytorch.html
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD

from benchmarks.contestants.race import Race, Stopwatch


class Timer(Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def after_batch(self) -> None:
        if self.training:
            self.watch.step()


race = Race.entered()
watch = Stopwatch(race)
model = race.work.make()
# Nothing is validated: the second part is empty.
data = DataLoaders(race.batches(), [], device="cpu")
learner = Learner(data, model, loss_func=F.cross_entropy, opt_func=partial(SGD, mom=0.9), cbs=[Timer(watch)])
learner.remove_cbs(ProgressCallback)
with learner.no_logging():
    learner.fit(race.epochs, lr=0.01)
race.finish(watch.samples_per_second, model, "fastai")
