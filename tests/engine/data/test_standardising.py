"""Standardize is measured on all training samples, in one go or in pieces, and can be called off."""

from __future__ import annotations

import pytest
import torch

from engine.data import standardising
from engine.data.samples import Samples
from engine.data.standardising import fit_transforms
from engine.data.transforms import Standardize

# Far from 0, of unlike sizes, constant, and codes of categories.
TABLE = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0, 0.0, 3.0])
TABLE += torch.tensor([1e5, -3.0, 0.1, 9.0])


def fitted(told: list[tuple[int, int]], stop_at: int = -1) -> Standardize:
    def progress(what: str, done: int, total: int) -> None:
        told.append((done, total))
        if done == stop_at:
            raise KeyboardInterrupt

    transform = Standardize()
    fit_transforms([transform], Samples(TABLE, torch.zeros(len(TABLE))), torch.arange(2900), 1, progress)
    return transform


def test_a_table_in_pieces_is_measured_as_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = fitted([]), list[tuple[int, int]]()
    monkeypatch.setattr(standardising, "_LARGE", 1000)
    pieces = fitted(told)
    assert told == [(0, 2900), (1024, 2900), (2048, 2900)]
    assert pieces.std is not None
    torch.testing.assert_close(pieces.mean, whole.mean)
    torch.testing.assert_close(pieces.std, whole.std, rtol=2e-3, atol=0)  # float32 sums lose digits in one go
    assert pieces.std.tolist()[2:] == [1, 1]
    torch.testing.assert_close(pieces.std[0], TABLE[:2900, 0].double().std(correction=0).float())


def test_a_measuring_that_is_called_off_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardising, "_LARGE", 1000)
    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        fitted(told, stop_at=1024)
    assert told == [(0, 2900), (1024, 2900)]
