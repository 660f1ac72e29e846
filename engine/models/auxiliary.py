"""Auxiliary heads: what some models return beside their scores while they train.

Szegedy et al., Going Deeper with Convolutions (2014, section 5), and Rethinking the Inception Architecture (2015).
"""

# B batch · K outputs

from __future__ import annotations

from typing import Any

from torch import Tensor

SHARE = 0.3
"""By how much the loss of each auxiliary head counts beside that of the main one: section 5 of the first paper."""


def main_and_auxiliary(outputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The (B, K) scores of a model, and those of its auxiliary heads; it has these only while it trains.

    They come as a named tuple of tensors, the main one first, as torchvision's GoogLeNet and Inception give them. A
    plain tuple means something else (states, attention) and is left alone, as is all that is no tensor.
    """
    if not is_with_auxiliary(outputs):
        return outputs, ()
    main, *others = outputs
    return main, tuple(other for other in others if other is not None)


def is_with_auxiliary(outputs: Any) -> bool:
    """Whether a model returned scores with those of auxiliary heads beside them."""
    if not (isinstance(outputs, tuple) and hasattr(outputs, "_fields") and isinstance(outputs[0], Tensor)):
        return False
    return all(each is None or (isinstance(each, Tensor) and each.shape == outputs[0].shape) for each in outputs)
