"""LinearTransformation: every number of a picture from all of its numbers, by a matrix out of a file."""

# B batch · C channels · H height · W width · D = C · H · W

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.recipe import TENSOR_FILES


class LinearTransformation:
    """Subtracts a vector from a picture and multiplies it by a matrix, as whitening does.

    Args:
        transformation_matrix: a file with D × D numbers, D = C · H · W: .npy, .npz or .pt, or a list of lists.
        mean_vector: a file with D numbers, or a list. In a .npz or .pt of several each is found by its name here.
    """

    def __init__(
        self, transformation_matrix: str | Sequence[Sequence[float]], mean_vector: str | Sequence[float]
    ) -> None:
        matrix = _numbers(transformation_matrix, "transformation_matrix")
        mean = _numbers(mean_vector, "mean_vector")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"transformation_matrix is {_shape(matrix)} and must be square")
        if mean.shape != matrix.shape[:1]:
            raise ValueError(f"mean_vector has {_shape(mean)} numbers, and the matrix is {_shape(matrix)}")
        self._fixed = matrix, mean
        self._ready: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Floats (…, C, H, W). Raises ValueError for pictures of another size."""
        matrix, mean = self._on(inputs.device)
        if inputs.ndim < 3 or inputs.shape[-3:].numel() != len(mean):
            size = "×".join(map(str, inputs.shape[-3:]))
            raise ValueError(f"the matrix is for {len(mean)} numbers a sample, and these have {size}")
        flat = inputs.reshape(-1, len(mean)) - mean.to(inputs.dtype)
        return (flat @ matrix.to(inputs.dtype)).reshape(inputs.shape)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Matrix and mean, sent to the device once."""
        if device not in self._ready:
            matrix, mean = self._fixed
            self._ready[device] = matrix.to(device), mean.to(device)
        return self._ready[device]


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _numbers(given: Any, name: str) -> Tensor:
    """Floats as the recipe lists them, or out of the file that it names. Raises ValueError."""
    try:
        found = _read(given, name)[0] if isinstance(given, str) else given
        numbers = torch.as_tensor(found, dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"{name}: {given}: {(error.strerror or str(error)).lower()}") from error
    except Exception as error:  # NumPy and torch raise whatever they like for what is no such file
        raise ValueError(f"{name}: {given}: {error}" if isinstance(given, str) else f"{name}: {error}") from error
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"{name} has numbers that are not finite")
    return numbers


def array_name(path: str, name: str) -> str | None:
    """Under what a file holds the numbers of that `name`; None where it has one array and no names. Raises anything."""
    return _read(path, name)[1]


def _read(path: str, name: str) -> tuple[Any, str | None]:
    """What a file holds under `name`, or the only array in it, and its name there; a pickle in it is never run."""
    if not path.endswith(TENSOR_FILES):
        raise ValueError(f"is no file of numbers: {', '.join(TENSOR_FILES)}")
    if path.endswith(".pt"):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    else:
        loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, Mapping):
        return loaded, None
    known = list(loaded)
    if name not in known and len(known) != 1:
        raise ValueError(f"has no {name}, but {', '.join(map(str, known)) or 'nothing'}")
    key = name if name in known else known[0]
    return loaded[key], key
