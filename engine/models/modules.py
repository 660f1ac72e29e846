"""A table of the modules that any model is made of, found by running it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import ModelError, first_line, with_article
from engine.models.auxiliary import main_and_auxiliary
from engine.models.costs import Tally
from engine.models.rows import LayerRow, Shape, count_parameters
from engine.models.traces import Flow
from engine.python_file import line_of, said

_SAMPLES = 2  # batch norm can't do with one


@dataclass
class _Call:
    """A module that is running: its row, how many children have run in it, and what was counted before it."""

    row: int
    children: int
    flops: int
    kept: int


class _Watch:
    """Notes a row for each module inside `model`, in the order in which they first run."""

    def __init__(self, model: nn.Module) -> None:
        self.tally = Tally()
        self.rows: list[LayerRow] = []
        self._place: dict[str, int] = {}
        self._running: list[_Call] = [_Call(-1, 0, 0, 0)]
        self._named = [(name, module) for name, module in model.named_modules() if name]

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        for name, module in self._named:
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            # Called for what fails, too: the model may catch it and go on.
            handles.append(module.register_forward_hook(self._leave(name), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            above = self._running[-1]
            if name not in self._place:
                self._place[name] = len(self.rows)
                path = (*(self.rows[above.row].path if above.row >= 0 else ()), above.children)
                above.children += 1
                self.rows.append(_row(name, module, path, _shape(inputs[0] if inputs else None)))
            row = self._place[name]
            children = sum(other.path[:-1] == self.rows[row].path for other in self.rows)
            self._running.append(_Call(row, children, self.tally.flops, self.tally.kept))

        return hook

    def _leave(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            call = self._running.pop()
            row = self.rows[call.row]  # a module that runs again adds to its row
            self.rows[call.row] = replace(
                row,
                output=_shape(output),
                flops=row.flops + (self.tally.flops - call.flops) / _SAMPLES,
                kept=row.kept + (self.tally.kept - call.kept) / _SAMPLES,
            )

        return hook


def module_rows(
    model: nn.Module, flow: Flow, refusal: Callable[[BaseException], ModelError] | None = None
) -> list[LayerRow]:
    """One row for each module that runs, in the order in which they run, containers before what is in them.

    A last row stands for the model itself where it computes or holds parameters beside its children. The model is run
    in training mode, as some models (googlenet) return more than scores in it. `refusal` explains why it can't be run.
    """
    watch, whole = _Watch(model), type(model).__name__
    try:
        with watch.hooked(), watch.tally.of(model):
            output, others = main_and_auxiliary(model.train()(torch.zeros(_SAMPLES, *flow.shape, dtype=flow.dtype)))
    except BaseException as error:  # a person's module may raise anything
        failed = refusal(error) if refusal else _failed(whole, flow, error)
        seen = [row for row in watch.rows if row.output is not None]
        return [*seen, _whole(whole, seen, model, watch.tally, flow.shape, None, failed)]
    rows = watch.rows
    outermost = [row for row in rows if row.outermost]
    reached = outermost[-1].output if outermost else flow.shape
    if not isinstance(output, Tensor) or output.ndim < 1:
        what = f"{whole} returns {with_article(type(output).__name__)} while it trains"
        remedy = "Return one tensor, or a named tuple of it and auxiliary heads."
        return [*rows, _whole(whole, rows, model, watch.tally, reached, None, ModelError("model", what, remedy))]
    if misfit := _misfit(whole, model, output) or _unled(whole, model, (output, *others), flow):
        return [*rows, _whole(whole, rows, model, watch.tally, reached, None, misfit)]
    given = tuple(output.shape[1:])
    itself = _whole(whole, rows, model, watch.tally, reached, given)
    return rows if rows and not itself.parameters and given == reached else [*rows, itself]


def _misfit(whole: str, model: nn.Module, output: Tensor) -> ModelError | None:
    """Why no loss can train a model that gives this for `_SAMPLES` samples."""
    if len(output) != _SAMPLES:
        rows = "1 row" if len(output) == 1 else f"{len(output)} rows"
        what = f"{whole} gives {rows} for {_SAMPLES} samples"
        return ModelError("model", what, "Return one for each, in their order.")
    if not output.is_floating_point():
        what = f"{whole} gives numbers of {str(output.dtype).removeprefix('torch.')}, and a loss takes real ones"
        return ModelError("model", what, "Return floats, as they were computed.")
    return None


def _unled(whole: str, model: nn.Module, outputs: Sequence[Tensor], flow: Flow) -> ModelError | None:
    """Why no step changes a model that gives these of blank samples: nothing leads a gradient to its weights."""
    trained = any(weight.requires_grad for weight in model.parameters())
    if not trained or any(each.requires_grad for each in outputs) or _led_by_others(model, outputs[0].device, flow):
        return None
    what = f"no gradient leads from what {whole} returns to its weights"
    return ModelError("model", what, "Leave out detach(), no_grad() and what has no derivative, such as argmax().")


def _led_by_others(model: nn.Module, device: torch.device, flow: Flow) -> bool:
    """Whether samples that are not blank lead a gradient to the weights: a model may leave out padding and zeros."""
    if device.type == "meta":  # where no number can decide that
        return False
    try:
        with torch.enable_grad():
            output, others = main_and_auxiliary(model(torch.ones(_SAMPLES, *flow.shape, dtype=flow.dtype)))
        return any(each.requires_grad for each in (output, *others))
    except BaseException:  # a person's module may raise anything: then nothing is known of it
        return True


def _failed(whole: str, flow: Flow, error: BaseException) -> ModelError:
    line = line_of(error)
    text = f"{line}: {said(error)}" if line else first_line(error)
    what = f"{whole} fails on samples of {'×'.join(map(str, flow.shape))}: {text}"
    remedy = "Mend it there, or fit the data to it." if line else ""
    return ModelError("model", what, remedy or "Choose another dataset or model, or transform the data.")


def _row(name: str, module: nn.Module, path: tuple[int, ...], shape: Shape | None) -> LayerRow:
    container = next(module.children(), None) is not None
    if isinstance(module, nn.Sequential):
        settings = f"{len(module)} blocks"
    else:
        settings = "" if container else module.extra_repr()
    title = f"{name.rpartition('.')[2]}: {type(module).__name__}"
    return LayerRow(title, settings, shape, None, count_parameters(module), path=path, container=container)


def _whole(
    name: str,
    rows: list[LayerRow],
    model: nn.Module,
    tally: Tally,
    given: Shape | None,
    output: Shape | None,
    error: ModelError | None = None,
) -> LayerRow:
    """What the model computes and holds beside its children; a parameter that they share is in each of their rows."""
    counted = [row for row in rows if row.outermost]
    return LayerRow(
        name,
        "",
        given,
        output,
        max(0, count_parameters(model) - sum(row.parameters for row in counted)),
        error,
        path=(len(counted),),
        flops=max(0.0, tally.flops / _SAMPLES - sum(row.flops for row in counted)),
        kept=max(0.0, tally.kept / _SAMPLES - sum(row.kept for row in counted)),
    )


def _shape(value: Any) -> Shape | None:
    """Of one sample; of several tensors the first one's."""
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else None
