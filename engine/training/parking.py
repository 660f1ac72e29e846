"""Give a GPU's memory back during a pause, and take it again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.data.batches import Batches

_HOST = torch.device("cpu")


@contextmanager
def parked(
    device: torch.device,
    modules: Iterable[nn.Module],
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batches],
    moved: Callable[[], None],
) -> Iterator[bool]:
    """Model, optimizer state and data lie in host memory inside; the same bits are back on `device` afterwards.

    `moved` is called after each way. Gives whether there was a device to give back.
    """
    if device.type == "cpu":
        yield False
        return
    modules, batches = list(modules), list(batches)
    optimizer.zero_grad(set_to_none=True)
    on_device = [(state, key) for state in optimizer.state.values() for key, value in state.items()
                 if any(tensor.device.type == device.type for tensor in _tensors(value))]  # fmt: skip

    def move(to: torch.device) -> None:
        # A pause may come in a validation: what is moved in inference mode could never be trained with again.
        with torch.inference_mode(False):
            for module in modules:
                module.to(to)
            for state, key in on_device:
                value = state[key]
                state[key] = value.to(to) if isinstance(value, Tensor) else [each.to(to) for each in value]
            for batch in batches:
                batch.to(to)
            moved()

    move(_HOST)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        yield True
    finally:
        move(device)


def _tensors(value: object) -> list[Tensor]:
    """A value of an optimizer's state: a tensor, in LBFGS a list of them, or no tensor at all."""
    values = value if isinstance(value, list) else [value]
    tensors = [each for each in values if isinstance(each, Tensor)]
    return tensors if len(tensors) == len(values) else []
