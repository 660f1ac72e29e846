"""The recipe's `augment`: which step is done by which code, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from engine.data.augmentation import colour, filters, geometry, moves
from engine.data.augmentation.chosen import Chosen, sharpness
from engine.data.augmentation.erasing import erasing
from engine.data.augmentation.moves import Move, Moves
from engine.data.augmentation.resized_crop import resized_crop
from engine.data.augmentation.steps import Make, OnBytes, SampleBySample, Step, Transform
from engine.data.serving.mixing import MIXES
from engine.data.transforms import as_floats, checked, is_random
from engine.errors import RecipeError
from engine.recipe import Data, Part
from engine.seeds import derive

MOVES: Mapping[str, Callable[[Transform], Move | None]] = {
    "RandomHorizontalFlip": moves.horizontal_flip,
    "RandomVerticalFlip": moves.vertical_flip,
    "RandomCrop": moves.crop,
}
STEPS: Mapping[str, Make] = {
    "ColorJitter": colour.jitter,
    "GaussianBlur": filters.blur,
    "GaussianNoise": filters.noise,
    "RandomAdjustSharpness": sharpness,
    "RandomAffine": geometry.affine,
    "RandomAutocontrast": Chosen,
    "RandomChannelPermutation": colour.channel_permutation,
    "RandomEqualize": Chosen,
    "RandomErasing": erasing,
    "RandomGrayscale": Chosen,
    "RandomInvert": Chosen,
    "RandomPosterize": Chosen,
    "RandomResizedCrop": resized_crop,
    "RandomRotation": geometry.rotation,
    "RandomSolarize": Chosen,
}

ON_BYTES = ("JPEG",)
"""Transforms that take no floats."""
_IN_PLACE = ("RandomErasing", "JPEG")  # they leave pixels where they are; the others of their group mix samples


class Augment:
    """The recipe's `augment`: random changes of pictures (B, C, H, W), drawn for each sample from one seed.

    What mixes samples of a batch is not for it, but for Mixing; it must stand behind all that changes single ones.
    Raises RecipeError for an unknown transform or parameter, and for one that draws nothing.
    """

    def __init__(self, parts: Sequence[Part], where: str = "data.augment") -> None:
        self._steps: list[Moves | Step] = []
        for index, part in enumerate(parts):
            if part.name in MIXES:
                continue
            if index and parts[index - 1].name in MIXES:
                what = f"{part.name} changes single samples, which {parts[index - 1].name} has mixed"
                raise RecipeError(f"{where}.{index}", what, f"Put {part.name} before it.")
            self._add(part, f"{where}.{index}")
        self.draws_globally = any(step.draws_globally for step in self._steps)
        """Whether it uses the process's random number generators: then only the engine thread may call it."""

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        """Floats in [0, 1] or bytes. Bytes stay bytes as long as they are only moved, which is less to move."""
        done = 0  # each part of the recipe has a seed by its number
        for step in self._steps:
            if isinstance(step, Moves):
                inputs = inputs if step.keeps_bytes else as_floats(inputs)
                inputs = step(inputs, [derive(seed, done + index) for index in range(len(step))])
                done += len(step)
            else:
                inputs = step(as_floats(inputs), derive(seed, done))
                done += 1
        return inputs

    @property
    def only_moves(self) -> bool:
        """Whether every step only puts pixels elsewhere, so that a mask can follow."""
        return all(isinstance(step, Moves) for step in self._steps)

    def with_masks(self, inputs: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """`inputs` as a call changes them, and masks (B, H, W) whose pixels go where those of the picture go.

        What is no move must leave pixels in their place.
        """
        done = 0
        for step in self._steps:
            if isinstance(step, Moves):
                masks = step.masks(masks, [derive(seed, done + index) for index in range(len(step))])
                done += len(step)
            else:
                done += 1
        return self(inputs, seed), masks

    def _add(self, part: Part, where: str) -> None:
        entry = checked(part, where)
        if not is_random(entry):
            raise RecipeError(where, f"{part.name} draws nothing", "Put it into data.transforms.")
        transform = entry.make(part.parameters, where)
        move = MOVES[part.name](transform) if part.name in MOVES else None
        if move is None:
            make, one_by_one = STEPS.get(part.name), OnBytes if part.name in ON_BYTES else SampleBySample
            self._steps.append((make(transform) if make else None) or one_by_one(transform))
        elif self._steps and isinstance(last := self._steps[-1], Moves) and last.takes(move):
            self._steps[-1] = last.then(move)
        else:
            self._steps.append(Moves([move]))


def check_for_masks(data: Data) -> None:
    """Raise RecipeError for a transform or augmentation that would move pixels away from their mask."""
    for position, part in enumerate(data.transforms):
        where = f"data.transforms.{position}"
        if checked(part, where).group == "geometry":
            raise RecipeError(
                where, f"{part.name} would not do to the mask what it does to the picture", "Use options.size."
            )
    for position, part in enumerate(data.augment):
        where = f"data.augment.{position}"
        entry = checked(part, where)
        if entry.group in ("color", "misc") or part.name in _IN_PLACE:
            continue
        if not Augment([part], where).only_moves:
            remedy = f"Use {', '.join(MOVES)}, or a change of colours."
            raise RecipeError(where, f"{part.name} can't be done to a mask as it is to the picture", remedy)
