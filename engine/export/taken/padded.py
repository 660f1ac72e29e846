"""What exported files hold of models that leave padding out: beside the engine's own classes, those that differ."""

from __future__ import annotations

from torch import Tensor, nn

from engine.models.blocks import Chain


class Residual(nn.Module):
    """Adds its input to what its layers make of it (He et al., Deep Residual Learning, 2015)."""

    takes_lengths = True

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = Chain(*layers)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.body(inputs, lengths) + self.shortcut(inputs)  # type: ignore[no-any-return]
