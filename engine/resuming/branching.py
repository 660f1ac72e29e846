"""A checkpoint put back into a training, whose recipe may have changed since it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checkpoints.checkpoint import Loaded
from engine.errors import RunError, first_line
from engine.optim.optimizers import remembered
from engine.recipe import Recipe, changed_settings
from engine.resuming.state import TrainingState

_OPTIMIZER = "the optimizer begins afresh"
_MOMENTS = "the optimizer's moments begin afresh, as it keeps others"
_SCHEDULE = "the learning rate schedule begins afresh"
# What validation measures, and how many steps an epoch has, follow from these.
_MEASURED = ("data.", "loss.", "training.limit_batches", "training.overfit_one_batch")
_LENGTH = ("data.name", "data.path", "data.format", "data.python", "data.options", "data.batch_size", "data.split",
           "data.subset", "data.mix", "data.drop_last", "loss.", "training.limit_batches",
           "training.overfit_one_batch")  # fmt: skip


def take_up(state: TrainingState, loaded: Loaded) -> list[str]:
    """Go on from a checkpoint: to the bit with the recipe that it was written with.

    With another, what the changed settings don't touch goes on and what they replace begins afresh; returns what does,
    in words. Raises RunError for a checkpoint that does not fit.
    """
    recipe = state.recipe
    try:
        changed = changed_settings(Recipe.from_toml(loaded.state["recipe"]), recipe)
        fresh = state.rest(0.0) if changed else {}
        adapted, notes = _adapted(loaded, fresh, changed, recipe)
        state.restore(adapted)
        _set_values(state, recipe, changed, schedule_is_fresh=bool({*notes} & {_OPTIMIZER, _SCHEDULE}))
    except Exception as error:  # load_state_dict of torch and of a person's modules raise what they like
        what = f"does not fit the recipe: {first_line(error)}"
        raise RunError(
            "checkpoint", what, "Keep the model, the data and the optimizer that it was made with."
        ) from error
    said = [f"{key} was {value!r}" for key, value in changed.items()]
    return [*([f"settings changed since the checkpoint: {', '.join(said)}"] if said else []), *notes]


def _adapted(
    loaded: Loaded, fresh: Mapping[str, Any], changed: Mapping[str, Any], recipe: Recipe
) -> tuple[Loaded, list[str]]:
    """The checkpoint with a fresh state where a changed setting has made the old one meaningless."""
    if not changed:
        return loaded, []
    state, average = dict(loaded.state), loaded.average
    schedule = ("scheduler", "optimizer.warmup", *(_LENGTH if _by_step(recipe) else ()))
    state["optim"], notes = _adapted_optim(state["optim"], fresh["optim"], changed, schedule)
    if _OPTIMIZER in notes and (recipe.scheduler is not None or recipe.optimizer.warmup):
        notes.append(_SCHEDULE)
    same_groups = _touched(changed, "optimizer.") and _OPTIMIZER not in notes
    if same_groups and state["position"]["step"] and not remembered(recipe) <= _names(state["optim"]):
        state["optim"]["optimizer"] = {**state["optim"]["optimizer"], "state": fresh["optim"]["optimizer"]["state"]}
        notes.append(_MOMENTS)
    patience = recipe.training.early_stopping.patience
    if "training.accumulate" in changed:
        state["parts"] = fresh["parts"]
    if _touched(changed, "training.average."):
        state["average"], average = fresh["average"], None
        notes.append("the averaged weights begin at the checkpoint's")
    if _touched(changed, "training.early_stopping.", *_MEASURED):
        state["patience"] = fresh["patience"]
    elif 0 < patience <= state["patience"]["waited"]:
        state["patience"] = {**state["patience"], "waited": 0}
        notes.append("early stopping, which had ended the run, counts from 0 again")
    if _touched(changed, *_MEASURED):
        state["position"] = {**state["position"], "best": None, "best_epoch": 0, "best_loss": None}
        notes.append("the best value is looked for anew, as it is measured otherwise")
    if _touched(changed, "training.seed", *_MEASURED):
        if state["position"]["samples"]:
            state["position"] = {**state["position"], "samples": 0}
            notes.append("its epoch begins anew, as the batches or the loss are others")
        state["meter"] = fresh["meter"]
    return Loaded(loaded.weights, state, average), notes


def _adapted_optim(
    old: Mapping[str, Any], fresh: Mapping[str, Any], changed: Mapping[str, Any], schedule: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Moments go on wherever the parameters are grouped as they were; a schedule that is touched begins afresh."""
    groups, before = fresh["optimizer"]["param_groups"], old["optimizer"]["param_groups"]
    if "optimizer.name" in changed or [each["params"] for each in groups] != [each["params"] for each in before]:
        return dict(fresh), [_OPTIMIZER]
    optim = dict(old)
    if "training.precision" in changed:
        optim["scaler"] = fresh["scaler"]
    if _touched(changed, *schedule):
        # The rates of the groups are the old schedule's; a schedule that begins needs those that it begins with.
        optim |= {key: fresh[key] for key in ("schedule", "steps", "warmup")}
        optim["optimizer"] = {**old["optimizer"], "param_groups": groups}
        return optim, [_SCHEDULE]
    rates = ("lr", "initial_lr", "max_lr", "min_lr")
    kept = (*rates, "weight_decay", "momentum", "betas", "base_momentum", "max_momentum")
    own = {key.removeprefix("optimizer.") for key in changed}
    merged = [
        {**group, **{key: one[key] for key in kept if key in one and key not in own - {"lr"}}}
        for group, one in zip(groups, before, strict=True)
    ]
    optim["optimizer"] = {**old["optimizer"], "param_groups": merged}
    return optim, []


def _names(optim: Mapping[str, Any]) -> set[str]:
    return {name for values in optim["optimizer"]["state"].values() for name in values}


def _by_step(recipe: Recipe) -> bool:
    """Whether the rates depend on how many steps an epoch has, or on what validation measures."""
    part = recipe.scheduler
    watches = part is not None and part.name == "ReduceLROnPlateau"
    return watches or bool(recipe.optimizer.warmup) or (part is not None and part.every == "step")


def _set_values(state: TrainingState, recipe: Recipe, changed: Mapping[str, Any], *, schedule_is_fresh: bool) -> None:
    """The learning rates, which the schedule has its part in, and the run's length."""
    if not schedule_is_fresh:
        lr, share = recipe.optimizer.lr, recipe.optimizer.backbone_lr_factor
        old_lr, old_share = changed.get("optimizer.lr", lr), changed.get("optimizer.backbone_lr_factor", share)
        state.optim.rebase(lr / float(old_lr), share / float(old_share))
    if "training.epochs" in changed:
        state.epochs = recipe.training.epochs
        state.optim.extend(recipe.training.epochs)


def measured_otherwise(changed: Mapping[str, Any]) -> bool:
    """Whether validation values from before the changes can't be compared with those after them."""
    return _touched(changed, *_MEASURED)


def _touched(changed: Mapping[str, Any], *beginnings: str) -> bool:
    return any(key.startswith(beginnings) for key in changed)
