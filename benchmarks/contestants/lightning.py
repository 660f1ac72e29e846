"""Lightning as its "Lightning in 15 minutes" has it; logger, checkpoints, bar and summary are off.

https://lightning.ai/docs/pytorch/stable/starter/introduction.html
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestants.race import Race, Stopwatch


class Classifier(L.LightningModule):
    def __init__(self, race: Race) -> None:
        super().__init__()
        self.race, self.model = race, race.work.make()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.model(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.race.work.optimizer(self)


class Timer(L.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_batch_end(self, *given: Any) -> None:
        self.watch.step()


warnings.filterwarnings("ignore", ".*does not have many workers.*")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
race = Race.entered()
watch = Stopwatch(race)
classifier: nn.Module = Classifier(race)
trainer = L.Trainer(
    max_epochs=race.epochs,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[Timer(watch)],
)
trainer.fit(classifier, race.batches())
race.finish(watch.samples_per_second, classifier.model, "lightning")
