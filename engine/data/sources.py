"""The datasets that a recipe can name, described without loading any of them, and without torch.

Bundled and made data are always there. Of torchvision's datasets `engine.data.vision.table` says what can be known
before a download: shape, classes, sizes, weight. Those that it does not know are found by introspection, once
torchvision is loaded. `hf:org/name` is a dataset of Hugging Face, of which nothing is known before it is there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from engine.data.vision.table import DIGITS, EXCLUDED, ROWS, USUAL, Option, Reason, Row
from engine.errors import RecipeError, nearest
from engine.paths import data_root
from engine.printable import printable_line
from engine.recipe import Dataset, TaskName

Origin = Literal["bundled", "made", "download", "yours"]
HUGGING_FACE = "hf:"
_LARGEST = 16_384  # pixels of a side


@dataclass(frozen=True)
class Source:
    """A dataset of the catalog.

    `shape` is one sample's input shape, images as (channels, height, width). `outputs` is the number of classes of a
    classification, or of numbers to predict in a regression. `sizes` counts the samples of each part that the dataset
    comes in: `all`, or `train` and `test`. `vocabulary` counts the tokens that there are, where samples are tokens, and
    `tokens` names them. `cardinalities` count the codes of each of the last columns of a table, where they are codes of
    categories. `numbers` is the type of a sample's numbers, where layers do not take it. `rate` is that of sound, in
    samples a second. `path` is where a person's own files lie. `options` have their defaults, `choices` the values of
    those that take no other. `read` says that shape and outputs are only known when it is read; `known` that somebody
    here has described it. `variant` is what an option makes of it, where that is another download.
    """

    name: str
    about: str
    task: TaskName
    shape: tuple[int, ...]
    outputs: int
    sizes: Mapping[str, int]
    origin: Origin
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    download_mb: int = 0
    twin: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 0
    cardinalities: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    numbers: str = ""
    rate: int = 0
    path: str = ""
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    read: bool = False
    known: bool = True
    variant: str = ""

    def __post_init__(self) -> None:
        """Names that come from files must not steer the terminal."""
        safe: dict[str, Any] = {name: printable_line(getattr(self, name)) for name in ("name", "about")}
        safe |= {name: tuple(map(printable_line, getattr(self, name))) for name in ("classes", "columns")}
        for name, value in safe.items():
            object.__setattr__(self, name, value)

    @property
    def ready(self) -> bool:
        """Whether it can be used without a network."""
        return self.origin != "download" or self.marker.exists()

    @property
    def download_text(self) -> str:
        """How much there is to download, as a person reads it; empty where nobody knows before it is here."""
        if not self.download_mb:
            return ""
        return f"{self.download_mb} MB" if self.download_mb < 10_000 else f"{self.download_mb / 1000:.0f} GB"

    @property
    def marker(self) -> Any:
        """The file that says that a download was complete and checked."""
        name = "-".join(filter(None, (self.name.replace("/", "--").replace(":", "--"), self.variant)))
        return data_root() / f"{name}.complete"


_SOURCES = (
    Source(
        name="mnist5k",
        about="5,000 handwritten digits of MNIST, 500 a class.",
        task="classification",
        shape=(1, 28, 28),
        outputs=10,
        sizes={"all": 5000},
        origin="bundled",
        classes=DIGITS,
    ),
    Source(
        name="breast_cancer",
        about="Cell nuclei of 569 biopsies, thirty measurements each.",
        task="classification",
        shape=(30,),
        outputs=2,
        sizes={"all": 569},
        origin="bundled",
        classes=("malignant", "benign"),
    ),
    Source(
        name="diabetes",
        about="Ten measurements of 442 patients and their disease a year later.",
        task="regression",
        shape=(10,),
        outputs=1,
        sizes={"all": 442},
        origin="bundled",
    ),
    Source(
        name="line",
        about="Points of a straight line with Gaussian noise, made on the spot.",
        task="regression",
        shape=(1,),
        outputs=1,
        sizes={"all": 1000},
        origin="made",
        columns=("x",),
        options={"points": 1000, "slope": 2.0, "noise": 0.1, "seed": 0},
    ),
)
_ROWS = {row.name: row for row in ROWS}
_OPTIONS: Mapping[str, Option] = {
    "size": Option(0),
    "fit": Option("crop", ("crop", "pad", "stretch")),
    "channels": Option("auto", ("auto", "grey", "rgb")),
}
"""Of all pictures that are read one by one, as the format `images` has them; a size of 0 is the pictures' own."""
_WITH_BOXES = {**_OPTIONS, "fit": Option("pad", ("pad", "crop", "stretch"))}
"""Of pictures with boxes, as the format `coco` has them: what is cropped away has no box."""


