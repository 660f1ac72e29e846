"""A run's split as a small file in its directory: a resumed run is trained and scored on the very same samples."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.choosing.splits import Drawn, main_part, split
from engine.data.choosing.written import written_since
from engine.data.samples import Listed, Loaded, Measured, Part, Samples
from engine.errors import DataError, RunError
from engine.recipe import Data

_SHARED = ("train", "val", "test")
_UNSEEN = hashlib.blake2b(digest_size=16).hexdigest()
"""Ends the fingerprint of samples of which only the number is known."""


@dataclass(frozen=True)
class KeptSplit:
    """The file `path`: the numbers of each part's samples, by which settings they were drawn, and of which data."""

    path: Path

    def drawn(self, loaded: Loaded, data: Data, notes: list[str]) -> Drawn:
        """The split that was kept; without one, or for other settings, a new one, which is kept from now on.

        Files that were written since are told of. Raises DataError if the data is not what was split, and RunError if
        the file can't be read or written.
        """
        wanted, found = _settings(data), {name: _fingerprint(loaded, part) for name, part in loaded.parts.items()}
        kept = self._read() if os.path.lexists(self.path) else None
        if kept is not None and kept.settings["split"] == wanted["split"]:
            if kept.fingerprints == found:
                if said := written_since(loaded, kept.made):
                    notes.append(f"{loaded.source.name}: {said}")
                return _taken(loaded, kept.index)
            if kept.settings == wanted:
                raise _changed(loaded, kept.fingerprints, found)
        drawn = split(loaded, data, notes)
        if kept is not None:
            which = "data.split or data.subset" if kept.settings["split"] != wanted["split"] else "the dataset"
            notes.append(f"{which} is not what it was: the split is drawn anew")
        self._write(drawn, wanted, found)
        return drawn

    def validated(self, at_most: int) -> tuple[int, str]:
        """How many samples the metrics are measured on, of which `at_most` so many are taken, and a hash of which.

        The hash is the same wherever files and targets are the same under the same name, and the same of them are held
        out, wherever the folder lies. Raises RunError if the file can't be read.
        """
        kept = self._read()
        given = kept.index.get("val")
        part = next(name for name in (("val",) if given is None else ("all", "train")) if name in kept.fingerprints)
        whole, dataset = kept.fingerprints[part], kept.settings["dataset"]
        count = min(int(whole.split()[0]) if given is None else len(given), at_most)
        identity = [dataset["name"], *(Path(dataset[key]).name for key in ("path", "python")), whole, count]
        if whole.endswith(_UNSEEN):  # then the options alone say what the samples are
            identity.append(dataset["options"])
        digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16)
        if given is not None:
            digest.update(given[:count].contiguous().numpy().tobytes())
        return count, digest.hexdigest()

    def _read(self) -> _Kept:
        try:
            if not self.path.is_file():  # opening a pipe would wait for ever
                raise OSError("it is not a file")
            with np.load(self.path, allow_pickle=False) as archive:
                about = json.loads(str(archive["about"]))
                index = {name: torch.from_numpy(archive[name]) for name in about["parts"]}
            return _Kept(about["settings"], about["fingerprints"], index, float(about.get("made", math.inf)))
        except Exception as error:  # of a damaged archive zipfile, zlib and NumPy raise what they like
            what = "which says what this run was trained and scored on, can't be read"
            raise RunError(str(self.path), what, "Bring it back, or begin a new run.") from error

    def _write(self, drawn: Drawn, settings: Mapping[str, Any], fingerprints: Mapping[str, str]) -> None:
        arrays: dict[str, Any] = {name: index.numpy() for name, (_, index) in drawn.items() if index is not None}
        values = {"settings": settings, "fingerprints": fingerprints, "parts": [*arrays], "made": time.time()}
        about = np.array(json.dumps(values))
        aside = self.path.with_name(f".writing-{self.path.name}")
        try:
            with aside.open("wb") as file:
                np.savez_compressed(file, about=about, **arrays)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
        except OSError as error:
            raise RunError(
                str(self.path), f"can't be written: {error.strerror or error}", "Make room, or mend the folder."
            ) from error


@dataclass(frozen=True)
class _Kept:
    settings: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    index: Mapping[str, Tensor]
    made: float


def _settings(data: Data) -> dict[str, Any]:
    """What decides which samples are where, as JSON gives it back."""
    values = data.model_dump(mode="json", include={"name", "path", "format", "python", "options", "split", "subset"})
    drawn = {"split": values.pop("split"), "subset": values.pop("subset")}
    settings: dict[str, Any] = json.loads(json.dumps({"split": drawn, "dataset": values}, default=str))
    return settings


def _taken(loaded: Loaded, index: Mapping[str, Tensor]) -> Drawn:
    main = main_part(loaded)
    shared: Drawn = {name: (main, index[name]) for name in _SHARED if name in index}
    return shared | {name: (loaded.parts[name], None) for name in _SHARED[1:] if name in loaded.parts}


def _fingerprint(loaded: Loaded, part: Part) -> str:
    """`5000 1f3a…`: how many samples there are, and a hash of where they lie and what is to be predicted of them.

    Of samples that are made by the recipe's options, or read by a person's own code, their number must do: floats that
    are computed may differ in their last bit on another computer.
    """
    digest = hashlib.blake2b(digest_size=16)
    if loaded.source.origin != "made" and isinstance(part, (Samples, Listed, Measured)):
        digest.update("\0".join(part.places).encode(errors="surrogatepass"))
        digest.update(part.targets.contiguous().numpy().tobytes())
    return f"{len(part)} {digest.hexdigest()}"


def _changed(loaded: Loaded, before: Mapping[str, str], now: Mapping[str, str]) -> DataError:
    def count(prints: Mapping[str, str]) -> int:
        return sum(int(text.split()[0]) for text in prints.values())

    if count(before) != count(now):
        what = f"has {count(now)} samples now, and had {count(before)} when this run was split"
    else:
        what = "has other files or targets now than when this run was split"
    return DataError(f"data: {loaded.source.name}", what, "Bring the old ones back, or begin a new run.")
