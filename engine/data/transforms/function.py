"""Lambda: a function of a person's own as a transform."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.errors import DataError, StudioError, with_article
from engine.python_file import line_of, said


class Lambda:
    """Calls a function of your own on whole batches.

    Args:
        lambd: it is given floats (B, C, H, W) and returns as many samples, all of one shape. It must draw nothing.
    """

    where = "Lambda"
    """Where the recipe names it."""

    def __init__(self, lambd: Callable[[Tensor], object]) -> None:
        self._function = lambd
        self.name = getattr(lambd, "__name__", type(lambd).__name__)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Floats (B, …) → floats (B, …) on the same device. Raises DataError for what goes wrong in the function."""
        try:
            made = self._function(inputs.clone())  # it may write into them, and they may be the dataset
        except (StudioError, MemoryError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # a person's file may raise anything
            at = f"{line}: " if (line := line_of(error)) else ""
            raise DataError(self.where, f"{at}{self.name} fails: {said(error)}", "Mend the function.") from error
        if not isinstance(made, Tensor):
            wrong = with_article(type(made).__name__)
        elif made.ndim < 2 or len(made) != len(inputs):
            wrong = f"a tensor of shape {tuple(made.shape)}"
        elif not made.is_floating_point():
            wrong = f"numbers of type {str(made.dtype).removeprefix('torch.')}"
        elif made.device != inputs.device:
            wrong = f"a tensor on {made.device}"
        else:
            return made
        given = f"It is given floats {tuple(inputs.shape)} on {inputs.device}: return as many samples, floats, there."
        raise DataError(self.where, f"{self.name} returned {wrong}", given)
