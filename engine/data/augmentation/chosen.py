"""Changes of which nothing is drawn but whether a sample is changed: RandomGrayscale, RandomInvert and others."""

# B batch · C channels · H height · W width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from engine.data.augmentation.draws import on_device
from engine.data.augmentation.steps import Transform, Vectorised, check_channels


class Chosen(Vectorised):
    """Draws 1 for a sample that is changed, else 0; torchvision's own function changes all of those at once."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        changed: Tensor = torch.rand(count, generator=generator) < self._transform.p
        return changed.unsqueeze(1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        index = drawn.squeeze(1).nonzero().squeeze(1)  # on the CPU: how many they are is known without a GPU
        if not len(index):
            return inputs
        index = on_device(index, inputs.device)
        chosen = inputs.index_select(0, index)
        return inputs.index_copy(0, index, self.changed(chosen))

    def changed(self, chosen: Tensor) -> Tensor:
        """All of `chosen` (B, C, H, W) changed."""
        result: Tensor = self._transform.transform(chosen, self._transform.make_params([chosen]))
        return result


class Sharpness(Chosen):
    """RandomAdjustSharpness. torchvision's function waits for a GPU, to which it sends its filter each time."""

    def changed(self, chosen: Tensor) -> Tensor:
        check_channels(chosen)
        channels, height, width = chosen.shape[1:]
        if height <= 2 or width <= 2:
            return chosen
        weights = chosen.new_full((channels, 1, 3, 3), 1 / 13)
        weights[:, :, 1, 1] = 5 / 13
        result = chosen.clone()
        inner = result[:, :, 1:-1, 1:-1]  # the border stays
        smooth = F.conv2d(chosen, weights, groups=channels)
        inner.add_(smooth.sub_(inner), alpha=1 - self._transform.sharpness_factor)
        return result.clamp_(0, 1)


def sharpness(transform: Transform) -> Sharpness | None:
    """RandomAdjustSharpness; None for a negative factor, which torchvision refuses."""
    return None if transform.sharpness_factor < 0 else Sharpness(transform)
