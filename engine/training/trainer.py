"""The one training loop, for every task."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.data.batches import Batch, Batches
from engine.durations import Duration
from engine.errors import RunError, TrainingError
from engine.recipe import Recipe
from engine.runs.history import Summary
from engine.tasks.base import Metric, Task
from engine.training.checkpoint import Checkpoints, load
from engine.training.control import CheckpointNow, Control, SetLearningRate, Stopped
from engine.training.meter import Meter
from engine.training.optim import Optim
from engine.training.precision import Precision
from engine.training.recorder import Recorder

_READ_S = 0.1  # how often losses are read from the device; each read is a sync


@dataclass
class Position:
    """Where a training is: `samples` of `epoch` are behind it, `step` optimizer steps in all, `seconds` of work."""

    epoch: int = 0
    samples: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0


class Trainer:
    """Runs a recipe's epochs. Lives in the engine thread; told what to do through `control`, speaks through `recorder`.

    `train`, `val` and `test` serve batches on `device`, where `model` already is.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        task: Task,
        train: Batches,
        val: Batches | None,
        test: Batches | None,
        *,
        device: torch.device,
        control: Control,
        recorder: Recorder,
        checkpoints: Checkpoints,
    ) -> None:
        self._recipe, self._model, self._task = recipe, model, task
        self._train, self._val, self._test = train, val, test
        self._device, self._control, self._recorder = device, control, recorder
        self._checkpoints = checkpoints
        self._precision = Precision(recipe.training.precision, device)
        self._optim = Optim(recipe, model, train.steps, self._precision)
        self._meter = Meter(task)
        self._every = Duration.parse(recipe.training.checkpoint_every)
        self.at = Position()
        self._last_read = self._last_save = self._started = time.monotonic()
        self._rate = _Rate()
        self._rate_changed = False
        self._trouble: TrainingError | None = None
        """Why the newest checkpoint could not be written."""

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Take up where a checkpoint was written, random number generators included. Call before `run`."""
        self._model.load_state_dict({**weights, **state["extra"]})
        self._optim.load_state(state)
        self.at = Position(**state["position"])
        self._meter.loss_sum, self._meter.samples = state["meter"]["loss_sum"], state["meter"]["samples"]
        self._meter.sums = list(state["meter"]["sums"])
        _restore_random(state["random"], self._device)

    def run(self) -> Summary:
        """Train to the last epoch, then test the best weights.

        Raises Stopped when the person stops it (a checkpoint is written first) and TrainingError when the loss is not a
        number any more; whatever a model raises goes through.
        """
        epochs = self._recipe.training.epochs
        self._started = self._last_save = time.monotonic()
        self._recorder.progress(
            epochs=epochs, steps=epochs * self._train.steps, epoch_samples=self._train.samples, samples=self.at.samples
        )
        self._recorder.facts(steps=epochs * self._train.steps)
        try:
            while self.at.epoch < epochs:
                self._run_epoch()
            self._model.load_state_dict(self._best_weights())
            return self._finish()
        except Stopped as stopped:
            self._read()
            stopped.saved = self.save()
            raise

    def save(self, score: float | None = None) -> bool:
        """Write a checkpoint of this position unless there is one that still holds; whether it is there now.

        A disk that can't take it is said, and the training goes on.
        """
        self._last_save = time.monotonic()
        self._recorder.flush()
        try:
            self._checkpoints.save(
                self.at.epoch, self.at.step, self._model, self._state(), score, replace=self._rate_changed
            )
        except TrainingError as error:
            self._trouble = error
            self._recorder.event(self.at.step, "trouble", str(error))
            return False
        self._rate_changed, self._trouble = False, None
        return True

    def _run_epoch(self) -> None:
        if self.at.samples == 0:
            self._meter.begin_epoch()
        self._recorder.state("training", epoch=self.at.epoch)
        self._recorder.progress(epoch=self.at.epoch, learning_rate=self._optim.learning_rate)
        self._rate.restart()
        for batch in self._train.epoch(self.at.epoch, self.at.samples):
            self._step(batch)
            self._after_step(len(batch))
        self._read()
        trained = self._meter.epoch_summary()
        # A stop during validation leaves the epoch as it is: trained, not yet validated. A resumed run validates it.
        validated = self._evaluate(self._val, "validating") if self._val else {}
        for part, values in (("epoch", trained), ("val", validated)):
            for name, value in values.items():
                self._recorder.value(f"{part}/{name}", self.at.step, value)
        self._optim.end_epoch(validated.get("loss", trained["loss"]))
        self.at.epoch, self.at.samples = self.at.epoch + 1, 0
        self._end_epoch(trained, validated)

    def _step(self, batch: Batch) -> None:
        """One optimizer step on `batch`; the losses stay on the device."""
        self._model.train()
        self._meter.begin_step()
        first = True

        def gradients() -> Tensor:
            nonlocal first
            self._optim.zero_grad()
            total = torch.zeros((), device=self._device)
            for micro in batch.split(self._recipe.training.accumulate):
                with self._precision.autocast():
                    outcome = self._task.step(self._model, micro)
                loss = outcome.loss * micro.weight if micro.weight != 1.0 else outcome.loss
                self._precision.backward(loss)
                total = total + loss.detach()
                if first:  # LBFGS evaluates several times a step; the first is the loss before it
                    self._meter.add(outcome, micro.weight)
            first = False
            return total

        self._optim.step(gradients)

    def _after_step(self, samples: int) -> None:
        """Count, and look at the clock and at what the person wants; nothing here touches the device on most steps."""
        self.at.step += 1
        self._rate_changed = False
        self.at.samples += samples
        self._rate.add(samples)
        now = time.monotonic()
        if now - self._last_read >= _READ_S or self._meter.full:
            self._read()
        if self._control.pending:
            self._obey()
        if self._due_within_epoch(now):
            self._read()
            self.save()

    def _read(self) -> None:
        """Read the losses since the last read from the device: the only sync of the loop, ten times a second."""
        values = self._meter.read(self.at.step)
        self._last_read = time.monotonic()
        if values is None:
            return
        losses = values.values["loss"]
        self._recorder.values("train", values.first, values.values)
        self._recorder.value("lr", self.at.step, self._optim.learning_rate)
        rate = self._rate.per_second(self._last_read)
        ahead = (self._recipe.training.epochs - self.at.epoch) * self._train.samples - self.at.samples
        self._recorder.progress(
            step=self.at.step,
            samples=self.at.samples,
            samples_per_second=rate,
            remaining=ahead / rate if rate else None,
            learning_rate=self._optim.learning_rate,
        )
        if not np.isfinite(losses).all():
            step = values.first + int(np.flatnonzero(~np.isfinite(losses))[0])
            what = f"the loss became {losses[step - values.first]} at step {step}"
            raise TrainingError("training", what, "Try a lower optimizer.lr, or training.clip_grad_norm = 1.0.")

    def _evaluate(self, batches: Batches, state: str) -> dict[str, float]:
        """Loss and metrics over all of `batches`, summed on the device and read once."""
        self._recorder.state("validating" if state == "validating" else "testing")
        self._model.eval()
        loss_sum: Tensor | float = 0.0
        sums: Tensor | float = 0.0
        told = time.monotonic()
        with torch.inference_mode():
            for number, batch in enumerate(batches.epoch(0)):
                with self._precision.autocast():
                    outcome = self._task.step(self._model, batch)
                loss_sum = loss_sum + outcome.loss.float() * len(batch)
                sums = sums + self._task.contributions(outcome.outputs, outcome.targets).sum(0)
                if self._control.pending:
                    self._obey()
                if time.monotonic() - told > _READ_S:
                    told = time.monotonic()
                    self._recorder.progress(fraction=(number + 1) / batches.steps)
        count = batches.samples
        assert isinstance(loss_sum, Tensor)
        assert isinstance(sums, Tensor)
        return {"loss": loss_sum.item() / count, **self._task.summarize(sums.tolist(), count)}  # once an epoch

    def _end_epoch(self, trained: Mapping[str, float], validated: Mapping[str, float]) -> None:
        measured = validated or trained
        metric = self._task.metrics[0]
        value = measured[metric.name]
        better = math.isfinite(value) and (self.at.best is None or _score(metric, value) > _score(metric, self.at.best))
        if better:
            self.at.best, self.at.best_epoch = value, self.at.epoch
        due = self._every.unit == "epoch" and self.at.epoch % int(self._every.amount) == 0
        shown = " · ".join(f"{name} {number:.4g}" for name, number in measured.items())
        said = f"train loss {trained['loss']:.4g} · val {shown}" if validated else f"train {shown}"
        self._recorder.say(f"epoch {self.at.epoch}/{self._recipe.training.epochs}  {said}")
        self._recorder.facts(epoch=self.at.epoch)
        self._recorder.summary(self._summary({}))
        if better or due or self.at.epoch == self._recipe.training.epochs:
            self.save(_score(metric, value) if math.isfinite(value) else None)
        if self._control.pending:
            self._obey()

    def _finish(self) -> Summary:
        tested = self._evaluate(self._test, "testing") if self._test else {}
        for name, value in tested.items():
            self._recorder.value(f"test/{name}", self.at.step, value)
        summary = self._summary(tested)
        self._recorder.summary(summary)
        if self._trouble is not None:
            what = f"the training is done, but its weights could not be kept: {self._trouble.what}"
            raise TrainingError(self._trouble.where, what, self._trouble.remedy)
        return summary

    def _summary(self, tested: Mapping[str, float]) -> Summary:
        part = "val" if self._val else "train"
        return Summary(
            self._task.metrics[0].name, self.at.best, self.at.best_epoch, dict(tested), self._seconds(), part
        )

    def _best_weights(self) -> dict[str, Any]:
        """The weights that validated best; those at hand if there is no such checkpoint."""
        best = self._checkpoints.best()
        if best is None or self.at.best_epoch == self.at.epoch:
            return self._model.state_dict()
        try:
            weights, state = load(best)
        except RunError as error:
            self._recorder.event(self.at.step, "trouble", f"{error} The last weights are used.")
            return self._model.state_dict()
        return {**weights, **state["extra"]}

    def _obey(self) -> None:
        """Do what the person asked for. Raises Stopped."""
        self._carry_out()
        if self._control.paused and not self._control.stopping:
            self._pause()
        if self._control.stopping:
            raise Stopped

    def _carry_out(self) -> None:
        for command in self._control.take():
            if isinstance(command, SetLearningRate):
                before = self._optim.learning_rate
                self._optim.set_learning_rate(command.value)
                self._rate_changed = True  # a checkpoint of this very step has the old one
                self._recorder.event(self.at.step, "lr", f"learning rate {before:g} → {command.value:g}")
                self._recorder.progress(learning_rate=command.value)
            elif isinstance(command, CheckpointNow):
                self._read()
                if self.save():
                    self._recorder.event(self.at.step, "checkpoint", f"checkpoint written at step {self.at.step}")

    def _pause(self) -> None:
        state = self._recorder.history.progress.state
        self._read()
        self._recorder.state("paused")
        self._recorder.event(self.at.step, "pause", f"paused at step {self.at.step}")
        paused_at = time.monotonic()
        while self._control.paused and not self._control.stopping:
            self._control.wait(0.5)
            self._carry_out()
        self._started += time.monotonic() - paused_at
        self._rate.restart()
        if not self._control.stopping:
            self._recorder.event(self.at.step, "resume", "training goes on")
            self._recorder.state(state)

    def _due_within_epoch(self, now: float) -> bool:
        if self._every.unit == "step":
            return self.at.step % int(self._every.amount) == 0
        return self._every.unit == "second" and now - self._last_save >= self._every.amount

    def _seconds(self) -> float:
        return self.at.seconds + time.monotonic() - self._started

    def _state(self) -> dict[str, Any]:
        extra = {key: value for key, value in self._model.state_dict().items() if not isinstance(value, Tensor)}
        meter = {"loss_sum": self._meter.loss_sum, "samples": self._meter.samples, "sums": list(self._meter.sums)}
        position = {**asdict(self.at), "seconds": self._seconds()}
        return {
            **self._optim.state(),
            "position": position,
            "meter": meter,
            "extra": extra,
            "random": _random_state(self._device),
        }


class _Rate:
    """Samples a second, smoothed over a few seconds so that it can be read."""

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._samples = 0
        self._seconds = 0.0
        self._since = time.monotonic()

    def restart(self) -> None:
        """Leave out the time since the last read: it was not training."""
        self._since = time.monotonic()

    def add(self, samples: int) -> None:
        self._samples += samples

    def per_second(self, now: float) -> float:
        self._seconds += now - self._since
        self._since = now
        # A whole epoch may be shorter than what can be measured: then several are taken together.
        if self._seconds > 0.02 and self._samples:
            fresh = self._samples / self._seconds
            keep = math.exp(-self._seconds / 2.0) if self._smoothed else 0.0
            self._smoothed = keep * self._smoothed + (1 - keep) * fresh
            self._samples, self._seconds = 0, 0.0
        return self._smoothed


def _score(metric: Metric, value: float) -> float:
    """Greater is better."""
    return value if metric.goal == "max" else -value


def _random_state(device: torch.device) -> dict[str, Any]:
    """The state of every random number generator that a training may draw from, as plain containers and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": {"name": str(name), "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                  "position": int(position), "has_gauss": int(has_gauss), "gauss": float(gauss)},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }  # fmt: skip


def _restore_random(state: Mapping[str, Any], device: torch.device) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype(np.uint32)
    np.random.set_state((saved["name"], keys, saved["position"], saved["has_gauss"], saved["gauss"]))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
