"""Sound in files with a label each: read one by one when asked for, all of one rate and length."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data.reading.decoding import check_encoding
from engine.data.reading.labelled import Gathered, as_targets, files_below, leads_out, parts_of, place_in, visible
from engine.data.reading.records import cell_text, column_named, read_records
from engine.data.reading.resampling import resampled, support
from engine.data.samples import BadSample, Columns, Loaded, Part, Progress
from engine.data.sources import Source
from engine.errors import DataError, RecipeError, first_line
from engine.recipe import TaskName

Channels = Literal["mono", "stereo"]
_SOUNDS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
_TABLES = frozenset({".csv", ".tsv"})
_FILE_NAMES = ("file", "filename", "file_name", "fname", "path", "filepath", "file_path", "audio", "clip", "wav", "id")
_LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "word", "emotion", "score")
_FASTEST = 768_000  # samples a second; more is a broken header
_LARGEST = 1 << 28  # values of one sample: 1 GB
_TOLD_EVERY = 100


def open_audio(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    rate: int = 0,
    seconds: float = 0.0,
    channels: Channels = "mono",
    labels: str = "",
    file: str = "",
    label: str = "",
    encoding: str = "utf-8",
) -> Loaded:
    """Sounds to classify, or to predict a number from.

    A folder per class, or a folder of sounds beside a CSV file with a column of files and one of labels (WAV, FLAC,
    OGG, MP3 and whatever else libsndfile reads). Folders or CSV files named train, val and test are these parts.

    Args:
        rate: samples a second that all are brought to; 0 is the most common one of the training files
        seconds: what is longer is cut at its end, what is shorter is followed by silence; 0 is the median
        channels: mono is the mean of a file's channels; stereo has two, which a mono file gives twice
        labels: the CSV file with the labels, as seen from the folder; empty is the only one that lies there
        file: its column with the files; empty is the one that is named like it
        label: its column with the labels; empty is the one that is named like it
        encoding: of the CSV file, such as "cp1252"
    """
    _check(rate, seconds)
    check_encoding(encoding)
    root = path if path.is_dir() else path.parent
    search = _Search(root, task, progress, channels, labels, file, label, encoding)
    parts = search.parts(path)
    classes, targets = as_targets(parts, task, f"data.path: {path}")
    main = parts["all" if "all" in parts else "train"].items
    rate = rate or min(Counter(each.rate for each in main).items(), key=lambda pair: (-pair[1], pair[0]))[0]
    seconds = seconds or statistics.median(each.frames / each.rate for each in main)
    frames, width = max(1, round(seconds * rate)), 1 if channels == "mono" else 2
    if frames * width > _LARGEST:
        what = f"{seconds:,.0f} s at {rate:,} Hz are {frames:,} values a sample"
        raise DataError(f"data.path: {path}", what, "Set seconds to fewer in data.options, or rate to a lower one.")
    sounds: dict[str, Part] = {
        name: Sounds(
            [each.path for each in part.items], targets[name], part.places, part.columns, rate, frames, channels
        )
        for name, part in parts.items()
    }
    sizes = {name: len(part.items) for name, part in parts.items()}
    kinds = f"in {len(classes)} classes" if classes else "with a number each"
    source = Source(
        name=path.resolve().name,
        about=f"{sum(sizes.values()):,} sounds {kinds}, {seconds:.3g} s of each at {rate:,} Hz.",
        task=task,
        shape=(width, frames),
        outputs=len(classes) or 1,
        sizes=sizes,
        origin="yours",
        classes=classes,
        rate=rate,
        path=str(path),
    )
    return Loaded(source, sounds, [sample for part in parts.values() for sample in part.bad])


def _check(rate: int, seconds: float) -> None:
    if not 0 <= rate <= _FASTEST:
        raise RecipeError("data.options.rate", f"{rate:,} is no rate", "Try 16000, or 0 for that of the files.")
    if not (0 <= seconds < math.inf):
        raise RecipeError("data.options.seconds", f"{seconds:g} is no length", "Try 1.0, or 0 for the median.")


@dataclass
class Sounds:
    """One part's files. A sample is float32 (channels, frames) with values of -1 to 1; targets as in Samples."""

    files: Sequence[str]
    targets: Tensor
    places: Sequence[str]
    columns: Columns
    rate: int
    frames: int
    channels: Channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._sound(self.files[index], self.places[index]), self.targets[index]

    @property
    def sample_bytes(self) -> int:
        """Bytes that one sample takes in memory."""
        return 4 * self.frames * (1 if self.channels == "mono" else 2)

    def _sound(self, path: str, place: str) -> Tensor:
        # Not at the top: it loads libsndfile, which only sound needs.
        import soundfile

        try:
            with soundfile.SoundFile(path) as file:
                old = file.samplerate
                wanted = self.frames
                if old != self.rate:
                    wanted = math.ceil(self.frames * old / self.rate) + support(old, self.rate)
                read = file.read(wanted, dtype="float32", always_2d=True)  # (frames, channels)
        except (soundfile.SoundFileError, OSError) as error:
            raise BadSample(place, f"can't be read: {_reason(error)}") from error
        if not len(read):
            raise BadSample(place, "has no sound in it")
        if not np.isfinite(read).all():
            raise BadSample(place, "has values that are no numbers (NaN or infinite)")
        sound = torch.from_numpy(read).T
        if self.channels == "mono":
            sound = sound.mean(0, keepdim=True)
        elif len(sound) == 1:
            sound = sound.expand(2, -1)
        sound = resampled(sound, old, self.rate)[:, : self.frames]
        return F.pad(sound, (0, self.frames - sound.shape[1]))


