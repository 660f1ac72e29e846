"""One sample as something to draw: pixels, numbers, text, never tensors."""

# C channels · H height · W width · T samples of sound or tokens of text

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.sources import Source
from engine.printable import printable, printable_line

_NUMBERS = 64  # of a row of numbers that has no names
_TOKENS = 256
_COLUMNS = 512  # of a waveform and a spectrogram
_BANDS = 64
_WINDOW = 512  # samples of sound that one column of a spectrogram looks at
_CHANNELS = 8  # what has more rows is no sound


@dataclass(frozen=True)
class Box:
    """An object in a picture, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float
    label: str


@dataclass(frozen=True, eq=False)  # arrays do not compare
class Sample:
    """One sample, and where it was found. What does not apply is None or empty.

    `number` counts in the dataset, `place` names the file or line. `picture` is (H, W) or (H, W, 3) bytes. `mask`
    (H, W) has a class a pixel, of which `areas` are number and name; `boxes` lie in the picture. `wave` (2, columns)
    holds the least and the greatest of sound between -1 and 1, `spectrogram` (bands, columns) bytes, low tones last.
    `text` is what was read, `tokens` what became of it. `row` holds numbers, `cells` a row of a table as it was read.
    `trouble` says why it can't be read.
    """

    label: str
    number: int = -1
    place: str = ""
    picture: np.ndarray | None = None
    mask: np.ndarray | None = None
    areas: tuple[tuple[int, str], ...] = ()
    boxes: tuple[Box, ...] = ()
    wave: np.ndarray | None = None
    spectrogram: np.ndarray | None = None
    text: str = ""
    tokens: tuple[str, ...] = ()
    row: np.ndarray | None = None
    cells: Mapping[str, str] | None = None
    trouble: str = ""

    def __post_init__(self) -> None:
        """Whatever stands in a dataset, nothing of it may steer the terminal."""
        safe: dict[str, Any] = {name: printable_line(getattr(self, name)) for name in ("label", "place")}
        safe |= {name: printable(getattr(self, name)) for name in ("text", "trouble")}
        safe["tokens"] = tuple(printable(token) for token in self.tokens)
        safe["areas"] = tuple((number, printable_line(name)) for number, name in self.areas)
        safe["cells"] = self.cells and {printable_line(name): printable_line(cell) for name, cell in self.cells.items()}
        for name, value in safe.items():
            object.__setattr__(self, name, value)


def drawn(
    inputs: Tensor,
    target: Tensor,
    source: Source,
    *,
    number: int = -1,
    place: str = "",
    raw: str | Mapping[str, str] = "",
    stretch: bool = True,
) -> Sample:
    """A sample of `source`. Floats are stretched over their range where `stretch`, else 0 is black and 1 is white."""
    known: dict[str, Any] = {"label": label_of(target, source), "number": number, "place": place}
    if isinstance(raw, str):
        known["text"] = raw
    else:
        known["cells"] = dict(raw)
    if source.vocabulary and inputs.ndim == 1 and not inputs.is_floating_point():
        return Sample(**known, tokens=_tokens(inputs, source))
    if source.rate and inputs.is_floating_point() and inputs.ndim in (1, 2) and _as_sound(inputs).shape[0] < _CHANNELS:
        sound = _as_sound(inputs).mean(0)
        return Sample(**known, wave=_envelope(sound), spectrogram=_spectrogram(sound))
    if inputs.ndim == 3:
        picture = as_picture(inputs, stretch=stretch)
        if source.rate:  # a spectrogram has its lowest tones first
            picture = picture[::-1].copy()
        mask = target.numpy().astype(np.int64) if target.ndim == 2 and target.shape == inputs.shape[-2:] else None
        # What is below 0 is of no class and counts nowhere.
        present = [] if mask is None else [number for number in np.unique(mask).tolist() if number >= 0]
        return Sample(**known, picture=picture, mask=mask, areas=tuple((n, class_name(n, source)) for n in present))
    numbers = inputs.flatten()
    named = len(source.columns) == len(numbers)
    return Sample(**known, row=(numbers if named else numbers[:_NUMBERS]).double().numpy())


def label_of(target: Tensor, source: Source) -> str:
    """What is to be learned of a sample, in words."""
    if target.is_floating_point():
        return ", ".join(f"{value:.4g}" for value in target.flatten()[:8].tolist())
    if target.ndim == 0 or target.numel() == 1:
        return class_name(int(target), source)
    present = [number for number in torch.unique(target).tolist() if number >= 0]
    return ", ".join(class_name(number, source) for number in present[:6])


def shares_text(shares: Tensor, source: Source) -> str:
    """`70% cat, 30% dog` of the share (K,) that each class has in a sample that was mixed of others."""
    order = shares.argsort(descending=True, stable=True)[:3].tolist()
    return ", ".join(f"{shares[n]:.0%} {class_name(n, source)}" for n in order if shares[n] >= 0.005)


def class_name(number: int, source: Source) -> str:
    """A class by its name, or by its number where it has none."""
    return source.classes[number] if 0 <= number < len(source.classes) else str(number)


def as_picture(image: Tensor, *, stretch: bool = True) -> np.ndarray:
    """(C, H, W) of bytes or floats → (H, W) or (H, W, 3) bytes; of other channels the first, or the first three."""
    if image.is_floating_point():
        image = image.detach().cpu()
        if stretch:
            spread = float(image.max() - image.min()) or 1.0
            image = (image - image.min()) / spread
        image = image.clamp(0, 1) * 255
    array: np.ndarray = image[: 3 if len(image) >= 3 else 1].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


def _tokens(inputs: Tensor, source: Source) -> tuple[str, ...]:
    """What stands before the padding, which is 0."""
    numbers = [number for number in inputs[:_TOKENS].tolist() if number]
    return tuple(source.tokens[n] if 0 <= n < len(source.tokens) else str(n) for n in numbers)


def _as_sound(inputs: Tensor) -> Tensor:
    """(C, T)."""
    return inputs if inputs.ndim == 2 else inputs.unsqueeze(0)


def _envelope(sound: Tensor) -> np.ndarray:
    """(T,) → (2, columns): the least and the greatest in each column; the loudest fills the height."""
    if not len(sound):
        return np.zeros((2, 1), np.float32)
    values = sound.numpy()
    at = np.linspace(0, len(values), min(_COLUMNS, len(values)) + 1).astype(int)[:-1]
    ends = np.stack([np.minimum.reduceat(values, at), np.maximum.reduceat(values, at)])
    return np.asarray(ends / (np.abs(values).max() or 1.0))


def _spectrogram(sound: Tensor) -> np.ndarray:
    """(T,) → (bands, columns) bytes by powers of ten: 255 is the loudest, 0 what is 80 dB below; high tones first."""
    window = min(_WINDOW, len(sound))
    if window < 4:
        return np.zeros((1, 1), np.uint8)
    hop = max(1, window // 4, len(sound) // _COLUMNS)
    found = torch.stft(sound, window, hop, window=torch.hann_window(window), return_complex=True).abs()  # (bands, T)
    small = F.adaptive_avg_pool2d(found[None], (min(_BANDS, len(found)), min(_COLUMNS, found.shape[1])))[0]
    decibels = 20 * torch.log10(small / small.max().clamp_min(1e-9) + 1e-9)
    return np.asarray(((decibels + 80) / 80 * 255).clamp(0, 255).to(torch.uint8).numpy()[::-1].copy())