@cache
def sources() -> Mapping[str, Source]:
    """Every dataset of the catalog by name, those that need no network first."""
    return {source.name: source for source in (*_SOURCES, *map(_vision, ROWS))}


def unknown() -> Mapping[str, Source]:
    """Datasets of torchvision that nobody here has described; none before torchvision is loaded."""
    return {name: _vision(row) for name, row in _untold().items()} if "torchvision" in sys.modules else {}


def glimpse(name: str, options: Mapping[str, Any] = {}) -> Source | None:
    """The dataset of that name, as options make it, as far as that is known at once: nothing is imported for it."""
    if name.startswith(HUGGING_FACE) and name != HUGGING_FACE:
        return find(name)
    source = sources().get(name) or unknown().get(name)
    if source is not None and options:
        with contextlib.suppress(RecipeError):  # the check says what is wrong with them
            return described(Dataset(name=name, options=dict(options)))
    return source


def find(name: str, where: str = "data.name") -> Source:
    """The dataset called `name`. Raises RecipeError with the nearest name, or why torchvision's is left out."""
    if name.startswith(HUGGING_FACE):
        return _hugging_face(name, where)
    known = sources()
    if name not in known and name not in EXCLUDED and may_be_new(name):
        known = {**known, **{each: _vision(row) for each, row in _untold().items()}}
    if name not in known:
        if (reason := left_out(name)) is not None:
            what = "is left out" if where == name else f"{name} of torchvision is left out"
            raise RecipeError(where, f"{what}: {reason.why}", reason.instead)
        remedy = nearest(name, (*known, *EXCLUDED)) or f"There are {', '.join(known)}."
        raise RecipeError(where, f"there is no dataset '{name}'", remedy)
    return known[name]


def left_out(name: str) -> Reason | None:
    """Why a dataset of torchvision is not offered; of a kind that is left out whole only once torchvision is loaded."""
    if name in EXCLUDED or "torchvision" not in sys.modules:
        return EXCLUDED.get(name)
    found: Reason | None = _introspection().excluded(name)
    return found


def may_be_new(name: str) -> bool:
    """Whether torchvision may have a dataset of this name. To import it for a misspelt one would take a second."""
    if "torchvision" in sys.modules:
        return True
    found = importlib.util.find_spec("torchvision")
    listed = Path(found.origin or "").parent / "datasets" / "__init__.py" if found else Path()
    try:
        return name.isidentifier() and f'"{name}"' in listed.read_text(encoding="utf-8")
    except OSError:
        return True


def row_of(name: str, options: Mapping[str, Any]) -> Row:
    """What is known of a dataset of torchvision as its options make it."""
    row = _ROWS.get(name) or _untold()[name]
    for key, option in row.options.items():
        row = replace(row, **option.changes.get(options.get(key, option.default), {}))
    return row


def _untold() -> Mapping[str, Row]:
    found: Mapping[str, Row] = _introspection().unknown()
    return found


def _introspection() -> Any:
    """By name: presets, which may import no torch, import this module."""
    return importlib.import_module("engine.data.vision.introspection")


