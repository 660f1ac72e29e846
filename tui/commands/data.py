"""`torch-tui data`: what a dataset holds, what is wrong with it, and a few of its samples, printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from engine.data.fetching.telling import reading_text
from engine.data.sources import find, glimpse, may_be_new, sources
from engine.data.vision.table import EXCLUDED
from engine.errors import RecipeError, StudioError, nearest
from engine.recipe import Recipe, TaskName
from tui.commands.complaints import complain
from tui.commands.json_report import to_json
from tui.commands.rows import Row, bold, colourful, print_rows, width
from tui.commands.signals import Signals

if TYPE_CHECKING:
    from engine.data.preview import Examination, Preview, Sample

_DONE, _REFUSED = 0, 2  # exit status
_CLASSES = 12
_SAMPLES = 10
_ROWS = 16  # rows of pictures
_SECONDS = 5.0
_LINE = 60


def recipe_of(
    what: str, task: str | None, changes: Mapping[str, Any], find_recipe: Callable[[str], tuple[str, Recipe]]
) -> Recipe:
    """A recipe whose data is `what`: files, a dataset of the catalog, or those of a recipe, with changed dotted keys.

    Raises StudioError.
    """
    made = _made(what, task, changes, find_recipe)
    return made.override(changes, "--set") if changes else made


def _made(
    what: str, task: str | None, changes: Mapping[str, Any], find_recipe: Callable[[str], tuple[str, Recipe]]
) -> Recipe:
    known: Sequence[str] = get_args(TaskName)
    if task is not None and task not in known:
        raise RecipeError(
            "--task", f"there is no task '{task}'", nearest(task, known) or f"There are {', '.join(known)}."
        )
    if glimpse(what) is not None:
        return Recipe.from_values({"task": find(what).task, "data": {"name": what}}, what)
    file, _, function = what.rpartition(":")
    if what.endswith(".py") or file.endswith(".py"):
        path, function = Path(file if function and file else what).expanduser(), function if file else ""
        return _own_function(path, function, task, changes)
    path = Path(what).expanduser()
    if path.suffix == ".toml" or not path.exists():
        try:
            return find_recipe(what)[1]
        except RecipeError as error:
            if path.suffix == ".toml" or len(path.parts) > 1:
                raise
            if may_be_new(what):  # nobody here has described it, or it is left out, which is said
                return Recipe.from_values({"task": find(what, what).task, "data": {"name": what}}, what)
            remedy = nearest(what, (*sources(), *EXCLUDED)) or "Give the path of a file or folder."
            raise RecipeError(what, "is no file, no dataset and no preset", remedy) from error
    values = {"path": str(path), "split": {"how": "random"}}
    return Recipe.from_values({"task": task or _task_of({"path": str(path)}, changes), "data": values}, what)


def show(recipe: Recipe, where: str, *, download: bool, as_json: bool) -> int:
    """Print what the recipe's data are; the exit status, 2 where they can't be read or would end a training."""
    source = glimpse(recipe.data.name, recipe.data.options)
    if source is not None and not source.ready and not download:
        size = f": {source.download_text} to download" if source.download_text else ""
        raise RecipeError(where, f"is not here{size}", "Fetch it: --download.")
    from engine.data.preview import findings, preview  # torch takes 1.7 s to import

    with Signals() as signals:

        def tell(line: str) -> None:
            if signals.status:
                raise KeyboardInterrupt
            if sys.stderr.isatty():
                print(f"\r{line[: width() - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

        try:
            found = preview(recipe, lambda *news: tell(reading_text(*news)))
            assert found.view is not None
            examined = findings(found.view, lambda *news: tell(reading_text(*news)), _SECONDS)
        except StudioError as error:
            complain(f"{where}: {error}")
            return _REFUSED
        except KeyboardInterrupt:
            return signals.status
        finally:
            if sys.stderr.isatty():
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if as_json:
            print(to_json(_values(recipe, found, examined)))
        else:
            _print(recipe, found, examined)
        return _REFUSED if any(finding.fatal for finding in examined.findings) else _DONE


def print_examined(examined: Sequence[Examination]) -> None:
    """What was found out about the samples."""
    for each in examined:
        some = f"{each.read:,} of {each.total:,} samples read" if each.read < each.total else f"all {each.total:,} read"
        print_rows((), [("samples", f"{some}, {'nothing' if not each.findings else 'this'} is wrong with them")])
        for finding in each.findings:
            if not finding.fatal:  # what is fatal is one of the problems
                print(f"  note: {finding}")


def examined_values(examined: Examination) -> dict[str, object]:
    """The same for programs."""
    return {
        "read": examined.read,
        "total": examined.total,
        "findings": [
            {"what": one.what, "count": one.count, "places": one.places, "fatal": one.fatal, "remedy": one.remedy}
            for one in examined.findings
        ],
    }


def _own_function(path: Path, function: str, task: str | None, changes: Mapping[str, Any]) -> Recipe:
    """A recipe on what a function of a Python file makes, the only one if none is named. Raises StudioError."""
    from tui.dialogs.data.find_file import functions_of  # Textual's widgets are not among what it reads

    if not function:
        found = list(functions_of(path))
        if len(found) != 1:
            remedy = f"Name one, as in {path.name}:{found[0]}." if found else "Write one that returns a dataset."
            raise RecipeError(str(path), f"has {len(found)} functions and classes that may make a dataset", remedy)
        function = found[0]
    data = {"python": f"{path.resolve()}:{function}"}
    return Recipe.from_values({"task": task or _task_of(data, changes), "data": data}, path.name)


def _task_of(where: Mapping[str, str], changes: Mapping[str, Any]) -> TaskName:
    """The first task as which the data can be read. Raises StudioError, with what the first said, if there is none."""
    from engine.data.load import load  # torch takes 1.7 s to import

    # Some files can only be read with the options that were given.
    data = Recipe.from_values({"task": "classification", "data": where}, "--set").override(changes, "--set").data
    known: Sequence[TaskName] = get_args(TaskName)
    first: StudioError | None = None
    for task in known:
        try:
            load(data, task)
        except StudioError as error:
            first = first or error
        else:
            return task
    assert first is not None
    raise first


def _print(recipe: Recipe, found: Preview, examined: Examination) -> None:
    from tui.panes.data_text import bars  # Textual's widgets are not among what it imports
    from tui.widgets.amounts import bytes_text

    source, holding = found.source, found.holding
    rows: list[Row] = [
        (bold("data"), source.name),
        ("about", source.about),
        ("task", source.task),
        ("sample", f"{'×'.join(map(str, source.shape))} {found.dtype}, from {found.least:.4g} to {found.greatest:.4g}"),
        ("parts", " · ".join(f"{name} {size:,}" for name, size in found.sizes.items())),
    ]
    if recipe.data.path:
        rows.insert(1, ("format", _format(recipe)))
    if source.classes:
        more = f" and {len(source.classes) - _CLASSES} more" if len(source.classes) > _CLASSES else ""
        rows.append(("classes", f"{len(source.classes)}: {', '.join(source.classes[:_CLASSES])}{more}"))
    if source.vocabulary:
        rows.append(("tokens", f"{source.vocabulary:,}"))
    if source.rate:
        rows.append(("sound", f"{source.rate:,} Hz"))
    if holding is not None:
        held = "held" if holding.held else "not held"
        rows.append(("memory", f"{bytes_text(holding.nbytes)}, {held} on {holding.device}: {holding.why}"))
    rows += [("" if at else "loading", said) for at, said in enumerate(found.reading)]
    print_rows((), rows)
    print_examined([examined])
    for finding in examined.findings:
        if finding.fatal:
            complain(finding)
    if found.counts:
        print()
        shown = dict(list(found.counts.items())[:_CLASSES])
        print("\n".join(line.plain for line in bars(shown, min(width(), 80))))
        if len(found.counts) > _CLASSES:
            print(f"and {len(found.counts) - _CLASSES} more classes")
    print()
    _print_samples(found.samples[:_SAMPLES], source.columns)


def _print_samples(samples: Sequence[Sample], columns: Sequence[str]) -> None:
    """Where each lies and what it is; pictures also as pictures, where there is colour."""
    rows = [(f"#{sample.number}", sample.label[:_LINE], sample.place, _text(sample, columns)) for sample in samples]
    print_rows(("sample", "label", "place", ""), rows)
    pictures = [sample for sample in samples if sample.picture is not None]
    if pictures and colourful():
        from rich.console import Console
        from rich.segment import Segments

        from tui.widgets.samples import draw_page

        page = draw_page(pictures, columns, width(), _ROWS, colour=True, captions=1)
        console = Console(highlight=False, markup=False)
        for row in page.rows:
            console.print(Segments(row))


def _text(sample: Sample, columns: Sequence[str]) -> str:
    """What it holds, in a line."""
    if sample.trouble:
        return sample.trouble
    if sample.picture is not None:
        tall, wide = sample.picture.shape[:2]
        boxes = f", {', '.join(box.label for box in sample.boxes)}" if sample.boxes else ""
        return f"{wide}×{tall} pixels, mean {sample.picture.mean():.0f}{boxes}"
    if sample.wave is not None:
        return f"between {sample.wave[0].min():.2f} and {sample.wave[1].max():.2f} of its loudest"
    if sample.text or sample.tokens:
        return " ".join((sample.text or " ".join(sample.tokens)).split())[: 2 * _LINE]
    values: Mapping[str, Any] = sample.cells or {}
    if not values and sample.row is not None:
        names = columns if len(columns) == len(sample.row) else [f"x{at}" for at in range(len(sample.row))]
        values = {name: f"{value:.4g}" for name, value in zip(names, sample.row, strict=True)}
    return ", ".join(f"{name} {value}" for name, value in list(values.items())[:6])


def _format(recipe: Recipe) -> str:
    from engine.data.formats.catalog import find_format

    return find_format(recipe.data.format, Path(recipe.data.path)).name


def _values(recipe: Recipe, found: Preview, examined: Examination) -> dict[str, object]:
    source, holding = found.source, found.holding
    return {
        "name": source.name,
        "about": source.about,
        "format": _format(recipe) if recipe.data.path else None,
        "task": source.task,
        "shape": source.shape,
        "dtype": found.dtype,
        "least": found.least,
        "greatest": found.greatest,
        "sizes": dict(found.sizes),
        "classes": source.classes,
        "counts": dict(found.counts),
        "columns": source.columns,
        "vocabulary": source.vocabulary or None,
        "rate": source.rate or None,
        "memory": holding and {"bytes": holding.nbytes, "held": holding.held, "device": holding.device},
        "loading": list(found.reading),
        "bad": list(found.bad),
        "examined": examined_values(examined),
        "samples": [
            {"number": one.number, "label": one.label, "place": one.place, "text": _text(one, source.columns)}
            for one in found.samples[:_SAMPLES]
        ],
    }