@dataclass(frozen=True)
class _Header:
    """What a file says of itself."""

    path: str
    frames: int
    rate: int


@dataclass
class _Search:
    """Looks for sounds and their labels in the folder `root`."""

    root: Path
    task: TaskName
    progress: Progress
    channels: Channels
    labels: str
    file: str
    label: str
    encoding: str

    def parts(self, path: Path) -> dict[str, Gathered[_Header]]:
        """Each part's files, told by what lies in a folder, or by a table of labels. Raises DataError."""
        found: dict[str, Gathered[_Header]] = {}
        for name, entries in self._entries(path).items():
            found[name] = Gathered(self.task)
            tables = [entry for entry in entries if entry.suffix.lower() in _TABLES and entry.is_file()]
            if tables:
                sounds = _Named(self.root, self._sounds(self.root, found[name]))
                for table in tables:
                    self._read_table(table, sounds, found[name])
            for folder in [] if tables else entries:
                self._read_classes(folder, found[name])
        return found

    def _entries(self, path: Path) -> dict[str, list[Path]]:
        """The folders or tables of each part."""
        if self.labels:
            table = self.root / self.labels
            inside = not Path(self.labels).is_absolute() and ".." not in Path(self.labels).parts
            if not inside or not table.is_file() or table.suffix.lower() not in _TABLES:
                what = f"there is no CSV file {self.labels} in {self.root}"
                raise DataError("data.options.labels", what, "Name it as seen from the folder.")
            return {"all": [table]}
        parts = parts_of(path, _TABLES)
        if "all" not in parts or not path.is_dir():
            return parts
        entries = visible(path)
        tables = [entry for entry in entries if entry.suffix.lower() in _TABLES and entry.is_file()]
        loose = any(entry.suffix.lower() in _SOUNDS and entry.is_file() for entry in entries)
        if not tables or (not loose and sum(entry.is_dir() for entry in entries) > 1):
            return parts
        if len(tables) > 1:
            what = f"has several tables: {', '.join(table.name for table in tables)}"
            raise DataError(f"data.path: {path}", what, "Set labels in data.options to the one with the labels.")
        return {"all": tables}

    def _sounds(self, folder: Path, found: Gathered[_Header]) -> list[Path]:
        files = files_below(folder, self.root, found.refuse)
        return [file for file in files if file.suffix.lower() in _SOUNDS]

    def _read_classes(self, path: Path, found: Gathered[_Header]) -> None:
        folders = [entry for entry in visible(path) if entry.is_dir()] if path.is_dir() else []
        files = [(folder.name, file) for folder in folders for file in self._sounds(folder, found)]
        if not files:
            what = "has no sounds in folders, one a class, and no CSV file with labels beside them"
            raise DataError(f"data.path: {path}", what, "Name the folder that has them, or set labels in data.options.")
        for number, (name, file) in enumerate(files):
            if number % _TOLD_EVERY == 0:
                self.progress(f"looking at {name}", number, len(files))
            self._add(file, name, {"folder": place_in(self.root, file.parent)}, found)

    def _read_table(self, path: Path, sounds: _Named, found: Gathered[_Header]) -> None:
        if leads_out(self.root, path, found.refuse):
            return
        records = read_records(path, place_in(self.root, path), self.encoding)
        file = column_named(path, records.columns, self.file, "file", _FILE_NAMES)
        left = {name: values for name, values in records.columns.items() if name != file}
        label = column_named(path, left, self.label, "label", _LABEL_NAMES)
        if not label and len(left) == 1:
            label = next(iter(left))
        for missing, column in (("file", file), ("label", label)):
            if not column:
                what = f"does not tell which column has the {missing}s: there are {', '.join(records.columns)}"
                raise DataError(str(path), what, f"Set {missing} in data.options.")
        found.bad.extend(records.bad)
        cells = {name: values for name, values in records.columns.items() if name not in (file, label)}
        taken: dict[Path, str] = {}
        for number, place in enumerate(records.places):
            if number % _TOLD_EVERY == 0:
                self.progress(f"looking at the sounds of {path.name}", number, len(records.places))
            name = cell_text(records.columns[file][number]).strip()
            sound = sounds.find(name, path.parent)
            if sound is None:
                found.refuse(place, f"names {name or 'no file'}, which is not there once")
            elif taken.setdefault(sound, place) != place:  # it could be trained on and tested with
                found.refuse(place, f"names {name} again, as {taken[sound]} does")
            else:
                value = cell_text(records.columns[label][number]).strip()
                self._add(sound, value, {each: values[number] for each, values in cells.items()}, found)

    def _add(self, path: Path, label: str, cells: Mapping[str, object], found: Gathered[_Header]) -> None:
        # Not at the top: it loads libsndfile, which only sound needs.
        import soundfile

        place = place_in(self.root, path)
        try:
            info = soundfile.info(str(path))
        except (soundfile.SoundFileError, OSError) as error:
            found.refuse(place, f"can't be read: {_reason(error)}")
            return
        if info.frames < 1:
            found.refuse(place, "has no sound in it")
        elif not 0 < info.samplerate <= _FASTEST:
            found.refuse(place, f"says it has {info.samplerate:,} samples a second")
        elif self.channels == "stereo" and info.channels > 2:
            found.refuse(place, f'has {info.channels} channels, not two; channels = "mono" takes their mean')
        else:
            found.add(_Header(str(path), info.frames, info.samplerate), label, place, cells)


class _Named:
    """Sounds by whatever a table may call them: a path, a name, or a name without its suffix."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self._root = root
        self._exactly = {place_in(root, file): file for file in files}
        self._names: dict[str, list[Path]] = {}
        for file in files:
            self._names.setdefault(file.name, []).append(file)
            self._names.setdefault(file.stem, []).append(file)

    def find(self, name: str, beside: Path) -> Path | None:
        """The one file of that name; only what lies in the folder can be found."""
        path = PurePosixPath(name.replace("\\", "/"))
        here = place_in(self._root, beside) if beside != self._root else ""
        for exact in (str(path), str(PurePosixPath(here) / path)):
            if exact in self._exactly:
                return self._exactly[exact]
        named = self._names.get(path.name, ())
        return named[0] if len(named) == 1 and ".." not in path.parts else None


def _reason(error: Exception) -> str:
    """libsndfile's own words without the path, which is told before them."""
    return getattr(error, "error_string", "").rstrip(".") or first_line(error)
