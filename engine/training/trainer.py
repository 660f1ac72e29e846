"""The one training loop, for every task."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints, Loaded
from engine.data.serving.batches import Batch, Batches
from engine.durations import Duration
from engine.errors import TrainingError
from engine.insight.health import Health
from engine.insight.launches import Offer
from engine.insight.phases import Phases
from engine.optim.optim import Optim
from engine.policies.averaging import Averaged
from engine.policies.early_stopping import Patience
from engine.policies.freezing import Freezing
from engine.policies.graphs import GRAPHS, Graphs
from engine.policies.nonfinite import FirstAid, NonFiniteError, all_finite
from engine.policies.precision import Precision
from engine.policies.splitting import Splitter
from engine.recipe import Recipe
from engine.resuming.branching import take_up
from engine.resuming.keeping import Keeper, WentBackError
from engine.resuming.state import Position, TrainingState
from engine.runs.history import Summary
from engine.runs.recorder import Recorder
from engine.tasks.base import Task
from engine.training.clock import Clock
from engine.training.control import Control, Stopped
from engine.training.evaluation import Evaluator
from engine.training.in_vain import in_vain
from engine.training.meter import Meter
from engine.training.orders import Orders
from engine.training.step import Stepper

_READ_S = 0.1  # how often losses are read from the device; each read is a sync
_SKIPS, _ROLLBACKS = 100, 5  # more often than that it is not an accident


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
        channels_last: bool = False,
    ) -> None:
        training, elsewhere = recipe.training, bool(recipe.model.python)
        self._recipe, self._model, self._task = recipe, model, task
        self._train, self._val, self._test = train, val, test
        self._control, self._recorder = control, recorder
        self._precision = Precision(training.precision, device)
        self._freezing = Freezing(recipe, model)
        self._optim = Optim(recipe, model, train.steps, self._precision)
        self._average = Averaged(training.average, model, device) if training.average.kind != "none" else None
        self._patience = Patience(training, task.metrics, validates=val is not None)
        self._meter = Meter(task)
        optimizer = self._optim.optimizer
        self._splitter = Splitter(
            training.accumulate, model, device, self._tell_of_memory, optimizer=optimizer, elsewhere=elsewhere
        )
        self._state = TrainingState(
            recipe, device, model, self._optim, self._average, self._patience, self._meter, self._splitter,
            training.epochs, Position(),
        )  # fmt: skip
        self._channels_last = channels_last
        self._phases = Phases(device, workers=train.workers)
        self._offer = Offer(sum(p.ndim > 1 for p in model.parameters()), open_to_it=training.compile != GRAPHS)
        self._health = Health(model, training.health_every, hooks=not training.compile)
        self._clock = Clock(self._phases)
        self._keeper = Keeper(self._state, checkpoints, recorder, control, self._clock)
        self._orders = Orders(
            self._state, control, recorder, self._keeper, self._clock,
            [part for part in (train, val, test) if part is not None],
            read=self._read, tell_length=self._tell_length,
        )  # fmt: skip
        careful = training.on_nan != "stop"
        self._aid = FirstAid(model, task, train, self._precision, self._splitter, careful=careful)
        graphs = Graphs(model.parameters(), on=training.compile == GRAPHS)
        self._stepper = Stepper(
            self._state, task, self._freezing, self._precision, self._aid, self._health, self._phases, graphs
        )
        self._evaluator = Evaluator(
            model, self._average, task, self._precision, device, recorder, self._orders.obey,
            elsewhere=elsewhere, graphs=graphs.on,
        )  # fmt: skip
        self._freezing.begin_epoch(0)  # those who know all weights have met them by now
        self._every = Duration.parse(training.checkpoint_every)
        self._last_read = time.monotonic()
        self._skipped = self._went_back = 0

    @property
    def at(self) -> Position:
        """Where the training is."""
        return self._state.at

    def trial(self) -> tuple[Stepper, TrainingState, Batches]:
        """What single steps are taken with, aside from a run."""
        return self._stepper, self._state, self._train

    @property
    def about(self) -> list[str]:
        """The optimizer and its groups, what is frozen, and what is set in vain, a line each."""
        return [self._optim.about, *filter(None, [self._freezing.about]), *in_vain(self._recipe, self._train.steps)]

    # The run

    def restore(self, loaded: Loaded) -> list[str]:
        """Take up where a checkpoint was written, random number generators included. Call before `run`.

        Returns what begins afresh because the recipe has changed since. Raises RunError for one that does not fit.
        """
        return take_up(self._state, loaded)

    def run(self) -> Summary:
        """Train to the last epoch, then test the best weights.

        Raises Stopped when the person stops it (a checkpoint is written first) and TrainingError when the loss is not a
        number any more or the memory does not suffice; whatever a model or a dataset raises goes through.
        """
        self._clock.start()
        self._tell_length()
        try:
            if self.at.step == 0:
                self._save_beginning()
            while self.at.epoch < self._state.epochs and not self._patience.exhausted:
                try:
                    self._run_epoch()
                except WentBackError:
                    self._begin_again()
                    self._keeper.save()  # with the lower rate, so that a resumed run and the next rollback have it too
                except NonFiniteError as found:  # noticed when the weights had taken it in already
                    self._search(found)
            return self._finish()
        except Stopped as stopped:
            stopped.saved = self._keeper.kept() if self._state.closed else self._save_now()
            raise
        except Exception:
            self._save_before_failing()
            raise

    def close(self) -> None:
        """Write out what is pending."""
        self._orders.close()
        self._keeper.close()

    def _finish(self) -> Summary:
        times = self._recorder.history.times
        if times is not None:
            self._recorder.say(str(times))
        if not self._keeper.kept():
            self._keeper.face_trouble()
        self._state.closed = True
        best = self._keeper.best()
        if best is not None:
            self._state.put_weights(best)
        tested, averaged = self._evaluator.measure(self._test, "testing")
        self._record("test", tested, averaged)
        named = {f"{self._average.name} {name}": value for name, value in averaged.items()} if self._average else {}
        summary = self._summary({**tested, **named})
        self._recorder.summary(summary)
        trouble = self._keeper.trouble
        if trouble is not None:
            what = f"the training is done, but its weights could not be kept: {trouble.what}"
            raise TrainingError(trouble.where, what, trouble.remedy)
        return summary

    # An epoch

    def _run_epoch(self) -> None:
        if self._freezing.begin_epoch(self.at.epoch):
            self._recorder.say(f"epoch {self.at.epoch + 1}: all parameters learn from here on")
        if self.at.samples == 0:
            self._meter.begin_epoch()
        self._recorder.state("training", epoch=self.at.epoch)
        self._recorder.progress(epoch=self.at.epoch, learning_rate=self._optim.learning_rate)
        self._clock.begin_epoch()
        for batch in self._batches():
            try:
                self._stepper.take(batch)
            except NonFiniteError as found:
                self._help(found, batch)
            self._after_step(len(batch) + batch.skipped)
        self._orders.end_epoch()
        self._read()
        self._optim.check_reach(self._model)
        trained = self._meter.epoch_summary()
        # A stop during validation leaves the epoch as it is: trained, not yet validated. A resumed run validates it.
        if self._average is not None:
            parts = self._splitter.parts
            held = self._freezing.norms
            self._average.end_epoch(self.at.epoch + 1, self._train, self._orders.obey, parts=parts, held=held)
        validated, averaged = self._evaluator.measure(self._val, "validating")
        for name, value in trained.items():
            self._recorder.value(f"epoch/{name}", self.at.step, value)
        self._record("val", validated, averaged)
        self._optim.end_epoch(validated.get("loss", trained["loss"]))
        if validated:
            self._patience.look(validated)
        self.at.epoch, self.at.samples = self.at.epoch + 1, 0
        self._end_epoch(trained, validated, averaged)

    def _batches(self) -> Iterator[Batch]:
        """The epoch's batches from here on."""
        copied = self._train.copy_seconds
        for batch in self._phases.waiting(self._train.epoch(self.at.epoch, self.at.samples)):
            self._phases.moved(self._train.copy_seconds - copied)
            copied = self._train.copy_seconds
            yield batch.channels_last() if self._channels_last else batch

    def _after_step(self, samples: int) -> None:
        """Count, and look at the clock and at what the person wants; nothing here touches the device on most steps."""
        self.at.step += 1
        self.at.samples += samples
        self._state.changed = False
        self._clock.rate.add(samples)
        now = time.monotonic()
        if now - self._last_read >= _READ_S or self._meter.full:
            self._read()
        self._orders.end_step()
        if self._control.pending:
            self._orders.obey()
        if self._due_within_epoch(now):
            self._read()
            self._keeper.save()
        if self._keeper.trouble is not None:
            self._keeper.face_trouble()

    def _read(self) -> None:
        """Read the losses since the last read from the device: the only sync of the loop, ten times a second."""
        values = self._meter.read()
        self._last_read = time.monotonic()
        if values is None:
            return
        self._recorder.values("train", values.steps, values.values)
        self._recorder.value("lr", int(values.steps[-1]), self._optim.learning_rate)
        if self._optim.norm is not None:  # of the last step, where it was computed to clip; the device is in step now
            self._recorder.value("grad_norm", int(values.steps[-1]), self._optim.norm.item())
        for checkup in self._health.read():
            self._recorder.checkup(checkup)
        self._recorder.times(self._phases.times())
        rate = self._clock.rate.per_second(self._last_read)
        if rate:
            self._recorder.value("samples_per_second", int(values.steps[-1]), rate)
        ahead = (self._state.epochs - self.at.epoch) * self._train.samples - self.at.samples
        self._recorder.progress(
            step=self.at.step,
            samples=self.at.samples,
            samples_per_second=rate,
            remaining=ahead / rate if rate else None,
            learning_rate=self._optim.learning_rate,
        )
        if said := self._offer.made(self._phases.launches, self._state.epochs * self._train.steps - self.at.step):
            self._recorder.say(said)
        self._phases.mark("metrics")
        if not np.isfinite(values.values["loss"]).all() or self._precision.collapsed:
            raise NonFiniteError("loss")

    def _end_epoch(
        self, trained: Mapping[str, float], validated: Mapping[str, float], averaged: Mapping[str, float]
    ) -> None:
        measured, at = validated or trained, self.at
        metric = self._task.metrics[0]
        value = measured.get(metric.name, math.nan)  # there is none where every step was skipped
        better = at.improves(metric, measured)
        shown = " · ".join(f"{name} {number:.4g}" for name, number in measured.items())
        said = f"train loss {trained['loss']:.4g} · val {shown}" if validated else f"train {shown}"
        if averaged and self._average is not None:
            said += f" · {self._average.name} {metric.name} {averaged[metric.name]:.4g}"
        self._recorder.say(f"epoch {at.epoch}/{self._state.epochs}  {said}")
        self._recorder.facts(epoch=at.epoch)
        self._recorder.summary(self._summary({}))
        due = self._every.unit == "epoch" and at.epoch % int(self._every.amount) == 0
        if better or due or at.epoch >= self._state.epochs or self._patience.exhausted:
            self._keeper.save(metric.score(value), measured.get("loss"))  # NaN ranks nothing
        if self._patience.exhausted:
            self._recorder.event(at.step, "early stopping", self._patience.reason)
        self._orders.obey()
        self._keeper.face_trouble()

    # When something goes wrong

    def _save_before_failing(self) -> None:
        """A checkpoint of the last whole step, so that the run can go on when the cause is mended."""
        if self._state.intact and not self._state.closed:
            self._meter.discard_step()
            self._splitter.take_back()
            self._save_now()

    def _save_now(self) -> bool:
        """Write a checkpoint and wait for the disk; whether it is there. Weights that are no numbers are not kept."""
        with contextlib.suppress(NonFiniteError):
            self._read()
            self._keeper.save()
            return self._keeper.kept()
        return False

    def _help(self, found: NonFiniteError, batch: Batch) -> None:
        """A step that would have spoilt the weights: name its cause, then do what the recipe says."""
        at, policy = self.at, self._recipe.training.on_nan
        if not self._aid.careful and not all_finite(dict(self._model.named_parameters())):
            raise found  # a step before this one has spoilt the weights
        finding = self._aid.examine(found, batch, at.step + 1, at.epoch, at.samples)
        self._optim.zero_grad()
        self._meter.discard_step()
        self._health.drop()
        try:
            kept = f"Batch and report are in {finding.save(self._recorder.directory.path, batch)}."
        except OSError as error:
            kept = f"The batch could not be kept: {error}."
        whole = self._state.intact  # LBFGS moves the weights before its last look at the loss
        if policy == "skip" and whole and self._skipped < _SKIPS:
            self._skipped += 1
            self._recorder.event(at.step, "nan", f"{finding}; the step is skipped. {kept}")
            return
        if policy == "rollback" and self._went_back < _ROLLBACKS:
            self._went_back += 1
            self._keeper.go_back(f"{finding}. {kept}", self._recipe.training.nan_lr_factor)
        remedy = f"Try a lower optimizer.lr, training.clip_grad_norm = 1.0, or look at the samples. {kept}"
        raise TrainingError("training", str(finding), remedy)

    def _search(self, found: NonFiniteError) -> None:
        """The weights are spoilt: go back to the last checkpoint and look at every step from there."""
        if self._aid.careful:
            what = f"{found}, and no step showed where it began"
            raise TrainingError("training", what, "Try a lower optimizer.lr, or training.precision = fp32.")
        self._aid.careful = True
        try:
            self._keeper.go_back(
                f"{found} at step {self.at.step} or just before it; looking at every step to find where."
            )
        except WentBackError:
            self._begin_again()

    def _save_beginning(self) -> None:
        """A checkpoint of step 0, so that there is always something to go back to."""
        try:
            self._keeper.save()
        except NonFiniteError as error:
            what = "the model's weights are not finite before the first step"
            raise TrainingError("model", what, "Look at how they are made, or where they come from.") from error

    def _begin_again(self) -> None:
        """The training went back: what is held of the steps since must not come to light."""
        self._health.forget()
        self._splitter.settle()
        self._state.intact = True
        self._clock.start()  # the seconds up to here are the checkpoint's
        self._tell_length()

    # Small things

    def _record(self, part: str, raw: Mapping[str, float], averaged: Mapping[str, float]) -> None:
        for title, values in ((part, raw), (f"{part}-average", averaged)):
            for name, value in values.items():
                self._recorder.value(f"{title}/{name}", self.at.step, value)

    def _summary(self, tested: Mapping[str, float]) -> Summary:
        part, seconds = "val" if self._val else "train", self.at.seconds + self._clock.seconds()
        return Summary(self._task.metrics[0].name, self.at.best, self.at.best_epoch, dict(tested), seconds, part)

    def _due_within_epoch(self, now: float) -> bool:
        if self._every.unit == "step":
            return self.at.step % int(self._every.amount) == 0
        return self._every.unit == "second" and now - self._keeper.saved_at >= self._every.amount

    def _tell_length(self) -> None:
        epochs, steps = self._state.epochs, self._state.epochs * self._train.steps
        self._recorder.progress(
            epochs=epochs,
            steps=steps,
            epoch_samples=self._train.samples,
            samples=self.at.samples,
            weight_decay=self._optim.weight_decay,
        )
        self._recorder.facts(steps=steps, epochs=epochs)

    def _tell_of_memory(self, text: str) -> None:
        self._recorder.event(self.at.step, "memory", text)
