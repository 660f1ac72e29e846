"""Texts with a label each: lines, files in a folder per class, or rows of a table, as numbers of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from engine.data.fetching.telling import Bytes, untold
from engine.data.formats.catalog import TEXT_NAMES
from engine.data.reading.decoding import WrongEncoding, check_encoding, decode, decoded, lines, with_plain_ends
from engine.data.reading.labelled import Gathered, as_targets, files_below, leads_out, parts_of, place_in, visible
from engine.data.reading.pieces import filled
from engine.data.reading.records import RECORDS, Records, cell_text, column_named, read_records
from engine.data.reading.watch import looked_into
from engine.data.samples import Columns, Loaded, Part, Progress, Samples
from engine.data.sources import Source
from engine.data.tokenizing.tokenizers import FEWEST, Kind, Tokenizer, measure
from engine.errors import DataError, RecipeError
from engine.recipe import TaskName

_LINES = frozenset({".txt", ".text"})
_WHOLE = frozenset({*_LINES, ".md", ""})  # of a file that is one sample; the 20 newsgroups have no suffix
_LABEL_NAMES = ("label", "labels", "class", "target", "category", "sentiment", "score", "rating", "stars")
_LONGEST = 1_000_000  # characters: more are no text that somebody labelled, but a file without lines
_ROUND = 8
_TOLD_EVERY = 1000


def open_text(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    tokenizer: Kind = "word",
    vocabulary: int = 10_000,
    min_count: int = 1,
    max_length: int = 256,
    lowercase: bool = True,
    text: str = "",
    label: str = "",
    encoding: str = "utf-8",
) -> Loaded:
    """Texts to classify, or to predict a number from.

    A folder per class with a text in each file; a file per class (`pos.txt`, `neg.txt`) with a text in each line; or a
    table (CSV, TSV, JSONL, Parquet) with a column of texts and one of labels. Folders or files named train, val and
    test are these parts.

    Args:
        tokenizer: what a token is: a word, a character, or a byte-pair, which is a frequent piece of a word
        vocabulary: the most tokens that are known, with padding and unknown; the rest is unknown
        min_count: tokens that are rarer than this in the training texts are unknown
        max_length: tokens of a text that are kept; 0 is as many as the longest training text has
        lowercase: whether A and a are the same
        text: the column with the texts; empty is the one that is named like it
        label: the column with the labels; empty is the one that is named like it
        encoding: of the files, such as "cp1252" or "utf-16"
    """
    how = Tokenizing(tokenizer, vocabulary, min_count, max_length, lowercase)
    check_encoding(encoding)
    where = f"data.path: {path}"
    parts: dict[str, Gathered[str]] = {}
    for name, entries in parts_of(path, RECORDS).items():
        reader = _Reader(path, Gathered(task), progress, encoding, text, label)
        for entry in entries:
            reader.read(entry)
        parts[name] = reader.found
    classes, targets = as_targets(parts, task, where)
    texts: dict[str, Part] = {
        name: Texts(part.items, targets[name], part.places, part.columns, how) for name, part in parts.items()
    }
    count = sum(map(len, texts.values()))
    kinds = f"in {len(classes)} classes" if classes else "with a number each"
    middle = np.median(filled([len(text) for part in parts.values() for text in part.items], np.int64))
    source = Source(
        name=path.resolve().name,
        about=f"{count:,} texts {kinds}, half of them longer than {middle:,.0f} characters.",
        task=task,
        shape=(),
        outputs=len(classes) or 1,
        sizes={name: len(part) for name, part in texts.items()},
        origin="yours",
        classes=classes,
        path=str(path),
    )
    return Loaded(source, texts, [sample for part in parts.values() for sample in part.bad])


@dataclass(frozen=True)
class Tokenizing:
    """What the person asked for. Raises RecipeError for what makes no sense."""

    tokenizer: Kind
    vocabulary: int
    min_count: int
    max_length: int
    lowercase: bool

    def __post_init__(self) -> None:
        _check(self.tokenizer, self.vocabulary, self.min_count, self.max_length)


def _check(tokenizer: Kind, vocabulary: int, min_count: int, max_length: int) -> None:
    if vocabulary < FEWEST[tokenizer]:
        why = " (256 bytes, padding, unknown)" if tokenizer == "byte-pair" else " (padding, unknown)"
        what = f"{vocabulary} tokens are too few for a {tokenizer} tokenizer"
        raise RecipeError("data.options.vocabulary", what, f"Give it {FEWEST[tokenizer]} or more{why}.")
    if min_count < 1:
        raise RecipeError("data.options.min_count", f"{min_count} is less than one", "Try 1.")
    if max_length < 0:
        raise RecipeError("data.options.max_length", f"{max_length} is less than nothing", "Try 256, or 0 for all.")


@dataclass
class Texts:
    """One part's texts before they are tokens; `targets` (N,) int64 classes or (N, 1) float32."""

    texts: Sequence[str]
    targets: Tensor
    places: Sequence[str]
    columns: Columns
    how: Tokenizing

    def __len__(self) -> int:
        return len(self.texts)

    def fit(self, train: Tensor, progress: Progress = untold) -> Words:
        """Learn the tokens from the texts of these numbers, and how long they are. Raises DataError."""
        how, chosen = self.how, [self.texts[number] for number in train.tolist()]
        if not chosen:
            raise DataError("data.split.train", "leaves no text to measure the vocabulary on", "Raise it.")
        tokenizer = measure(
            how.tokenizer,
            chosen,
            vocabulary=how.vocabulary,
            min_count=how.min_count,
            lowercase=how.lowercase,
            progress=progress,
        )
        longest = 0
        for numbers in tokenizer.encode_all(chosen, how.max_length, progress):
            longest = max(longest, len(numbers))
            if longest == how.max_length:
                break
        rounded = -(-longest // _ROUND) * _ROUND
        return Words(tokenizer, min(rounded, how.max_length) if how.max_length else rounded)


@dataclass(frozen=True)
class Words:
    """Makes tokens of texts: int64 (N, length), cut or padded with 0 at the end."""

    tokenizer: Tokenizer
    length: int

    def encode(self, part: Texts, progress: Progress = untold) -> Samples:
        """All texts of a part, with the texts themselves beside them. Raises DataError where memory won't hold them."""
        size, free = len(part) * self.length * 8, psutil.virtual_memory().available
        if size > free / 2:
            what = f"{len(part):,} texts of {self.length:,} tokens take {size / 1e9:.1f} GB, of {free / 1e9:.1f} free"
            raise DataError("data.options.max_length", what, "Lower it.")
        tokens = np.zeros((len(part), self.length), dtype=np.int64)
        # By its number: to go through a tensor's rows makes a tensor of each first, and no thread runs meanwhile.
        for row, numbers in enumerate(self.tokenizer.encode_all(part.texts, self.length, progress)):
            tokens[row, : len(numbers)] = numbers
        return Samples(torch.from_numpy(tokens), part.targets, part.places, part.columns, part.texts)

    def describe(self, source: Source) -> Source:
        """`source` with the length of the texts and their tokens."""
        names = self.tokenizer.tokens
        return replace(source, shape=(self.length,), vocabulary=len(names), tokens=names)


@dataclass
class _Reader:
    """Reads one part's files. `root` is the data's own folder or file."""

    root: Path
    found: Gathered[str]
    progress: Progress
    encoding: str
    text: str
    label: str

    def read(self, path: Path) -> None:
        """All texts of a file or folder."""
        if not path.is_dir():
            self._read_file(path)
            return
        entries = visible(path)
        classes = [entry for entry in entries if entry.is_dir() and (entry.is_symlink() or self._texts_in(entry))]
        tables = [entry for entry in entries if entry.suffix.lower() in RECORDS and entry.is_file()]
        lines = [entry for entry in entries if entry.suffix.lower() in _LINES and entry.is_file()]
        for folder in classes:
            self._read_class(folder)
        for file in [] if classes else tables or lines:
            self._read_file(file)
        if not (classes or tables or lines):
            what = "has no texts: neither folders with .txt files, nor .txt files, nor tables"
            raise DataError(f"data.path: {path}", what, "Name the folder that has them, or set another format.")

    def _texts_in(self, folder: Path) -> bool:
        return any(file.suffix.lower() in _WHOLE for file in files_below(folder, self.root, _unsaid))

    def _read_class(self, folder: Path) -> None:
        """A text in each file below `folder`, which names their class."""
        files = [file for file in files_below(folder, self.root, self.found.refuse) if file.suffix.lower() in _WHOLE]
        for number, file in enumerate(files):
            if number % _TOLD_EVERY == 0:
                self.progress(f"reading {folder.name}", number, len(files))
            place = place_in(self.root, file)
            looked_into(str(file))
            try:
                text = decode(file.read_bytes(), self.encoding)
            except WrongEncoding as error:
                self.found.refuse(place, f"{error.what} in line {error.line}. {error.remedy}")
            except OSError as error:
                self.found.refuse(place, f"can't be read: {error.strerror}")
            else:
                self._add(text, folder.name, place, {"folder": place_in(self.root, file.parent)})

    def _read_file(self, path: Path) -> None:
        if leads_out(self.root, path, self.found.refuse):
            return
        place = place_in(self.root, path)
        self.progress(f"reading {path.name}", Bytes(0), path.stat().st_size)
        if path.suffix.lower() in RECORDS:
            self._read_rows(path, read_records(path, place, self.encoding))
            return
        try:
            found = lines(with_plain_ends(decoded(path.read_bytes(), self.encoding)))
        except WrongEncoding as error:
            raise error.error(path) from error
        for number, line in enumerate(found, 1):
            if number % _TOLD_EVERY == 0:
                self.progress(f"reading {path.name}", number, len(found))
            self._add(line, path.stem, f"{place} line {number}", {"file": place})

    def _read_rows(self, path: Path, records: Records) -> None:
        columns = records.columns
        text = column_named(path, columns, self.text, "text", TEXT_NAMES)
        label = column_named(path, columns, self.label, "label", _LABEL_NAMES)
        if not text or not label:
            text, label = _guessed(path, columns, text, label)
        self.found.bad.extend(records.bad)
        others = [name for name in columns if name not in (text, label)]
        for number, place in enumerate(records.places):
            if number % _TOLD_EVERY == 0:
                self.progress(f"reading {path.name}", number, len(records.places))
            try:
                value, named = cell_text(columns[text][number]), cell_text(columns[label][number]).strip()
            except ValueError as error:
                self.found.refuse(place, str(error))
            else:
                self._add(value, named, place, {name: columns[name][number] for name in others})

    def _add(self, text: str, label: str, place: str, cells: Mapping[str, object]) -> None:
        if wrong := _wrong(text):
            self.found.refuse(place, wrong)
        else:
            self.found.add(text, label, place, cells)


def _wrong(text: str) -> str:
    """What makes a text none; empty where it is one."""
    if not text or text.isspace():
        return "is empty"
    if len(text) > _LONGEST:
        return f"has {len(text):,} characters, more than {_LONGEST:,}"
    if "\0" in text:
        return "has NUL bytes: it is no text"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "has half a character (a surrogate without its other half)"
    return ""


def _guessed(path: Path, columns: Mapping[str, Sequence[object]], text: str, label: str) -> tuple[str, str]:
    """Of two columns the texts are the longer ones. Raises DataError where there are more to choose from."""
    if len(columns) != 2:
        missing = "text" if not text else "label"
        what = f"does not tell which column has the {missing}s: there are {', '.join(columns)}"
        raise DataError(str(path), what, f"Set {missing} in data.options.")
    if text or label:
        other = next(name for name in columns if name not in (text, label))
        return text or other, label or other
    first, second = sorted(columns, key=lambda name: -sum(len(str(value)) for value in columns[name]))
    return first, second


def _unsaid(place: str, what: str) -> None:
    """It is told when the folder is read."""
