"""Give a GPU's memory back during a pause, and take it again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batches
from engine.policies.splitting import is_out_of_memory

_HOST = torch.device("cpu")


class Parking:
    """Moves model, optimizer state and data to host memory and back, to the bit. `moved` is called each time."""

    def __init__(
        self,
        device: torch.device,
        modules: Iterable[nn.Module],
        optimizer: torch.optim.Optimizer,
        batches: Iterable[Batches],
        moved: Callable[[], None],
    ) -> None:
        self._device, self._modules, self._batches, self._moved = device, list(modules), list(batches), moved
        self._optimizer = optimizer
        self._on_device = [
            (state, key) for state in optimizer.state.values() for key, value in state.items()
            if any(tensor.device.type == device.type for tensor in _tensors(value))
        ]  # fmt: skip

    def leave(self) -> bool:
        """Give the device's memory back; whether there was any to give."""
        if self._device.type == "cpu":
            return False
        self._optimizer.zero_grad(set_to_none=True)
        self._move(_HOST)
        return True

    def come_back(self) -> bool:
        """Take the memory again; false, with everything in host memory still, when there is not enough of it."""
        if self._device.type == "cpu":
            return True
        try:
            self._move(self._device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        self._move(_HOST)
        return False

    def _move(self, to: torch.device) -> None:
        # A pause may come in a validation: what is moved in inference mode could never be trained with again.
        with torch.inference_mode(False):
            for module in self._modules:
                module.to(to)
            for state, key in self._on_device:
                value = state[key]
                state[key] = value.to(to) if isinstance(value, Tensor) else [each.to(to) for each in value]
            for batches in self._batches:
                batches.to(to)
            self._moved()
        if to == _HOST:
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


def _tensors(value: object) -> list[Tensor]:
    """A value of an optimizer's state: a tensor, in LBFGS a list of them, or no tensor at all."""
    values = value if isinstance(value, list) else [value]
    tensors = [each for each in values if isinstance(each, Tensor)]
    return tensors if len(tensors) == len(values) else []
