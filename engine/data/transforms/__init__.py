"""What is done to samples: which transforms there are, and those of our own."""

from engine.data.transforms.catalog import checked, fixed, is_random, transforms
from engine.data.transforms.plain import (
    Normalize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    Standardize,
    as_floats,
)
from engine.data.transforms.sound import LogMelSpectrogram, MelSpectrogram, Spectrogram

__all__ = [
    "LogMelSpectrogram",
    "MelSpectrogram",
    "Normalize",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "Spectrogram",
    "Standardize",
    "as_floats",
    "checked",
    "fixed",
    "is_random",
    "transforms",
]
