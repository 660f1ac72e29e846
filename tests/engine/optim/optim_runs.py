"""Small models, recipes and steps that the tests of engine.optim share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from small_runs import line, python_file
from torch import Tensor, nn

from engine.optim.optim import Optim
from engine.policies.precision import Precision
from engine.recipe import Recipe

EPOCHS, STEPS = 3, 5

# What a scheduler can't do without; the run's length and the highest rate are inferred.
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "StepLR": {"step_size": 2},
    "ConstantLR": {"total_iters": 1},
    "MultiStepLR": {"milestones": [2, 4]},
    "ExponentialLR": {"gamma": 0.5},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.001, "step_size_up": 2},
    "ReduceLROnPlateau": {"patience": 0, "factor": 0.5},
    "SequentialLR": {
        "schedulers": [
            {"name": "LinearLR", "start_factor": 0.1, "total_iters": 1},
            {"name": "MultiStepLR", "milestones": [1]},
            {"name": "CosineAnnealingLR"},
        ],
        "milestones": [1, 2],
    },
    "ChainedScheduler": {
        "schedulers": [{"name": "LinearLR", "total_iters": 2}, {"name": "ExponentialLR", "gamma": 0.9}]
    },
}
FUNCTIONS = """
def fall(step): return 1 / (1 + step)
def shrink(step): return 0.9
def scale(x): return 0.5**x
"""


def scheduled(folder: Path, name: str, every: str, **more: Any) -> Recipe:
    """A recipe for the scheduler, at a rate of 0.1 with momentum; functions lie in a file in `folder`."""
    file = python_file(folder, FUNCTIONS)
    functions = {"LambdaLR": {"lr_lambda": f"{file}:fall"}, "MultiplicativeLR": {"lr_lambda": f"{file}:shrink"}}
    return line(
        {
            "optimizer.lr": 0.1,
            "optimizer.momentum": 0.9,
            "scheduler": {"name": name, "every": every, **NEEDED.get(name, {}), **functions.get(name, {}), **more},
            "training.epochs": EPOCHS,
        }
    )


def make(recipe: Recipe, model: nn.Module) -> Optim:
    """The recipe's Optim on the CPU, five steps an epoch."""
    return Optim(recipe, model, STEPS, Precision("fp32", torch.device("cpu")))


def gradients_of(model: nn.Module, optim: Optim, scale: float = 1.0) -> Callable[[], Tensor]:
    """A closure for `Optim.step`: fits `model` of one input to 1."""

    def gradients() -> Tensor:
        optim.zero_grad()
        loss = (model(torch.ones(4, 1)) - 1).square().mean() * scale
        loss.backward()
        return loss.detach()

    return gradients


def network() -> nn.Sequential:
    """1 → 4 → 4 → 1 with a norm: two hidden matrices, a head, biases and a norm's weights; always the same."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))


def run_epochs(optim: Optim, model: nn.Module, epochs: int = EPOCHS) -> list[float]:
    """The rate of each step of epochs whose loss never falls."""
    rates = []
    for _ in range(epochs):
        for _ in range(STEPS):
            rates.append(optim.learning_rate)
            optim.step(gradients_of(model, optim))
        optim.end_epoch(1.0)
    return rates
