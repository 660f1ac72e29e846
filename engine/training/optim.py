"""Optimizer, scheduler, clipping and loss scaling as one thing that the loop steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine import catalog
from engine.catalog import Entry
from engine.errors import RecipeError
from engine.recipe import Recipe, Scheduler
from engine.training.precision import Precision

# Where an optimizer's group keeps learning rates: OneCycleLR and CyclicLR write theirs there.
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer. Raises RecipeError."""
    part = recipe.optimizer
    entry = catalog.find("optimizer", catalog.optimizers(), part.name, "optimizer")
    entry.check(part.parameters, "optimizer")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise RecipeError("model", "has no parameter to train", "Add a layer with weights, such as Linear.")
    return entry.make(part.parameters, "optimizer", trained)  # type: ignore[no-any-return]


def make_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    """The recipe's scheduler or None, with what follows from the run's length filled in. Raises RecipeError."""
    part = recipe.scheduler
    if part is None:
        return None
    entry = catalog.find("scheduler", catalog.schedulers(), part.name, "scheduler")
    entry.check(part.parameters, "scheduler")
    if part.name == "ReduceLROnPlateau" and part.every == "step":
        raise RecipeError("scheduler.every", "ReduceLROnPlateau watches the validation loss", 'Write every = "epoch".')
    if part.name == "ReduceLROnPlateau" and part.parameters.get("mode", "min") != "min":
        raise RecipeError("scheduler.mode", "'max' would lower the rate while the loss improves", "Remove it.")
    return entry.make(_completed(entry, part, recipe, steps_per_epoch), "scheduler", optimizer)


def _completed(entry: Entry, part: Scheduler, recipe: Recipe, steps_per_epoch: int) -> Mapping[str, Any]:
    length = recipe.training.epochs * (steps_per_epoch if part.every == "step" else 1)
    known = {"T_max": length, "total_steps": length, "max_lr": recipe.optimizer.lr}
    if "epochs" in part.parameters:  # OneCycleLR takes its length in epochs as well
        known["steps_per_epoch"] = known.pop("total_steps") // recipe.training.epochs
    return {**{name: value for name, value in known.items() if entry.parameter(name)}, **part.parameters}


class Optim:
    """One optimizer step from a closure that computes gradients. For the engine thread alone."""

    def __init__(self, recipe: Recipe, model: nn.Module, steps_per_epoch: int, precision: Precision) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(recipe, self._parameters)
        self.scheduler = make_scheduler(recipe, self.optimizer, steps_per_epoch)
        self._every = recipe.scheduler.every if recipe.scheduler else ""
        self._clip = recipe.training.clip_grad_norm
        self._scaler = precision.scaler
        self._needs_closure = isinstance(self.optimizer, torch.optim.LBFGS)
        if self._needs_closure and self._scaler.is_enabled():
            raise RecipeError("training.precision", "LBFGS can't scale its gradients", "Use fp32 or bf16 with it.")

    def step(self, gradients: Callable[[], Tensor]) -> None:
        """Call `gradients` to zero and compute them, clip them, step the optimizer and a per-step scheduler."""
        if self._needs_closure:
            self.optimizer.step(lambda: float(self._clipped(gradients)))  # LBFGS itself reads the loss
        else:
            self._clipped(gradients)
            self._scaler.step(self.optimizer)
            self._scaler.update()
        if self._every == "step":
            self.scheduler.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def end_epoch(self, loss: float) -> None:
        """Step a per-epoch scheduler; ReduceLROnPlateau sees `loss`, the validation loss."""
        if self._every != "epoch":
            return
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(loss)
        else:
            self.scheduler.step()

    @property
    def learning_rate(self) -> float:
        """The first group's learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, value: float) -> None:
        """Use `value` now. A schedule goes on from there: its base and peak rates are scaled by the same factor."""
        factor = value / self.learning_rate if self.learning_rate > 0 else 1.0
        for group in self.optimizer.param_groups:
            for key in _RATES:
                if isinstance(group.get(key), (int, float)):
                    group[key] *= factor
            group["lr"] = value
        for key in ("base_lrs", "max_lrs"):
            if hasattr(self.scheduler, key):
                setattr(self.scheduler, key, [rate * factor for rate in getattr(self.scheduler, key)])

    def state(self) -> dict[str, Any]:
        """Everything that a later `load_state` needs to go on with the same bits."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": _plain(self.scheduler.state_dict()) if self.scheduler else {},
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up where `state` was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(dict(state["scheduler"]))
        self._scaler.load_state_dict(dict(state["scaler"]))

    def _clipped(self, gradients: Callable[[], Tensor]) -> Tensor:
        loss = gradients()
        if self._clip > 0:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        return loss


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's state without functions and with plain containers, so that weights_only can load it."""
    return {
        key: dict(value) if isinstance(value, dict) else value for key, value in state.items() if not callable(value)
    }
