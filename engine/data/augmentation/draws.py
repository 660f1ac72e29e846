"""Random numbers for each sample, drawn on the CPU from one generator, and their way to the device."""

# B batch · H height · W width

from __future__ import annotations

import torch
from torch import Generator, Tensor

ATTEMPTS = 10
"""How often torchvision tries to find a rectangle that fits."""


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """(count,) numbers between `low` and `high`, each as likely."""
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def whole(choices: Tensor, generator: Generator) -> Tensor:
    """A whole number from 0 to below each of `choices` (B,), each as likely."""
    return (choices * torch.rand(len(choices), generator=generator, dtype=torch.float64)).floor()


def sides(
    count: int, area: int, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator
) -> tuple[Tensor, Tensor]:
    """The two sides, each (B, ATTEMPTS), of rectangles of random area and aspect, as torchvision draws them.

    Their product is a share of `area` between the two of `scale`; the logarithm of first by second is uniform.
    """
    size = (count, ATTEMPTS)
    low, high = torch.tensor(ratio, dtype=torch.float64).log().tolist()
    areas = area * uniform(count * ATTEMPTS, *scale, generator).view(size)
    aspects = uniform(count * ATTEMPTS, low, high, generator).view(size).exp()
    return (areas * aspects).sqrt().round(), (areas / aspects).sqrt().round()


def first(fits: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of `fits` (B, ATTEMPTS) the number of its first True (B, 1), and whether there is one (B,)."""
    return fits.int().argmax(1, keepdim=True), fits.any(1)


def on_device(drawn: Tensor, device: torch.device) -> Tensor:
    """`drawn` on `device`; a GPU is not waited for."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def normal(like: Tensor, seed: int) -> Tensor:
    """Normal numbers shaped as `like`, drawn on its device: they are as many as the pixels."""
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
