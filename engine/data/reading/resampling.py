"""Sound at another rate: each new sample is a windowed sinc over the old ones around it.

J. O. Smith, Digital Audio Resampling Home Page, https://ccrma.stanford.edu/~jos/resample/. The ratio of the rates is
rational, so that new samples lie between old ones in a few ways only (phases), each with weights of its own.
"""

# C channels · N old samples · M new samples · P phases · K old samples that a new one is made of

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_CROSSINGS = 16  # zero crossings of the sinc on each side: with Hann's window what is folded back is below -60 dB
_DENSE = 1 << 18  # steps times phases; 441 · 160 between 44.1 and 16 kHz
_COLUMNS = 128  # of a product: with fewer most of its time goes into copying
_TOGETHER = 1 << 14  # new samples, where each has its own copy of the old ones around it
_ROLLOFF = 0.95  # of the lower rate's half: the rest is where the filter falls off


def resampled(sound: Tensor, old: int, new: int) -> Tensor:
    """`sound` (C, N) of `old` samples a second as float32 (C, ceil(N · new / old)) of `new` samples a second.

    What lies above half of the new rate is filtered out. Before its start and after its end a sound is silent.
    """
    if old == new:
        return sound
    divisor = math.gcd(old, new)
    step, phases = old // divisor, new // divisor
    weights, before = _filters(step, phases)
    count, width = -(-sound.shape[1] * new // old), weights.shape[1]
    if step * phases <= _DENSE:
        # After `step` old samples the phases come again: as one product for all of them it is twenty times as fast.
        times = max(1, _COLUMNS // phases)
        padded = F.pad(sound, (before, width + step * times))
        blocks = padded.unfold(1, width + step * times, step * times)[:, : -(-count // (phases * times))]
        return (blocks @ _dense(step, phases, times)).flatten(1)[:, :count]
    windows = F.pad(sound, (before, width)).unfold(1, width, 1)  # a view of what lies around each old sample
    parts = [
        torch.einsum("cmk,mk->cm", windows[:, places * step // phases], weights[places % phases])
        for places in torch.split(torch.arange(count), _TOGETHER)
    ]
    return torch.cat(parts, 1)


def support(old: int, new: int) -> int:
    """How many old samples around its place a new one is made of, on each side."""
    return math.ceil(_CROSSINGS / (_ROLLOFF * min(1.0, new / old))) + 1


@lru_cache(maxsize=8)
def _filters(step: int, phases: int) -> tuple[Tensor, int]:
    """Weights (P, K) of the old samples for each phase, and how many of them lie before the new sample's place."""
    before = support(step, phases)
    cutoff = _ROLLOFF * min(1.0, phases / step)  # 1 is half of the old rate
    # Phase p lies (p · step mod phases) / phases after the old sample before it.
    offsets = (torch.arange(phases, dtype=torch.float64) * step % phases / phases).unsqueeze(1)
    distances = (torch.arange(-before, before + 2, dtype=torch.float64) - offsets) * cutoff
    window = torch.cos(distances * math.pi / (2 * _CROSSINGS)).square()  # Hann's
    weights = torch.where(distances.abs() < _CROSSINGS, torch.sinc(distances) * window * cutoff, 0)
    return (weights / weights.sum(1, keepdim=True)).float(), before  # a constant stays what it is


@lru_cache(maxsize=8)
def _dense(step: int, phases: int, times: int) -> Tensor:
    """The weights of `times` rounds of phases as (their old samples, their new ones)."""
    weights, _ = _filters(step, phases)
    dense = torch.zeros(step * times + weights.shape[1], phases * times)
    for place in range(phases * times):
        first = place * step // phases
        dense[first : first + weights.shape[1], place] = weights[place % phases]
    return dense
