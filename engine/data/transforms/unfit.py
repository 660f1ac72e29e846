"""Transforms of torchvision that no recipe can use, each with the reason: its samples are pictures as tensors.

What is not here is tried on the samples before it is offered, and again before a training.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.catalog import Entry

_BOXES = "is for boxes and key points, and samples are trained on as pictures alone", "Remove it."
_MADE = "samples are tensors of floats from 0 to 1 already, bytes divided by 255", "Remove it."
_CROPS = (
    "makes several pictures of each, and a sample is one",
    "Use CenterCrop; to train on crops from all over, RandomCrop in data.augment.",
)
_Reason = tuple[str, str]
"""What is wrong, what to do."""
_GROUPS: Mapping[str, _Reason] = {
    "meta": _BOXES,
    "temporal": ("is for films, and samples are single pictures", "Remove it."),
    "type_conversion": _MADE,
    "deprecated": _MADE,
}
_NAMES: Mapping[str, _Reason] = {
    "FiveCrop": _CROPS,
    "TenCrop": _CROPS,
    "ConvertImageDtype": _MADE,
    "ToDtype": _MADE,
    "RandomIoUCrop": _BOXES,
    "SanitizeBoundingBoxes": _BOXES,
    "SanitizeKeyPoints": _BOXES,
}
VARYING = ("RandomResize", "RandomShortestSize", "RandomZoomOut", "ScaleJitter")
"""Transforms that give each sample a size of its own: a batch needs one."""
VARIES: _Reason = (
    "gives each sample a size of its own, and a batch has one",
    'Put it into a Compose, before one with a size, such as { name = "RandomCrop", size = 28 }.',
)


def unfit(entry: Entry) -> _Reason | None:
    """Why no recipe can use it, and what to do; None for one that it can."""
    what, remedy = _NAMES.get(entry.name) or _GROUPS.get(entry.group) or ("", "")
    if not what:
        return None
    return (f"{entry.name} is of no use: {what}" if what is _MADE[0] else f"{entry.name} {what}"), remedy
