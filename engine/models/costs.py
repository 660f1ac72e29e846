"""What a forward pass costs: floating point operations, and the memory that it keeps for the backward pass.

Found on the meta device, where torch computes shapes without memory or arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.models.rows import Shape


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

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and keeping torch.compile away costs more than all else that is done."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, flops = _done(func, args, kwargs or {})
        self.flops += flops
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


@dataclass(frozen=True)
class _Known:
    """An operation that was done on the meta device before: size, stride and type of what it gave, and its cost."""

    results: tuple[tuple[Shape, Shape, torch.dtype], ...]
    flops: int


_MOST_KNOWN = 4096
_known: dict[object, _Known | None] = {}  # by any thread: each access is one step, and what is lost is found again


def _done(func: Any, args: Any, kwargs: Any) -> tuple[Any, int]:
    """What `func` gives, and its floating point operations.

    On the meta device it is not asked twice for the same: many of torch's kernels there are written in Python, and
    take milliseconds for a batch norm.
    """
    if func in _SHAPES and not kwargs and (shapes := _SHAPES[func](*args)) is not None:
        found = tuple(torch.empty(shape, device="meta") for shape in shapes)
        return found if len(found) > 1 else found[0], 0
    key = None if func.is_view else _key((func, args, tuple(kwargs.items())))
    known = _known.get(key) if key is not None else None
    if known is not None:
        made = [torch.empty_strided(size, stride, dtype=kind, device="meta") for size, stride, kind in known.results]
        return tuple(made) if len(func._schema.returns) > 1 else made[0], known.flops
    result = func(*args, **kwargs)
    count = _registry().get(func._overloadpacket)
    flops = count(*args, **kwargs, out_val=result) if count is not None else 0
    if key is not None and key not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = _told(func, args, kwargs, result, flops)
    return result, flops


def _batch_norm(*given: Any) -> tuple[Shape, ...] | None:
    inputs, training = given[0], given[5]
    return (inputs.shape, inputs.shape[1:2], inputs.shape[1:2]) if training and _usual(inputs) else None


def _layer_norm(inputs: Tensor, normalized: Sequence[int], *_: Any) -> tuple[Shape, ...] | None:
    over = len(normalized)
    fits = _usual(inputs) and inputs.shape[-over:] == tuple(normalized)
    means = (*inputs.shape[:-over], *[1] * over)
    return (inputs.shape, means, means) if fits else None


def _group_norm(*given: Any) -> tuple[Shape, ...] | None:
    inputs, samples, groups = given[0], given[3], given[6]
    return (inputs.shape, (samples, groups), (samples, groups)) if _usual(inputs) else None


def _pointwise(*given: Any) -> tuple[Shape, ...] | None:
    """One result, of the shape of the largest of the tensors that are given, over which the others are spread."""
    tensors = [each for each in given if isinstance(each, Tensor)]
    largest = max(tensors, key=lambda each: each.numel()).shape
    spread = all(
        _usual(each)
        and each.ndim == len(largest)
        and all(size in (1, whole) for size, whole in zip(each.shape, largest, strict=True))
        for each in tensors
    )
    return (largest,) if spread else None


def _usual(inputs: Tensor) -> bool:
    return inputs.device.type == "meta" and inputs.dtype is torch.float32 and inputs.is_contiguous()


_aten = torch.ops.aten
# What torch's own kernels for the meta device, written in Python, find in 0.3 to 3 ms: shapes of the result and of the
# statistics. Most of the time that a network takes in which no two layers are alike.
_SHAPES: Mapping[Any, Callable[..., tuple[Shape, ...] | None]] = {
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_layer_norm.default: _layer_norm,
    _aten.native_group_norm.default: _group_norm,
    **dict.fromkeys(
        (
            _aten.relu.default,
            _aten.gelu.default,
            _aten.silu.default,
            _aten.sigmoid.default,
            _aten.tanh.default,
            _aten.add.Tensor,
            _aten.mul.Tensor,
        ),
        _pointwise,
    ),
}


def _told(func: Any, args: Any, kwargs: Any, result: Any, flops: int) -> _Known | None:
    """None where no other tensor can take the place of the result: it lies in the memory of what was given."""
    results = result if isinstance(result, tuple) else (result,)
    if func._schema.is_mutable or not all(isinstance(each, Tensor) and each.device.type == "meta" for each in results):
        return None
    given = {storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
    own = {storage(each) for each in results}
    if own & given or len(own) < len(results) or any(each.storage_offset() for each in results):
        return None
    return _Known(tuple((tuple(each.shape), each.stride(), each.dtype) for each in results), flops)


def _key(value: Any) -> Any:
    """What tells an argument from others; None where it can't be told, or lies on a device that computes."""
    if isinstance(value, Tensor):
        plain = type(value) in (Tensor, nn.Parameter) and value.device.type == "meta"
        return (value.shape, value.stride(), value.dtype) if plain else None
    if isinstance(value, (list, tuple)):
        keys = tuple(map(_key, value))
        return None if None in keys else keys
    return (type(value), value) if isinstance(value, _PLAIN) else None


_PLAIN = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format, OpOverload)


@cache
def _registry() -> Mapping[Any, Callable[..., int]]:
    """torch's operations with their cost."""
    from torch.utils import flop_counter  # it loads the compiler's parts, which the first frame need not wait for

    return flop_counter.flop_registry


def storage(tensor: Tensor) -> int:
    """What tells the memory behind a tensor from any other that is alive; views share it."""
    return int(tensor.untyped_storage()._cdata)


def _given(tensor: Tensor) -> Tensor:
    return tensor
