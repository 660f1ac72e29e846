"""How a layer's numbers are spread: histograms on one grid, so that those of all steps can be laid side by side.

The grid is that of floating-point numbers themselves, four bins to each power of two on either side of zero: no range
has to be known before counting, which would take a second pass or a wait for the device, nothing falls outside of it,
and gradients of 1e-12 are told as well as weights around 1. TensorBoard's bins grow alike, by a tenth each.

Loads no torch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import numpy as np

CODES = 2048  # sign, 8 bits of exponent, 2 bits of fraction: the upper 11 bits of a float32
KEPT = 64  # histograms of a layer at most, however long it trains

_FIRST, _WILD = 4, 1020  # below are 0 and what float32 can only just hold, above are infinities and NaN
_HALF = CODES // 2  # the codes of negative numbers begin there
_NO_PLACE, _WILD_PLACE = 0, CODES
_HEAD = struct.Struct("<BQQQH")  # which kind, total, zeros, wild, how many bins


class _Grid:
    """What follows from the codes, made at its first use: NumPy waits until something is counted or drawn."""

    def __init__(self) -> None:
        self.bin = np.dtype([("place", "<i2"), ("count", "<u4")])
        """A row of `bins`: the place is the code with its sign, ascending like the numbers."""
        sizes = np.arange(CODES) % _HALF
        signed = np.where(np.arange(CODES) < _HALF, sizes, -sizes)
        self.places = np.select([sizes < _FIRST, sizes >= _WILD], [_NO_PLACE, _WILD_PLACE], signed)
        """Of each code."""
        begins = (np.arange(_WILD, dtype=np.int32) << 21).view(np.float32).astype(np.float64)
        self.edges = np.append(begins, 2.0**128)
        """Where the bin of each code begins; the last one ends at 2¹²⁸."""


_grid = cache(_Grid)


@dataclass(frozen=True)
class Histogram:
    """How many numbers lie where. Of many, `total`, only so many are looked at: `seen`, zeros and wild ones included.

    `wild` are infinities and NaN. `bins` are rows of place and count, those that have none left out.
    """

    total: int
    zeros: int
    wild: int
    bins: bytes

    @classmethod
    def each(cls, counts: np.ndarray, totals: Sequence[int], zeros: Sequence[int]) -> list[Histogram]:
        """From what was counted of each code, (n, 2048), of so many numbers, and zeros that were not counted."""
        flat, rows = counts.reshape(-1), len(counts)
        used = (flat != 0).nonzero()[0]  # of 2048 codes some hundred; four times as fast as nonzero of numbers
        which, places, found = used // CODES, _grid().places[used % CODES], flat[used]
        zero, not_finite = places == _NO_PLACE, places == _WILD_PLACE
        none, wild = (np.bincount(which[at], found[at], rows).astype(np.int64).tolist() for at in (zero, not_finite))
        held = (~(zero | not_finite)).nonzero()[0]
        held = held[np.argsort(which[held] * 2 * CODES + places[held], kind="stable")]
        which = which[held]
        bins = np.empty(len(held), _grid().bin)
        bins["place"], bins["count"] = places[held], found[held]
        packed = bins.tobytes()
        ends = (np.searchsorted(which, np.arange(rows + 1)) * _grid().bin.itemsize).tolist()
        parts = [packed[first:end] for first, end in pairwise(ends)]
        return [
            cls(total, more + counted, other, part)
            for total, more, counted, other, part in zip(totals, zeros, none, wild, parts, strict=True)
        ]

    @property
    def seen(self) -> int:
        """How many numbers were looked at."""
        return int(self._rows["count"].sum(dtype=np.int64)) + self.zeros + self.wild

    @property
    def range(self) -> tuple[float, float] | None:
        """Between what the numbers other than zero lie, to a quarter of them; None where there are none."""
        low, high, _ = self._bounds()
        return (float(low[0]), float(high[-1])) if len(low) else None

    def quantile(self, share: float, *, zeros: bool = True, sizes: bool = False) -> float | None:
        """The number below which `share` of them lie; of their sizes alone, without sign, or without the zeros."""
        low, high, counts = self._bounds()
        if sizes:
            low, high = np.minimum(abs(low), abs(high)), np.maximum(abs(low), abs(high))
            order = np.argsort(low, kind="stable")
            low, high, counts = low[order], high[order], counts[order]
        if zeros and self.zeros:
            at = int(np.searchsorted(low, 0.0))
            low, high, counts = (np.insert(each, at, new) for each, new in ((low, 0), (high, 0), (counts, self.zeros)))
        if not len(low):
            return None
        ends = np.cumsum(counts)
        target = share * ends[-1]
        at = min(int(np.searchsorted(ends, target)), len(ends) - 1)
        within = 1 - (ends[at] - target) / counts[at]
        return float(low[at] + (high[at] - low[at]) * min(max(within, 0.0), 1.0))

    def columns(self, edges: np.ndarray) -> np.ndarray:
        """How many numbers other than zero lie between each two of the ascending `edges`, as if even within a bin."""
        low, high, counts = self._bounds()
        if not len(low):
            return np.zeros(len(edges) - 1)
        ends = np.cumsum(counts)
        places = np.stack([low, high], 1).ravel()
        below = np.stack([ends - counts, ends], 1).ravel()
        return np.diff(np.interp(edges, places, below))

    def packed(self, kind: int) -> bytes:
        """As bytes, six a bin; `kind` comes back with it."""
        return _HEAD.pack(kind, self.total, self.zeros, self.wild, len(self._rows)) + self.bins

    @property
    def _rows(self) -> np.ndarray:
        return np.frombuffer(self.bins, _grid().bin)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(least, greatest, count) of each bin, ascending; (n,) each."""
        places, counts = self._rows["place"].astype(np.int64), self._rows["count"].astype(np.float64)
        inner, outer = _grid().edges[abs(places)], _grid().edges[abs(places) + 1]
        return np.where(places > 0, inner, -outer), np.where(places > 0, outer, -inner), counts


