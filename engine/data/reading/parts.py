"""What folders, files, arrays and splits are called that hold a part of a dataset each."""

from __future__ import annotations

CALLED = {"train": ("train", "training"), "val": ("validation", "valid", "val", "dev"), "test": ("test", "testing")}
"""The names of each part in small letters; of several that are there the first is taken."""
PARTS = {name: part for part, names in CALLED.items() for name in names}
