"""Flips and crops: steps that only move pixels. Neighbouring ones become one gather, on bytes as well as on floats."""

# B batch · C channels · H height · W width of the source · h, w of the result

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from engine.data.augmentation.draws import on_device
from engine.data.augmentation.steps import Transform, fill_of, filling
from engine.data.samples import IGNORED

OUTSIDE = -1
"""The number of a row or column that lies outside of the source: its pixels are filled."""


class Move(Protocol):
    """Says which row and column of the source each row and column of the result is.

    `fill` is what stands outside of the source, one number or one a channel; None where nothing outside is needed.
    """

    @property
    def fill(self) -> tuple[float, ...] | None: ...

    def __call__(self, rows: Tensor, columns: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """New (B, h) and (B, w) of those before the move, which it picks from or puts into another order."""


class Flip:
    """RandomHorizontalFlip or RandomVerticalFlip."""

    fill = None

    def __init__(self, p: float, *, horizontal: bool) -> None:
        self._p, self._horizontal = p, horizontal

    def __call__(self, rows: Tensor, columns: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.rand(len(rows), generator=generator).unsqueeze(1) < self._p
        if self._horizontal:
            return rows, torch.where(chosen, columns.flip(1), columns)
        return torch.where(chosen, rows.flip(1), rows), columns

    def alone(self, inputs: Tensor, seed: int) -> Tensor:
        """The flip as a step of its own, for which a gather takes twice as long."""
        draws = torch.rand(len(inputs), generator=torch.Generator().manual_seed(seed))
        chosen = on_device(draws < self._p, inputs.device).view(-1, 1, 1, 1)
        return torch.where(chosen, inputs.flip(-1 if self._horizontal else -2), inputs)


class Crop:
    """RandomCrop: `padding` is left, right, top, bottom; `mode` is torchvision's word for what is put there."""

    def __init__(
        self,
        size: tuple[int, int],
        padding: Sequence[int] | None,
        *,
        pad_if_needed: bool = False,
        fill: tuple[float, ...] = (0.0,),
        mode: str = "constant",
    ) -> None:
        self._size, self._padding, self._pad_if_needed, self._mode = size, padding, pad_if_needed, mode
        self.fill = fill if mode == "constant" and (padding or pad_if_needed) else None

    def __call__(self, rows: Tensor, columns: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        left, right, top, bottom = self._padding or (0, 0, 0, 0)
        height, width = self._size
        rows = self._padded(rows, top, bottom, height)
        columns = self._padded(columns, left, right, width)
        found = rows.shape[1], columns.shape[1]
        if found[0] < height or found[1] < width:
            what = "padded input" if self._padding else "input"
            raise ValueError(f"Required crop size {self._size} is larger than {what} image size {found}.")
        return _window(rows, height, generator), _window(columns, width, generator)

    def _padded(self, places: Tensor, before: int, after: int, needed: int) -> Tensor:
        missing = needed - places.shape[1] - before - after
        if self._pad_if_needed and missing > 0:  # torchvision pads both sides by all that is missing
            before, after = before + missing, after + missing
        if not before and not after:
            return places
        if self._mode == "constant":
            return F.pad(places, (before, after), value=OUTSIDE)
        return places.index_select(1, _mirrored(places.shape[1], before, after, self._mode))


def _window(places: Tensor, length: int, generator: Generator) -> Tensor:
    """`length` neighbouring ones of `places` (B, n), from a random start."""
    start = torch.randint(places.shape[1] - length + 1, (len(places), 1), generator=generator)
    return places.gather(1, start + torch.arange(length))


def _mirrored(length: int, before: int, after: int, mode: str) -> Tensor:
    """(before + length + after,) places of `length`, those beyond an end chosen as torchvision's `mode` says.

    Raises ValueError where there are too few to mirror.
    """
    if mode != "edge" and max(before, after) > length - (mode == "reflect"):
        raise ValueError(f"a padding of {max(before, after)} is too large to {mode} {length} pixels")
    places = torch.arange(-before, length + after)
    if mode == "edge":
        return places.clamp(0, length - 1)
    last = length - 1
    if mode == "reflect":
        return last - (last - places.abs()).abs()
    places = torch.where(places < 0, -1 - places, places)
    return torch.where(places > last, 2 * last + 1 - places, places)


class Moves:
    """Neighbouring moves as one gather: each picks from the rows and columns that the one before has picked."""

    draws_globally = False

    def __init__(self, moves: Sequence[Move]) -> None:
        self._moves = tuple(moves)
        self._fill = next((move.fill for move in moves if move.fill is not None), None)

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes may stay bytes: not where something is filled in that is said as a float, 0 apart."""
        return self._fill is None or not any(self._fill)

    def takes(self, move: Move) -> bool:
        """Whether `move` can follow in the same gather: there is one filling only."""
        return move.fill is None or self._fill is None or move.fill == self._fill

    def then(self, move: Move) -> Moves:
        """These moves and `move` after them."""
        return Moves((*self._moves, move))

    def __len__(self) -> int:
        return len(self._moves)

    def __call__(self, inputs: Tensor, seeds: Sequence[int]) -> Tensor:
        """`inputs` (B, C, H, W) of any type → (B, C, h, w), with a seed for each move."""
        flips = [move for move in self._moves if isinstance(move, Flip)]
        if len(flips) == len(self):
            for flip, seed in zip(flips, seeds, strict=True):
                inputs = flip.alone(inputs, seed)
            return inputs
        return self._moved(inputs, seeds, self._fill)

    def masks(self, masks: Tensor, seeds: Sequence[int]) -> Tensor:
        """Masks (B, H, W) moved as pictures are by the same seeds; what is filled in is IGNORED."""
        return self._moved(masks.unsqueeze(1), seeds, None if self._fill is None else (float(IGNORED),)).squeeze(1)

    def _moved(self, inputs: Tensor, seeds: Sequence[int], fill: tuple[float, ...] | None) -> Tensor:
        count, _, height, width = inputs.shape
        rows, columns = _all(height).expand(count, height), _all(width).expand(count, width)
        for move, seed in zip(self._moves, seeds, strict=True):
            rows, columns = move(rows, columns, torch.Generator().manual_seed(seed))
        return moved(inputs, rows, columns, fill)


@cache
def _all(length: int) -> Tensor:
    return torch.arange(length)


def moved(inputs: Tensor, rows: Tensor, columns: Tensor, fill: tuple[float, ...] | None) -> Tensor:
    """The pixels of `inputs` (B, C, H, W) at `rows` (B, h) and `columns` (B, w); `fill` where one is OUTSIDE."""
    count, channels, height, width = inputs.shape
    if fill is not None:
        inputs = _with_margin(inputs, fill)
        rows, columns, width = rows.remainder(height + 1), columns.remainder(width + 1), width + 1
    high, wide = rows.shape[1], columns.shape[1]
    places = on_device(torch.cat((rows * width, columns), 1), inputs.device)
    rows, columns = places[:, :high, None], places[:, None, high:]
    index = (rows + columns).view(count, 1, high * wide).expand(-1, channels, -1)
    # Indexing with three tensors does the same four times slower on a CPU.
    return inputs.flatten(2).gather(2, index).view(count, channels, high, wide)


def _with_margin(inputs: Tensor, fill: tuple[float, ...]) -> Tensor:
    """`inputs` with one row below and one column to the right, filled."""
    if len(fill) == 1:
        return F.pad(inputs, (0, 1, 0, 1), value=fill[0])
    padded = F.pad(inputs, (0, 1, 0, 1))
    value = filling(fill, inputs)
    padded[:, :, -1:, :] = value
    padded[:, :, :, -1:] = value
    return padded


def horizontal_flip(transform: Transform) -> Move:
    """RandomHorizontalFlip, drawn for each sample."""
    return Flip(transform.p, horizontal=True)


def vertical_flip(transform: Transform) -> Move:
    """RandomVerticalFlip, drawn for each sample."""
    return Flip(transform.p, horizontal=False)


def crop(transform: Transform) -> Move | None:
    """RandomCrop; None where a side is cut off by a negative padding, or the filling is not one for all inputs."""
    padding, mode = transform.padding, transform.padding_mode
    if isinstance(transform.fill, dict) or min(padding or [0]) < 0:
        return None
    fill = fill_of(transform) or (0.0,)
    if mode != "constant" and len(fill) > 1:
        return None  # torchvision says what is wrong
    height, width = transform.size
    # torchvision keeps the padding as left, right, top, bottom.
    return Crop((height, width), padding, pad_if_needed=transform.pad_if_needed, fill=fill, mode=mode)
