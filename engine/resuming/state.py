"""Everything that a checkpoint holds of a training: taken, and put back to the bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Loaded
from engine.checkpoints.manifest import rank
from engine.optim.optim import Optim
from engine.policies.averaging import Averaged, load_named
from engine.policies.early_stopping import Patience
from engine.policies.splitting import Splitter
from engine.recipe import Recipe
from engine.resuming.randomness import lasting_state, restore_random
from engine.tasks.base import Metric
from engine.training.meter import Meter


@dataclass
class Position:
    """Where a training is: `samples` of `epoch` are behind it, `step` optimizer steps in all, `seconds` of work."""

    epoch: int = 0
    samples: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    best_loss: float | None = None

    def improves(self, metric: Metric, measured: Mapping[str, float]) -> bool:
        """Whether the epoch that has ended is the best so far; then it is noted. Ranked as its checkpoint is."""
        value, loss = measured.get(metric.name, math.nan), measured.get("loss", math.nan)
        best = None if self.best is None else rank(metric.score(self.best), self.best_loss)
        found = rank(metric.score(value), loss)
        if found is None or (best is not None and found <= best):
            return False
        self.best, self.best_epoch, self.best_loss = value, self.epoch, loss
        return True


@dataclass
class TrainingState:
    """The parts of a training that change, and where it is. For the engine thread alone.

    `changed` says that a setting was changed since the last step: a checkpoint of this very step has the old one.
    `intact` says that the weights are those of the last whole step, `closed` that they are the best ones and no longer
    belong to the rest: the training is over.
    """

    recipe: Recipe
    device: torch.device
    model: nn.Module
    optim: Optim
    average: Averaged | None
    patience: Patience
    meter: Meter
    splitter: Splitter
    epochs: int
    at: Position
    changed: bool = False
    intact: bool = True
    closed: bool = False

    def files(self) -> dict[str, dict[str, Tensor]]:
        """The weights by the name of their file, as the model has them."""
        weights = {key: value for key, value in self.model.state_dict().items() if isinstance(value, Tensor)}
        return {"model": weights, **({"average": self.average.weights()} if self.average is not None else {})}

    def rest(self, seconds: float) -> dict[str, Any]:
        """All but the weights, as plain containers and tensors."""
        return {
            "recipe": self.recipe.to_toml(),
            "buffers": dict(_transient(self.model)),
            "extra": {key: value for key, value in self.model.state_dict().items() if not isinstance(value, Tensor)},
            "optim": self.optim.state(),
            "average": self.average.state() if self.average is not None else None,
            "patience": self.patience.state(),
            "meter": self.meter.state(),
            "parts": self.splitter.parts,
            "epochs": self.epochs,
            "position": {**asdict(self.at), "seconds": seconds},
            "random": lasting_state(self.device),
        }

    def restore(self, loaded: Loaded) -> None:
        """Take up where a checkpoint was written, random number generators included."""
        state = loaded.state
        self.put_weights(loaded)
        if self.average is not None and loaded.average is not None:
            self.average.load({**loaded.average, **state["extra"]}, state["average"])
        self.optim.load_state(state["optim"])
        self.patience.load_state(state["patience"])
        self.meter.load_state(state["meter"])
        self.splitter.parts = state["parts"]
        self.at, self.epochs = Position(**state["position"]), state["epochs"]
        restore_random(state["random"], self.device)

    def put_weights(self, loaded: Loaded) -> None:
        """Take a checkpoint's weights, but not their average."""
        load_named(self.model, {**loaded.weights, **loaded.state["extra"]})
        buffers = dict(_transient(self.model))
        if missing := loaded.state["buffers"].keys() - buffers.keys():
            raise RuntimeError(f"the model has no buffer {min(missing)}, or adds it only in a step")
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(loaded.state["buffers"][name])


def _transient(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that a model keeps out of its state_dict (`persistent=False`), and may change all the same."""
    kept = model.state_dict().keys()
    return ((name, buffer) for name, buffer in model.named_buffers() if name not in kept)
