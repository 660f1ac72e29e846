"""The datasets that a recipe can name, described without loading any of them, and without torch.

Bundled and made data are always there. Of torchvision's datasets stand here those whose samples all have one size; the
table holds what introspection can't know before a download: shape, classes, sizes, weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import RecipeError, nearest
from engine.paths import data_root
from engine.recipe import Dataset, TaskName

Origin = Literal["bundled", "made", "download", "yours"]
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """A dataset of the catalog.

    `shape` is one sample's input shape, images as (channels, height, width). `outputs` is the number of classes of a
    classification, or of numbers to predict in a regression. `sizes` counts the samples of each part that the dataset
    comes in: `all`, or `train` and `test`. `vocabulary` counts the tokens that there are, where samples are tokens, and
    `tokens` names them. `cardinalities` count the codes of each of the last columns of a table, where they are codes of
    categories. `rate` is that of sound, in samples a second. `path` is where a person's own files lie.
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
    rate: int = 0
    path: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be used without a network."""
        return self.origin != "download" or self.marker.exists()

    @property
    def marker(self) -> Any:
        """The file that says that a download was complete and checked."""
        return data_root() / f"{self.name}.complete"


_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def _vision(name: str, about: str, shape: tuple[int, int, int], train: int, test: int, mb: int, **more: Any) -> Source:
    classes = more.pop("classes", DIGITS)
    outputs = more.pop("outputs", len(classes))
    sizes = {"train": train, "test": test}
    return Source(name, about, "classification", shape, outputs, sizes, "download", classes, (), mb, **more)


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
    _vision("MNIST", "70,000 handwritten digits.", (1, 28, 28), 60000, 10000, 12, twin="mnist5k"),
    _vision("FashionMNIST", "70,000 pictures of clothes.", (1, 28, 28), 60000, 10000, 31, classes=_FASHION),
    _vision("KMNIST", "70,000 cursive Japanese letters.", (1, 28, 28), 60000, 10000, 21, classes=_KMNIST),
    _vision("USPS", "9,298 digits from envelopes.", (1, 16, 16), 7291, 2007, 8, twin="mnist5k"),
    _vision(
        "CIFAR10", "60,000 colour pictures of animals and vehicles.", (3, 32, 32), 50000, 10000, 170, classes=_CIFAR
    ),
    _vision(
        "CIFAR100",
        "60,000 colour pictures of a hundred things.",
        (3, 32, 32),
        50000,
        10000,
        169,
        classes=(),
        outputs=100,
    ),
    _vision("SVHN", "99,289 house numbers from the street.", (3, 32, 32), 73257, 26032, 246),
    _vision("STL10", "13,000 larger pictures of ten things.", (3, 96, 96), 5000, 8000, 2640, classes=_STL),
)


def sources() -> Mapping[str, Source]:
    """Every dataset of the catalog by name, those that need no network first."""
    return {source.name: source for source in _SOURCES}


def find(name: str, where: str = "data.name") -> Source:
    """The dataset called `name`. Raises RecipeError with the nearest name."""
    known = sources()
    if name not in known:
        remedy = nearest(name, known) or f"There are {', '.join(known)}."
        raise RecipeError(where, f"there is no dataset '{name}'", remedy)
    return known[name]


def unread(data: Dataset, task: TaskName) -> Source:
    """What is known of a person's own dataset before it is read: next to nothing."""
    if data.path:
        return Source(Path(data.path).name or data.path, data.path, task, (), 0, {}, "yours", path=data.path)
    return Source(data.python.rpartition(":")[2], data.python, task, (), 0, {}, "yours")


def described(data: Dataset, where: str = "data") -> Source:
    """The dataset that `[data]` names, as its options make it. Raises RecipeError."""
    source = find(data.name, f"{where}.name")
    options = check_options(source, data, f"{where}.options")
    return replace(source, sizes={"all": options["points"]}) if "points" in options else source


def check_options(source: Source, data: Dataset, where: str = "data.options") -> dict[str, Any]:
    """The dataset's options with defaults filled in. Raises RecipeError for one it does not have, or a wrong type."""
    for key, value in data.options.items():
        if key not in source.options:
            remedy = nearest(key, source.options)
            takes = f"It takes {', '.join(source.options)}." if source.options else "It takes none: remove it."
            raise RecipeError(f"{where}.{key}", f"is not an option of {source.name}", remedy or takes)
        default = source.options[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (isinstance(default, int) and (not isinstance(value, int) or value < 0)):
            raise RecipeError(f"{where}.{key}", f"{value!r} does not fit", f"Try {default}.")
        if key == "points" and value < 3:
            raise RecipeError(f"{where}.{key}", f"{value} are too few", f"Try {default}.")
    return {**source.options, **data.options}
