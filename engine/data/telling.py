"""How far the reading of a dataset is, in words."""

from __future__ import annotations

from engine.recipe import Dataset


def reading_text(data: Dataset, what: str, done: int, total: int) -> str:
    """`MNIST: 3.2 of 11.6 MB` of a dataset of the catalog, which is downloaded; `photos: 3 of 20` of files."""
    if data.name:
        return f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{what}: {done / 1e6:.1f} MB"
    return f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"
