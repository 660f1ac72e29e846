"""Loss and metrics over a whole part of the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batch, Batches
from engine.policies.averaging import Averaged
from engine.policies.graphs import as_written
from engine.policies.precision import Precision
from engine.policies.splitting import Splitter
from engine.resuming.randomness import preserved
from engine.runs.history import State
from engine.runs.recorder import Recorder
from engine.tasks.base import Task

_TELL_S = 0.1


def evaluate(
    model: nn.Module,
    task: Task,
    batches: Batches,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    splitter: Splitter,
    look: Callable[[float], None],
) -> dict[str, float]:
    """Sums on the device, read once at the end. What a model draws here leaves no trace.

    `look` is told after each batch how much of the part is done, and may raise.
    """

    def measure(parts: Sequence[Batch]) -> tuple[Tensor, Tensor | float, Tensor]:
        loss: Tensor | float = 0.0
        weight: Tensor | float = 0.0
        sums: Tensor | float = 0.0
        for part in parts:
            with autocast():
                outcome = task.step(model, part)
            share = task.weight(part.targets)
            loss = loss + outcome.loss.float() * share
            weight = weight + share
            sums = sums + task.contributions(outcome.outputs, outcome.targets).sum(0)
        assert isinstance(loss, Tensor)
        assert isinstance(sums, Tensor)
        return loss, weight, sums

    model.eval()
    losses: list[Tensor] = []
    weights: Tensor | float = 0.0
    totals: Tensor | None = None
    samples = 0  # those that can't be read are none
    with torch.inference_mode(), preserved(device):
        for number, batch in enumerate(batches.epoch(0)):
            loss, weight, sums = splitter.run(batch, measure)
            losses.append(loss)
            samples += len(batch)
            weights = weights + weight
            totals = sums if totals is None else totals + sums
            look((number + 1) / batches.steps)
        assert totals is not None
        # Here alone the device is waited for, once an epoch.
        return {
            "loss": float(torch.stack(losses).sum() / weights),
            **task.summarize(totals.tolist(), samples),
        }


class Evaluator:
    """Measures a model, and the averaged weights beside it, over a part of the data, and tells how far it is.

    `look` is called after every batch and may raise.
    """

    def __init__(
        self,
        model: nn.Module,
        average: Averaged | None,
        task: Task,
        precision: Precision,
        device: torch.device,
        recorder: Recorder,
        look: Callable[[], None],
        *,
        elsewhere: bool,
        graphs: bool,
    ) -> None:
        self._model, self._average, self._task = model, average, task
        self._precision, self._device, self._recorder, self._look = precision, device, recorder, look
        self._elsewhere, self._graphs = elsewhere, graphs
        self._parts = 1

    def measure(self, batches: Batches | None, state: State) -> tuple[dict[str, float], dict[str, float]]:
        """(raw, averaged) loss and metrics; empty without batches, the second without averaged weights."""
        if batches is None:
            return {}, {}
        self._recorder.state(state)
        raw = self._of(self._model, batches)
        ready = self._average is not None and self._average.ready
        return raw, self._of(self._average.model, batches) if ready and self._average is not None else {}

    def _of(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        told = time.monotonic()

        def look(fraction: float) -> None:
            nonlocal told
            self._look()
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                self._recorder.progress(fraction=fraction)

        def tell(text: str) -> None:
            self._recorder.say(f"evaluation: {text}")

        splitter = Splitter(self._parts, model, self._device, tell, elsewhere=self._elsewhere)
        with as_written(model, on=self._graphs):
            measured = evaluate(
                model,
                self._task,
                batches,
                device=self._device,
                autocast=self._precision.autocast,
                splitter=splitter,
                look=look,
            )
        self._parts = splitter.parts
        return measured