@dataclass(frozen=True)
class Spread:
    """One layer's histograms at one step. None where there was nothing to count.

    So it is with the gradients of a layer that the loss does not depend on, and the activations (outputs) of one that
    gave no tensor, or that a compiled model calls.
    """

    weights: Histogram | None = None
    activations: Histogram | None = None
    gradients: Histogram | None = None

    def packed(self) -> bytes:
        """As bytes."""
        kinds = enumerate(getattr(self, kind) for kind in KINDS)
        return b"".join(histogram.packed(number) for number, histogram in kinds if histogram is not None)

    @classmethod
    def unpacked(cls, packed: object) -> Spread | None:
        """What was `packed`; None for what can't be one."""
        found: dict[str, Histogram] = {}
        if not isinstance(packed, bytes):
            return None
        try:
            while packed:
                kind, total, zeros, wild, count = _HEAD.unpack_from(packed)
                end = _HEAD.size + count * _grid().bin.itemsize
                bins, packed = packed[_HEAD.size : end], packed[end:]
                if not _possible(np.frombuffer(bins, _grid().bin), count):
                    return None
                found[KINDS[kind]] = Histogram(total, zeros, wild, bins)
        except (struct.error, ValueError, IndexError):
            return None
        return cls(**found)


KINDS = tuple(field.name for field in fields(Spread))


def thinned(steps: Sequence[int]) -> list[int]:
    """Of ascending `steps` those to keep, fewer than KEPT: the last, and of the others one in each equal span."""
    kept, width = list(steps), 1
    while len(kept) >= KEPT:
        width *= 2
        spans = {step // width: step for step in reversed(steps)}  # the first of each
        kept = sorted({*spans.values(), steps[-1]})
    return kept


def _possible(rows: np.ndarray, count: int) -> bool:
    """Whether these can be the bins of a histogram."""
    sizes = abs(rows["place"].astype(np.int64))
    return bool(
        len(rows) == count
        and (np.diff(rows["place"].astype(np.int64)) > 0).all()
        and ((sizes >= _FIRST) & (sizes < _WILD)).all()
    )