def _vision(row: Row, options: Mapping[str, Any] = {}) -> Source:
    """A row of the table as a source. Pictures that are read one by one have a size that a person may choose."""
    pictures = _WITH_BOXES if row.task == "detection" else _OPTIONS
    taken = {**row.options, **({} if row.whole else pictures)}
    chosen = {name: options.get(name, option.default) for name, option in taken.items()}
    channels, height, width = row.shape
    if size := chosen.get("size", 0):
        height, width = (size, size) if isinstance(size, int) else size
    if (kind := chosen.get("channels", "auto")) != "auto":
        channels = 1 if kind == "grey" else 3
    return Source(
        name=row.name,
        about=row.about,
        task=cast(TaskName, row.task),
        shape=(channels, height or USUAL, width or USUAL),
        outputs=row.outputs,
        sizes=row.sizes if row.outputs else {},
        origin="download",
        classes=row.classes,
        download_mb=row.mb,
        twin=row.twin,
        options={name: option.default for name, option in taken.items()},
        choices={name: option.values for name, option in taken.items() if option.values},
        read=not row.outputs,
        known=row.name in _ROWS,
        variant="-".join(
            str(chosen[name]) for name, option in row.options.items() if "mb" in option.changes.get(chosen[name], {})
        ),
    )


def _hugging_face(name: str, where: str) -> Source:
    """A dataset that is named `hf:org/name`; its options are those of the format `huggingface`."""
    if not name.removeprefix(HUGGING_FACE).strip("/ "):
        raise RecipeError(where, "names no dataset of Hugging Face", "Write hf:org/name.")
    about = "A dataset of Hugging Face."
    return Source(name, about, "classification", (), 0, {}, "download", read=True, known=False)


def unread(data: Dataset, task: TaskName) -> Source:
    """What is known of a person's own dataset before it is read: next to nothing."""
    if data.path:
        return Source(Path(data.path).name or data.path, data.path, task, (), 0, {}, "yours", path=data.path)
    return Source(data.python.rpartition(":")[2], data.python, task, (), 0, {}, "yours")


def described(data: Dataset, where: str = "data") -> Source:
    """The dataset that `[data]` names, as its options make it. Raises RecipeError."""
    source = find(data.name, f"{where}.name")
    options = check_options(source, data, f"{where}.options")
    if source.origin == "download" and not data.name.startswith(HUGGING_FACE):
        return _vision(row_of(data.name, options), options)
    return replace(source, sizes={"all": options["points"]}) if "points" in options else source


def check_options(source: Source, data: Dataset, where: str = "data.options") -> dict[str, Any]:
    """The dataset's options with defaults filled in. Raises RecipeError for one it does not have, or a wrong type."""
    if source.name.startswith(HUGGING_FACE):
        return dict(data.options)  # the format that reads it checks them
    for key, value in data.options.items():
        if key not in source.options:
            remedy = nearest(key, source.options)
            takes = f"It takes {', '.join(source.options)}." if source.options else "It takes none: remove it."
            raise RecipeError(f"{where}.{key}", f"is not an option of {source.name}", remedy or takes)
        check_option(source, key, value, f"{where}.{key}")
    return {**source.options, **data.options}


def check_option(source: Source, key: str, value: Any, where: str) -> None:
    """Raise RecipeError for a value that an option of the dataset can't have."""
    default = source.options[key]
    if choices := source.choices.get(key):
        if not any(type(value) is type(each) and value == each for each in choices):
            shown = ", ".join(map(repr, choices[:8])) + (", …" if len(choices) > 8 else "")
            near = nearest(value, map(str, choices)) if isinstance(value, str) else ""
            raise RecipeError(where, f"{value!r} does not fit", near or f"There are {shown}.")
    elif key == "size" and source.origin == "download":
        sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
        least = 1 if len(sides) == 2 else 0
        if not all(type(side) is int and least <= side <= _LARGEST for side in sides):
            raise RecipeError(where, f"{value!r} is no side in pixels", f"Try {USUAL}, or [height, width].")
    elif isinstance(default, (str, bool)):
        if type(value) is not type(default):
            raise RecipeError(where, f"{value!r} does not fit", f"Try {default!r}.")
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (isinstance(default, int) and (not isinstance(value, int) or value < 0)):
            raise RecipeError(where, f"{value!r} does not fit", f"Try {default}.")
        if key == "points" and value < 3:
            raise RecipeError(where, f"{value} are too few", f"Try {default}.")
