"""What is drawn of sound is what is in it, from its first value to its last."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.data.preview.drawn import drawn
from engine.data.sources import Source


@pytest.mark.parametrize("length", [1, 300, 512, 800, 1023, 16_000])
def test_a_tone_that_does_not_end_fills_its_outline(length: int) -> None:
    source = Source("tone", "", "classification", (1, length), 1, {"all": 1}, "yours", ("tone",), rate=8000)
    tone = 0.3 - 0.6 * (torch.arange(length) % 2)[None]

    wave = drawn(tone, torch.tensor(0), source).wave

    assert wave is not None
    least, greatest = wave
    assert (least <= greatest).all()
    assert np.allclose(np.abs(wave), 1), "the loudest fills the height, and nowhere is silence"
