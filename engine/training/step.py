"""One training step, for every task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from engine.data.serving.batches import Batch
from engine.insight.health import Health
from engine.insight.phases import Phases
from engine.policies.freezing import Freezing
from engine.policies.graphs import Graphs
from engine.policies.nonfinite import FirstAid
from engine.policies.precision import Precision
from engine.policies.splitting import is_out_of_memory
from engine.resuming.state import TrainingState
from engine.tasks.base import Task


class Stepper:
    """Takes optimizer steps. What may go wrong in one, and what is looked at meanwhile, is for others to know."""

    def __init__(
        self, state: TrainingState, task: Task, freezing: Freezing, precision: Precision, aid: FirstAid,
        health: Health, phases: Phases, graphs: Graphs,
    ) -> None:  # fmt: skip
        self._state, self._task, self._freezing, self._precision = state, task, freezing, precision
        self._aid, self._health, self._phases, self._graphs = aid, health, phases, graphs
        self._checked = False

    def take(self, batch: Batch) -> None:
        """One optimizer step on `batch`; the losses stay on the device.

        Raises NonFiniteError before the weights change, and TrainingError when not even one sample fits into memory.
        """
        state, meter, optim, phases = self._state, self._state.meter, self._state.optim, self._phases
        step, weight = state.at.step + 1, self._task.weight(batch.targets)
        if not state.model.training:
            self._freezing.train()
        phases.begin_step()
        first = True

        def backward(parts: Sequence[Batch]) -> Tensor:
            optim.zero_grad()
            if first:
                meter.begin_step()
                self._health.begin(step)
            total: Tensor | None = None
            for number, part in enumerate(parts):
                self._graphs.begin_part(first=number == 0)
                with self._precision.autocast():
                    outcome = self._task.step(state.model, part)
                loss = outcome.loss
                if len(parts) > 1:  # each counts by its share of the samples, or of their weights
                    loss = loss * (self._task.weight(part.targets) / weight)
                self._aid.check_loss(loss)
                phases.mark("forward")
                self._precision.backward(loss)
                if number + 1 < len(parts):
                    self._graphs.keep_gradients()
                phases.mark("backward")
                total = loss.detach() if total is None else total + loss.detach()
                if first:  # LBFGS evaluates several times a step; the first is the loss before it
                    meter.add(self._graphs.keep(outcome))
            assert total is not None
            return total

        def gradients() -> Tensor:
            nonlocal first
            state.intact = True  # when this raises, the optimizer leaves the weights as they were
            loss = state.splitter.run(batch, backward)
            if not self._checked:
                optim.check_reach(state.model)  # what a model makes lazily is there now
                self._checked = True
            self._aid.check_gradients()
            self._health.after_backward(self._precision.scale)
            if first:
                meter.end_step(loss, weight, step)
            first = state.intact = False
            return loss

        try:
            optim.step(gradients)
        except (RuntimeError, MemoryError) as error:
            if state.intact or not is_out_of_memory(error):
                raise
            remedy = "Try an optimizer with less state, such as SGD, or a smaller model."
            raise state.splitter.explain("the optimizer's own state does not fit", remedy) from error
        self._health.after_update(step)
        if state.average is not None:
            state.average.end_step()
        state.splitter.settle()
        state.intact = True
        phases.mark("optimizer")
