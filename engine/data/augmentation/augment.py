"""The recipe's `augment`: which step is done by which code, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from engine.catalog import Entry
from engine.data.augmentation import colour, filters, geometry, moves
from engine.data.augmentation.chosen import Chosen, sharpness
from engine.data.augmentation.erasing import erasing
from engine.data.augmentation.moves import Move, Moves
from engine.data.augmentation.nested import AnyOrder, InTurn, Nested, OneOf, Perhaps
from engine.data.augmentation.resized_crop import resized_crop
from engine.data.augmentation.steps import Fixed, Make, OnBytes, SampleBySample, Step, Transform
from engine.data.serving.mixing import MIXES
from engine.data.transforms import (
    SOUND,
    Lambda,
    LinearTransformation,
    Standardize,
    as_floats,
    checked,
    draws,
    held,
    is_random,
    made,
    named,
)
from engine.data.transforms.nested import COMPOSE, LISTED
from engine.data.transforms.unfit import VARIES, VARYING
from engine.errors import RecipeError, StudioError, first_line
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


class Steps:
    """Random changes of pictures (B, C, H, W), each with its place in the recipe, drawn for each sample from one seed.

    `inside` says that another transform holds them: then some may draw nothing. The first `free` of them may give each
    sample a size of its own. Raises RecipeError for an unknown transform or parameter, and for one that does not fit.
    """

    def __init__(self, parts: Sequence[tuple[str, Part]], *, inside: bool = True, free: int = 0) -> None:
        self._inside = inside
        self._steps: list[Moves | Step | Nested] = []
        self._places: list[str] = []
        for number, (where, part) in enumerate(parts):
            self._add(part, where, free=number < free)
        self.draws_globally = any(step.draws_globally for step in self._steps)
        """Whether it uses the process's random number generators: then only the engine thread may call it."""

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        """Floats in [0, 1] or bytes. Bytes stay bytes as long as they are only moved, which is less to move."""
        for step, seeds in self._seeded(seed):
            if isinstance(step, Moves):
                inputs = step(inputs if step.keeps_bytes else as_floats(inputs), seeds)
            else:
                inputs = step(as_floats(inputs), seeds[0])
        return inputs

    @property
    def only_moves(self) -> bool:
        """Whether every step only puts pixels elsewhere, so that a mask can follow."""
        return all(isinstance(step, Moves) or (isinstance(step, Nested) and step.only_moves) for step in self._steps)

    def masks(self, masks: Tensor, seed: int) -> Tensor:
        """Masks (B, H, W) whose pixels go where a call with this seed moves those of the pictures.

        What is no move must leave pixels in their place.
        """
        for step, seeds in self._seeded(seed):
            if isinstance(step, Moves):
                masks = step.masks(masks, seeds)
            elif isinstance(step, Nested):
                masks = step.masks(masks, seeds[0])
        return masks

    def trial(self, inputs: Tensor) -> Tensor:
        """What a call makes of `inputs`, in every way that there is. Raises RecipeError for one that does not fit."""
        for (step, seeds), where in zip(self._seeded(0), self._places, strict=True):
            try:
                if isinstance(step, Nested):
                    inputs = step.trial(as_floats(inputs))
                else:
                    inputs = step(inputs, seeds) if isinstance(step, Moves) else step(as_floats(inputs), seeds[0])
            except StudioError:
                raise
            except Exception as error:  # torchvision raises whatever it likes for what does not fit
                what = f"does not fit samples of {'×'.join(map(str, inputs.shape[1:]))}: {first_line(error)}"
                raise RecipeError(where, what, "Change or remove it.") from error
        return inputs

    def _seeded(self, seed: int) -> Iterator[tuple[Moves | Step | Nested, list[int]]]:
        """Each step with the seeds of the recipe's parts that it does: each has one by its number."""
        done = 0
        for step in self._steps:
            count = len(step) if isinstance(step, Moves) else 1
            yield step, [derive(seed, done + index) for index in range(count)]
            done += count

    def _add(self, part: Part, where: str, *, free: bool) -> None:
        if part.name in MIXES:  # at the end of the recipe's own list they are left to Mixing
            what = f"{part.name} mixes the samples of a batch, and here each is changed alone"
            raise RecipeError(where, what, "Put it at the end of data.augment, into nothing else.")
        # What holds it has been checked with all that it holds.
        entry, random = (named if self._inside else checked)(part, where), draws(part, where)
        if not random and (not self._inside or entry.group == SOUND or entry.target is Standardize):
            raise RecipeError(where, f"{part.name} draws nothing", "Put it into data.transforms.")
        if part.name in VARYING and not free:
            raise RecipeError(where, f"{part.name} {VARIES[0]}", VARIES[1])
        if entry.container:
            self._put(_nested(part, entry, where, free=free), where)
            return
        if not random:
            self._put(Fixed(made(part, where)), where)
            return
        transform = entry.make(part.parameters, where)
        move = MOVES[part.name](transform) if part.name in MOVES else None
        if move is None:
            make, one_by_one = STEPS.get(part.name), OnBytes if part.name in ON_BYTES else SampleBySample
            self._put((make(transform) if make else None) or one_by_one(transform), where)
        elif self._steps and isinstance(last := self._steps[-1], Moves) and last.takes(move):
            self._steps[-1] = last.then(move)
        else:
            self._put(Moves([move]), where)

    def _put(self, step: Moves | Step | Nested, where: str) -> None:
        self._steps.append(step)
        self._places.append(where)


