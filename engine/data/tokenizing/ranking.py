"""What comes most often first, in blocks: other threads run in between, and it can be called off."""

from __future__ import annotations

import heapq
from collections.abc import MutableMapping
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.data.samples import Progress  # which loads torch

_BLOCK = 10_000  # sorted in some 10 ms, in which no other thread runs


def ranked(counted: MutableMapping[str, int], most: int, least: int, progress: Progress) -> list[str]:
    """The `most` names that were counted most often, ties in the order of text; none that came less than `least` times.

    `counted` is empty afterwards: to let go of millions at once would keep other threads waiting, too. Raises what
    `progress` raises.
    """
    runs: list[list[tuple[int, str]]] = []
    total = len(counted)
    while counted:
        progress("ranking", total - len(counted), total)
        block = [counted.popitem() for _ in range(min(_BLOCK, len(counted)))]
        runs.append(sorted((-count, name) for name, count in block if count >= least))
    return [name for _, name in islice(heapq.merge(*runs), most)]
