"""Each vectorised step of augmentation against torchvision's transform called sample by sample, interleaved, medians.

    python benchmarks/augmentation.py [--rounds 7] [--size 32] [--batch 128]

Both change the same batch of float pictures on the CPU. The last line is the whole way from bytes in memory to
normalised floats with a random crop and flip, against the same written by hand for floats normalised ahead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# As `torch-tui` itself does, before torch loads: two threads on two cores stall each other otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parent.parent))

from engine.data.augmentation.augment import MOVES, STEPS, Augment
from engine.data.augmentation.steps import SampleBySample
from engine.data.serving.batches import Finish
from engine.data.transforms import fixed
from engine.recipe import Part
from engine.seeds import derive

_CROP = {"size": 32, "padding": 4}
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "GaussianBlur": {"kernel_size": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {"degrees": 15, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "interpolation": "bilinear"},
    "RandomCrop": _CROP,
    "RandomPosterize": {"bits": 4},
    "RandomResizedCrop": {"size": 32},
    "RandomRotation": {"degrees": 15},
    "RandomSolarize": {"threshold": 0.5},
}


def by_hand(batch: Tensor) -> Tensor:
    """A crop of its own for each sample after four pixels of padding, and a flip of half of them, as many write it."""
    count, _, height, width = batch.shape
    padded = F.pad(batch, (4, 4, 4, 4))
    rows = torch.randint(9, (count, 1)) + torch.arange(height)
    columns = torch.randint(9, (count, 1)) + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def seconds(contestants: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Of each contestant, called in turn; the first round is not counted."""
    measured: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds + 1):
        for call, times in zip(contestants, measured, strict=True):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return [times[1:] for times in measured]


def line(name: str, count: int, ours: list[float], theirs: list[float]) -> str:
    """Samples a second of both, and how many times more ours are."""
    rates = (f"{count / statistics.median(times):12,.0f}" for times in (ours, theirs))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return f"{name:28}{''.join(rates)}{ratio:8.1f}×"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    chosen = parser.parse_args()
    torch.manual_seed(0)
    raw = torch.randint(0, 256, (chosen.batch, 3, chosen.size, chosen.size), dtype=torch.uint8)
    floats = raw.float() / 255
    print(f"{torch.get_num_threads()} threads, {chosen.rounds} rounds, medians of samples a second, {tuple(raw.shape)}")
    print(f"{'':28}{'vectorised':>12}{'by sample':>12}{'ratio':>9}")
    for name in sorted({*MOVES, *STEPS}):
        parameters = dict(PARAMETERS.get(name, {}))
        ours, theirs = Augment([Part(name=name, **parameters)]), SampleBySample(getattr(v2, name)(**parameters))
        assert not ours.draws_globally
        calls = (lambda ours=ours: ours(floats, 0), lambda theirs=theirs: theirs(floats, 0))
        print(line(name, chosen.batch, *seconds(calls, chosen.rounds)))
    normalize = Part(name="Normalize", mean=[0.49, 0.48, 0.45], std=[0.25, 0.24, 0.26])
    steps = [Part(name="RandomCrop", **_CROP), Part(name="RandomHorizontalFlip")]
    finish = Finish(fixed([normalize]), Augment(steps))
    whole = (lambda: finish.inputs(raw.clone(), derive(0, 0, 0, 1)), lambda: by_hand(floats.clone()))
    print(f"\n{'':28}{'torch-tui':>12}{'by hand':>12}{'ratio':>9}")
    print(line("crop, flip, normalise", chosen.batch, *seconds(whole, 20 * chosen.rounds)))


if __name__ == "__main__":
    main()
