"""A checkpoint put back into a training, whose recipe may have changed since it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checkpoints.checkpoint import Loaded
from engine.errors import RunError, first_line
from engine.recipe import Recipe, changed_settings
from engine.training.state import TrainingState


def take_up(state: TrainingState, loaded: Loaded) -> list[str]:
    """Go on from a checkpoint: to the bit with the recipe that it was written with.

    With another, what the changed settings don't touch goes on and what they replace begins afresh; returns what does,
    in words. Raises RunError for a checkpoint that does not fit.
    """
    recipe = state.recipe
    try:
        changed = changed_settings(Recipe.from_toml(loaded.state["recipe"]), recipe)
        fresh = state.rest(0.0) if changed else {}
        adapted, notes = _adapted(loaded, fresh, changed)
        state.restore(adapted)
        _set_values(state, recipe, changed, notes)
    except Exception as error:  # load_state_dict of torch and of a person's modules raise what they like
        what = f"does not fit the recipe: {first_line(error)}"
        raise RunError(
            "checkpoint", what, "Keep the model, the data and the optimizer that it was made with."
        ) from error
    said = [f"{key} was {value!r}" for key, value in changed.items()]
    return [*([f"settings changed since the checkpoint: {', '.join(said)}"] if said else []), *notes]


def _adapted(loaded: Loaded, fresh: Mapping[str, Any], changed: Mapping[str, Any]) -> tuple[Loaded, list[str]]:
    """The checkpoint with a fresh state where a changed setting has made the old one meaningless."""
    if not changed:
        return loaded, []
    state, average = dict(loaded.state), loaded.average
    state["optim"], notes = _adapted_optim(state["optim"], fresh["optim"], changed)
    if "training.accumulate" in changed:
        state["parts"] = fresh["parts"]
    if _touched(changed, "training.average."):
        state["average"], average = fresh["average"], None
        notes.append("the averaged weights begin at the checkpoint's")
    if _touched(changed, "training.early_stopping."):
        state["patience"] = fresh["patience"]
    if _touched(changed, "data.", "training.seed", "training.limit_batches", "training.overfit_one_batch", "loss."):
        if state["position"]["samples"]:
            state["position"] = {**state["position"], "samples": 0}
            notes.append("its epoch begins anew, as the batches or the loss are others")
        state["meter"] = fresh["meter"]
    return Loaded(loaded.weights, state, average), notes


def _adapted_optim(
    old: Mapping[str, Any], fresh: Mapping[str, Any], changed: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Moments go on wherever the parameters are grouped as they were; a changed schedule or rate begins afresh."""
    groups, before = fresh["optimizer"]["param_groups"], old["optimizer"]["param_groups"]
    if "optimizer.name" in changed or [each["params"] for each in groups] != [each["params"] for each in before]:
        return dict(fresh), ["the optimizer begins afresh"]
    optim = dict(old)
    if "training.precision" in changed:
        optim["scaler"] = fresh["scaler"]
    if _touched(changed, "scheduler", "optimizer.warmup"):
        # The rates of the groups are the old schedule's; a schedule that begins needs those that it begins with.
        optim |= {key: fresh[key] for key in ("schedule", "steps", "warmup")}
        optim["optimizer"] = {**old["optimizer"], "param_groups": groups}
        return optim, ["the learning rate schedule begins afresh"]
    kept = ("lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "base_momentum", "max_momentum")
    own = {key.removeprefix("optimizer.") for key in changed}
    merged = [
        {**group, **{key: one[key] for key in kept if key in one and key not in own - {"lr"}}}
        for group, one in zip(groups, before, strict=True)
    ]
    optim["optimizer"] = {**old["optimizer"], "param_groups": merged}
    return optim, []


def _set_values(state: TrainingState, recipe: Recipe, changed: Mapping[str, Any], notes: list[str]) -> None:
    """The learning rate, which the schedule has its part in, and the run's length."""
    begun_afresh = bool(notes) and any("optimizer" in note or "schedule" in note for note in notes)
    if "optimizer.lr" in changed and not begun_afresh:
        state.optim.scale_learning_rate(recipe.optimizer.lr / float(changed["optimizer.lr"]))
    if "training.epochs" in changed:
        state.epochs = recipe.training.epochs
        state.optim.extend(recipe.training.epochs)


def _touched(changed: Mapping[str, Any], *beginnings: str) -> bool:
    return any(key.startswith(beginnings) for key in changed)
