"""The names of very many files: 200,000 in some megabytes, which go to a DataLoader worker in milliseconds."""

# N files · F folders

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import overload

import numpy as np

from engine.data.reading.parts import PARTS


def shown(name: bytes) -> str:
    """A file's name for people. One that is no UTF-8 is shown with escapes, which every screen and file can take."""
    return name.decode("utf-8", "backslashreplace")


def part_called(name: bytes) -> str:
    """The part of a dataset that a folder of this name holds; empty for another folder."""
    return PARTS.get(shown(name.lower()), "")


class Names(Sequence[str]):
    """Files in folders below `root`, as bytes, since a name need not be UTF-8. As a sequence: for people to read.

    `folder_of` (N,) gives each file its position in `folders`, which are relative to the root; `b""` is the root.
    """

    def __init__(
        self, root: bytes, folders: Sequence[bytes], folder_of: np.ndarray, text: bytes, starts: np.ndarray
    ) -> None:
        self.root, self.folders, self.folder_of = root, folders, folder_of
        self._text, self._starts = text, starts  # each name begins at its start and ends with a zero byte

    @classmethod
    def of(cls, root: bytes, names: Sequence[tuple[bytes, bytes, int]]) -> Names:
        """From (folder, the names in it each followed by a zero byte, how many they are)."""
        text = b"".join(part for _, part, _ in names)
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        folder_of = np.repeat(np.arange(len(names), dtype=np.int32), [count for _, _, count in names])
        return cls(root, [folder for folder, _, _ in names], folder_of, text, starts)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return shown(self.relative(index))

    def name(self, index: int) -> bytes:
        """The file's name in its folder."""
        start = int(self._starts[index])
        return self._text[start : self._text.index(b"\0", start)]

    def relative(self, index: int) -> bytes:
        """Where the file lies below the root."""
        return os.path.join(self.folders[int(self.folder_of[index])], self.name(index))

    def path(self, index: int) -> bytes:
        """Where the file lies."""
        return os.path.join(self.root, self.relative(index))

    def take(self, numbers: np.ndarray) -> Names:
        """The files of these numbers, in this order."""
        return Names(self.root, self.folders, self.folder_of[numbers], self._text, self._starts[numbers])
