"""Averaged weights beside the raw ones: EMA and SWA, by torch.optim.swa_utils."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from engine.data.batches import Batches
from engine.recipe import Average
from engine.training.randomness import preserved

_PREFIX = "module."


class Averaged:
    """A second model whose weights are a mean of the first's.

    EMA (Polyak & Juditsky 1992; torch's get_ema_multi_avg_fn) moves after every step and averages batch norm's running
    statistics as well. SWA (Izmailov et al. 2018, arXiv:1803.05407) takes the mean of the weights at the ends of
    epochs; batch norm's statistics are measured anew on the training samples before it is evaluated.
    """

    def __init__(self, how: Average, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self.name = how.kind
        self._start = how.start
        self._ema = how.kind == "ema"
        average = get_ema_multi_avg_fn(how.decay) if self._ema else None  # type: ignore[no-untyped-call]
        self._last = 0
        self.model = AveragedModel(model, multi_avg_fn=average, use_buffers=self._ema)
        self._raw = model

    def end_step(self) -> None:
        """The optimizer has moved the weights."""
        if self._ema:
            self.model.update_parameters(self._raw)

    def end_epoch(self, epoch: int, train: Batches, look: Callable[[], None] = lambda: None) -> None:
        """`epoch` epochs are trained. Told twice of one, as after a resume in its validation, it counts it once.

        `look` is called after each batch that batch norm is measured on, and may raise.
        """
        if self._ema or epoch <= self._start:
            return
        if epoch > self._last:
            self._last = epoch
            self.model.update_parameters(self._raw)

        def inputs() -> Iterator[Tensor]:
            for batch in train.epoch(epoch - 1):
                yield batch.inputs
                look()

        with preserved(self._device):  # dropout draws
            update_bn(inputs(), self.model)

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
        self.model.module.load_state_dict(weights)
        self.model.n_averaged.fill_(state["n_averaged"])
        self._last = state["last"]

    def to(self, device: torch.device) -> None:
        """Move to another device."""
        self.model.to(device)
