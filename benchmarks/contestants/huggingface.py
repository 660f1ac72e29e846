"""Hugging Face's Trainer with a model of one's own, which returns its loss; logs, checkpoints and bar are off.

The collator is that of the library's example run_image_classification.py. Gradient clipping, which is on by default,
is off: the others do not clip.
https://huggingface.co/docs/transformers/trainer
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.contestants.race import Race, Stopwatch


class Classifier(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Timer(TrainerCallback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_step_end(self, *given: Any, **named: Any) -> None:
        self.watch.step()


def collated(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.stack([picture for picture, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


race = Race.entered()
watch = Stopwatch(race)
model = race.work.make()
optimizer = race.work.optimizer(model)
with tempfile.TemporaryDirectory() as folder:
    settings = TrainingArguments(
        output_dir=folder,
        max_steps=race.epochs * race.steps,
        per_device_train_batch_size=race.work.batch,
        dataloader_drop_last=True,
        dataloader_num_workers=race.workers,
        max_grad_norm=0.0,
        seed=race.seed,
        use_cpu=True,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        Classifier(model),
        settings,
        data_collator=collated,
        train_dataset=race.dataset(),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        callbacks=[Timer(watch)],
    )
    trainer.train()
race.finish(watch.samples_per_second, model, "transformers", "accelerate")
