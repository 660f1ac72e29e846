"""Optimizer, schedule, warm-up, clipping and loss scaling as one thing that the loop steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from engine.checkpoints.snapshot import plain_name
from engine.errors import RecipeError, TrainingError
from engine.optim.kernels import Steps
from engine.optim.optimizers import WAYS, Both, make_optimizer, needs_closure
from engine.optim.schedules import Schedule, warmup_steps
from engine.policies.precision import Precision
from engine.recipe import Recipe


class Optim:
    """One optimizer step from a closure that computes gradients. For the engine thread alone. Raises RecipeError."""

    def __init__(self, recipe: Recipe, model: nn.Module, steps_per_epoch: int, precision: Precision) -> None:
        self._recipe = recipe
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(recipe, model)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self._shares = [rate / rates[0] for rate in rates]
        self._least = -1e-6 * max(rates)  # schedules that compute one rate from the last end a little beside 0
        self._decayed = _decayed(self.optimizer.param_groups)
        self.about = self._about()
        self._warmup = warmup_steps(recipe, steps_per_epoch)
        self._schedule = Schedule(recipe, self.optimizer, steps_per_epoch)
        self._by_step = self._schedule.every == "step"
        self._clip_norm, self._clip_value = recipe.training.clip_grad_norm, recipe.training.clip_grad_value
        self._clips = bool(self._clip_norm or self._clip_value)
        self._scaler = precision.scaler
        self._taken = Steps(self.optimizer, chosen=bool(WAYS & set(recipe.optimizer.parameters)))
        self._steps = 0
        self.norm: Tensor | None = None
        """The norm of all gradients together before they were clipped in the last step, on the device."""
        self._needs_closure = needs_closure(self.optimizer)
        if self._needs_closure and self._scaler.is_enabled():
            what = f"{recipe.optimizer.name} can't scale its gradients"
            raise RecipeError("training.precision", what, "Use fp32 or bf16 with it.")

    def step(self, gradients: Callable[[], Tensor]) -> None:
        """Call `gradients` to zero and compute them, clip them, step the optimizer and a per-step schedule.

        When `gradients` raises, weights, optimizer, schedule and rates are as they were. Raises TrainingError, with
        which they are so too, for a rate that is below 0 or not finite.
        """
        self._check_rates()
        if self._needs_closure:
            self._step_with_closure(gradients)
        else:
            self._clipped(gradients)
            if self._steps + 1 < self._warmup:
                with self._warm():
                    self._move()
            else:
                self._move()
        self._steps += 1
        if self._by_step:
            self._schedule.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:  # torch's zero_grad does no more, in 30 µs
            parameter.grad = None

    def check_reach(self, model: nn.Module) -> None:
        """Raise TrainingError for a parameter of `model` that is to learn and was not there when this was made."""
        reached = {id(each) for group in self.optimizer.param_groups for each in group["params"]}
        named = model.named_parameters()
        missed = [plain_name(name) for name, each in named if each.requires_grad and id(each) not in reached]
        if missed:
            others = f" and {len(missed) - 1} more" if missed[1:] else ""
            what = f"{missed[0]}{others} appeared in training, or was told only then to learn: no optimizer moves it"
            raise TrainingError("model", what, "Make all parameters, with requires_grad, before the first step.")

    def end_epoch(self, loss: float) -> None:
        """Step a per-epoch schedule; ReduceLROnPlateau sees `loss`, the validation loss."""
        if self._schedule.every == "epoch":
            self._schedule.step(loss)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step, warm-up included; that of the head where the backbone has its own."""
        return float(self.optimizer.param_groups[0]["lr"]) * self._warmth

    def set_learning_rate(self, value: float) -> str:
        """Use `value` from the next step on. A schedule goes on from there, scaled alike; a warm-up ends.

        Gives a note on what could not be done, or "". Raises TrainingError for what is no rate.
        """
        if not (math.isfinite(value) and value > 0):
            raise TrainingError(
                "optimizer.lr", f"{value:g} is not a learning rate", "Give a number above 0, like 0.01."
            )
        warming, self._warmup = self._steps + 1 < self._warmup, 0
        groups = self.optimizer.param_groups
        now = float(groups[0]["lr"])
        note = "The warm-up ends here." if warming else ""
        if now > 0 and math.isfinite(value / now):
            self._schedule.scale(value / now)
            groups[0]["lr"] = value  # without the rounding of the factor
            return note
        for group, share in zip(groups, self._shares, strict=True):
            group["lr"] = value * share
        return f"The schedule stood at rate {now:g} and can't be scaled: it goes its own way from its next step on."

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rate, and all that the schedule makes of it, by `factor`; a warm-up goes on."""
        self._schedule.scale(factor)

    def rebase(self, rate: float, backbone: float) -> None:
        """Follow a recipe with `rate` times the rate of the loaded state, and `backbone` times its backbone's share."""
        self._schedule.rebase([rate * (1.0 if share == 1.0 else backbone) for share in self._shares])

    @property
    def weight_decay(self) -> float:
        """The weight decay of what is decayed; 0 where nothing is."""
        return float(self.optimizer.param_groups[self._decayed[0]]["weight_decay"]) if self._decayed else 0.0

    def set_weight_decay(self, value: float) -> None:
        """Decay by `value` from the next step on; norms and biases that are left out stay so. Raises TrainingError."""
        if not (math.isfinite(value) and value >= 0):
            raise TrainingError("optimizer.weight_decay", f"{value:g} is not a weight decay", "Give 0 or more.")
        if not self._decayed:
            what = f"{self._recipe.optimizer.name} decays no weights here"
            raise TrainingError("optimizer.weight_decay", what, "Choose AdamW for a run that is to decay them.")
        for index in self._decayed:
            self.optimizer.param_groups[index]["weight_decay"] = value

    def extend(self, epochs: int) -> None:
        """Fit a schedule whose length followed from the run to `epochs` in all; others stay as they are."""
        self._schedule.extend(epochs)

    def state(self) -> dict[str, Any]:
        """Everything that a later `load_state` needs to go on with the same bits; torch loads it with weights_only."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self._schedule.state(),
            "scaler": self._scaler.state_dict(),
            "steps": self._steps,
            "warmup": self._warmup,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up where `state` was taken."""
        # How a step is done belongs to this machine and this torch, not to what was done before.
        kernels = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, fused in zip(self.optimizer.param_groups, kernels, strict=True):
            if "fused" in group:
                group["fused"] = fused
                _place_step_counts(group, self.optimizer.state)
        # A checkpoint holds moments row by row; a fused step walks them and the weights as they lie in memory.
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                if (
                    isinstance(value, Tensor)
                    and value.shape == parameter.shape
                    and value.stride() != parameter.stride()
                ):
                    values[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
        self._schedule.load_state(state["schedule"])
        self._scaler.load_state_dict(dict(state["scaler"]))
        self._steps, self._warmup = state["steps"], state["warmup"]

    @property
    def _warmth(self) -> float:
        """The share of the rate that the next step takes: rises from 1/W to 1 over W steps."""
        return (self._steps + 1) / self._warmup if self._steps + 1 < self._warmup else 1.0

    def _check_rates(self) -> None:
        for group in self.optimizer.param_groups:
            if not self._least <= group["lr"] < math.inf:
                what = f"gives a learning rate of {group['lr']:g} at step {self._steps + 1}"
                raise TrainingError("scheduler", what, "Change its parameters so that it stays at 0 or above.")

    def _move(self) -> None:
        if self._scaler.is_enabled():
            self._scaler.step(self.optimizer)
            self._scaler.update()
        else:
            self._taken.step()

    @contextmanager
    def _warm(self) -> Iterator[None]:
        """The groups' rates are those of the warm-up inside, and the schedule's own numbers again afterwards."""
        groups, warmth = self.optimizer.param_groups, self._warmth
        rates = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * warmth
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    def _step_with_closure(self, gradients: Callable[[], Tensor]) -> None:
        """A step that evaluates several times, moving the weights in between: they are put back when one fails."""
        weights = [parameter.detach().clone() for parameter in self._parameters]
        state = {key: _copied(values) for key, values in self.optimizer.state.items()}
        try:
            with self._warm():
                self.optimizer.step(lambda: float(self._clipped(gradients)))  # LBFGS itself reads the loss
        except BaseException:
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.data.copy_(weight)
            self.optimizer.state.clear()
            self.optimizer.state.update(state)
            raise

    def _clipped(self, gradients: Callable[[], Tensor]) -> Tensor:
        loss = gradients()
        if self._clips:
            self._scaler.unscale_(self.optimizer)
            if self._clip_norm:
                self.norm = clip_grad_norm_(self._parameters, self._clip_norm)
            if self._clip_value:
                clip_grad_value_(self._parameters, self._clip_value)
        return loss

    def _about(self) -> str:
        """In a line: `AdamW · 12 tensors decayed, 20 not · backbone at 0.1 of the rate`."""
        groups, part = self.optimizer.param_groups, self._recipe.optimizer
        sizes = [len(group["params"]) for group in groups]
        said = [part.name]
        if isinstance(self.optimizer, Both):
            rest, matrices = self.optimizer.parts
            count = sum(len(group["params"]) for group in matrices.param_groups)
            said = [f"{part.name} for {count} of {sum(sizes)} tensors, {type(rest).__name__} for the others"]
        decayed = sum(size for size, group in zip(sizes, groups, strict=True) if group.get("weight_decay"))
        said.append(f"{decayed} tensors decayed, {sum(sizes) - decayed} not" if decayed else f"{sum(sizes)} tensors")
        if part.backbone_lr_factor != 1:
            said.append(f"backbone at {part.backbone_lr_factor:g} of the rate")
        if part.warmup:
            said.append(f"warm-up over {part.warmup}")
        return " · ".join(said)


def _decayed(groups: list[dict[str, Any]]) -> list[int]:
    """The indices of the groups whose weights may be decayed; where none is, of all that could be."""
    able = [index for index, group in enumerate(groups) if "weight_decay" in group]
    return [index for index in able if groups[index]["weight_decay"]] or able


def _place_step_counts(group: dict[str, Any], state: Mapping[Any, dict[str, Any]]) -> None:
    """Move the number of steps to where a step looks for it: a kernel on the device, torch's other steps on the CPU."""
    for parameter in group["params"]:
        step = state.get(parameter, {}).get("step")
        if isinstance(step, Tensor):
            on_device = group["fused"] or group.get("capturable")
            place = parameter.device if on_device else torch.device("cpu")
            state[parameter]["step"] = step.to(place, torch.float32)


def _copied(values: Any) -> Any:
    """An optimizer's state of one parameter, apart from what a step changes in place: its tensors and lists."""
    return {
        key: value.clone() if isinstance(value, Tensor) else list(value) if isinstance(value, list) else value
        for key, value in values.items()
    }
