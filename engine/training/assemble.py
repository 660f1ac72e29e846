"""Recipe → Trainer: everything a training needs, built and checked in the order in which errors are cheapest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from engine import catalog
from engine.data.load import Progress
from engine.data.prepare import Facts, Prepared, describe, prepare
from engine.devices.device import choose, seed_everything
from engine.devices.device import describe as describe_device
from engine.errors import RecipeError
from engine.models.build import build_model
from engine.models.layers import count_parameters
from engine.recipe import Recipe
from engine.tasks.base import Task
from engine.tasks.classification import Classification
from engine.tasks.regression import Regression
from engine.training.checkpoint import Checkpoints
from engine.training.control import Control
from engine.training.recorder import Recorder
from engine.training.trainer import Trainer


@dataclass
class Assembled:
    """A trainer with what must be let go of when it is done."""

    trainer: Trainer
    data: Prepared

    def close(self) -> None:
        """End workers, free memory."""
        self.data.close()


def assemble(
    recipe: Recipe, *, control: Control, recorder: Recorder, checkpoints: Checkpoints, progress: Progress
) -> Assembled:
    """Build everything. Raises a StudioError that names the key at fault, or whatever a person's own code raises."""
    device = choose(recipe.training.device)
    _, facts = describe(recipe)
    make_loss(recipe)
    seed_everything(recipe.training.seed)
    model = build_model(recipe, facts)
    data = prepare(recipe, device, progress)
    model = model.to(device)
    if data.facts.shape != facts.shape or data.facts.outputs != facts.outputs:
        what = f"gives {data.facts.shape} and {data.facts.outputs} outputs, not {facts.shape} and {facts.outputs}"
        raise RecipeError("data", what, "Remove the dataset's files and try again.")
    # Loading data may draw; what follows must not depend on it.
    seed_everything(recipe.training.seed)
    for note in data.notes:
        recorder.say(note)
    recorder.say(
        f"{data.source.name}: {data.train.samples} training samples · {count_parameters(model):,} parameters"
        f" · {describe_device(device)}"
    )
    trainer = Trainer(
        recipe,
        model,
        make_task(recipe, data.facts, device),
        data.train,
        data.val,
        data.test,
        device=device,
        control=control,
        recorder=recorder,
        checkpoints=checkpoints,
    )
    return Assembled(trainer, data)


def make_loss(recipe: Recipe) -> nn.Module:
    """The recipe's loss. Raises RecipeError."""
    part = recipe.loss
    entry = catalog.find("loss", catalog.losses(), part.name, "loss")
    entry.check(part.parameters, "loss")
    if part.parameters.get("reduction", "mean") != "mean":
        raise RecipeError("loss.reduction", "must be 'mean': the trainer weighs batches by it", "Remove it.")
    if recipe.training.accumulate > 1 and {"weight", "ignore_index"} & set(part.parameters):
        what = f"does not go with a {part.name} that weighs samples: its mean is not one over samples"
        raise RecipeError("training.accumulate", what, "Set it to 1.")
    return entry.make(part.parameters, "loss")  # type: ignore[no-any-return]


def make_task(recipe: Recipe, facts: Facts, device: torch.device) -> Task:
    """The recipe's task with its loss on `device`."""
    loss = make_loss(recipe).to(device)
    return Classification(loss) if recipe.task == "classification" else Regression(loss, facts.target_std)
