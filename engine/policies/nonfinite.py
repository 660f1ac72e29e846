"""NaN and infinity: which layer made the first one, of which samples; both are kept for whoever looks into it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.data.serving.batches import Batch, Batches
from engine.policies.graphs import as_written
from engine.policies.precision import Precision
from engine.policies.splitting import Splitter
from engine.tasks.base import Task


class NonFiniteError(Exception):
    """A loss or a gradient is not a number. Out of a step it is raised before the weights are touched."""

    def __init__(self, kind: Literal["loss", "gradient"], layer: str = "") -> None:
        super().__init__(f"a {kind} is not finite")
        self.kind, self.layer = kind, layer


class FirstAid:
    """Looks out for numbers that are none, and finds out where they come from. For the engine thread alone.

    On the CPU every loss is looked at, which costs nothing there. On a GPU that would be a sync a step, so it is done
    only by a recipe that is to skip or to go back, and while the training is `careful`; then gradients are as well.
    """

    def __init__(
        self, model: nn.Module, task: Task, train: Batches, precision: Precision, splitter: Splitter, *, careful: bool
    ) -> None:
        self.careful = careful
        self._model, self._task, self._train = model, task, train
        self._precision, self._splitter = precision, splitter

    def check_loss(self, loss: Tensor) -> None:
        """Raises NonFiniteError."""
        if (self.careful or loss.device.type == "cpu") and not math.isfinite(loss.item()):
            raise NonFiniteError("loss")

    def check_gradients(self) -> None:
        """Raises NonFiniteError. Scaled fp16 gradients overflow by design; their scaler leaves the step out."""
        if not self.careful or self._precision.scaler.is_enabled():
            return
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        if gradients and not math.isfinite(nn.utils.get_total_norm(gradients, math.inf).item()):
            raise NonFiniteError("gradient", bad_gradient_layer(self._model))

    def examine(self, found: NonFiniteError, batch: Batch, step: int, epoch: int, start: int) -> Finding:
        """What is known of a batch of `epoch`, beginning at sample `start`, that made a loss or gradient not finite.

        The model's buffers and the random numbers are those of the step's beginning afterwards.
        """
        samples = self._train.indices(epoch, start)
        bad, layer = bad_samples(batch, samples), found.layer
        if not bad and not layer:
            self._splitter.take_back()
            layer = first_bad_layer(self._model, lambda: self._forward(batch)) or "the loss itself"
        self._splitter.take_back()
        return Finding(step, found.kind, layer, samples, bad)

    def _forward(self, batch: Batch) -> None:
        for part in batch.split(self._splitter.parts):
            with self._precision.autocast():
                self._task.step(self._model, part)


@dataclass(frozen=True)
class Finding:
    """What is known of it: `samples` are the batch's places in the dataset, `bad` those that are not finite there."""

    step: int
    kind: str
    layer: str
    samples: Sequence[int]
    bad: Sequence[int] = ()

    def __str__(self) -> str:
        what = {"loss": "the loss is", "gradient": "a gradient is"}[self.kind]
        where = f"; it first appeared in {self.layer}" if self.layer else ""
        if self.bad:
            where = f"; {_listed('sample', self.bad)} of the dataset {_has(self.bad)} it already"
        return f"{what} not finite at step {self.step}{where}; the batch was {_listed('sample', self.samples)}"

    def save(self, folder: Path, batch: Batch) -> Path:
        """Write the finding and the batch into a folder of its own. Raises OSError."""
        place = folder / f"nonfinite-step-{self.step:09d}"
        place.mkdir(exist_ok=True)
        report = {"step": self.step, "kind": self.kind, "layer": self.layer, "samples": list(self.samples),
                  "bad_samples": list(self.bad)}  # fmt: skip
        (place / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        tensors = {"inputs": batch.inputs, "targets": batch.targets}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                  place / "batch.safetensors")  # fmt: skip
        return place


def bad_samples(batch: Batch, samples: Sequence[int]) -> list[int]:
    """Those of `samples` whose inputs or targets are not finite."""
    finite = torch.ones(len(batch), dtype=torch.bool, device=batch.inputs.device)
    for tensor in (batch.inputs, batch.targets):
        finite &= tensor.isfinite().reshape(len(batch), -1).all(1)
    return [samples[place] for place in (~finite).nonzero().flatten().tolist()]


def first_bad_layer(model: nn.Module, forward: Callable[[], object]) -> str:
    """The first layer whose output is not finite while its inputs are, found by running `forward` once more.

    Empty when all are finite: then it was the loss itself.
    """
    found: list[str] = []

    def hook(name: str, layer: nn.Module) -> Callable[..., None]:
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not found and not _finite(output) and _finite(inputs):
                found.append(_title(name, layer))

        return look

    with ExitStack() as hooks, torch.no_grad():
        hooks.enter_context(as_written(model, on=True))  # it would be compiled anew, with our hooks
        for name, layer in model.named_modules():
            if not any(True for _ in layer.children()):
                hooks.enter_context(layer.register_forward_hook(hook(name, layer)))
        forward()
    return found[0] if found else ""


def bad_gradient_layer(model: nn.Module) -> str:
    """The last layer, in the order of the model, with a gradient that is not finite: backward meets it first."""
    for name, layer in reversed(list(model.named_modules())):
        for parameter in layer.parameters(recurse=False):
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                return _title(name, layer)
    return ""


def all_finite(weights: Mapping[str, object]) -> bool:
    """Whether every floating-point weight is finite. One sync."""
    floating = [w for w in weights.values() if isinstance(w, Tensor) and w.is_floating_point() and w.numel()]
    if not floating:
        return True
    norms = torch._foreach_norm([weight.detach() for weight in floating], float("inf"))
    return bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


def _title(name: str, layer: nn.Module) -> str:
    return f"{name} ({type(layer).__name__})" if name else type(layer).__name__


def _finite(value: object) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(value) if tensor.is_floating_point())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _has(numbers: Sequence[int]) -> str:
    return "has" if len(numbers) == 1 else "have"


def _listed(noun: str, numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"{noun} {shown}" if len(numbers) == 1 else f"{noun}s {shown}"
