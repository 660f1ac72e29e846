"""Averaged weights beside the raw ones: EMA and SWA, by torch.optim.swa_utils."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine.checkpoints.snapshot import plain_name
from engine.data.serving.batches import Batches
from engine.errors import words
from engine.recipe import Average
from engine.resuming.randomness import preserved

_PREFIX = "module."


class Averaged:
    """A second model whose weights are a mean of the first's.

    EMA (Polyak & Juditsky 1992; torch's get_ema_multi_avg_fn) moves after every step and averages batch norm's running
    statistics as well; other buffers, such as masks and tables of indices, are the model's own. SWA (Izmailov et al.
    2018, arXiv:1803.05407) takes the mean of the weights at the ends of epochs; batch norm's statistics are measured
    anew on the training samples before it is evaluated.
    """

    def __init__(self, how: Average, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self.name = how.kind
        self._start = how.start
        self._ema = how.kind == "ema"
        average = get_ema_multi_avg_fn(how.decay) if self._ema else None  # type: ignore[no-untyped-call]
        self._last = 0
        self._decay = how.decay
        self.model = AveragedModel(model, multi_avg_fn=average)
        self._raw = model
        both = zip(self.model.module.modules(), model.modules(), strict=True)
        self._norms = [pair for pair in both if isinstance(pair[1], _NormBase) and pair[1].track_running_stats]

    @torch.no_grad()
    def end_step(self) -> None:
        """The optimizer has moved the weights."""
        if not self._ema:
            return
        begins = not self.ready
        statistics = [tensor.clone() for averaged, _ in self._norms for tensor in _statistics(averaged)]
        self.model.update_parameters(self._raw)  # which copies every buffer
        if statistics and not begins:
            fresh = [tensor for averaged, _ in self._norms for tensor in _statistics(averaged)]
            torch._foreach_lerp_(statistics, fresh, 1 - self._decay)
            torch._foreach_copy_(fresh, statistics)

    def end_epoch(
        self,
        epoch: int,
        train: Batches,
        look: Callable[[], None] = lambda: None,
        *,
        parts: int = 1,
        held: Collection[nn.Module] = (),
    ) -> None:
        """`epoch` epochs are trained. Told twice of one, as after a resume in its validation, it counts it once.

        Batch norm is measured on each batch in `parts`, so that what fits into memory in a step fits here; `look` is
        called after each and may raise. Norms of the raw model that are `held` keep their statistics.
        """
        if self._ema or epoch <= self._start:
            return
        if epoch > self._last:
            self._last = epoch
            self.model.update_parameters(self._raw)

        def inputs() -> Iterator[Tensor]:
            for batch in train.epoch(epoch - 1):
                for part in batch.split(parts):
                    yield part.inputs
                look()

        with preserved(self._device):  # dropout draws
            self._measure_norms(inputs(), {id(norm) for norm in held})

    @torch.no_grad()
    def _measure_norms(self, inputs: Iterator[Tensor], held: Collection[int]) -> None:
        """torch.optim.swa_utils.update_bn, but for norms that are held: it would measure those anew as well."""
        kept = {averaged for averaged, raw in self._norms if id(raw) in held}
        measured = [each for each in self.model.modules() if isinstance(each, _BatchNorm) and each not in kept]
        if not measured:
            return
        momenta, was_training = [norm.momentum for norm in measured], self.model.training
        self.model.train()
        for norm in kept:
            norm.eval()
        for norm in measured:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        try:
            for each in inputs:
                self.model(each)
        finally:
            for norm, momentum in zip(measured, momenta, strict=True):
                norm.momentum = momentum
            self.model.train(was_training)

    @property
    def ready(self) -> bool:
        """Whether there is a mean to evaluate."""
        return int(self.model.n_averaged) > 0

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights under the raw model's names."""
        state = self.model.state_dict()
        return {
            key.removeprefix(_PREFIX): value
            for key, value in state.items()
            if key.startswith(_PREFIX) and isinstance(value, Tensor)
        }

    def state(self) -> dict[str, Any]:
        """What the weights don't say."""
        return {"n_averaged": int(self.model.n_averaged), "last": self._last}

    def load(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Average on from there."""
        load_named(self.model.module, weights)
        self.model.n_averaged.fill_(state["n_averaged"])
        self._last = state["last"]


def load_named(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """`load_state_dict` of what a checkpoint holds, whose names are those of a model that was not compiled."""
    names = {plain_name(name): name for name in model.state_dict()}
    try:
        model.load_state_dict({names.get(name, name): value for name, value in weights.items()})
    except RuntimeError as error:  # torch's first line is a heading, and the names stand below it
        heading, *found = words(error).splitlines()
        raise RuntimeError(" ".join(map(str.strip, found)) or heading) from error


def _statistics(norm: nn.Module) -> list[Tensor]:
    return [norm.get_buffer("running_mean"), norm.get_buffer("running_var")]
