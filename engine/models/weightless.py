"""Models without memory: their shapes can be followed and their weights counted, and no random number is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)

_BEGINNINGS = (torch.empty, torch.zeros, torch.ones, torch.full)


def weightless(make: Callable[[], M]) -> M:
    """What `make` builds, on the meta device.

    Only what weights begin as is sent there (torch.empty, zeros, ones): what a model computes while it is built, such
    as the widths of a RegNet, needs real numbers, and `torch.device("meta")` would take them away.
    """
    with _WeightsOnMeta():
        model = make()
    return model.to("meta")


class _WeightsOnMeta(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _BEGINNINGS and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)
