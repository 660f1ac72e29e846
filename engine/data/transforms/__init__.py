"""What is done to samples: which transforms there are, and those of our own."""

from engine.data.transforms.catalog import SOUND, checked, draws, fixed, is_random, made, named, transforms
from engine.data.transforms.function import Lambda
from engine.data.transforms.linear import LinearTransformation
from engine.data.transforms.nested import flattened, held
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
    "SOUND",
    "Lambda",
    "LinearTransformation",
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
    "draws",
    "fixed",
    "flattened",
    "held",
    "is_random",
    "made",
    "named",
    "transforms",
]
