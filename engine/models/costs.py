"""What a forward pass costs: floating point operations, and the memory that it keeps for the backward pass.

Found on the meta device, where torch computes shapes without memory or arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is done inside `with tally:`; `of(module)` also what autograd keeps there, weights left out.

    `flops` are those of matrix products, convolutions and attention, as torch.utils.flop_counter has them: a
    multiplication and its addition are two.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.kept = 0
        """Bytes that the backward pass needs of what was computed."""
        self._kept: dict[int, Any] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result

    @contextmanager
    def of(self, module: nn.Module) -> Iterator[None]:
        """Count what `module` does inside, in a training step."""
        self._own |= {storage(tensor) for tensor in (*module.parameters(), *module.buffers())}
        with torch.autograd.graph.saved_tensors_hooks(self._keep, _given), torch.enable_grad(), self:
            yield

    def keeps(self, tensor: Tensor) -> bool:
        """Whether the backward pass needs the memory of `tensor`."""
        return storage(tensor) in self._kept

    def _keep(self, tensor: Tensor) -> Tensor:
        if storage(tensor) not in self._own and storage(tensor) not in self._kept:
            # The storage itself is held: its address must not be given to another.
            self._kept[storage(tensor)] = tensor.untyped_storage()
            self.kept += tensor.untyped_storage().nbytes()
        return tensor


def storage(tensor: Tensor) -> int:
    """What tells the memory behind a tensor from any other that is alive; views share it."""
    return int(tensor.untyped_storage()._cdata)


def _given(tensor: Tensor) -> Tensor:
    return tensor
