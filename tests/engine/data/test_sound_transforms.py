"""Spectrograms are what the Fourier transform and the mel scales say, and sound is learned from them."""

# B batch · C channels · N values · F frequencies · T steps

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_runs import train
from torch import Tensor

from engine.check import check
from engine.data.prepare import prepare
from engine.data.reading.resampling import resampled
from engine.data.transforms import LogMelSpectrogram, MelSpectrogram, Spectrogram, Standardize, fixed, transforms
from engine.data.transforms.sound import mel_filters
from engine.errors import RecipeError
from engine.recipe import Part, Recipe

SOUND = torch.randn(2, 2, 1000, generator=torch.Generator().manual_seed(0))


def by_hand(sound: np.ndarray, n_fft: int, hop: int, power: float) -> np.ndarray:
    """(N,) → (F, T), one step after the other."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(sound, n_fft // 2)
    steps = range(0, len(padded) - n_fft + 1, hop)
    return np.stack([np.abs(np.fft.rfft(padded[step : step + n_fft] * window)) ** power for step in steps], 1)


@pytest.mark.parametrize(("n_fft", "hop", "power"), [(256, 64, 2.0), (200, 80, 1.0), (128, 0, 0.5)])
def test_a_spectrogram_is_the_fourier_transform_of_each_step(n_fft: int, hop: int, power: float) -> None:
    made = Spectrogram(n_fft, hop, power, rate=8000)(SOUND)
    assert made.shape == (2, 2, n_fft // 2 + 1, 1000 // (hop or n_fft // 4) + 1)
    wanted = by_hand(SOUND[1, 0].double().numpy(), n_fft, hop or n_fft // 4, power)
    assert np.allclose(made[1, 0].numpy(), wanted, rtol=1e-4, atol=1e-3)


def mel_by_hand(n_mels: int, n_fft: int, rate: int, scale: str) -> np.ndarray:
    """(F, M), from what the two papers say, weight by weight."""

    def mel(hertz: float) -> float:
        if scale == "htk":
            return 1127.0104803 * math.log(1 + hertz / 700)
        return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)

    tops = np.linspace(mel(0), mel(rate / 2), n_mels + 2)
    # Back to Hz by searching, not by the formula turned round.
    grid = np.linspace(0, rate / 2, 200_001)
    hertz = np.interp(tops, [mel(each) for each in grid], grid)
    weights = np.zeros((n_fft // 2 + 1, n_mels))
    for frequency in range(n_fft // 2 + 1):
        at = frequency * rate / n_fft
        for band in range(n_mels):
            low, top, high = hertz[band : band + 3]
            if low < at <= top:
                weights[frequency, band] = (at - low) / (top - low)
            elif top < at < high:
                weights[frequency, band] = (high - at) / (high - top)
    return weights * 2 / (hertz[2:] - hertz[:-2]) if scale == "slaney" else weights


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_bands_are_as_their_papers_say(scale: Any) -> None:
    ours = mel_filters(20, 512, 16000, 0, 8000, scale, even=scale == "slaney")
    assert np.allclose(ours.numpy(), mel_by_hand(20, 512, 16000, scale), rtol=1e-3, atol=1e-6)


def test_mel_bands_lie_where_librosa_has_them() -> None:
    """librosa.mel_frequencies(n_mels=40), as its documentation prints them: tops of bands between 0 and 11025 Hz."""
    filters = mel_filters(38, 2**16, 22050, 0, 11025, "slaney", even=False)
    tops = filters.argmax(0) * 22050 / 2**16
    assert tops[:14].tolist() == pytest.approx(
        [85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855, 853.173, 938.49, 1024.856,
         1119.114, 1222.042], abs=0.4,
    )  # fmt: skip


def test_a_log_mel_spectrogram_is_the_logarithm_of_bands_of_the_spectrogram() -> None:
    mel = MelSpectrogram(n_mels=20, n_fft=256, rate=8000)(SOUND)
    assert mel.shape == (2, 2, 20, 16)
    bands = mel_filters(20, 256, 8000, 0, 4000, "slaney", even=True)
    assert torch.allclose(mel, torch.einsum("bcft,fm->bcmt", Spectrogram(256)(SOUND), bands), rtol=1e-4)
    log = LogMelSpectrogram(n_mels=20, n_fft=256, rate=8000)
    assert torch.allclose(log(SOUND), mel.log(), atol=1e-5)
    assert torch.allclose(log(torch.zeros(1, 1, 100)), torch.full((1, 20, 2), math.log(1e-5)))


def test_many_sounds_are_what_each_is_alone() -> None:
    many = torch.randn(300, 1, 200)
    log = LogMelSpectrogram(n_mels=8, n_fft=64, rate=8000)
    assert torch.allclose(log(many)[299:], log(many[299:]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("MelSpectrogram", {"n_mels": 128, "n_fft": 64}, "lie between two frequencies: lower n_mels or raise n_fft"),
        ("MelSpectrogram", {"f_max": 5000.0}, "must lie between 0 and 4000, half of the rate"),
        ("LogMelSpectrogram", {"floor": 0.0}, "floor is 0.0, it must be more than 0"),
        ("Spectrogram", {"n_fft": 1}, "n_fft is 1, it must be 2 or more"),
        ("Spectrogram", {"hop_length": -1}, "hop_length is -1"),
        ("Spectrogram", {"power": 0.0}, "power is 0.0"),
        ("MelSpectrogram", {"rate": 8000}, "rate: is not a parameter of MelSpectrogram"),
        ("MelSpectrogram", {"mel_scale": "bark"}, "mel_scale: 'bark' is not 'slaney' or 'htk'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        fixed([Part(name=name, **parameters)], rate=8000)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["Spectrogram", "MelSpectrogram", "LogMelSpectrogram"])
def test_what_is_for_sound_takes_its_rate_from_the_data_and_nothing_else(name: str) -> None:
    entry = transforms()[name]
    assert entry.group == "audio"
    assert all(parameter.doc and not parameter.required for parameter in entry.parameters)
    assert "rate" not in {parameter.name for parameter in entry.parameters}
    assert fixed([Part(name=name)], rate=16000)[0].rate == 16000  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=f"{name} is for sound, and the data is none"):
        fixed([Part(name=name)])
    with pytest.raises(ValueError, match="expected sound"):
        fixed([Part(name=name)], rate=16000)[0](torch.zeros(2, 1, 8, 8))


def test_standardized_sound_has_bands_of_mean_0_and_deviation_1() -> None:
    bands = torch.randn(40, 1, 3, 50) * torch.tensor([[1.0], [10.0], [0.1]]) + torch.tensor([[0.0], [-300.0], [5.0]])
    bands[:, :, 1] = -11.5  # nothing is ever heard there
    whole, parted = Standardize(rate=8000), Standardize(rate=8000)
    whole.fit(bands)
    parted.fit_batches(bands.split(16))
    for standardize in (whole, parted):
        result = standardize(bands)
        assert torch.allclose(result.mean((0, 3)), torch.zeros(1, 3), atol=1e-4)
        assert torch.allclose(result.std((0, 3), correction=0), torch.tensor([[1.0, 0.0, 1.0]]), atol=1e-4)


# Resampling


def sine(pitch: float, rate: int, count: int) -> Tensor:
    return torch.sin(2 * math.pi * pitch * torch.arange(count, dtype=torch.float64) / rate).float().unsqueeze(0)


@pytest.mark.parametrize(
    ("old", "new"), [(44100, 16000), (16000, 44100), (48000, 16000), (8000, 16000), (44100, 22051), (8000, 8001)]
)
def test_a_tone_at_another_rate_is_the_same_tone(old: int, new: int) -> None:
    made = resampled(sine(1000, old, 20_000), old, new)
    count = -(-20_000 * new // old)
    assert made.shape == (1, count)
    assert (made - sine(1000, new, count))[:, 200:-200].abs().max() < 1e-4


def test_what_the_lower_rate_can_not_hold_is_left_out() -> None:
    """Samples picked without a filter would turn 7 kHz into 1 kHz: the negative twin."""
    high = sine(7000, 16000, 16000)
    assert resampled(high, 16000, 8000)[:, 200:-200].abs().max() < 1e-3
    assert high[:, ::2].abs().max() > 0.5


def test_a_constant_stays_what_it_is_and_the_same_rate_changes_nothing() -> None:
    constant = torch.ones(2, 5000)
    assert torch.allclose(resampled(constant, 44100, 16000)[:, 100:-100], torch.ones(()), atol=1e-5)
    assert resampled(constant, 8000, 8000) is constant
    assert resampled(torch.ones(1, 1), 44100, 16000).shape == (1, 1)


# A training


def recipe(folder: Path, transforms: list[dict[str, Any]], **changes: Any) -> Recipe:
    """150 sounds of a quarter of a second: a tone of one of three pitches, anywhere and at any phase, in noise."""
    draw = np.random.default_rng(0)
    for number in range(150):
        pitch = (300, 400, 500)[number % 3] * draw.uniform(0.97, 1.03)
        time = np.arange(2000) / 8000
        heard = (time > draw.uniform(0, 0.1)) * np.sin(2 * np.pi * (pitch * time + draw.uniform()))
        file = folder / "sounds" / ("low", "middle", "high")[number % 3] / f"{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.2 * heard + draw.normal(0, 0.2, 2000), 8000)
    values: dict[str, Any] = {
        "title": "tones",
        "data": {"path": str(folder / "sounds"), "batch_size": 16, "transforms": transforms},
        "model": {
            "layers": [
                {"name": "Conv2d", "out_channels": 8, "kernel_size": 3},
                {"name": "ReLU"},
                {"name": "AdaptiveMaxPool2d", "output_size": [14, 1]},
                {"name": "Flatten"},
                {"name": "Linear", "out_features": "classes"},
            ]
        },
        "optimizer": {"name": "AdamW", "lr": 0.01},
        "training": {"epochs": 6, "device": "cpu", "threads": 1},
    }
    return Recipe.from_values(values).override(changes)


LOG_MEL = {"name": "LogMelSpectrogram", "n_mels": 32, "n_fft": 512}


def accuracy(recipe: Recipe, folder: Path) -> float:
    assert check(recipe).problems == ()
    history = train(recipe, folder / "runs").history
    assert history.error is None
    assert history.summary is not None
    return history.summary.test["accuracy"]


def test_pitches_in_noise_are_learned_from_bands(tmp_path: Path) -> None:
    assert accuracy(recipe(tmp_path, [LOG_MEL, {"name": "Standardize"}]), tmp_path) > 0.9


def test_pitches_are_not_learned_from_bands_that_do_not_hold_them(tmp_path: Path) -> None:
    above = {**LOG_MEL, "n_mels": 16, "f_min": 2000.0}
    assert accuracy(recipe(tmp_path, [above, {"name": "Standardize"}]), tmp_path) < 0.7


def test_bands_are_measured_on_sounds_that_are_read_one_by_one(tmp_path: Path) -> None:
    prepared = prepare(recipe(tmp_path, [LOG_MEL, {"name": "Standardize"}]), torch.device("cpu"), lambda *_: None)
    assert prepared.facts.shape == (1, 32, 16)
    inputs = torch.cat([batch.inputs for batch in prepared.train.epoch(0)])
    assert torch.allclose(inputs.mean((0, 3)), torch.zeros(1, 32), atol=1e-3)
    assert torch.allclose(inputs.std((0, 3), correction=0), torch.ones(1, 32), atol=1e-3)
    prepared.close()
