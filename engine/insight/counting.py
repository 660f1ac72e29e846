"""Counts the numbers of tensors by size, where they lie, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.insight.histograms import CODES

_LIMIT = 1 << 15
"""Of more numbers every n-th is looked at: with so many a bin that holds a hundredth of them is right to 8 %."""


@dataclass(frozen=True)
class Tally:
    """How many numbers of tensors have each code (`Histogram.of`): (2048,) on their device, not read yet.

    `zeros` are those that sparse tensors do not hold.
    """

    counts: Tensor
    total: int
    zeros: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.counts + other.counts, self.total + other.total, self.zeros + other.zeros)


@torch.no_grad()
def tally(tensors: Sequence[Tensor], scale: Tensor | None = None) -> Tally | None:
    """The numbers of all `tensors` together, divided by `scale`; None where none can be counted."""
    held: list[Tensor] = []
    total = absent = 0
    for tensor in tensors:
        dense = tensor.detach()
        if dense.layout == torch.sparse_coo:
            dense = dense.coalesce().values()
        if dense.layout == torch.strided and dense.is_floating_point() and not dense.is_nested:
            held.append(dense)
            total += tensor.numel()
            absent += tensor.numel() - dense.numel()
    if not total:
        return None
    present = total - absent
    apart = -(-present // _LIMIT) or 1  # for all alike: else a large weight is no more than its bias
    samples = [_sample(dense, apart).float() for dense in held]
    sample = samples[0] if len(samples) == 1 else torch.cat(samples)
    zeros = absent * len(sample) // present if present else absent
    if scale is not None:
        sample = sample / scale
    codes = (sample.view(torch.int32) >> 21).bitwise_and_(CODES - 1)
    return Tally(_count(codes), total, zeros)


def first_tensor(output: Any) -> Tensor | None:
    """What a layer gives, or the first of several: the sequence of an LSTM, the data of a packed one."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def _sample(tensor: Tensor, apart: int) -> Tensor:
    """About every so many-th of its numbers, in any order, (n,). A view, where the tensor fills its memory."""
    if not tensor.is_contiguous():
        tensor = tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
    flat = tensor.reshape(-1)
    if apart == 1 or not len(flat):
        return flat
    while math.gcd(apart, len(flat)) > 1:  # else it could be the same channel again and again
        apart += 1
    return flat[::apart]


def _count(codes: Tensor) -> Tensor:
    """How often each code occurs, (2048,)."""
    if codes.device.type == "cpu":  # three times as fast as scattering
        return torch.bincount(codes, minlength=CODES)
    return _scattered(codes)


def _scattered(codes: Tensor) -> Tensor:
    counts = torch.zeros(CODES, dtype=torch.int64, device=codes.device)
    # torch.bincount waits for the device, to know how many there are, and torch.histc is not deterministic.
    return counts.scatter_add_(0, codes.long(), torch.ones_like(counts[:1]).expand_as(codes))
