"""Recipe → Trainer: everything a training needs, built and checked in the order in which errors are cheapest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints
from engine.data.choosing.kept_split import KeptSplit
from engine.data.prepare import Facts, Prepared, describe, prepare
from engine.data.samples import Progress
from engine.data.serving.limits import Limited, Repeated
from engine.devices.device import choose, seed_everything
from engine.devices.device import describe as describe_device
from engine.devices.memory import size_text
from engine.errors import ModelError, RecipeError
from engine.models.build import build_model, model_rows
from engine.models.recompute import recompute
from engine.models.rows import count_parameters
from engine.policies.backends import lays_channels_last, place
from engine.policies.graphs import GRAPHS
from engine.policies.splitting import is_out_of_memory
from engine.policies.threads import choose_threads
from engine.recipe import Recipe, Training
from engine.runs.recorder import Recorder
from engine.runs.validation import NOT_HELD_OUT, Validation
from engine.tasks.losses import fit_loss, make_task
from engine.training.control import Control
from engine.training.trainer import Trainer

_OVERFIT_STEPS = 100  # an epoch of one batch: enough to see whether the loss falls


@dataclass
class Assembled:
    """A trainer with what must be let go of when it is done."""

    trainer: Trainer
    data: Prepared

    def close(self) -> None:
        """Write out what is pending, end workers, free memory."""
        self.trainer.close()
        self.data.close()


def assemble(
    recipe: Recipe,
    *,
    control: Control,
    recorder: Recorder,
    checkpoints: Checkpoints,
    progress: Progress,
    threads: int = 0,
    plain: bool = False,
    resumed: bool = False,
) -> Assembled:
    """Build everything. A run that is `resumed` has all its weights from a checkpoint; `threads` is how many it used.

    `plain` says that its pictures lay as torch lays them: on a CPU "auto" leaves them so, for the same bits.

    Raises a StudioError that names the key at fault, or whatever a person's own code raises.
    """
    training = recipe.training
    device = choose(training.device)
    seed_everything(training.seed)  # a person's files may draw when they are run
    _, facts = describe(recipe, progress)
    fit_loss(recipe, facts.outputs)
    seed_everything(training.seed)
    model = _built(recipe, facts, None if resumed else progress)
    if recipe.model.zoo:
        from engine.models.zoo.building import zoo_notes  # torchvision takes a second to import

        for note in zoo_notes(recipe.model, model):
            recorder.say(note)
    if training.gradient_checkpointing:
        recorder.say(f"{recompute(model)} parts of the model are computed twice, to save memory")
    batch = max(1, recipe.data.batch_size // training.accumulate)
    shared = choose_threads(training.threads, threads, model, facts.shape, batch, device, facts.dtype)
    if shared is not None:
        torch.set_num_threads(shared.count)
        recorder.threads(shared.count, str(shared))
    kept = KeptSplit(recorder.directory.split_file)
    data = limited(prepare(recipe, device, progress, say=recorder.say, kept=kept), training)
    recorder.facts(**_validation(recipe, data, kept))
    own = bool(recipe.model.python)
    asked = training.channels_last != "auto"
    laid = lays_channels_last(training, model, device, own=own) and (asked or device.type != "cpu" or not plain)
    recorder.facts(channels_last=laid)
    model = place(model, training, device, channels_last=laid)
    if laid and not asked:
        recorder.say(
            f"pictures lie channels last in memory: convolutions in {training.precision} are sooner done so on a"
            f" {'CPU' if device.type == 'cpu' else 'GPU'} (training.channels_last)"
        )
    if training.compile == GRAPHS and device.type != "cuda":
        recorder.say(f"training.compile: CUDA graphs need an NVIDIA GPU; on {device} this is a plain torch.compile")
    if data.facts.shape != facts.shape or data.facts.outputs != facts.outputs:
        what = f"gives {data.facts.shape} and {data.facts.outputs} outputs, not {facts.shape} and {facts.outputs}"
        raise RecipeError("data", what, "Remove the dataset's files and try again.")
    # Loading data may draw; what follows must not depend on it.
    seed_everything(training.seed)
    for note in data.notes:
        recorder.say(note)
    recorder.say(
        f"{data.source.name}: {data.train.samples:,} training samples · {count_parameters(model):,} parameters"
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
        channels_last=laid,
    )
    for line in trainer.about:
        recorder.say(line)
    return Assembled(trainer, data)


def _validation(recipe: Recipe, data: Prepared, kept: KeptSplit) -> Mapping[str, Any]:
    """What the run's metrics are measured on, so that a person sees which runs can be compared."""
    if data.val is None:
        return NOT_HELD_OUT
    count, digest = kept.validated(data.val.samples)
    split = recipe.data.split
    if not split.folds:
        return Validation(count, digest, data.source.name).facts()
    values = recipe.override({"data.split.fold": 0}, "data.split.fold").to_toml()
    alike = hashlib.blake2b(values.encode(), digest_size=16).hexdigest()
    return Validation(count, digest, data.source.name, split.fold, split.folds, alike).facts()


def _built(recipe: Recipe, facts: Facts, progress: Progress | None) -> nn.Module:
    try:
        return build_model(recipe, facts, progress)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = size_text(sum(row.parameters for row in model_rows(recipe, facts) if row.outermost) * 4)
        what = f"its weights take {size}, more memory than is free"
        raise ModelError("model", what, "Make its layers smaller: Params shows which are large.") from error


def limited(data: Prepared, training: Training) -> Prepared:
    """As much of the data as `[training]` asks for: the first batches of each part, or one batch over and over."""
    count = training.limit_batches
    if training.overfit_one_batch:
        steps = count or min(data.train.steps, _OVERFIT_STEPS)
        note = f"overfitting one batch, {steps} times an epoch; there is no validation and no test"
        return replace(data, train=Repeated(data.train, steps), val=None, test=None, notes=(*data.notes, note))
    if not count:
        return data
    train, *held_out = (Limited(part, count) if part else None for part in (data.train, data.val, data.test))
    assert train is not None
    note = f"at most {count} batches of each part an epoch"
    return replace(data, train=train, val=held_out[0], test=held_out[1], notes=(*data.notes, note))