def _nested(part: Part, entry: Entry, where: str, *, free: bool) -> Nested:
    """The step that does what `part` holds. Raises RecipeError for one that is not known here."""
    parts = held(part, where)
    if part.name == COMPOSE:
        sized = max((number for number, (_, each) in enumerate(parts) if "size" in each.parameters), default=0)
        loose = any(_varies(each, at) for at, each in parts)
        return InTurn(Steps(parts, free=len(parts) if free else sized), where, one_by_one=loose)
    count = 1 if free else 0
    if part.name == "RandomApply":
        return Perhaps(Steps(parts, free=len(parts) * count), where, part.parameters.get("p", 0.5))
    if part.name == "RandomChoice":
        values = {**part.parameters, LISTED: [as_floats] * len(parts)}
        return OneOf([Steps([each], free=count) for each in parts], where, entry.make(values, where).p)
    if part.name == "RandomOrder":
        return AnyOrder([Steps([each], free=count) for each in parts], where)
    raise RecipeError(where, f"{part.name} is not known here: it holds transforms", "Use Compose or RandomApply.")


def _varies(part: Part, where: str) -> bool:
    """Whether it, or one that it holds, gives each sample a size of its own."""
    inside = held(part, where) if LISTED in part.parameters else []
    return part.name in VARYING or any(_varies(each, at) for at, each in inside)


class Augment(Steps):
    """The recipe's `augment`.

    What mixes samples of a batch is not for it, but for Mixing; it must stand behind all that changes single ones.
    Raises RecipeError for an unknown transform or parameter, and for one that draws nothing.
    """

    def __init__(self, parts: Sequence[Part], where: str = "data.augment") -> None:
        for index, part in enumerate(parts):
            if index and parts[index - 1].name in MIXES and part.name not in MIXES:
                what = f"{part.name} changes single samples, which {parts[index - 1].name} has mixed"
                raise RecipeError(f"{where}.{index}", what, f"Put {part.name} before it.")
        placed = [(f"{where}.{index}", part) for index, part in enumerate(parts) if part.name not in MIXES]
        super().__init__(placed, inside=False)

    def with_masks(self, inputs: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """`inputs` as a call changes them, and masks (B, H, W) whose pixels go where those of the picture go."""
        return self(inputs, seed), self.masks(masks, seed)


def check_for_masks(data: Data) -> None:
    """Raise RecipeError for a transform or augmentation that would move pixels away from their mask."""
    for key, parts in (("transforms", data.transforms), ("augment", data.augment)):
        for position, part in enumerate(parts):
            if part.name not in MIXES:
                _check_for_masks(part, f"data.{key}.{position}")


def _check_for_masks(part: Part, where: str) -> None:
    entry = checked(part, where)
    if entry.container:
        for at, each in held(part, where):
            _check_for_masks(each, at)
    elif entry.target in (Lambda, LinearTransformation):
        what = f"what {part.name} does with the pixels of a picture can't be done to its mask"
        raise RecipeError(where, what, "Do it in a dataset of your own, to both.")
    elif not is_random(entry):
        if entry.group == "geometry":
            what = f"{part.name} would not do to the mask what it does to the picture"
            raise RecipeError(where, what, "Use options.size.")
    elif entry.group not in ("color", "misc") and part.name not in _IN_PLACE and not Steps([(where, part)]).only_moves:
        remedy = f"Use {', '.join(MOVES)}, or a change of colours."
        raise RecipeError(where, f"{part.name} can't be done to a mask as it is to the picture", remedy)
