"""GaussianBlur, of another width for each sample, and GaussianNoise."""

# B batch · C channels · H height · W width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from engine.data.augmentation.draws import normal, on_device, uniform
from engine.data.augmentation.steps import Transform, Vectorised


class Blur(Vectorised):
    """Draws sigma in pixels. `size` is the filter's width and height, odd numbers."""

    def __init__(self, size: tuple[int, int], sigma: tuple[float, float]) -> None:
        self._size, self._sigma = size, sigma

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        return uniform(count, *self._sigma, generator).unsqueeze(1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        count, channels, height, width = inputs.shape
        sigma = on_device(drawn.to(inputs.dtype), inputs.device)
        across, down = (_bell(length, sigma) for length in self._size)  # (B, length)
        left, top = self._size[0] // 2, self._size[1] // 2
        padded = F.pad(inputs, (left, left, top, top), mode="reflect").flatten(0, 1).unsqueeze(0)  # (1, B·C, …)
        # Each channel of each sample is a group with a filter of its own; two narrow filters do the work of a wide one.
        columns = down.repeat_interleave(channels, 0).view(-1, 1, self._size[1], 1)
        rows = across.repeat_interleave(channels, 0).view(-1, 1, 1, self._size[0])
        blurred = F.conv2d(F.conv2d(padded, columns, groups=len(columns)), rows, groups=len(rows))
        return blurred.view(count, channels, height, width)


def _bell(length: int, sigma: Tensor) -> Tensor:
    """(B, length) weights for `sigma` (B, 1), as torchvision spaces them."""
    limit = (length - 1) / 8**0.5
    places = torch.linspace(-limit, limit, length, device=sigma.device, dtype=sigma.dtype)
    return (places / sigma).square().neg().softmax(1)


class Noise:
    """Normal noise on every pixel, drawn on the device of the samples."""

    draws_globally = False

    def __init__(self, mean: float, sigma: float, *, clip: bool) -> None:
        self._mean, self._sigma, self._clip = mean, sigma, clip

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        noisy = normal(inputs, seed).mul_(self._sigma).add_(self._mean).add_(inputs)
        return noisy.clamp_(0, 1) if self._clip else noisy


def blur(transform: Transform) -> Blur:
    """GaussianBlur, drawn for each sample."""
    width, height = transform.kernel_size
    return Blur((width, height), transform.sigma)


def noise(transform: Transform) -> Noise | None:
    """GaussianNoise; None for a negative sigma, which torchvision refuses."""
    return None if transform.sigma < 0 else Noise(transform.mean, transform.sigma, clip=transform.clip)
