"""Sound as pictures of its frequencies over time, on whole batches and on their device."""

# B batch · C channels · N values of a sound · F frequencies · M mel bands · T steps

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Window = Literal["hann", "hamming"]
Scale = Literal["slaney", "htk"]
_TOGETHER = 256  # sounds: complex frequencies take many times the memory of what is made of them


class Spectrogram:
    """How strong each frequency of a sound is, step by step (torch.stft), as frequencies × steps.

    Args:
        n_fft: values of the sound that a step is made of; it gives n_fft / 2 + 1 frequencies
        hop_length: values from one step to the next; 0 is a quarter of n_fft
        power: 1 is the amplitude, 2 the energy
        window: what fades the values of a step in and out
    """

    def __init__(
        self, n_fft: int = 512, hop_length: int = 0, power: float = 2.0, window: Window = "hann", rate: int = 0
    ) -> None:
        if n_fft < 2:
            raise ValueError(f"n_fft is {n_fft}, it must be 2 or more")
        if hop_length < 0:
            raise ValueError(f"hop_length is {hop_length}, it must be 1 or more, or 0 for a quarter of n_fft")
        if power <= 0:
            raise ValueError(f"power is {power}, it must be more than 0")
        self.n_fft, self.hop_length, self.power, self.rate = n_fft, hop_length or max(1, n_fft // 4), power, rate
        make = torch.hann_window if window == "hann" else torch.hamming_window
        self._window = make(n_fft)
        self._ready: dict[torch.device, tuple[Tensor, ...]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """(B, C, N) → (B, C, F, T) with T = N // hop_length + 1. Raises ValueError for what is no sound."""
        if inputs.ndim != 3 or not inputs.is_floating_point():
            raise ValueError(f"expected sound (channels × values), got {inputs.ndim - 1} dimensions a sample")
        parts = [self._made(part) for part in torch.split(inputs, _TOGETHER)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _made(self, inputs: Tensor) -> Tensor:
        window, *_ = self._constants(inputs.device)
        # Silence before and after, so that a sound shorter than a step has one, too.
        frequencies = torch.stft(
            inputs.flatten(0, 1), self.n_fft, self.hop_length, window=window, pad_mode="constant", return_complex=True
        )
        if self.power == 2:  # without the square root that would be squared again
            strength = torch.view_as_real(frequencies).square().sum(-1)
        else:
            strength = frequencies.abs().pow(self.power)
        return strength.reshape(*inputs.shape[:2], *strength.shape[1:])

    def _constants(self, device: torch.device) -> tuple[Tensor, ...]:
        """What does not depend on the sound, sent to the device once."""
        if device not in self._ready:
            self._ready[device] = tuple(constant.to(device) for constant in self._fixed())
        return self._ready[device]

    def _fixed(self) -> tuple[Tensor, ...]:
        return (self._window,)


class MelSpectrogram(Spectrogram):
    """How strong a sound is in bands as wide as an ear tells them apart (mel), step by step, as bands × steps.

    Args:
        n_mels: how many bands
        n_fft: values of the sound that a step is made of
        hop_length: values from one step to the next; 0 is a quarter of n_fft
        f_min: where the lowest band begins, in Hz
        f_max: where the highest ends, in Hz; 0 is half of the sound's rate
        power: 1 is the amplitude, 2 the energy
        mel_scale: slaney is linear up to 1 kHz; htk is logarithmic all over
        norm: slaney makes each band's weights sum to the same, so that wide ones are not louder; none leaves them
        window: what fades the values of a step in and out
    """

    def __init__(
        self,
        n_mels: int = 64,
        n_fft: int = 512,
        hop_length: int = 0,
        f_min: float = 0.0,
        f_max: float = 0.0,
        power: float = 2.0,
        mel_scale: Scale = "slaney",
        norm: Literal["slaney", "none"] = "slaney",
        window: Window = "hann",
        rate: int = 0,
    ) -> None:
        super().__init__(n_fft, hop_length, power, window, rate)
        top = f_max or rate / 2
        if not 0 <= f_min < top <= rate / 2:
            raise ValueError(f"f_min {f_min:g} and f_max {top:g} must lie between 0 and {rate / 2:g}, half of the rate")
        if n_mels < 1:
            raise ValueError(f"n_mels is {n_mels}, it must be 1 or more")
        self._filters = mel_filters(n_mels, n_fft, rate, f_min, top, mel_scale, norm == "slaney")
        empty = int((self._filters.sum(0) == 0).sum())
        if empty:
            raise ValueError(f"{empty} of {n_mels} bands lie between two frequencies: lower n_mels or raise n_fft")

    def _made(self, inputs: Tensor) -> Tensor:
        _, filters = self._constants(inputs.device)
        return (super()._made(inputs).mT @ filters).mT.contiguous()  # (B, C, T, F) @ (F, M)

    def _fixed(self) -> tuple[Tensor, ...]:
        return (self._window, self._filters)


class LogMelSpectrogram(MelSpectrogram):
    """The natural logarithm of a MelSpectrogram: what is twice as loud is as much more everywhere.

    Args:
        n_mels: how many bands
        n_fft: values of the sound that a step is made of
        hop_length: values from one step to the next; 0 is a quarter of n_fft
        f_min: where the lowest band begins, in Hz
        f_max: where the highest ends, in Hz; 0 is half of the sound's rate
        power: 1 is the amplitude, 2 the energy
        mel_scale: slaney is linear up to 1 kHz; htk is logarithmic all over
        norm: slaney makes each band's weights sum to the same, so that wide ones are not louder; none leaves them
        window: what fades the values of a step in and out
        floor: what is weaker counts as this much, as silence has no logarithm
    """

    def __init__(
        self,
        n_mels: int = 64,
        n_fft: int = 512,
        hop_length: int = 0,
        f_min: float = 0.0,
        f_max: float = 0.0,
        power: float = 2.0,
        mel_scale: Scale = "slaney",
        norm: Literal["slaney", "none"] = "slaney",
        window: Window = "hann",
        floor: float = 1e-5,
        rate: int = 0,
    ) -> None:
        super().__init__(n_mels, n_fft, hop_length, f_min, f_max, power, mel_scale, norm, window, rate)
        if floor <= 0:
            raise ValueError(f"floor is {floor}, it must be more than 0")
        self.floor = floor

    def _made(self, inputs: Tensor) -> Tensor:
        return super()._made(inputs).clamp_min_(self.floor).log_()


def mel_filters(n_mels: int, n_fft: int, rate: int, f_min: float, f_max: float, scale: Scale, even: bool) -> Tensor:
    """The weight of each frequency in each band, (F, M): triangles whose feet are the tops of their neighbours.

    `even` divides each by half of its width in Hz, as M. Slaney's Auditory Toolbox does.
    """
    low, high = _to_mel(f_min, scale), _to_mel(f_max, scale)
    points = [_to_hertz(low + (high - low) * number / (n_mels + 1), scale) for number in range(n_mels + 2)]
    feet = torch.tensor(points, dtype=torch.float64)  # (M + 2,)
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64).unsqueeze(1) * rate / n_fft  # (F, 1)
    rising = (frequencies - feet[:-2]) / (feet[1:-1] - feet[:-2])
    falling = (feet[2:] - frequencies) / (feet[2:] - feet[1:-1])
    weights = torch.minimum(rising, falling).clamp_min(0)
    if even:
        weights = weights * 2 / (feet[2:] - feet[:-2])
    return weights.float()


# Slaney: 200/3 Hz a mel below 1 kHz, above it 27 mels for a factor of 6.4 (M. Slaney, Auditory Toolbox, Version 2,
# Technical Report 1998-010, Interval Research). HTK: S. Young et al., The HTK Book, section 5.4.
_LINEAR, _KNEE, _GROWTH = 200 / 3, 1000.0, math.log(6.4) / 27


def _to_mel(hertz: float, scale: Scale) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return hertz / _LINEAR if hertz < _KNEE else _KNEE / _LINEAR + math.log(hertz / _KNEE) / _GROWTH


def _to_hertz(mel: float, scale: Scale) -> float:
    if scale == "htk":
        return float(700 * (10 ** (mel / 2595) - 1))
    knee = _KNEE / _LINEAR
    return mel * _LINEAR if mel < knee else _KNEE * math.exp(_GROWTH * (mel - knee))
