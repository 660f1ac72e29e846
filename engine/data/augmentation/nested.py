"""Steps made of steps: Compose, RandomApply, RandomChoice and RandomOrder, each sample by a draw of its own.

Samples that are changed alike are changed together, as one smaller batch.
"""

# B batch · C channels · H height · W width · K steps that one holds

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.data.augmentation.draws import on_device
from engine.errors import RecipeError
from engine.seeds import derive

_TRIED = 16  # samples that are tried, where each may take a size of its own on the way


class Child(Protocol):
    """One or more steps that another holds."""

    @property
    def draws_globally(self) -> bool: ...

    @property
    def only_moves(self) -> bool: ...

    def __call__(self, inputs: Tensor, seed: int) -> Tensor: ...

    def masks(self, masks: Tensor, seed: int) -> Tensor: ...

    def trial(self, inputs: Tensor) -> Tensor: ...


Change = Callable[[Child, Tensor, int], Tensor]
"""Pictures or masks of some samples (b, …) changed by a child, from a seed."""


class Nested(ABC):
    """`children` may be chosen among, and be done in any order; `where` is its place in the recipe."""

    def __init__(self, children: Sequence[Child], where: str) -> None:
        self._children, self._where = children, where
        self.draws_globally = any(child.draws_globally for child in children)
        self.only_moves = all(child.only_moves for child in children)
        self._tried: dict[torch.Size, Tensor] = {}

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        """Floats (B, C, H, W)."""
        return self._changed(inputs, seed, lambda child, some, own: child(some, own))

    def masks(self, masks: Tensor, seed: int) -> Tensor:
        """Masks (B, H, W), moved as the pictures are by the same seed."""
        return self._changed(masks, seed, lambda child, some, own: child.masks(some, own))

    def trial(self, inputs: Tensor) -> Tensor:
        """What it makes of `inputs` in each of its ways. Raises RecipeError where these differ in size.

        Those of one size are tried once: where each holds another, the ways of all would be multiplied.
        """
        if inputs.shape not in self._tried:
            self._tried[inputs.shape] = self._trial(inputs)
        return self._tried[inputs.shape]

    def _trial(self, inputs: Tensor) -> Tensor:
        ways = self._ways(inputs)
        sizes = list(dict.fromkeys("×".join(map(str, way.shape[1:])) for way in ways))
        if len(sizes) > 1:
            what = f"makes {' and '.join(sizes)} of samples of {'×'.join(map(str, inputs.shape[1:]))}"
            raise RecipeError(self._where, what, "Let all of its ways lead to one size.")
        return ways[0]

    @abstractmethod
    def _ways(self, inputs: Tensor) -> Sequence[Tensor]:
        """Every kind of sample that it can make of `inputs`."""

    @abstractmethod
    def _changed(self, given: Tensor, seed: int, change: Change) -> Tensor: ...


class InTurn(Nested):
    """Compose: one child, of all. `one_by_one` where samples take sizes of their own on the way."""

    def __init__(self, child: Child, where: str, *, one_by_one: bool) -> None:
        super().__init__([child], where)
        self._one_by_one = one_by_one

    def _ways(self, inputs: Tensor) -> Sequence[Tensor]:
        if not self._one_by_one:
            return [self._children[0].trial(inputs)]
        return [self._children[0](inputs[:1], seed) for seed in range(_TRIED)]

    def _changed(self, given: Tensor, seed: int, change: Change) -> Tensor:
        if not self._one_by_one:
            return change(self._children[0], given, derive(seed, 1))
        alone = torch.split(given, 1)
        return torch.cat([change(self._children[0], each, derive(seed, 1, at)) for at, each in enumerate(alone)])


class Perhaps(Nested):
    """RandomApply: one child, with the chance `p`."""

    def __init__(self, child: Child, where: str, p: float) -> None:
        super().__init__([child], where)
        self._p = p

    def _ways(self, inputs: Tensor) -> Sequence[Tensor]:
        return [inputs, self._children[0].trial(inputs)]

    def _changed(self, given: Tensor, seed: int, change: Change) -> Tensor:
        chosen = torch.rand(len(given), generator=torch.Generator().manual_seed(seed)) < self._p
        return _joined(given, chosen.long() - 1, self._children, seed, change)


class OneOf(Nested):
    """RandomChoice: one of the children, with these `chances` (K,), which add up to 1."""

    def __init__(self, children: Sequence[Child], where: str, chances: Sequence[float]) -> None:
        super().__init__(children, where)
        self._chances = torch.tensor(chances, dtype=torch.float64)

    def _ways(self, inputs: Tensor) -> Sequence[Tensor]:
        return [child.trial(inputs) for child in self._children]

    def _changed(self, given: Tensor, seed: int, change: Change) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.multinomial(self._chances, len(given), replacement=True, generator=generator)
        return _joined(given, numbers, self._children, seed, change)


class AnyOrder(Nested):
    """RandomOrder: all children, each sample by an order of its own."""

    def _ways(self, inputs: Tensor) -> Sequence[Tensor]:
        found = []
        for first in range(len(self._children)):
            turned = [*self._children[first:], *self._children[:first]]
            for order in (turned, turned[::-1]):
                made = inputs
                for child in order:
                    made = child.trial(made)
                found.append(made)
        return found

    def _changed(self, given: Tensor, seed: int, change: Change) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        orders = torch.rand(len(given), len(self._children), generator=generator).argsort(1).tolist()
        samples = list(given)
        behind = [0] * len(given)  # which children each sample has behind it, a bit for each: these are of one size
        for place in range(len(self._children)):
            groups: dict[tuple[int, int], list[int]] = defaultdict(list)
            for at, order in enumerate(orders):
                groups[order[place], behind[at]].append(at)
            for (number, before), members in sorted(groups.items()):
                together = torch.stack([samples[at] for at in members])
                changed = change(self._children[number], together, derive(seed, 1, number, before))
                for at, sample in zip(members, changed, strict=True):
                    samples[at] = sample
                    behind[at] |= 1 << number
        return torch.stack(samples)


def _joined(given: Tensor, numbers: Tensor, children: Sequence[Child], seed: int, change: Change) -> Tensor:
    """`given` (B, …), each changed by the child of its number (B,), on the CPU; -1 stays as it is."""
    places, parts = [], []
    for number in range(-1, len(children)):
        index = (numbers == number).nonzero().squeeze(1)
        if not len(index):
            continue
        some = given.index_select(0, on_device(index, given.device))
        places.append(index)
        parts.append(some if number < 0 else change(children[number], some, derive(seed, 1, number)))
    back = torch.cat(places).argsort() if places else torch.arange(0)
    return torch.cat(parts).index_select(0, on_device(back, given.device)) if parts else given
