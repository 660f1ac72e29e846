"""`[data]` as Python: loading, splitting, transforms, augmentation and batches in torch-tui's order."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from engine.code import block, imported, literal
from engine.data.augmentation.augment import MOVES, STEPS
from engine.data.prepare import part_sizes
from engine.data.serving.mixing import MIXES
from engine.data.sources import Source
from engine.data.transforms import checked, flattened
from engine.errors import RecipeError
from engine.export.transforms import transform_code
from engine.models.rows import shape_text
from engine.paths import bundled, data_root
from engine.recipe import Part, Recipe

# Datasets of torchvision that keep all pictures as one array, and their classes as another.
_TENSORS = frozenset({"MNIST", "FashionMNIST", "KMNIST", "USPS", "CIFAR10", "CIFAR100", "SVHN", "STL10"})


@dataclass(frozen=True)
class DataCode:
    """`constants` stand at the top of the file; `needs` are classes and functions of ours; `parts` are not empty.

    `unlike` says what differs from a training in torch-tui.
    """

    constants: tuple[str, ...]
    lines: tuple[str, ...]
    fits: tuple[str, ...]
    needs: frozenset[str]
    parts: tuple[str, ...]
    unlike: tuple[str, ...]


def data_code(recipe: Recipe, source: Source) -> DataCode:
    """The functions `load` and `batches`, and those that they need. Raises RecipeError."""
    if source.origin == "download" and source.name not in _TENSORS:
        what = f"{source.name} is not among the datasets that are written as Python"
        raise RecipeError("data.name", what, f"Use {', '.join(sorted(_TENSORS))}, one that ships, or your own.")
    parts = tuple(name for name, size in part_sizes(source, recipe.data).items() if size)
    writer = _Writer(recipe, source, parts)
    lines = [*writer.load(), *writer.transform(), *writer.augment(), *writer.batches()]
    constants = [*writer.where(), f"BATCH_SIZE = {recipe.data.batch_size}"]
    needs = frozenset(writer.needs)
    return DataCode(tuple(constants), tuple(lines), tuple(writer.fits()), needs, parts, tuple(writer.unlike))


class _Writer:
    def __init__(self, recipe: Recipe, source: Source, parts: tuple[str, ...]) -> None:
        self._recipe, self._data, self._source, self._parts = recipe, recipe.data, source, parts
        self._yours = source.origin == "yours"
        self._bytes = source.origin == "download" or (source.origin == "bundled" and len(source.shape) == 3)
        self.needs: set[str] = {"derive"}
        mixes = [part.name for part in recipe.data.augment if part.name in MIXES]
        self.unlike: list[str] = [f"data.augment: samples are not mixed by {name}" for name in mixes]
        self._augment = [part for part in recipe.data.augment if part.name not in MIXES]  # those stand last

    # Where it is

    def where(self) -> list[str]:
        """The constant DATA."""
        source = self._source
        if source.origin == "bundled":
            about = "# The file came with torch-tui; take it with you where that is not installed."
            return [f"# {source.about}", about, f"DATA = Path({literal(str(bundled(f'{source.name}.npz')))})"]
        if source.origin == "download":
            about = f"# torchvision downloads it to this folder, {source.download_mb} MB, unless it is there already."
            return [about, f"DATA = Path({literal(str(data_root()))})"]
        return []

    # What it is

    def load(self) -> list[str]:
        """The function `load`."""
        sizes = self._source.sizes
        kind = "dict[str, tuple[Any, Tensor]]" if self._yours else "dict[str, tuple[Tensor, Tensor]]"
        given, wanted = shape_text(self._source.shape), "their classes (N,)"
        if self._source.task != "classification":
            wanted = f"what to predict (N, {self._source.outputs})"
        about = f"inputs (N, {given.replace('×', ', ')}){' as bytes' if self._bytes else ''}, {wanted}"
        if self._yours:
            about = "your dataset, and the numbers of the samples that belong to it"
        reads = {"bundled": self._npz, "made": self._line, "download": self._torchvision, "yours": self._own}
        body = [f'"""Each part of the data: {about}."""', *reads[self._source.origin](), *self._split("test" in sizes)]
        return [f"def load() -> {kind}:", *block(body), "", "", *self._tensors()]

    def _npz(self) -> list[str]:
        images = len(self._source.shape) == 3
        inputs = 'arrays["images"]).unsqueeze(1)' if images else 'arrays["features"])'
        classes = self._source.task == "classification"
        targets = 'arrays["labels"]).long()' if classes else 'arrays["targets"]).unsqueeze(1)'
        return [
            "with np.load(DATA) as arrays:",
            f"    inputs = torch.from_numpy({inputs}",
            f"    targets = torch.from_numpy({targets}",
        ]

    def _line(self) -> list[str]:
        values = {**self._source.options, **self._data.options}
        points, slope, noise = (literal(values[name]) for name in ("points", "slope", "noise"))
        return [
            f"generator = torch.Generator().manual_seed({values['seed']})",
            f"inputs = torch.rand({points}, 1, generator=generator) * 2 - 1",
            f"targets = {slope} * inputs + {noise} * torch.randn({points}, 1, generator=generator)",
        ]

    def _torchvision(self) -> list[str]:
        return [f"inputs, targets = tensors({self._opened('train')})"]

    def _opened(self, part: str) -> str:
        name = self._source.name
        from torchvision import datasets  # torchvision takes a second to import

        by_flag = "train" in inspect.signature(getattr(datasets, name)).parameters
        selection = f"train={part == 'train'}" if by_flag else f"split={literal(part)}"
        return f"datasets.{name}(DATA, {selection}, download=True)"

    def _tensors(self) -> list[str]:
        if self._source.origin != "download":
            return []
        from torchvision import datasets  # torchvision takes a second to import

        kind = getattr(datasets, self._source.name)
        labels = "labels" if "self.labels" in inspect.getsource(kind) else "targets"
        channels = self._source.shape[0]
        lines = [
            f"def tensors(dataset: datasets.{self._source.name}) -> tuple[Tensor, Tensor]:",
            '    """All images (N, C, H, W) as bytes, and their classes (N,)."""',
            "    images = torch.as_tensor(dataset.data)",
        ]
        if channels == 1:
            lines += ["    images = images.unsqueeze(1)"]
        else:
            lines += [
                f"    if images.shape[1] != {channels}:  # torchvision keeps the channels last",
                "        images = images.permute(0, 3, 1, 2)",
            ]
        return [*lines, f"    return images.contiguous(), torch.as_tensor(dataset.{labels}).long()", "", ""]

    def _own(self) -> list[str]:
        self.needs.add("read")
        made = f"{imported(self._data.python)}({', '.join(f'{k}={literal(v)}' for k, v in self._data.options.items())})"
        if "train" in self._source.sizes:
            return [f"own = {made}", 'dataset = own["train"]']
        return [f"dataset = {made}"]

    def _split(self, own_test: bool) -> list[str]:
        """The same samples in each part as in torch-tui: engine.data.prepare.split."""
        shares, scale = self._data.split, ""
        if own_test and 0 < shares.test < 1:
            scale = f" * {literal(1 / (1 - shares.test))}"
        held = {"val": f"round(count * {literal(shares.val)}{scale})"}
        if not own_test:
            left = "count - val" if "val" in self._parts else "count"
            held["test"] = f"min(round(count * {literal(shares.test)}), {left})"
        held = {name: text for name, text in held.items() if name in self._parts}
        rest = " - ".join(["count", *held])
        whole = shares.train + shares.val + shares.test > 1 - 1e-9
        train = rest if whole else f"min(round(count * {literal(shares.train)}{scale}), {rest})"
        lines = [
            f"count = len({'dataset' if self._yours else 'targets'})",
            f"order = torch.randperm(count, generator=torch.Generator().manual_seed({shares.seed}))",
            *(f"{name} = {text}" for name, text in held.items()),
            f"train = {train}",
        ]
        places = {"train": "order[:train]", "val": "order[train : train + val]"}
        places["test"] = "order[train + val : train + val + test]" if "val" in held else "order[train : train + test]"
        index = "{" + ", ".join(f'"{name}": {places[name]}' for name in ("train", *held)) + "}"
        chosen = "(dataset, index)" if self._yours else "(inputs[index], targets[index])"
        returned = f"{{name: {chosen} for name, index in parts.items()}}"
        lines.append(f"parts = {index}")
        if not own_test:
            return [*lines, f"return {returned}"]
        own = '(own["test"], torch.arange(len(own["test"])))'
        test = own if self._yours else f"tensors({self._opened('test')})"
        return [*lines, f"samples = {returned}", f'return {{**samples, "test": {test}}}']

    # What is done to it

    def transform(self) -> list[str]:
        """The transforms, and the function `transformed`, which makes what the model takes of raw samples."""
        written = [transform_code(part, where) for where, part in flattened(self._data.transforms)]
        if not written:
            return []
        if "Standardize()" in written:
            self.needs.add("Standardize")
        partly = "Standardize()" in written[1:]
        return [
            f"TRANSFORMS = [{', '.join(written)}]",
            "",
            "",
            f"def transformed(inputs: Tensor{', steps: int | None = None' if partly else ''}) -> Tensor:",
            '    """What is done to all samples alike."""',
            f"    for transform in TRANSFORMS{'[:steps]' if partly else ''}:",
            "        inputs = transform(inputs)",
            "    return inputs",
            "",
            "",
        ]

    def fits(self) -> list[str]:
        """Lines of `main` that measure the training samples."""
        lines = []
        raw = _floats('parts["train"][0]') if self._bytes else 'parts["train"][0]'
        for number, (_, part) in enumerate(flattened(self._data.transforms)):
            if part.name == "Standardize":
                given = f"transformed({raw}, {number})" if number else raw
                lines.append(f"TRANSFORMS[{number}].fit({given})")
        return lines

    def augment(self) -> list[str]:
        """The function `augmented`."""
        if not self._augment:
            return []
        steps: list[str] = []
        for number, part in enumerate(self._augment):
            steps += self._augmentation(part, number)
        steps[-1] = steps[-1].replace("images = ", "return ", 1)
        return [
            "def augmented(images: Tensor, seed: int) -> Tensor:",
            '    """Images (B, C, H, W) with the random changes of the recipe, each drawn for each image."""',
            *block(steps),
            "",
            "",
        ]

    def _augmentation(self, part: Part, number: int) -> list[str]:
        where, seed = f"data.augment.{number}", f"derive(seed, {number})"
        entry = checked(part, where)
        if entry.container:
            self.needs.add("one_by_one")
            self.unlike.append(_alike(part))
            return [f"images = one_by_one(images, {transform_code(part, where, alone=True)}, {seed})"]
        transform = entry.make(part.parameters, where)
        move = MOVES[part.name](transform) if part.name in MOVES else None
        if part.name == "RandomCrop" and move is not None and not transform.pad_if_needed:
            self.needs.add("crop")
            return [*_padding(transform), f"images = crop(images, {literal(tuple(transform.size))}, {seed})"]
        if part.name != "RandomCrop" and move is not None:
            self.needs.add("flip")
            dim = -1 if part.name == "RandomHorizontalFlip" else -2
            return [f"images = flip(images, {literal(transform.p)}, {dim}, {seed})"]
        self.needs.add("one_by_one")
        make = STEPS.get(part.name)
        if move is not None or (make is not None and make(transform) is not None):
            self.unlike.append(_alike(part))
        return [f"images = one_by_one(images, {transform_code(part, where, alone=True)}, {seed})"]

    # How it comes

    def batches(self) -> list[str]:
        """The function `batches`."""
        data, accumulate = self._data, self._recipe.training.accumulate
        size = "BATCH_SIZE"
        lines = [f"order = torch.arange(len({'index' if self._yours else 'targets'}))"]
        shuffled = [
            "generator = torch.Generator().manual_seed(derive(SEED, epoch))",
            "order = torch.randperm(len(order), generator=generator)",
        ]
        if data.drop_last:
            shuffled.append("order = order[: max(1, len(order) // BATCH_SIZE) * BATCH_SIZE]  # no half batch")
        lines += ["if epoch is not None:", *block(shuffled)]
        if accumulate > 1:
            lines.append("size = BATCH_SIZE if epoch is not None else max(1, BATCH_SIZE // ACCUMULATE)")
            size = "size"
        counted = f"enumerate(order.split({size}))" if self._augment else f"order.split({size})"
        body = self._raw()
        if self._augment:
            body += ["if epoch is not None:", "    x = augmented(x, derive(SEED, epoch, number, 1))"]
        given = "transformed(x)" if data.transforms else "x"
        number = "number, chosen" if self._augment else "chosen"
        first = "dataset: Any, index: Tensor" if self._yours else "inputs: Tensor, targets: Tensor"
        return [
            *spread_def("batches", [first, "epoch: int | None = None"], "Iterator[tuple[Tensor, Tensor]]"),
            '    """The samples of an epoch in its own order; without an epoch, all of them as they stand."""',
            *block([*lines, f"for {number} in {counted}:", *block([*body, f"yield {given}, {self._target()}"])]),
            "",
            "",
        ]

    def _raw(self) -> list[str]:
        if self._yours:
            lines = ["x, y = read(dataset, index[chosen])"]
            return [*lines, "x = x.float() / 255 if x.dtype == torch.uint8 else x"]
        return [f"x = {_floats('inputs[chosen]') if self._bytes else 'inputs[chosen]'}"]

    def _target(self) -> str:
        if not self._yours:
            return "targets[chosen]"
        return "y.long()" if self._recipe.task == "classification" else "y.float().reshape(len(y), -1)"


def spread_def(name: str, parameters: list[str], returns: str) -> list[str]:
    """The first lines of a function."""
    line = f"def {name}({', '.join(parameters)}) -> {returns}:"
    return [line] if len(line) <= 120 else [f"def {name}(", f"    {', '.join(parameters)}", f") -> {returns}:"]


def _alike(part: Part) -> str:
    return f"data.augment: {part.name} draws alike, but other numbers, and for one image at a time"


def _floats(raw: str) -> str:
    return f"{raw}.float() / 255"


def _padding(transform: Any) -> list[str]:
    """The line that pads for a crop. torchvision keeps the padding as left, right, top, bottom."""
    if not transform.padding:
        return []
    left, right, top, bottom = transform.padding
    if transform.padding_mode != "constant":
        sides, mode = [left, top, right, bottom], literal(transform.padding_mode)
        return [f"images = v2.functional.pad(images, {sides}, padding_mode={mode})"]
    fill = transform.fill
    if isinstance(fill, (list, tuple)):
        return [f"images = v2.functional.pad(images, {[left, top, right, bottom]}, fill={literal(list(fill))})"]
    value = f", value={literal(fill)}" if fill else ""
    return [f"images = F.pad(images, {(left, right, top, bottom)}{value})"]
